package session

import (
	"math"
	"math/bits"
)

// Place is where a message comes from: a partition of the log and the offset in it. The session only
// carries it: what is unacknowledged can be read again from there.
type Place struct {
	Partition uint32
	// Share is the number that the connection gave the shared subscription by which the message came; 0: it came by
	// none. Such a message is its group's: the session forgets it with the connection.
	Share  uint16
	Offset int64
}

// Outbound is what was sent above QoS 0 and is not over yet, in the order of sending: with QoS 1 until the PUBACK, with
// QoS 2 until the PUBCOMP or a PUBREC that refuses it (section 4.3).
//
// Each message has a position, a number that only grows; its packet id is the position modulo 65,535, plus 1. So ids
// are given in turn, ids and order can be stored as one, and the table is a ring in which an id finds its place by its
// distance from the oldest. What is over out of turn leaves a hole until the older ones are; a hole's id is not used
// again before.
//
// head <= again <= tail. What is in [head, again) was sent on this connection; what is in [again, tail) was sent on one
// before, and is sent again before anything new.
type Outbound struct {
	ring   []sent // its length is a power of two
	head   uint64 // position of the oldest
	again  uint64 // position of the oldest that this connection was not sent
	tail   uint64 // position of the next
	before uint32 // length of the last ring, which was given up
	open   uint16 // not over
	quota  uint16 // of those, PUBLISH packets of this connection
	window uint16 // most of those at a time
	// owed tells that something was sent with QoS 2 by a shared subscription that may be its group's still.
	owed bool
}

// sent is a Place and what became of its message, in 16 bytes.
type sent struct {
	offset    int64
	partition uint32
	share     uint16
	step      step
	counts    bool // in the quota: its PUBLISH was sent on this connection
}

// step is how far a message has come. Records have these numbers.
type step uint8

const (
	over       step = iota // also of a position that nothing is known of
	unacked                // QoS 1, waits for the PUBACK [MQTT-4.3.2-3]
	unreceived             // QoS 2, waits for the PUBREC [MQTT-4.3.3-3]
	released               // QoS 2, waits for the PUBCOMP [MQTT-4.3.3-5] [MQTT-4.3.3-6]
)

func (s *sent) place() Place { return Place{Partition: s.partition, Share: s.share, Offset: s.offset} }

// Flight is one message in flight.
type Flight struct {
	Position uint64 // in the order of sending
	From     Place
	QoS      byte // 1 or 2
	Released bool // with QoS 2: the client has it, and is owed a PUBREL instead of a PUBLISH
}

// ID is the packet id.
func (f *Flight) ID() uint16 { return packetID(f.Position) }

const (
	lastID = 0xffff
	// span bounds the ring: how many places a window may stretch over because of holes, where they are more than
	// keptRing, and fewer than longest.
	span = 4
	// longest is the most places between the oldest and the next: an id stands for one of them.
	longest = lastID - 1
)

const (
	// maxPosition is the largest position: in records there are two bits beside it for the step.
	maxPosition = math.MaxUint64 >> stepBits
	stepBits    = 2
)

func packetID(pos uint64) uint16 { return uint16(1 + pos%lastID) }

// InFlight is the number of messages that are not over.
func (o *Outbound) InFlight() int { return int(o.open) }

// Window is the most that may be in flight: the smaller of the client's receive maximum and our own.
func (o *Outbound) Window() int { return int(o.window) }

// dropShared ends what came by shared subscriptions: the connection has ended, and the groups give it to others.
func (o *Outbound) dropShared() {
	o.owed = false
	for pos := o.head; pos < o.tail; pos++ {
		if s := o.at(pos); s.step != over && s.share > 0 {
			o.end(pos, s)
			if len(o.ring) == 0 {
				return // that was the last
			}
		}
	}
}

// SetWindow begins a connection with a window: the quota is whole again (section 4.9), and what is in flight has to be
// sent again (ToResend) before anything new.
func (o *Outbound) SetWindow(n uint16) {
	o.window, o.quota, o.again = n, 0, o.head
	for pos := o.head; pos != o.tail; pos++ {
		o.at(pos).counts = false
	}
}

// Full tells whether nothing new may be sent now.
func (o *Outbound) Full() bool {
	return o.quota >= o.window || o.again != o.tail || int(o.tail-o.head) >= o.reach()
}

func (o *Outbound) reach() int { return min(max(span*int(o.window), keptRing), longest) }

