package kafka

import (
	"cmp"
	"slices"
)

// Groups as people see them.

// GroupLook is a group at one moment.
type GroupLook struct {
	ID       string
	Type     string // classic, consumer, share or streams
	State    string // by Kafka's names
	Protocol string // the type of protocol of a classic group
	Members  int
	Behind   []GroupLag // of each partition that it has committed an offset of, by topic and partition
}

// GroupLag is how far a group is behind in a partition.
type GroupLag struct {
	Topic     string
	Partition int32
	Committed int64 // the offset that it goes on at
	Next      int64 // the first that is left of it: Committed, unless retention has taken it
	Lag       int64 // records from there to the end
}

// EachGroup visits the groups, in no order. Those of a share group are nowhere behind: it keeps no offsets.
func (d *Door) EachGroup(visit func(*GroupLook)) {
	for _, og := range d.groups.owned() {
		if g := d.groups.lookAt(og); g != nil {
			visit(g)
		}
	}
}

// Group is one group; nil: there is none.
func (d *Door) Group(id string) *GroupLook {
	d.groups.mu.Lock()
	og := d.groups.mu.groups[id]
	d.groups.mu.Unlock()
	if og == nil {
		return nil
	}
	return d.groups.lookAt(og)
}

// lookAt is a group as it is now; nil: it has gone.
func (co *coordinator) lookAt(og *ownedGroup) *GroupLook {
	og.mu.Lock()
	g := &GroupLook{ID: og.id, Type: groupType(og.mu.g), State: og.mu.g.StateName(), Protocol: og.mu.g.ProtocolType(),
		Members: og.mu.g.Len()}
	gone := og.mu.forgotten || og.mu.g.IsDead()
	og.mu.Unlock()
	if gone {
		return nil
	}
	topics := co.log.Topics()
	for key, at := range og.positions() {
		if _, first, n, known := lag(co.log, topics, key, at); known {
			g.Behind = append(g.Behind, GroupLag{key.topic, key.index, at, first, n})
		}
	}
	slices.SortFunc(g.Behind, func(a, b GroupLag) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return g
}
