package api

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Topic is what a list says of a topic of the log.
type Topic struct {
	Name        string `json:"name"`
	ID          string `json:"id" doc:"the same for the whole life of the topic; one made later with its name has another"`
	Partitions  int    `json:"partitions"`
	Internal    bool   `json:"internal" doc:"it holds state of the log itself"`
	Cleanup     string `json:"cleanup_policy" doc:"delete, compact or compact,delete"`
	RetentionMs int64  `json:"retention_ms,string" doc:"age in milliseconds at which records go; -1: never"`
	Records     *int64 `json:"records,omitempty,string" doc:"offsets from start to end; not told of a log in Kafka"`
}

// TopicDetail is all that is said of one topic.
type TopicDetail struct {
	Topic
	Bounds  []PartitionBounds `json:"bounds" doc:"of each partition"`
	Config  []TopicSetting    `json:"config"`
	Filters []string          `json:"mqtt_filters" doc:"the topic filters of MQTT whose messages may be in it"`
}

// PartitionBounds are where a partition begins and ends.
type PartitionBounds struct {
	Partition int    `json:"partition"`
	Start     int64  `json:"start,string" doc:"the first offset that may be read"`
	Stable    int64  `json:"stable,string" doc:"the last stable offset: below it all records are committed or aborted"`
	End       int64  `json:"end,string" doc:"the high watermark: one past the last record"`
	Error     string `json:"error,omitempty" doc:"why the bounds are not known"`
}

// TopicSetting is one setting of a topic.
type TopicSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin" enum:"topic,node,default" doc:"where the value comes from"`
	Doc    string `json:"doc"`
}

func topicRoutes() []route {
	return []route{
		{method: "GET", path: "/topics", id: "listTopics", tag: "topics", summary: "List topics of the log",
			text:  "Those that who asks may describe.",
			right: right{operation: rule.Describe, on: rule.Topic, each: true}, walks: true,
			params: append(listParams("name", "partitions", "records", "retention_ms"),
				param{name: "search", kind: "string", doc: "only those with this text in their name"},
				param{name: "internal", kind: "boolean", value: "false", doc: "true: those with state of the log, too"}),
			answer: Page[Topic]{}, do: (*API).topics},
		{method: "GET", path: "/topics/{topic}", id: "getTopic", tag: "topics", summary: "Show a topic",
			text:   "Its partitions with their offsets, and its settings with where each comes from.",
			right:  right{operation: rule.Describe, on: rule.Topic, by: "topic"},
			params: []param{inTopic()}, tagged: true, answer: TopicDetail{}, do: (*API).topic},
	}
}

func inTopic() param {
	return param{name: "topic", kind: "string", inPath: true, doc: "name of a topic of the log"}
}

func (a *API) topics(q *ask) (any, error) {
	p, err := newPager[*stream.Topic](q)
	if err != nil {
		return nil, err
	}
	if p.sort == "records" && a.opt.Distant {
		return nil, fault.New(fault.Unsupported, op, "topics in a Kafka cluster are not sorted by their records").
			WithHint("sort by name")
	}
	for t := range a.opt.Log.Topics().Each {
		if t.Internal() && !q.is("internal") || !strings.Contains(t.Name, q.text("search")) ||
			!q.v.Sees(rule.Describe, rule.Topic, t.Name) {
			continue
		}
		at := place{ID: t.Name}
		switch p.sort {
		case "partitions":
			at.Number = int64(len(t.Partitions))
		case "records":
			at.Number = a.recordsIn(t)
		case "retention_ms":
			at.Number = t.Settings.RetentionMs
		}
		p.offer(at, func() *stream.Topic { return t })
	}
	return page(p, a.topicLine), nil
}

func (a *API) topicLine(t *stream.Topic) Topic {
	line := Topic{Name: t.Name, ID: t.ID.String(), Partitions: len(t.Partitions), Internal: t.Internal(),
		RetentionMs: t.Settings.RetentionMs, Cleanup: cleanup(&t.Settings)}
	if !a.opt.Distant {
		line.Records = new(a.recordsIn(t))
	}
	return line
}

func cleanup(s *stream.Settings) string {
	switch {
	case s.Compact && s.Delete:
		return "compact,delete"
	case s.Compact:
		return "compact"
	}
	return "delete"
}

