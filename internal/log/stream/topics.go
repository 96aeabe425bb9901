package stream

import (
	"maps"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// InternalPrefix begins the names of topics that hold Firth's own state.
const InternalPrefix = "__"

// MaxTopicName is the longest topic name, as in Kafka.
const MaxTopicName = 249

// Topic is one topic as of a snapshot. It is immutable.
type Topic struct {
	Name       string
	ID         record.UUID
	Partitions []PartitionID     // by index
	Config     map[string]string // settings given for this topic, Kafka's names; defaults are not in it
	Settings   Settings          // the settings in force: defaults overlaid with Config
}

// Internal tells whether the topic holds Firth's own state. MQTT never sees such a topic.
func (t *Topic) Internal() bool { return strings.HasPrefix(t.Name, InternalPrefix) }

// TopicSpec asks for a topic.
type TopicSpec struct {
	Name       string
	Partitions int               // 0: the default of the log
	Config     map[string]string // Kafka's names
}

// TopicChange asks for a change of a topic. Zero fields change nothing.
type TopicChange struct {
	Partitions int               // the new total; may only grow
	Set        map[string]string // settings to set
	Unset      []string          // settings to put back to their default
}

// Place is where a partition belongs.
type Place struct {
	Topic *Topic
	Index int32
}

// Topics is the set of topics at one moment. It is immutable.
//
// A change costs about the square root of the number of topics: most of them lie in an index that snapshots
// share, what changed since then in a small one over it.
type Topics struct {
	base, over *topicIndex
	size       int
}

// topicIndex finds topics. In the small one over another, nil is a topic that is gone.
type topicIndex struct {
	byName map[string]*Topic
	byID   map[record.UUID]*Topic
	places map[PartitionID]Place
}

// NewTopics makes a snapshot. The topics must not be changed afterwards.
func NewTopics(all []*Topic) *Topics {
	base := &topicIndex{
		byName: make(map[string]*Topic, len(all)),
		byID:   make(map[record.UUID]*Topic, len(all)),
		places: make(map[PartitionID]Place, len(all)),
	}
	for _, t := range all {
		base.put(t)
	}
	return &Topics{base: base, over: &topicIndex{}, size: len(base.byName)}
}

func (x *topicIndex) put(t *Topic) {
	x.byName[t.Name] = t
	x.byID[t.ID] = t
	for i, p := range t.Partitions {
		x.places[p] = Place{Topic: t, Index: int32(i)}
	}
}

func (x *topicIndex) cover(t *Topic) {
	x.byName[t.Name] = nil
	x.byID[t.ID] = nil
	for _, p := range t.Partitions {
		x.places[p] = Place{}
	}
}

func (x *topicIndex) clone() *topicIndex {
	c := &topicIndex{byName: maps.Clone(x.byName), byID: maps.Clone(x.byID), places: maps.Clone(x.places)}
	if c.byName == nil {
		c.byName, c.byID, c.places = map[string]*Topic{}, map[record.UUID]*Topic{}, map[PartitionID]Place{}
	}
	return c
}

func (x *topicIndex) weight() int { return len(x.byName) + len(x.places) }

// With is the set with some topics put in the place of those of their name, or taken out where there is nil.
func (ts *Topics) With(changed map[string]*Topic) *Topics {
	next := &Topics{base: ts.base, over: ts.over.clone(), size: ts.size}
	for name, t := range changed {
		if old := ts.ByName(name); old != nil {
			next.over.cover(old)
			next.size--
		}
		if t != nil {
			next.over.put(t)
			next.size++
		}
	}
	const least = 32 // below it a new index is as cheap as the small one
	if w := next.over.weight(); w > least && w*w > next.base.weight() {
		return NewTopics(next.collect())
	}
	return next
}

// ByName finds a topic, or nil.
func (ts *Topics) ByName(name string) *Topic {
	if t, ok := ts.over.byName[name]; ok {
		return t
	}
	return ts.base.byName[name]
}

// ByID finds a topic by its stable id, or nil.
func (ts *Topics) ByID(id record.UUID) *Topic {
	if t, ok := ts.over.byID[id]; ok {
		return t
	}
	return ts.base.byID[id]
}

// Place tells which topic a partition belongs to; Topic is nil for an unknown one.
func (ts *Topics) Place(p PartitionID) Place {
	if place, ok := ts.over.places[p]; ok {
		return place
	}
	return ts.base.places[p]
}

// Len is the number of topics, internal ones included.
func (ts *Topics) Len() int { return ts.size }

// All lists the topics by name.
func (ts *Topics) All() []*Topic {
	all := ts.collect()
	slices.SortFunc(all, func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (ts *Topics) collect() []*Topic {
	all := make([]*Topic, 0, ts.size)
	for name, t := range ts.base.byName {
		if _, changed := ts.over.byName[name]; !changed {
			all = append(all, t)
		}
	}
	for _, t := range ts.over.byName {
		if t != nil {
			all = append(all, t)
		}
	}
	return all
}

// CheckTopicName applies Kafka's rules: 1 to 249 characters of [a-zA-Z0-9._-], not "." or "..".
func CheckTopicName(name string) error {
	const op = "topic name"
	switch {
	case name == "":
		return fault.New(fault.Invalid, op, "is empty")
	case name == "." || name == "..":
		return fault.New(fault.Invalid, op, "%q is not allowed", name)
	case len(name) > MaxTopicName:
		return fault.New(fault.Invalid, op, "is %d characters long, at most %d are allowed", len(name), MaxTopicName)
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fault.New(fault.Invalid, op, "%q has a character other than a-z A-Z 0-9 . _ -", name)
		}
	}
	return nil
}
