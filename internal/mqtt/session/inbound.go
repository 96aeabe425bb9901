package session

import "github.com/firthmq/firth/internal/mqtt/packet"

// inbound is the QoS 1 PUBLISH packets of the client that have no PUBACK yet, oldest first: a ring.
//
// Positions only grow; the ring index is their low bits. head <= open <= tail: [head, open) holds only
// decided ones, and the packet at open, if there is one, is undecided.
type inbound struct {
	ring             []ack // its length is a power of two
	head, open, tail uint32
}

type ack struct {
	id      uint16
	reason  packet.ReasonCode
	decided bool
}

const (
	firstRing = 8
	// keptRing is the largest ring that stays when nothing is in flight.
	keptRing = 256
)

func (q *inbound) len() int { return int(q.tail - q.head) }

func (q *inbound) at(pos uint32) *ack { return &q.ring[pos&uint32(len(q.ring)-1)] }

// has tells whether an id waits for its acknowledgement.
func (q *inbound) has(id uint16) bool {
	for pos := q.head; pos != q.tail; pos++ {
		if q.at(pos).id == id {
			return true
		}
	}
	return false
}

func (q *inbound) push(id uint16) {
	if q.len() == len(q.ring) {
		q.grow()
	}
	*q.at(q.tail) = ack{id: id}
	q.tail++
}

func (q *inbound) grow() {
	bigger := make([]ack, max(firstRing, 2*len(q.ring)))
	for pos := q.head; pos != q.tail; pos++ {
		bigger[pos&uint32(len(bigger)-1)] = *q.at(pos)
	}
	q.ring = bigger
}

// settle decides the n oldest that are undecided.
func (q *inbound) settle(n int, reason packet.ReasonCode) {
	for ; n > 0 && q.open != q.tail; q.open++ {
		if a := q.at(q.open); !a.decided {
			a.reason, a.decided = reason, true
			n--
		}
	}
	q.skip()
}

// refuse decides the n newest.
func (q *inbound) refuse(n int, reason packet.ReasonCode) {
	for i := range uint32(min(n, q.len())) {
		a := q.at(q.tail - 1 - i)
		a.reason, a.decided = reason, true
	}
	q.skip()
}

// withdraw takes the n newest out, which are undecided.
func (q *inbound) withdraw(n int) { q.tail -= uint32(min(n, int(q.tail-q.open))) }

// skip moves open past what refuse has decided.
func (q *inbound) skip() {
	for q.open != q.tail && q.at(q.open).decided {
		q.open++
	}
}

// appendDue takes the decided ones off the front and appends their acknowledgements.
func (q *inbound) appendDue(dst []byte, v packet.Version) []byte {
	for ; q.head != q.open; q.head++ {
		a := q.at(q.head)
		dst = packet.AppendPuback(dst, v, a.id, a.reason)
	}
	if q.head == q.tail && len(q.ring) > keptRing {
		q.ring = nil
	}
	return dst
}
