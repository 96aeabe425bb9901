package session

import "slices"

// Received are the packet ids of QoS 2 that the client has sent and not released: another PUBLISH with one of them is
// the same message again, and does not go to the log (section 4.3.3). An id is pending until its message is stored.
//
// Clients use few ids, mostly close together: they are kept by chunks of 256.
type Received struct {
	chunks []chunk // by number
}

type chunk struct {
	known, pending ReceivedRecord
	number         byte
}

// Arrival is how far the message of a packet id that the client sent has come.
type Arrival uint8

const (
	// NotReceived is an id that nothing is open with.
	NotReceived Arrival = iota
	// Pending is an id whose message is on its way to the log. Its PUBREC is sent when the message is stored.
	Pending
	// Known is an id whose message is stored. It is sent a PUBREC again.
	Known
)

// Add takes the id of a PUBLISH and tells what was known of it: if nothing, it is Pending now, and its message has to
// go to the log.
func (r *Received) Add(id uint16) (before Arrival) {
	if before = r.Of(id); before == NotReceived {
		r.make(byte(id >> 8)).pending.set(byte(id))
	}
	return before
}

// Stored has an id be Known that is Pending: its message is stored.
func (r *Received) Stored(id uint16) {
	if c := r.find(id); c != nil && c.pending.has(byte(id)) {
		c.pending.clear(byte(id))
		c.known.set(byte(id))
	}
}

// Release takes an id out, because of a PUBREL or because its message was not stored, and tells what was known of it.
func (r *Received) Release(id uint16) (before Arrival) {
	before = r.Of(id)
	if before == NotReceived {
		return before
	}
	c := r.find(id)
	c.pending.clear(byte(id))
	c.known.clear(byte(id))
	if c.known.Empty() && c.pending.Empty() {
		at, _ := r.search(c.number)
		r.chunks = slices.Delete(r.chunks, at, at+1)
	}
	return before
}

// Undo has ids be as they were before a unit that the log did not take: of those that arrived nothing is known, and
// those that were released are Known.
func (r *Received) Undo(arrived, released []uint16) {
	for _, id := range arrived {
		r.Release(id)
	}
	for _, id := range released {
		r.make(byte(id >> 8)).known.set(byte(id))
	}
}

// Abandon forgets the ids that are Pending, but for those whose messages are on their way to the log: the others' never
// get there.
func (r *Received) Abandon(onTheirWay []uint16) {
	for _, c := range slices.Backward(r.chunks) { // copies: the last of its ids takes a chunk away
		for low := range 256 {
			id := uint16(c.number)<<8 | uint16(low)
			if c.pending.has(byte(low)) && !slices.Contains(onTheirWay, id) {
				r.Release(id)
			}
		}
	}
}

// Of is what is known of an id.
func (r *Received) Of(id uint16) Arrival {
	switch c := r.find(id); {
	case c == nil:
		return NotReceived
	case c.known.has(byte(id)):
		return Known
	case c.pending.has(byte(id)):
		return Pending
	}
	return NotReceived
}

// Record is what to store of a chunk, which the high byte of its ids names: those that are Known, and those that are
// Pending, for it is stored in one unit with their messages.
func (r *Received) Record(number byte) ReceivedRecord {
	at, ok := r.search(number)
	if !ok {
		return ReceivedRecord{}
	}
	c := &r.chunks[at]
	all := c.known
	for i, bits := range c.pending {
		all[i] |= bits
	}
	return all
}

// Restore puts back what was stored of a chunk, in place of what is known of it.
func (r *Received) Restore(number byte, stored ReceivedRecord) {
	if !stored.Empty() {
		c := r.make(number)
		c.known, c.pending = stored, ReceivedRecord{}
	} else if at, ok := r.search(number); ok {
		r.chunks = slices.Delete(r.chunks, at, at+1)
	}
}

// Chunks goes through the numbers of the chunks with ids in them; use it with range.
func (r *Received) Chunks(yield func(byte) bool) {
	for i := range r.chunks {
		if !yield(r.chunks[i].number) {
			return
		}
	}
}

// find is the chunk of an id, or nil.
func (r *Received) find(id uint16) *chunk {
	if at, ok := r.search(byte(id >> 8)); ok {
		return &r.chunks[at]
	}
	return nil
}

// make is the chunk of a number, which is there from now on.
func (r *Received) make(number byte) *chunk {
	at, ok := r.search(number)
	if !ok {
		r.chunks = slices.Insert(r.chunks, at, chunk{number: number})
	}
	return &r.chunks[at]
}

// search is the place of a chunk by number, or where it belongs.
func (r *Received) search(number byte) (at int, ok bool) {
	return slices.BinarySearchFunc(r.chunks, number, func(c chunk, number byte) int {
		return int(c.number) - int(number)
	})
}

func (c *ReceivedRecord) has(low byte) bool { return c[low>>3]>>(low&7)&1 != 0 }

func (c *ReceivedRecord) set(low byte) { c[low>>3] |= 1 << (low & 7) }

func (c *ReceivedRecord) clear(low byte) { c[low>>3] &^= 1 << (low & 7) }
