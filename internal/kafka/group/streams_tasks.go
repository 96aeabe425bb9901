package group

import (
	"cmp"
	"slices"
	"strings"
)

// Task is one partition of what a subtopology reads.
type Task struct {
	Subtopology string
	Partition   int32
}

func (t Task) compare(o Task) int {
	return cmp.Or(strings.Compare(t.Subtopology, o.Subtopology), cmp.Compare(t.Partition, o.Partition))
}

// Tasks is a set of tasks: in order, each once. It is not changed once it is made.
type Tasks []Task

// NewTasks makes a set of what may have no order. It keeps all.
func NewTasks(all []Task) Tasks { return setOf(Tasks(all)) }

// Has tells whether t is in the set.
func (s Tasks) Has(t Task) bool { return has(s, t) }

// BySubtopology calls each for every subtopology of the set with the partitions of its tasks, in order.
func (s Tasks) BySubtopology(each func(id string, partitions []int32)) {
	for len(s) > 0 {
		n := 1
		for n < len(s) && s[n].Subtopology == s[0].Subtopology {
			n++
		}
		partitions := make([]int32, n)
		for i := range partitions {
			partitions[i] = s[i].Partition
		}
		each(s[0].Subtopology, partitions)
		s = s[n:]
	}
}

// TaskSet is the tasks of a member by their roles. Warm-up tasks are known and not given: no release of Kafka that
// speaks version 0 of the protocol does.
type TaskSet struct{ Active, Standby, Warmup Tasks }

func (s TaskSet) equal(o TaskSet) bool {
	return slices.Equal(s.Active, o.Active) && slices.Equal(s.Standby, o.Standby) && slices.Equal(s.Warmup, o.Warmup)
}

// len is how many tasks there are in all roles.
func (s TaskSet) len() int { return len(s.Active) + len(s.Standby) + len(s.Warmup) }

// within tells whether o has all of the set, in the same roles.
func (s TaskSet) within(o TaskSet) bool {
	return within(s.Active, o.Active) && within(s.Standby, o.Standby) && within(s.Warmup, o.Warmup)
}

// meets tells whether the sets have a task in common, in the same role.
func (s TaskSet) meets(o TaskSet) bool { return s.without(o).len() < s.len() }

func (s TaskSet) without(o TaskSet) TaskSet {
	return TaskSet{without(s.Active, o.Active), without(s.Standby, o.Standby), without(s.Warmup, o.Warmup)}
}

func (s TaskSet) with(o TaskSet) TaskSet {
	return TaskSet{union(s.Active, o.Active), union(s.Standby, o.Standby), union(s.Warmup, o.Warmup)}
}

// each calls f for every task, and says whether it is an active one.
func (s TaskSet) each(f func(t Task, active bool)) {
	for _, t := range s.Active {
		f(t, true)
	}
	for _, t := range s.Standby {
		f(t, false)
	}
	for _, t := range s.Warmup {
		f(t, false)
	}
}
