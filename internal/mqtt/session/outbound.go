package session

// Place is where a message comes from: a partition of the log and the offset in it. The session only
// carries it: what is unacknowledged can be read again from there.
type Place struct {
	Partition uint32
	Offset    int64
}

// Outbound is what was sent with QoS 1 and has no acknowledgement yet, in the order of sending.
//
// Packet ids are given in turn, 1 to 65,535 and again from 1, so the table is a ring in which an id
// finds its place by its distance from the oldest. Those acknowledged out of turn leave a hole until
// the older ones are; a hole's id is not used again before.
type Outbound struct {
	ring   []sent // its length is a power of two
	before uint32 // length of the last one, which was given up
	head   uint32 // position of the oldest
	tail   uint32 // position of the next
	open   int32  // without an acknowledgement
	window uint16 // most that may be without one

	oldest uint16 // packet id at head, if there is any
	next   uint16 // packet id for tail; 0 before the first
}

// sent is a Place and whether its message was acknowledged, in 16 bytes.
type sent struct {
	offset    int64
	partition uint32
	acked     bool
}

func (s *sent) place() Place { return Place{Partition: s.partition, Offset: s.offset} }

// span bounds the ring: how many places a window may stretch over because of holes.
const span = 4

const lastID = 0xffff

// InFlight is the number of messages without an acknowledgement.
func (o *Outbound) InFlight() int { return int(o.open) }

// Window is the most that may be in flight: the smaller of the client's receive maximum and our own.
func (o *Outbound) Window() int { return int(o.window) }

// Full tells whether nothing may be sent now.
func (o *Outbound) Full() bool {
	return o.open >= int32(o.window) || int(o.tail-o.head) >= min(span*int(o.window), lastID-1)
}

// smallWindow is a window below which sending goes on with the first acknowledgement: the client's others may
// wait, by Nagle's rule, for a packet of ours, and half a window would come only with the delayed ACK of TCP.
// (Where a larger window waits for its half, the door has TCP acknowledge at once, if it can.)
const smallWindow = 128

// Roomy tells whether it is worth while to go on sending after the window was full: half of it is free, or it
// is small.
func (o *Outbound) Roomy() bool {
	return !o.Full() && (o.window < smallWindow || o.open <= int32(o.window)/2)
}

// Send notes a message that is sent now and gives its packet id. ok is false when the window is full.
func (o *Outbound) Send(from Place) (id uint16, ok bool) {
	if o.Full() {
		return 0, false
	}
	if int(o.tail-o.head) == len(o.ring) {
		o.grow()
	}
	if o.next == 0 {
		o.next = 1
	}
	id = o.next
	if o.head == o.tail {
		o.oldest = id
	}
	o.ring[o.tail&uint32(len(o.ring)-1)] = sent{offset: from.Offset, partition: from.Partition}
	o.tail++
	o.open++
	if o.next++; o.next == 0 {
		o.next = 1
	}
	return id, true
}

func (o *Outbound) grow() {
	bigger := make([]sent, nextRing(len(o.ring), int(o.before)))
	for pos := o.head; pos != o.tail; pos++ {
		bigger[pos&uint32(len(bigger)-1)] = o.ring[pos&uint32(len(o.ring)-1)]
	}
	o.ring = bigger
}

// Ack takes the acknowledgement of a packet id. ok is false for an id that is not in flight, which a
// client may well send after a resend: it means nothing.
func (o *Outbound) Ack(id uint16) (from Place, ok bool) {
	entry := o.find(id)
	if entry == nil {
		return Place{}, false
	}
	entry.acked = true
	o.open--
	from = entry.place()
	for o.head != o.tail && o.ring[o.head&uint32(len(o.ring)-1)].acked {
		o.head++
		if o.oldest++; o.oldest == 0 {
			o.oldest = 1
		}
	}
	if o.head == o.tail && len(o.ring) > keptRing {
		o.ring, o.before = nil, uint32(len(o.ring))
	}
	return from, true
}

// Has tells whether a packet id is in flight.
func (o *Outbound) Has(id uint16) bool { return o.find(id) != nil }

// find is the entry of an id in flight, or nil.
func (o *Outbound) find(id uint16) *sent {
	if id == 0 || o.head == o.tail {
		return nil
	}
	distance := int(id) - int(o.oldest)
	if distance < 0 {
		distance += lastID // ids go from 65,535 on to 1
	}
	if distance >= int(o.tail-o.head) {
		return nil
	}
	entry := &o.ring[(o.head+uint32(distance))&uint32(len(o.ring)-1)]
	if entry.acked {
		return nil
	}
	return entry
}

// Unacknowledged goes through what is in flight, in the order of sending; use it with range.
func (o *Outbound) Unacknowledged(yield func(Place) bool) {
	for pos := o.head; pos != o.tail; pos++ {
		entry := &o.ring[pos&uint32(len(o.ring)-1)]
		if !entry.acked && !yield(entry.place()) {
			return
		}
	}
}
