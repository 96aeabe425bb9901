package group

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
)

// TopicID is the id of a topic, a UUID.
type TopicID = [16]byte

// Partition names a partition by the id of its topic: not one of a topic made later with the same name.
type Partition struct {
	Topic TopicID
	Index int32
}

func (p Partition) compare(q Partition) int {
	return cmp.Or(bytes.Compare(p.Topic[:], q.Topic[:]), cmp.Compare(p.Index, q.Index))
}

// Partitions is a set of partitions: in order, each once. It is not changed once it is made.
type Partitions []Partition

// NewPartitions makes a set of what may have no order. It keeps all.
func NewPartitions(all []Partition) Partitions { return setOf(Partitions(all)) }

// Has tells whether p is in the set.
func (s Partitions) Has(p Partition) bool { return has(s, p) }

// Within tells whether o has all of the set.
func (s Partitions) Within(o Partitions) bool { return within(s, o) }

func (s Partitions) equal(o Partitions) bool { return slices.Equal(s, o) }

// meets tells whether the sets have something in common.
func (s Partitions) meets(o Partitions) bool { return slices.ContainsFunc(s, o.Has) }

// where is the part of the set that passes.
func (s Partitions) where(passes func(Partition) bool) Partitions { return where(s, passes) }

// without is the set without what o has.
func (s Partitions) without(o Partitions) Partitions { return without(s, o) }

// with is the set and what o has.
func (s Partitions) with(o Partitions) Partitions { return union(s, o) }

// ByTopic calls each for every topic of the set with the indexes of its partitions, in order.
func (s Partitions) ByTopic(each func(id TopicID, indexes []int32)) {
	for len(s) > 0 {
		n := 1
		for n < len(s) && s[n].Topic == s[0].Topic {
			n++
		}
		indexes := make([]int32, n)
		for i := range indexes {
			indexes[i] = s[i].Index
		}
		each(s[0].Topic, indexes)
		s = s[n:]
	}
}

// TopicPartition is a partition, and the name of its topic.
type TopicPartition struct {
	Partition
	Name string
}

// Topic is what a consumer group knows of a topic.
type Topic struct {
	ID         TopicID
	Name       string
	Partitions int32 // how many
}

// Topics is a snapshot of the topics. Two that are equal by == say the same.
type Topics interface {
	ByName(name string) (Topic, bool)
	ByID(id TopicID) (Topic, bool)
	// Each calls f for every topic that a regular expression may match, until f says false.
	Each(f func(Topic) bool)
}

// hashOf is a number that is another one, as good as always, when a topic of these comes, goes or grows. Their names
// come in order: hashes of single topics that are added up can make up for each other when two of them grow.
func hashOf(topics Topics, names []string) int64 {
	h := fnv.New64a()
	for _, name := range names {
		if t, is := topics.ByName(name); is {
			_, _ = h.Write(t.ID[:]) // never fails
			_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(t.Partitions)))
		}
	}
	return int64(h.Sum64())
}

// noTopics is the snapshot before the first one.
type noTopics struct{}

func (noTopics) ByName(string) (Topic, bool) { return Topic{}, false }
func (noTopics) ByID(TopicID) (Topic, bool)  { return Topic{}, false }
func (noTopics) Each(func(Topic) bool)       {}
