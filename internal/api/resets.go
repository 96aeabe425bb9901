package api

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Reset says where a group is to go on.
type Reset struct {
	Topic     string     `json:"topic"`
	Partition *int       `json:"partition,omitempty" doc:"without it all"`
	To        string     `json:"to" enum:"earliest,latest,offset,time,shift"`
	Offset    *int64     `json:"offset,string,omitempty" doc:"to=offset: where; to=shift: by how much, below 0 backward"`
	Time      *time.Time `json:"time,omitempty" doc:"to=time: at the first record that is stamped then or later"`
	Dry       bool       `json:"dry_run,omitempty" doc:"true: nothing is changed, it is told what would be"`
}

// Moved is where a group goes on.
type Moved struct {
	Group string          `json:"group"`
	Dry   bool            `json:"dry_run" doc:"nothing was changed"`
	Items []MovedPosition `json:"items"`
}

// MovedPosition is where it goes on in a partition.
type MovedPosition struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Before    int64  `json:"before,string" doc:"where it would have gone on; -1: it had no place"`
	Next      int64  `json:"next,string" doc:"where it goes on"`
	Lag       int64  `json:"lag,string" doc:"records from there to the end"`
}

func groupChangeRoutes() []route {
	group := param{name: "group", kind: "string", inPath: true, doc: "its id; / in it is %2F"}
	return []route{
		{method: "POST", path: "/groups/{group}/offsets", id: "resetGroup", tag: "groups",
			summary: "Reset where a group goes on",
			text: "As its consumers would by a commit: it takes the right to read the topic, too. A group with members is not " +
				"changed (409): stop them first. An offset that is not there becomes the nearest that is.",
			right:  right{operation: rule.Read, on: rule.Group, by: "group"},
			params: []param{group}, body: Reset{}, answer: Moved{}, do: (*API).resetGroup},
		{method: "DELETE", path: "/groups/{group}", id: "deleteGroup", tag: "groups", summary: "Delete a group",
			text:   "With its committed offsets. A group with members is not deleted (409).",
			right:  right{operation: rule.Delete, on: rule.Group, by: "group"},
			params: []param{group}, answer: Deleted{}, do: (*API).deleteGroup},
	}
}

func (a *API) deleteGroup(q *ask) (any, error) {
	id := q.r.PathValue("group")
	return Deleted{id}, a.editing(q, func(ctx context.Context, b Backend) error { return b.DeleteGroup(ctx, q.v, id) })
}

func (a *API) resetGroup(q *ask) (any, error) {
	var said Reset
	if err := q.read(&said); err != nil {
		return nil, err
	}
	if err := said.check(); err != nil {
		return nil, err
	}
	if err := q.v.May(rule.Read, rule.Topic, said.Topic); err != nil {
		return nil, err
	}
	t := a.opt.Log.Topics().ByName(said.Topic)
	if t == nil {
		return nil, fault.New(fault.NotFound, "topic "+fault.Text(said.Topic), "there is no such topic")
	}
	moved := Moved{Group: q.r.PathValue("group"), Dry: said.Dry}
	return &moved, a.editing(q, func(ctx context.Context, b Backend) (err error) {
		if moved.Items, err = a.moves(q, &said, t); err != nil || said.Dry {
			return err
		}
		to := map[int32]int64{}
		for _, m := range moved.Items {
			to[int32(m.Partition)] = m.Next
		}
		return b.CommitOffsets(ctx, q.v, moved.Group, map[string]map[int32]int64{t.Name: to})
	})
}

// check tells what is wrong with a reset. Errors: Invalid.
func (r *Reset) check() error {
	byOffset := r.To == "offset" || r.To == "shift"
	switch {
	case r.To != "earliest" && r.To != "latest" && r.To != "time" && !byOffset:
		return fault.New(fault.Invalid, op, "to is none of earliest, latest, offset, time, shift")
	case byOffset != (r.Offset != nil):
		return fault.New(fault.Invalid, op, "offset is given with to=offset and to=shift, and with no other")
	case (r.To == "time") != (r.Time != nil):
		return fault.New(fault.Invalid, op, "time is given with to=time, and with no other")
	case r.To == "offset" && *r.Offset < 0:
		return fault.New(fault.Invalid, op, "the offset is below 0")
	}
	return nil
}

// moves is where a group would go on. Errors: NotFound; those of the log.
func (a *API) moves(q *ask, r *Reset, t *stream.Topic) ([]MovedPosition, error) {
	before := map[int]int64{}
	if a.opt.Groups != nil {
		if g := a.opt.Groups.Group(q.r.PathValue("group")); g != nil {
			for _, at := range g.Positions {
				if at.Topic == t.Name {
					before[at.Partition] = at.Committed
				}
			}
		}
	}
	first, end := 0, len(t.Partitions)
	if r.Partition != nil {
		if *r.Partition < 0 || *r.Partition >= end {
			return nil, fault.New(fault.NotFound, "topic "+t.Name, "there is no partition %d", *r.Partition).
				WithHint("there are %d, from 0 on", end)
		}
		first, end = *r.Partition, *r.Partition+1
	}
	all := make([]MovedPosition, 0, end-first)
	for index := first; index < end; index++ {
		m := MovedPosition{Topic: t.Name, Partition: index, Before: -1}
		if at, is := before[index]; is {
			m.Before = at
		}
		b, err := a.opt.Log.Bounds(t.Partitions[index])
		if err != nil {
			return nil, err
		}
		at, err := a.movesTo(q, r, t.Partitions[index], b, m.Before)
		if err != nil {
			return nil, err
		}
		m.Next = int64(min(max(at, b.Start), b.High))
		m.Lag = int64(b.High) - m.Next
		all = append(all, m)
	}
	return all, nil
}

// movesTo is where a reset leads to in a partition. Errors: those of the log.
func (a *API) movesTo(q *ask, r *Reset, p stream.PartitionID, b stream.Bounds, before int64) (record.Offset, error) {
	switch r.To {
	case "earliest":
		return b.Start, nil
	case "offset":
		return record.Offset(*r.Offset), nil
	case "shift":
		if before < 0 { // it would begin at the first that is left
			before = int64(b.Start)
		}
		by := min(max(record.Offset(*r.Offset), -b.High), b.High)
		return min(record.Offset(before), b.High) + by, nil
	case "time":
		at, _, err := a.opt.Log.OffsetForTime(q.r.Context(), p, r.Time.UnixMilli())
		if err != nil || at >= 0 {
			return at, err
		}
	}
	return b.High, nil
}