// recordsIn is how many offsets there are between the ends of the partitions of a topic.
func (a *API) recordsIn(t *stream.Topic) (n int64) {
	for _, p := range t.Partitions {
		if b, err := a.opt.Log.Bounds(p); err == nil {
			n += int64(b.High - b.Start)
		}
	}
	return n
}

// named finds a topic. Errors: NotFound.
func (a *API) named(q *ask) (*stream.Topic, error) {
	name := q.r.PathValue("topic")
	if t := a.opt.Log.Topics().ByName(name); t != nil {
		return t, nil
	}
	return nil, fault.New(fault.NotFound, "topic "+fault.Text(name), "there is no such topic").
		WithHint("GET %s/topics lists them", Path)
}

func (a *API) topic(q *ask) (any, error) {
	t, err := a.named(q)
	if err != nil {
		return nil, err
	}
	d := TopicDetail{Topic: a.topicLine(t), Config: a.config(t), Bounds: make([]PartitionBounds, 0, len(t.Partitions)),
		Filters: a.opt.Mapping().FiltersOf(t.Name)}
	if d.Filters == nil || t.Internal() {
		d.Filters = []string{}
	}
	for i, id := range t.Partitions {
		line := PartitionBounds{Partition: i}
		b, err := a.opt.Log.Bounds(id)
		if err != nil {
			line.Error = err.Error()
		}
		line.Start, line.Stable, line.End = int64(b.Start), int64(b.Stable), int64(b.High)
		d.Bounds = append(d.Bounds, line)
	}
	return reply{value: d, tag: tagOf(t)}, nil
}

// config is every setting of a topic, by name.
func (a *API) config(t *stream.Topic) []TopicSetting {
	ofNode := a.opt.TopicDefaults()
	var all []TopicSetting
	for _, s := range stream.TopicSettings() {
		line := TopicSetting{Name: s.Name, Doc: s.Doc, Value: s.Default, Origin: "default"}
		if v, is := ofNode[s.Name]; is {
			line.Value, line.Origin = v, "node"
		}
		if v, is := t.Config[s.Name]; is {
			line.Value, line.Origin = v, "topic"
		}
		all = append(all, line)
	}
	known := func(name string) bool {
		return slices.ContainsFunc(all, func(s TopicSetting) bool { return s.Name == name })
	}
	for _, name := range slices.Sorted(maps.Keys(t.Config)) { // of a cluster that has more than we know
		if !known(name) {
			all = append(all, TopicSetting{Name: name, Value: t.Config[name], Origin: "topic"})
		}
	}
	return all
}

// partition finds a partition of a topic. Errors: NotFound.
func partition(t *stream.Topic, index int64) (stream.PartitionID, error) {
	if index >= int64(len(t.Partitions)) {
		return 0, fault.New(fault.NotFound, "topic "+t.Name, "there is no partition %d", index).
			WithHint("there are %d, from 0 on", len(t.Partitions))
	}
	return t.Partitions[index], nil
}

// start is where a read begins that says an offset, a time, or how many of the last. Errors: Invalid; OutOfRange;
// those of the log.
func (a *API) start(q *ask, id stream.PartitionID, b stream.Bounds) (record.Offset, error) {
	given := 0
	for _, name := range []string{"offset", "time", "last"} {
		if q.has(name) {
			given++
		}
	}
	switch {
	case given > 1:
		return 0, fault.New(fault.Invalid, op, "offset, time and last exclude each other")
	case q.has("offset"):
		at := record.Offset(q.number("offset"))
		if at < b.Start || at > b.High {
			return 0, fault.New(fault.OutOfRange, op, "offset %d is not from %d to %d", at, b.Start, b.High)
		}
		return at, nil
	case q.has("time"):
		at, _, err := a.opt.Log.OffsetForTime(q.r.Context(), id, q.time("time").UnixMilli())
		if err == nil && at < 0 {
			at = b.Stable
		}
		return at, err
	case q.has("last"):
		return max(b.Start, b.Stable-record.Offset(q.number("last"))), nil
	}
	return b.Start, nil
}

// lostIn tells of damage; nil: err is something else.
func lostIn(err error) *stream.Damage {
	damage, _ := errors.AsType[*stream.Damage](err)
	return damage
}