// smallWindow is a window below which sending goes on with the first acknowledgement: the client's others may
// wait, by Nagle's rule, for a packet of ours, and half a window would come only with the delayed ACK of TCP.
// (Where a larger window waits for its half, the door has TCP acknowledge at once, if it can.)
const smallWindow = 128

// Roomy tells whether it is worth while to go on sending after the window was full: half of it is free, or it
// is small.
func (o *Outbound) Roomy() bool {
	return !o.Full() && (o.window < smallWindow || o.quota <= o.window/2)
}

// Send notes a message that is sent now with QoS 1 or 2 and gives its packet id. ok is false when nothing may be sent.
func (o *Outbound) Send(from Place, qos byte) (id uint16, ok bool) {
	if o.Full() {
		return 0, false
	}
	if int(o.tail-o.head) == len(o.ring) {
		o.move(nextRing(len(o.ring), int(o.before)))
	}
	s := o.at(o.tail) // field by field: as a literal it is put together elsewhere, and waited for
	s.offset, s.partition, s.share = from.Offset, from.Partition, from.Share
	s.step, s.counts = firstStep(qos), true
	if qos == 2 && from.Share > 0 {
		o.owed = true
	}
	id = packetID(o.tail) // [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
	o.tail++
	o.again = o.tail
	o.open++
	o.quota++
	return id, true
}

func firstStep(qos byte) step {
	if qos == 2 {
		return unreceived
	}
	return unacked
}

// ToResend is the oldest message in flight that this connection has not been sent. The client is sent its PUBREL if it
// is Released, else its PUBLISH, with DUP [MQTT-4.4.0-1]; then Resent notes it. ok is false when there is none, or the
// window has no room for it. A PUBREL needs none.
func (o *Outbound) ToResend() (f Flight, ok bool) {
	if o.again == o.tail {
		return f, false
	}
	s := o.at(o.again)
	if s.step != released && o.quota >= o.window {
		return f, false
	}
	return flight(o.again, s), true
}

// Resent notes that the message of ToResend was sent.
func (o *Outbound) Resent() {
	if o.again == o.tail {
		return
	}
	if s := o.at(o.again); s.step != released {
		s.counts = true
		o.quota++
	}
	o.again++
	o.skip()
}

// Behind tells whether there is something in flight that this connection has not been sent.
func (o *Outbound) Behind() bool { return o.again != o.tail }

// Verdict is what an acknowledgement of the client means.
type Verdict uint8

const (
	// Unknown is an acknowledgement of nothing that waits for it, which a client may well send after a resend.
	Unknown Verdict = iota
	// Taken is one that was waited for.
	Taken
	// WrongKind is one that belongs to another QoS than the message in flight has: a protocol error.
	WrongKind
)

// Ack takes a PUBACK, which ends a message of QoS 1.
func (o *Outbound) Ack(id uint16) (from Place, v Verdict) {
	pos, s := o.find(id)
	switch {
	case s == nil:
		return Place{}, Unknown
	case s.step != unacked:
		return Place{}, WrongKind
	}
	return o.end(pos, s), Taken
}

// Received takes a PUBREC: the message of QoS 2 is Released now, if it was not before, and the client is owed a PUBREL.
// One that failed ends the message instead [MQTT-4.3.3-4].
func (o *Outbound) Received(id uint16, failed bool) (from Place, v Verdict) {
	pos, s := o.find(id)
	switch {
	case s == nil:
		return Place{}, Unknown
	case s.step == unacked:
		return Place{}, WrongKind
	case failed: // [MQTT-4.4.0-2]
		return o.end(pos, s), Taken
	}
	s.step = released
	return s.place(), Taken
}

// Complete takes a PUBCOMP, which ends a message of QoS 2 that is Released.
func (o *Outbound) Complete(id uint16) (from Place, v Verdict) {
	pos, s := o.find(id)
	switch {
	case s == nil || s.step == unreceived:
		return Place{}, Unknown
	case s.step == unacked:
		return Place{}, WrongKind
	}
	return o.end(pos, s), Taken
}

// Forget ends what is in flight with a packet id without an acknowledgement: the log has its message no more. ok is
// false when there is none.
func (o *Outbound) Forget(id uint16) (ok bool) {
	pos, s := o.find(id)
	if s != nil {
		o.end(pos, s)
	}
	return s != nil
}

