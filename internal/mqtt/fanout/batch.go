package fanout

import (
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// batch is some messages of one partition in hand, and who gets which of them. Each is encoded once for each form in
// which sessions get it, and each member is offered all of its own together: that costs one lock, not one a message.
//
// It belongs to the goroutine that fills it.
type batch struct {
	index   int // of its owner, in Member.at
	catchUp bool

	memory     []byte // of frames
	deliveries []Delivery
	forms      forms // of the last message
	records    int
	shares     []share
	members    []*Member // that have a share, in the order of their first
	run        Run
}

// forms are the forms in which a message is there, by MQTT 5, QoS and RETAIN.
type forms [2][session.QoSLevels][2]*Delivery

// share is one message for one member.
type share struct {
	delivery *Delivery
	next     int32 // the member's next share, one too high; 0: none
}

const (
	// batchRecords and batchBytes bound a batch, so that what is in hand stays in the caches of the processor and the
	// first client does not wait for the last message.
	batchRecords = 64
	batchBytes   = 32 << 10
	// keptBatch is the largest memory that is kept between batches.
	keptBatch = 256 << 10
)

// begin takes another message in hand.
func (b *batch) begin() {
	b.records++
	b.forms = forms{}
}

// full tells whether what is in hand should be offered now.
func (b *batch) full() bool { return b.records >= batchRecords || len(b.memory) >= batchBytes }

// add gives a member its share of the message in hand.
func (b *batch) add(m *Message, h *hit, part stream.PartitionID, offset record.Offset) {
	st := &h.member.at[b.index]
	b.shares = append(b.shares, share{delivery: b.deliver(m, h, part, offset)})
	at := int32(len(b.shares))
	if st.first == 0 {
		st.first = at
		b.members = append(b.members, h.member)
	} else {
		b.shares[st.last-1].next = at
	}
	st.last = at
}

// crowded tells whether a member gets the message in a form of its own, and there should be no more in hand before.
func (b *batch) crowded(h *hit) bool { return h.identified() && b.full() }

// deliver is the message in the form in which a member gets it.
func (b *batch) deliver(m *Message, h *hit, part stream.PartitionID, offset record.Offset) *Delivery {
	// [MQTT-3.8.4-8]
	f := Form{Version: h.member.version, QoS: min(m.QoS(), h.qos), Retain: h.asPublished && m.Retain(), IDs: h.ids,
		Where: h.where}
	var own *Delivery
	same := &own
	if !h.identified() {
		same = &b.forms[bit(f.Version == packet.V5)][f.QoS][bit(f.Retain)]
	}
	if *same == nil {
		d := b.another()
		d.CatchUp, d.From = b.catchUp, session.Place{Partition: uint32(part), Offset: int64(offset)}
		b.memory = m.Deliver(d, f, b.memory)
		*same = d
	}
	return *same
}

// another is memory for a delivery. Those before it stay where they are.
func (b *batch) another() *Delivery {
	n := len(b.deliveries)
	if n == cap(b.deliveries) {
		b.deliveries = make([]Delivery, 0, max(16, 2*n)) // the shares know those in the old one
		n = 0
	}
	b.deliveries = b.deliveries[:n+1]
	return &b.deliveries[n]
}

// take takes a member's share out of the batch, as a run.
func (b *batch) take(m *Member) *Run {
	st := &m.at[b.index]
	r := &b.run
	r.list, r.taken = r.list[:0], 0
	for at := st.first; at != 0; {
		s := &b.shares[at-1]
		r.list = append(r.list, s.delivery)
		at = s.next
	}
	st.first, st.last = 0, 0
	return r
}

// reset forgets what was in hand.
func (b *batch) reset() {
	b.memory, b.records = b.memory[:0], 0
	clear(b.members)
	b.members, b.deliveries, b.shares = b.members[:0], b.deliveries[:0], b.shares[:0]
	if cap(b.memory) > keptBatch {
		b.memory = nil
		clear(b.deliveries[:cap(b.deliveries)])
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Run is messages that a member is offered together, in their order. The sink takes one after the other, as far as it
// can:
//
//	for d := r.Next(); d != nil; d = r.Next() {
//		...
//		r.Take()
//	}
type Run struct {
	list  []*Delivery
	taken int
}

// Offer makes r a run of deliveries, for who has one at a time.
func (r *Run) Offer(ds ...*Delivery) *Run {
	r.list, r.taken = append(r.list[:0], ds...), 0
	return r
}

// Next is the first delivery that was not taken; nil: all were.
func (r *Run) Next() *Delivery {
	if r.taken == len(r.list) {
		return nil
	}
	return r.list[r.taken]
}

// Rest is what was not taken.
func (r *Run) Rest() []*Delivery { return r.list[r.taken:] }

// Judge puts in the place of each of the rest what a judge makes of it: itself, another, or nil: it is not to be taken
// at all.
func (r *Run) Judge(judge func(*Delivery) *Delivery) {
	kept := r.taken
	for _, d := range r.Rest() {
		if d = judge(d); d != nil {
			r.list[kept] = d
			kept++
		}
	}
	r.list = r.list[:kept]
}

// Tracked tells whether the client acknowledges any of the rest.
func (r *Run) Tracked() bool {
	for _, d := range r.Rest() {
		if d.QoS > 0 {
			return true
		}
	}
	return false
}

// Take takes the next delivery.
func (r *Run) Take() { r.taken++ }
