package group

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// The assignors, by the names that members ask for them with. The first is the default.
const (
	AssignorUniform = "uniform"
	AssignorRange   = "range"
)

// Assignors are the names of all assignors.
func Assignors() []string { return []string{AssignorUniform, AssignorRange} }

// subscriber is a member as an assignor sees it.
type subscriber struct {
	member *consumer
	place  string  // members are given ranges in its order: a static member keeps its own when it comes back
	topics []Topic // that it subscribes to, in the order of their ids
	target Partitions
}

// assignments gives every partition of a subscribed topic to one subscriber of it. The subscribers stand in the order
// of their places; their targets are what they had, and become what they are to have.
func assignments(assignor string, all []subscriber) {
	if assignor == AssignorRange {
		assignRanges(all)
		return
	}
	assignUniform(all)
}

// assignRanges gives each subscriber of a topic a run of its partitions, so that topics with as many partitions and
// the same subscribers are cut at the same places: partition n of all of them is with the same member.
func assignRanges(all []subscriber) {
	byTopic := map[Topic][]int{}
	for i := range all {
		all[i].target = nil
		for _, t := range all[i].topics {
			byTopic[t] = append(byTopic[t], i)
		}
	}
	for t, whose := range byTopic {
		each, more := t.Partitions/int32(len(whose)), t.Partitions%int32(len(whose))
		next := int32(0)
		for n, i := range whose {
			end := next + each
			if int32(n) < more {
				end++
			}
			for ; next < end; next++ {
				all[i].target = append(all[i].target, Partition{t.ID, next})
			}
		}
	}
	for i := range all {
		all[i].target = NewPartitions(all[i].target)
	}
}

// class is the topics that the same members subscribe to: their partitions may go from any of these to any other.
type class struct {
	members []int
	topics  []Topic
	of      map[int][]Partition // who has what of it
	free    []Partition
}

// assignUniform gives every subscriber as many partitions as any other, as far as subscriptions let it, and moves as
// few as that takes.
func assignUniform(all []subscriber) {
	classes := classesOf(all)
	loads := make([]int, len(all))
	for _, c := range classes {
		c.keep(all, loads)
	}
	for _, c := range classes {
		for _, p := range c.free {
			i := slices.MinFunc(c.members, func(a, b int) int { return cmp.Compare(loads[a], loads[b]) })
			c.of[i] = append(c.of[i], p)
			loads[i]++
		}
	}
	for moved := true; moved; {
		moved = false
		for _, c := range classes {
			moved = c.level(loads) || moved
		}
	}
	for i := range all {
		var target []Partition
		for _, c := range classes {
			target = append(target, c.of[i]...)
		}
		all[i].target = NewPartitions(target)
	}
}

// classesOf sorts the topics by who subscribes to them, those with the fewest choices first.
func classesOf(all []subscriber) []*class {
	subscribers := map[Topic][]int{}
	var topics []Topic
	for i := range all {
		for _, t := range all[i].topics {
			if subscribers[t] == nil {
				topics = append(topics, t)
			}
			subscribers[t] = append(subscribers[t], i)
		}
	}
	slices.SortFunc(topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	byMembers := map[string]*class{}
	var classes []*class
	for _, t := range topics {
		members := subscribers[t]
		key := make([]byte, 0, 4*len(members))
		for _, i := range members {
			key = binary.BigEndian.AppendUint32(key, uint32(i))
		}
		c := byMembers[string(key)]
		if c == nil {
			c = &class{members: members, of: map[int][]Partition{}}
			byMembers[string(key)] = c
			classes = append(classes, c)
		}
		c.topics = append(c.topics, t)
	}
	slices.SortStableFunc(classes, func(a, b *class) int { return cmp.Compare(len(a.members), len(b.members)) })
	return classes
}

// keep leaves the members what they had of the class, and finds what nobody had.
func (c *class) keep(all []subscriber, loads []int) {
	counts := map[TopicID]int32{}
	for _, t := range c.topics {
		counts[t.ID] = t.Partitions
	}
	taken := map[Partition]bool{}
	for _, i := range c.members {
		for _, p := range all[i].target {
			if p.Index < counts[p.Topic] && !taken[p] {
				taken[p] = true
				c.of[i] = append(c.of[i], p)
				loads[i]++
			}
		}
	}
	for _, t := range c.topics {
		for index := range t.Partitions {
			if p := (Partition{t.ID, index}); !taken[p] {
				c.free = append(c.free, p)
			}
		}
	}
}

// level moves partitions of the class from who has the most to who has the fewest, until that is of no use. Each move
// makes the loads more even, so that levelling all classes in turn ends.
func (c *class) level(loads []int) (moved bool) {
	for {
		most, fewest := -1, c.members[0]
		for _, i := range c.members {
			if len(c.of[i]) > 0 && (most < 0 || loads[i] > loads[most]) {
				most = i
			}
			if loads[i] < loads[fewest] {
				fewest = i
			}
		}
		if most < 0 || loads[most]-loads[fewest] < 2 {
			return moved
		}
		last := len(c.of[most]) - 1
		c.of[fewest] = append(c.of[fewest], c.of[most][last])
		c.of[most] = c.of[most][:last]
		loads[most]--
		loads[fewest]++
		moved = true
	}
}
