package session

import "slices"

// Received are the packet ids of QoS 2 that the client has sent and not released: another PUBLISH with one of them is
// the same message again, and does not go to the log (section 4.3.3). An id is pending until its message is stored.
//
// Clients use few ids, mostly close together: they are kept by chunks of 256.
type Received struct {
	chunks  []chunk         // by number
	written *ReceivedRecord // the numbers of the chunks of which there may be records; nil: there are none
}

// chunk has each id in one of its sets. Gathered are those whose messages no unit has yet, and appended those whose
// messages are on their way to the log.
type chunk struct {
	known, appended, gathered ReceivedRecord
	number                    byte
}

// Arrival is how far the message of a packet id that the client sent has come.
type Arrival uint8

const (
	// NotReceived is an id that nothing is open with.
	NotReceived Arrival = iota
	// Pending is an id whose message is for the log and not stored yet. Its PUBREC is sent when it is.
	Pending
	// Known is an id whose message is stored. It is sent a PUBREC again.
	Known
)

// Add takes the id of a PUBLISH and tells what was known of it: if nothing, it is Pending now, and its message has to
// go to the log.
func (r *Received) Add(id uint16) (before Arrival) {
	if before = r.Of(id); before == NotReceived {
		r.make(byte(id >> 8)).gathered.set(byte(id))
	}
	return before
}

// Appended notes that the message of an id is on its way to the log.
func (r *Received) Appended(id uint16) {
	c := r.make(byte(id >> 8))
	c.gathered.clear(byte(id))
	c.appended.set(byte(id))
}

// Stored has an id be Known whose message was on its way: it is stored.
func (r *Received) Stored(id uint16) {
	if c := r.find(id); c != nil && c.appended.has(byte(id)) {
		c.appended.clear(byte(id))
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
	c.gathered.clear(byte(id))
	c.appended.clear(byte(id))
	c.known.clear(byte(id))
	if c.empty() {
		at, _ := r.search(c.number)
		r.chunks = slices.Delete(r.chunks, at, at+1)
	}
	return before
}

// Abandon forgets the ids whose messages no unit has: they never get to the log.
func (r *Received) Abandon() {
	for i := range r.chunks {
		r.chunks[i].gathered = ReceivedRecord{}
	}
	r.chunks = slices.DeleteFunc(r.chunks, func(c chunk) bool { return c.empty() })
}

func (c *chunk) empty() bool { return c.known.Empty() && c.appended.Empty() && c.gathered.Empty() }

// Of is what is known of an id.
func (r *Received) Of(id uint16) Arrival {
	switch c := r.find(id); {
	case c == nil:
		return NotReceived
	case c.known.has(byte(id)):
		return Known
	case c.appended.has(byte(id)) || c.gathered.has(byte(id)):
		return Pending
	}
	return NotReceived
}

// Record is what to store of a chunk, which the high byte of its ids names, in a unit in which some ids arrive and some
// are released: those that are Known, those whose messages are in the units before it, and those whose messages it has
// itself. No other that is Pending, whose message may never get to the log.
func (r *Received) Record(number byte, arrived, released []uint16) (all ReceivedRecord) {
	r.write(number)
	if at, ok := r.search(number); ok {
		c := &r.chunks[at]
		all = c.known
		for i, bits := range c.appended {
			all[i] |= bits
		}
	}
	for _, id := range arrived {
		if byte(id>>8) == number {
			all.set(byte(id))
		}
	}
	for _, id := range released {
		if byte(id>>8) == number {
			all.clear(byte(id))
		}
	}
	return all
}

// Restore puts back what was stored of a chunk, in place of what is known of it.
func (r *Received) Restore(number byte, stored ReceivedRecord) {
	if !stored.Empty() {
		r.write(number)
		c := r.make(number)
		c.known, c.appended, c.gathered = stored, ReceivedRecord{}, ReceivedRecord{}
	} else if at, ok := r.search(number); ok {
		r.chunks = slices.Delete(r.chunks, at, at+1)
	}
}

// Written goes through the numbers of the chunks of which the log may have a record, whether there are still ids in
// them or not; use it with range.
func (r *Received) Written(yield func(byte) bool) {
	if r.written == nil {
		return
	}
	for number := range 256 {
		if r.written.has(byte(number)) && !yield(byte(number)) {
			return
		}
	}
}

// write notes that the log may have a record of a chunk from now on.
func (r *Received) write(number byte) {
	if r.written == nil {
		r.written = new(ReceivedRecord)
	}
	r.written.set(number)
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
