package mqtt

import (
	"cmp"
	"context"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// How far sessions are behind.

// Backlogs adds up how far sessions are behind. One is for one list: it asks for the bounds of a partition, and for
// what a filter reads, once. It is not safe for concurrent use.
type Backlogs struct {
	door   *Door
	bounds map[stream.PartitionID]stream.Bounds
	reads  map[string][]bounded
	lists  [][]bounded // of the session that is looked at
}

// bounded is a partition and where it begins and ends.
type bounded struct {
	partition stream.PartitionID
	start     record.Offset
	stable    record.Offset
}

// Backlogs makes one.
func (d *Door) Backlogs() *Backlogs {
	return &Backlogs{door: d, bounds: map[stream.PartitionID]stream.Bounds{}, reads: map[string][]bounded{}}
}

// mostReads bounds how many filters are remembered: those of a fleet are one a device, and read the same few
// partitions.
const mostReads = 1000

// Of is how many records lie between where a session stands and the end, in all partitions of its subscriptions,
// whether they are for it or not; 0: there is no such session. Errors: those of the log.
func (b *Backlogs) Of(id string) (n int64, err error) {
	var standing []stands
	b.door.seats.Look(id, func(state *session.State, h roster.Holder) { standing = standingOf(state, h != nil) })
	b.lists = b.lists[:0]
	for i := range standing {
		if standing[i].replay == nil {
			list, err := b.partitions(standing[i].filter)
			if err != nil {
				return 0, err
			}
			b.lists = append(b.lists, list)
			continue
		}
		lines, err := b.lines(id, standing[i:i+1])
		if err != nil {
			return 0, err
		}
		for i := range lines {
			n += lines[i].Lag
		}
	}
	if len(b.lists) == 0 {
		return n, nil
	}
	marks := b.door.seats.Marks(id)
	b.door.seats.Look(id, func(state *session.State, _ roster.Holder) { n += b.sum(state, marks) })
	return n, nil
}

// sum counts each partition of the lists once: the longest is gone through, and of the others what is in none before.
func (b *Backlogs) sum(state *session.State, marks session.Marked) (n int64) {
	slices.SortFunc(b.lists, func(x, y []bounded) int { return cmp.Compare(len(y), len(x)) })
	for i, list := range b.lists {
		for _, p := range list {
			if slices.ContainsFunc(b.lists[:i], p.in) {
				continue
			}
			at := max(record.Offset(state.Stands(uint32(p.partition), marks)), p.start)
			n += max(int64(p.stable-at), 0)
		}
	}
	return n
}

// in tells whether a list, which is sorted, has the partition.
func (p bounded) in(list []bounded) bool {
	_, has := slices.BinarySearchFunc(list, p.partition, func(x bounded, id stream.PartitionID) int {
		return cmp.Compare(x.partition, id)
	})
	return has
}

// partitions are those that a filter reads, sorted. Errors: those of the log.
func (b *Backlogs) partitions(filter string) ([]bounded, error) {
	if all, known := b.reads[filter]; known {
		return all, nil
	}
	ids := b.door.fanout.Partitions(filter)
	all := make([]bounded, 0, len(ids))
	for _, id := range ids {
		bounds, err := b.boundsOf(id)
		switch {
		case err == nil:
			all = append(all, bounded{id, bounds.Start, bounds.Stable})
		case !fault.Is(err, fault.NotFound): // else it was deleted just now
			return nil, err
		}
	}
	slices.SortFunc(all, func(x, y bounded) int { return cmp.Compare(x.partition, y.partition) })
	if len(b.reads) < mostReads {
		b.reads[filter] = all
	}
	return all, nil
}

// lines are the partitions in which a session is behind. Errors: those of the log.
func (b *Backlogs) lines(id string, standing []stands) ([]LagLine, error) {
	lines := []LagLine{}
	seen := make(map[stream.PartitionID]bool)
	for _, s := range standing {
		for _, p := range b.door.fanout.Partitions(s.filter) {
			if s.replay == nil && seen[p] {
				continue
			}
			seen[p] = seen[p] || s.replay == nil
			line, err := b.line(id, s.replay, p)
			switch {
			case fault.Is(err, fault.NotFound): // it was deleted just now
			case err != nil:
				return nil, err
			case line.Lag > 0:
				if s.replay != nil {
					line.Filter = s.name
				}
				lines = append(lines, line)
			}
		}
	}
	return lines, nil
}

func (b *Backlogs) boundsOf(p stream.PartitionID) (stream.Bounds, error) {
	if bounds, known := b.bounds[p]; known {
		return bounds, nil
	}
	bounds, err := b.door.opt.Log.Bounds(p)
	if err == nil {
		b.bounds[p] = bounds
	}
	return bounds, err
}

// line is how far a session, or a replay of it, is behind in a partition. Errors: those of the log.
func (b *Backlogs) line(id string, r *session.Replay, p stream.PartitionID) (line LagLine, err error) {
	d := b.door
	place := d.opt.Log.Topics().Place(p)
	if place.Topic == nil {
		return line, fault.New(fault.NotFound, "mqtt.lag", "partition %d", p)
	}
	bounds, err := b.boundsOf(p)
	if err != nil {
		return line, err
	}
	var next int64
	fresh := false
	marks := d.seats.Marks(id)
	d.seats.Look(id, func(state *session.State, _ roster.Holder) {
		if r != nil {
			next, fresh = r.Stands(uint32(p), marks)
		} else {
			next = state.Stands(uint32(p), marks)
		}
	})
	at := max(record.Offset(next), bounds.Start)
	if fresh {
		begins, err := d.begins(context.Background(), r.From, p)
		if err != nil {
			return line, err
		}
		at = max(at, begins)
	}
	return LagLine{Topic: place.Topic.Name, Partition: place.Index, Next: at, End: bounds.Stable,
		Lag: int64(bounds.Stable - at)}, nil
}
