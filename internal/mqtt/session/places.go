package session

import (
	"cmp"
	"slices"
)

// place is how much a session has taken of a partition, and whether the log knows.
type place struct {
	partition uint32
	changed   bool  // since it was stored
	stored    bool  // there is a record of it
	next      int64 // all before it that is for the session was taken; 0: nothing was, there is only something in flight
}

// places are those of a session, by partition.
type places []place

// find is the place in a partition, or nil. It is valid until the next at.
func (ps places) find(partition uint32) *place {
	if i, ok := ps.search(partition); ok {
		return &ps[i]
	}
	return nil
}

// at is the place in a partition, made if there is none.
func (ps *places) at(partition uint32) *place {
	i, ok := ps.search(partition)
	if !ok {
		*ps = slices.Insert(*ps, i, place{partition: partition})
	}
	return &(*ps)[i]
}

// remove takes out the place in a partition.
func (ps *places) remove(partition uint32) {
	if i, ok := ps.search(partition); ok {
		*ps = slices.Delete(*ps, i, i+1)
	}
}

func (ps places) search(partition uint32) (at int, ok bool) {
	return slices.BinarySearchFunc(ps, partition, func(p place, partition uint32) int {
		return cmp.Compare(p.partition, partition)
	})
}