// end takes a message out.
func (o *Outbound) end(pos uint64, s *sent) Place {
	s.step = over
	o.open--
	if s.counts {
		o.quota--
	}
	from := s.place()
	if pos == o.head {
		pos++
		for pos != o.tail && o.at(pos).step == over {
			pos++
		}
		o.head = pos
	}
	if o.again != o.tail {
		o.again = max(o.again, o.head)
		o.skip()
	}
	if o.head == o.tail && len(o.ring) > keptRing {
		o.ring, o.before = nil, uint32(len(o.ring))
	}
	return from
}

// skip has again stand at a message that is not over.
func (o *Outbound) skip() {
	for o.again != o.tail && o.at(o.again).step == over {
		o.again++
	}
}

// find is the entry of an id in flight and its position, or nil.
func (o *Outbound) find(id uint16) (pos uint64, s *sent) {
	distance := int(id) - int(packetID(o.head))
	if distance < 0 {
		distance += lastID // ids go from 65,535 on to 1
	}
	if id == 0 || distance >= int(o.tail-o.head) {
		return 0, nil
	}
	pos = o.head + uint64(distance)
	if s = o.at(pos); s.step == over {
		return 0, nil
	}
	return pos, s
}

// at is the place of a position in the ring.
func (o *Outbound) at(pos uint64) *sent { return &o.ring[pos&uint64(len(o.ring)-1)] }

// move takes what is in flight into a ring of n places.
func (o *Outbound) move(n int) {
	ring := make([]sent, n)
	for pos := o.head; pos != o.tail; pos++ {
		ring[pos&uint64(n-1)] = *o.at(pos)
	}
	o.ring = ring
}

// Compact gives up the memory that is not needed for what is in flight: the client is away.
func (o *Outbound) Compact() {
	o.before = 0
	if o.head == o.tail {
		o.ring = nil
	} else if n := ringFor(o.tail - o.head); n < len(o.ring) {
		o.move(n)
	}
}

// ringFor is the length of the smallest ring that has n places; n is not 0.
func ringFor(n uint64) int { return 1 << bits.Len64(n-1) }

// Flights goes through what is in flight, in the order of sending; use it with range.
func (o *Outbound) Flights(yield func(Flight) bool) {
	for pos := o.head; pos != o.tail; pos++ {
		if s := o.at(pos); s.step != over && !yield(flight(pos, s)) {
			return
		}
	}
}

// FlightsIn appends what is in flight from a partition, in the order of sending.
func (o *Outbound) FlightsIn(partition uint32, into []Flight) []Flight {
	for pos := o.head; pos != o.tail; pos++ {
		if s := o.at(pos); s.step != over && s.partition == partition {
			into = append(into, flight(pos, s))
		}
	}
	return into
}

func flight(pos uint64, s *sent) Flight {
	return Flight{Position: pos, From: s.place(), QoS: s.step.qos(), Released: s.step == released}
}

func (s step) qos() byte {
	if s == unacked {
		return 1
	}
	return 2
}

// Restore puts back what was in flight, in any order, and drops what was there. The next position is behind the last of
// them. One that is so old that it has no packet id beside the last is dropped: it was over when that was sent, and its
// record is older. Of two that claim one position, which only damaged records do, the later in the list stays.
// SetWindow comes next.
func (o *Outbound) Restore(flights []Flight) (dropped int) {
	*o = Outbound{window: o.window}
	if len(flights) == 0 {
		return 0
	}
	first, last := extent(flights)
	o.head, o.again, o.tail = first, first, last+1
	o.ring = make([]sent, ringFor(o.tail-o.head))
	for i := range flights {
		f := &flights[i]
		if f.Position < first {
			dropped++
			continue
		}
		s := o.at(f.Position)
		if s.step == over {
			o.open++
		} else {
			dropped++
		}
		*s = sent{offset: f.From.Offset, partition: f.From.Partition, step: f.step()}
	}
	return dropped
}

func (f *Flight) step() step {
	if f.Released {
		return released
	}
	return firstStep(f.QoS)
}

// extent is the first and the last position of those flights that have packet ids beside the last one.
func extent(flights []Flight) (first, last uint64) {
	for i := range flights {
		last = max(last, flights[i].Position)
	}
	first = last
	for i := range flights {
		if pos := flights[i].Position; last-pos < longest {
			first = min(first, pos)
		}
	}
	return first, last
}
