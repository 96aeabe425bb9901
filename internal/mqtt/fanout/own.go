package fanout

import (
	"slices"
	"sync"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// own knows which records a session published itself, for its subscriptions with No Local
// [MQTT-3.8.3-3]. The log stores no publisher, and need not: the only client that a message of client
// A is kept from is A, whose connection knows the offsets of what it published from their receipts.
//
// The news of a record comes before its receipt. While a receipt is out, a record of that partition
// may be the session's own or not, so the session waits there, with a cursor, until the receipt came.
type own struct {
	mu struct {
		sync.Mutex
		parts map[stream.PartitionID]*ownPart
	}
}

type ownPart struct {
	out     int             // appends without a receipt
	known   record.Offset   // all own records below are in offsets, or were passed
	offsets []record.Offset // rising
}

// origin tells whether a record is the session's own.
type origin uint8

const (
	foreign origin = iota
	mine
	undecided
)

// Publishing says that the session is about to append a record to p that one of its No Local
// subscriptions matches. Published must follow.
func (m *Member) Publishing(p stream.PartitionID) {
	o := &m.own
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.parts == nil {
		o.mu.parts = make(map[stream.PartitionID]*ownPart)
	}
	part := o.mu.parts[p]
	if part == nil {
		part = &ownPart{}
		o.mu.parts[p] = part
	}
	part.out++
}

// Published gives the offset of the record, or a negative one if it was not stored. It comes in the
// order of Publishing.
func (m *Member) Published(p stream.PartitionID, offset record.Offset) {
	m.own.published(p, offset)
	m.Wake()
}

func (o *own) published(p stream.PartitionID, offset record.Offset) {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := o.mu.parts[p]
	if part == nil {
		return
	}
	part.out--
	if offset >= 0 {
		part.offsets = append(part.offsets, offset)
		part.known = offset + 1
	}
}

// origin judges the record at an offset. For one partition the offsets rise, or stay.
func (o *own) origin(p stream.PartitionID, offset record.Offset) origin {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := o.mu.parts[p]
	if part == nil {
		return foreign
	}
	passed := 0
	for passed < len(part.offsets) && part.offsets[passed] < offset {
		passed++
	}
	part.offsets = slices.Delete(part.offsets, 0, passed)
	switch {
	case len(part.offsets) > 0 && part.offsets[0] == offset:
		return mine
	case offset >= part.known && part.out > 0:
		return undecided
	case part.out == 0 && len(part.offsets) == 0:
		delete(o.mu.parts, p)
	}
	return foreign
}

// NoLocal tells whether a No Local subscription of the member matches a topic name.
func (m *Member) NoLocal(name []byte) (found bool) {
	m.f.subs.RLock()
	defer m.f.subs.RUnlock()
	m.matching(name, func(sub *subscription) { found = found || sub.NoLocal })
	return found
}
