package stream

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// InternalPrefix begins names that MQTT has nothing to do with: those of topics that hold the state of Firth, of
// Kafka, and of what runs beside them. Which of them belong to the log is Reserved's to say.
const InternalPrefix = "__"

// ownPrefix begins the names of topics that hold Firth's own state.
const ownPrefix = "__firth_"

// Reserved tells whether a topic name has a meaning of its own: Firth's state, or what Kafka keeps under it.
func Reserved(name string) bool {
	switch name {
	case "__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata",
		"__remote_log_metadata":
		return true
	}
	return IsOwn(name)
}

// IsOwn tells whether a topic name is that of Firth's own state.
func IsOwn(name string) bool { return strings.HasPrefix(name, ownPrefix) }

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

// Internal tells whether the topic holds the log's own state: clients may read it and no more. MQTT never sees such a
// topic.
func (t *Topic) Internal() bool { return Reserved(t.Name) }

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
	folded map[string]*Topic // by their name in metrics, those that have another there
	places map[PartitionID]Place
}

// metricName is a topic name as Kafka's metrics show it: a point is an underscore there. same: it is as it was.
func metricName(name string) (folded string, same bool) {
	if !strings.ContainsAny(name, "._") {
		return name, true
	}
	return strings.ReplaceAll(name, ".", "_"), false
}

// NewTopics makes a snapshot. The topics must not be changed afterwards.
func NewTopics(all []*Topic) *Topics {
	base := &topicIndex{
		byName: make(map[string]*Topic, len(all)),
		byID:   make(map[record.UUID]*Topic, len(all)),
		folded: make(map[string]*Topic),
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
	if name, same := metricName(t.Name); !same {
		x.folded[name] = t
	}
	for i, p := range t.Partitions {
		x.places[p] = Place{Topic: t, Index: int32(i)}
	}
}

func (x *topicIndex) cover(t *Topic) {
	x.byName[t.Name] = nil
	x.byID[t.ID] = nil
	if name, same := metricName(t.Name); !same {
		x.folded[name] = nil
	}
	for _, p := range t.Partitions {
		x.places[p] = Place{}
	}
}

func (x *topicIndex) clone() *topicIndex {
	c := &topicIndex{
		byName: maps.Clone(x.byName), byID: maps.Clone(x.byID), folded: maps.Clone(x.folded), places: maps.Clone(x.places),
	}
	if c.byName == nil {
		c.byName, c.byID, c.places = map[string]*Topic{}, map[record.UUID]*Topic{}, map[PartitionID]Place{}
		c.folded = map[string]*Topic{}
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

// Colliding finds a topic whose name differs from another only in points and underscores, or nil: Kafka's metrics
// cannot tell the two apart, and so it takes only one of them.
func (ts *Topics) Colliding(name string) *Topic {
	folded, same := metricName(name)
	if same {
		return nil
	}
	t, ok := ts.over.folded[folded]
	if !ok {
		t = ts.base.folded[folded]
	}
	if t != nil && t.Name == name {
		return nil
	}
	return t
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
	return slices.AppendSeq(make([]*Topic, 0, ts.size), ts.Each)
}

// Each visits the topics, in no order.
func (ts *Topics) Each(yield func(*Topic) bool) {
	for name, t := range ts.base.byName {
		if _, changed := ts.over.byName[name]; !changed && !yield(t) {
			return
		}
	}
	for _, t := range ts.over.byName {
		if t != nil && !yield(t) {
			return
		}
	}
}

// ErrName is in the error of a topic that could not be made for its name.
var ErrName = errors.New("topic name")

// Changes calls visit with every topic that is not as it was in an older set: old is nil for one that was made, now for
// one that was deleted. It costs as little as With while the two have their index in common.
func (ts *Topics) Changes(older *Topics, visit func(old, now *Topic)) {
	seen := make(map[string]struct{})
	look := func(name string) {
		if _, again := seen[name]; again {
			return
		}
		seen[name] = struct{}{}
		if old, now := older.ByName(name), ts.ByName(name); old != now {
			visit(old, now)
		}
	}
	for _, set := range [2]*Topics{ts, older} {
		for name := range set.over.byName {
			look(name)
		}
		if ts.base != older.base {
			for name := range set.base.byName {
				look(name)
			}
		}
	}
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

// EnsureState gives the topic of a name that holds state of the node, made if it is not there: one partition,
// compacted, kept for ever and on the disk, whatever the defaults of topics are. Errors: those of CreateTopic.
func EnsureState(ctx context.Context, log Keeper, name string) (*Topic, error) {
	return EnsureShards(ctx, log, name, 1)
}

// EnsureShards is EnsureState for state that lies in so many partitions, which different nodes may own. A topic that is
// there keeps its number.
func EnsureShards(ctx context.Context, log Keeper, name string, partitions int) (*Topic, error) {
	onDisk := map[string]string{"firth.durability": "disk"}
	if t := log.Topics().ByName(name); t != nil && t.Settings.Memory { // of an earlier release
		return log.AlterTopic(ctx, name, TopicChange{Set: onDisk})
	} else if t != nil {
		return t, nil
	}
	t, err := log.CreateTopic(ctx, TopicSpec{Name: name, Partitions: partitions, Config: map[string]string{
		"cleanup.policy": "compact", "retention.ms": "-1", "firth.durability": "disk",
	}})
	if fault.Is(err, fault.Exists) { // somebody else made it
		if t = log.Topics().ByName(name); t != nil {
			return t, nil
		}
	}
	return t, err
}
