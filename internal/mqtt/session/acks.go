package session

import (
	"fmt"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Acks are the acknowledgements that a client is owed, each with the packet id of what it answers [MQTT-2.2.1-5],
// oldest first: they leave in the order of those packets [MQTT-4.6.0-2], whenever it is decided what each says. It is a
// ring.
//
// Positions only grow; the ring index is their low bits. head <= open <= tail: [head, open) holds only decided ones,
// and the one at open, if there is one, is undecided.
type Acks struct {
	ring             []ack  // its length is a power of two
	before           uint32 // length of the last one, which was given up
	head, open, tail uint32
	publishes        uint32 // PUBLISH packets of which one is owed
	exchanges        uint32 // of QoS 2 that the client was sent a PUBREC for and no PUBCOMP
	most             uint16 // of both together: the receive maximum
	version          packet.Version
	lost             bool // see Lost
}

type ack struct {
	id      uint16
	kind    packet.Type // PUBACK, PUBREC, PUBCOMP
	reason  packet.ReasonCode
	decided bool
	apart   bool // it is decided by its packet id
	repeat  bool // of a PUBLISH that was received before
}

const (
	firstRing = 8
	// keptRing is the largest ring that stays when nothing is in flight.
	keptRing = 256
)

// nextRing is the length of the ring after one that is full; before is that of the last one that was given up. Who was
// busy and is again need not climb step by step, and who is less busy has less each time.
func nextRing(full, before int) int { return max(firstRing, 2*full, before/2) }

// Expect notes that a packet of the client will have an acknowledgement of a kind. More PUBLISH packets in flight than
// the receive maximum, those of QoS 2 until their PUBCOMP, end the connection with reason 0x93 [MQTT-3.3.4-9].
func (q *Acks) Expect(kind packet.Type, id uint16) error {
	if kind == packet.PUBCOMP {
		return q.expect(ack{id: id, kind: kind})
	}
	if q.publishes+q.exchanges >= uint32(q.most) {
		return q.tooMany()
	}
	err := q.expect(ack{id: id, kind: kind})
	if err == nil {
		q.publishes++
	}
	return err
}

// ExpectAgain notes that a PUBLISH of QoS 2 that was received before will have another PUBREC, when Decide is called
// for its packet id.
func (q *Acks) ExpectAgain(id uint16) error {
	return q.expect(ack{id: id, kind: packet.PUBREC, apart: true, repeat: true})
}

func (q *Acks) expect(a ack) error {
	if q.len() >= 2*int(q.most) { // PUBREL packets, and repeated ones, of a client that does not wait for answers
		return q.tooMany()
	}
	if q.len() == len(q.ring) {
		q.grow()
	}
	*q.at(q.tail) = a
	q.tail++
	return nil
}

func (q *Acks) tooMany() error {
	return &packet.Error{Reason: packet.ReceiveMaximumExceeded,
		Detail: fmt.Sprintf("more than %d unacknowledged PUBLISH packets", q.most)}
}

// Waiting is the number of acknowledgements that are owed; none once one was lost.
func (q *Acks) Waiting() int {
	if q.lost {
		return 0
	}
	return q.len()
}

// Lost tells that a message was not stored whose client cannot be told so: nothing that came after it may be
// acknowledged, and the connection has to end, for then the client sends again.
func (q *Acks) Lost() bool { return q.lost }

// Has tells whether a packet id waits for a PUBACK.
func (q *Acks) Has(id uint16) bool {
	for pos := q.head; pos != q.tail; pos++ {
		if a := q.at(pos); a.id == id && a.kind == packet.PUBACK {
			return true
		}
	}
	return false
}

// Settle decides the n oldest that are undecided and not apart, and appends every acknowledgement that is now due to
// dst.
func (q *Acks) Settle(n int, reason packet.ReasonCode, dst []byte) []byte {
	for pos := q.open; n > 0 && pos != q.tail; pos++ {
		if a := q.at(pos); !a.decided && !a.apart {
			a.reason, a.decided = reason, true
			n--
		}
	}
	return q.appendDue(dst)
}

// Decide decides those apart with a packet id, and appends what is due to dst.
func (q *Acks) Decide(id uint16, reason packet.ReasonCode, dst []byte) []byte {
	for pos := q.open; pos != q.tail; pos++ {
		if a := q.at(pos); a.apart && a.id == id && !a.decided {
			a.reason, a.decided = reason, true
		}
	}
	return q.appendDue(dst)
}

// Answer decides the n newest, of packets that were just received and did not get to the log, and appends what is due
// to dst. The result of older ones still comes by Settle.
func (q *Acks) Answer(n int, reason packet.ReasonCode, dst []byte) []byte {
	for i := range uint32(min(n, q.len())) {
		a := q.at(q.tail - 1 - i)
		a.reason, a.decided = reason, true
	}
	return q.appendDue(dst)
}

// Withdraw takes the n newest out again, which are undecided, as if their packets had not been received.
func (q *Acks) Withdraw(n int) {
	for ; n > 0 && q.tail != q.open; n-- {
		q.tail--
		q.gone(q.at(q.tail))
	}
}

// gone counts one out that is not owed any more: its packet id stands for a new message [MQTT-4.3.2-5].
func (q *Acks) gone(a *ack) {
	if a.kind != packet.PUBCOMP && !a.repeat {
		q.publishes--
	}
}

func (q *Acks) len() int { return int(q.tail - q.head) }

func (q *Acks) at(pos uint32) *ack { return &q.ring[pos&uint32(len(q.ring)-1)] }

func (q *Acks) grow() {
	bigger := make([]ack, nextRing(len(q.ring), int(q.before)))
	for pos := q.head; pos != q.tail; pos++ {
		bigger[pos&uint32(len(bigger)-1)] = *q.at(pos)
	}
	q.ring = bigger
}

// appendDue takes the decided ones off the front and appends them, up to one that cannot be told.
func (q *Acks) appendDue(dst []byte) []byte {
	for q.open != q.tail && q.at(q.open).decided {
		q.open++
	}
	for ; q.head != q.open && !q.lost; q.head++ {
		a := q.at(q.head)
		if !q.canTell(a) {
			q.lost = true
			return dst
		}
		q.gone(a)
		switch a.kind {
		case packet.PUBREC:
			if !a.reason.Failed() && !a.repeat {
				q.exchanges++
			}
			dst = packet.AppendPubrec(dst, q.version, a.id, a.reason)
		case packet.PUBCOMP:
			q.exchanges -= min(q.exchanges, 1)
			dst = packet.AppendPubcomp(dst, q.version, a.id, a.reason)
		default:
			dst = packet.AppendPuback(dst, q.version, a.id, a.reason)
		}
	}
	if q.head == q.tail && len(q.ring) > keptRing {
		q.ring, q.before = nil, uint32(len(q.ring))
	}
	return dst
}

// canTell tells whether there is a packet that says what was decided. MQTT 3 knows no failure, a PUBCOMP only that the
// packet id is not known, and none that the server is not there any more.
func (q *Acks) canTell(a *ack) bool {
	switch {
	case !a.reason.Failed() || a.kind == packet.PUBCOMP && a.reason == packet.PacketIDNotFound:
		return true
	case a.kind == packet.PUBCOMP:
		return false
	}
	return q.version == packet.V5 && a.reason != packet.ServerUnavailable
}
