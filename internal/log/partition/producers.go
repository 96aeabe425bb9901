package partition

import (
	"math"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// Window is how many batches of one producer are remembered to answer duplicates, as in Kafka.
const Window = 5

// Pending is the base offset of a batch that is not durable yet.
const Pending record.Offset = -1

// Sent is one batch of an idempotent producer.
type Sent struct {
	Epoch       int16
	First, Last int32         // sequence numbers
	Base        record.Offset // Pending until the batch is durable
	Group       uint64        // commit group it went into
	Time        int64         // unix milliseconds, for expiry
}

// Producers is the state of the idempotent producers of one partition: a pure state machine. Its owner is
// whoever holds the log's group lock.
type Producers struct {
	byID map[int64]*producer
}

// producer keeps its batches oldest first: up to Window durable ones, then the pending ones.
type producer struct{ sent []Sent }

// Check judges the next batch of a producer: whether it repeats a remembered one. Errors: Fenced,
// OutOfSequence.
//
// Only a batch that was stored as a whole, and is remembered, is a duplicate. Part of one, more than one, or one that
// is older than the window is out of sequence, as in Kafka: to clients DUPLICATE_SEQUENCE_NUMBER means that all of it
// is stored.
//
// A producer that the partition does not know may begin anywhere: its older batches may have gone with
// retention (KIP-360). A new epoch begins at sequence 0.
func (ps *Producers) Check(b record.Batch) (duplicate bool, err error) {
	const op = "produce"
	p := ps.byID[b.ProducerID()]
	if p == nil {
		return false, nil
	}
	last := &p.sent[len(p.sent)-1]
	first, end := b.BaseSequence(), b.LastSequence()
	switch epoch := b.ProducerEpoch(); {
	case epoch < last.Epoch:
		return false, fault.New(fault.Fenced, op, "producer %d: epoch %d, the newest is %d",
			b.ProducerID(), epoch, last.Epoch)
	case epoch > last.Epoch:
		if first != 0 {
			return false, fault.New(fault.OutOfSequence, op,
				"producer %d: new epoch %d begins at sequence %d", b.ProducerID(), epoch, first)
		}
		return false, nil
	}
	for i := range p.sent {
		if s := &p.sent[i]; s.Epoch == last.Epoch && s.First == first && s.Last == end {
			return true, nil
		}
	}
	if first == next(last.Last) {
		return false, nil
	}
	return false, fault.New(fault.OutOfSequence, op, "producer %d epoch %d: sequence %d, expected %d",
		b.ProducerID(), last.Epoch, first, next(last.Last))
}

// Offset is the base offset of a remembered batch; ok is false while it is Pending or when it is unknown.
func (ps *Producers) Offset(id int64, epoch int16, first int32) (base record.Offset, ok bool) {
	if p := ps.byID[id]; p != nil {
		for i := range p.sent {
			if s := &p.sent[i]; s.Epoch == epoch && s.First == first && s.Base != Pending {
				return s.Base, true
			}
		}
	}
	return 0, false
}

// next is the sequence number after n; they wrap to 0.
func next(n int32) int32 {
	if n == math.MaxInt32 {
		return 0
	}
	return n + 1
}

// Add remembers a batch that Check let pass: pending, or with the offset it has.
func (ps *Producers) Add(b record.Batch, base record.Offset, group uint64, unixMillis int64) {
	if ps.byID == nil {
		ps.byID = make(map[int64]*producer)
	}
	p := ps.byID[b.ProducerID()]
	if p == nil {
		p = &producer{}
		ps.byID[b.ProducerID()] = p
	}
	p.sent = append(p.sent, Sent{
		Epoch: b.ProducerEpoch(), First: b.BaseSequence(), Last: b.LastSequence(),
		Base: base, Group: group, Time: unixMillis,
	})
	if base != Pending {
		p.trim()
	}
}

// Settle tells the offset of a pending batch once it is durable.
func (ps *Producers) Settle(b record.Batch, group uint64) {
	p := ps.byID[b.ProducerID()]
	if p == nil {
		return
	}
	for i := range p.sent {
		s := &p.sent[i]
		if s.Base == Pending && s.Group == group && s.First == b.BaseSequence() && s.Epoch == b.ProducerEpoch() {
			s.Base = b.BaseOffset()
			break
		}
	}
	p.trim()
}

// trim forgets durable batches beyond the window, and those of older epochs.
func (p *producer) trim() {
	durable, newest := 0, int16(0)
	for durable < len(p.sent) && p.sent[durable].Base != Pending {
		newest = p.sent[durable].Epoch
		durable++
	}
	drop := max(0, durable-Window)
	for drop < durable-1 && p.sent[drop].Epoch < newest {
		drop++
	}
	if drop > 0 {
		p.sent = append(p.sent[:0], p.sent[drop:]...)
	}
}

// Rollback forgets the pending batches of a failed commit group and of all behind it.
func (ps *Producers) Rollback(group uint64) {
	for id, p := range ps.byID {
		n := 0
		for n < len(p.sent) && (p.sent[n].Base != Pending || p.sent[n].Group < group) {
			n++
		}
		if p.sent = p.sent[:n]; n == 0 {
			delete(ps.byID, id)
		}
	}
}

// Expire forgets producers whose last batch is durable and older than the time.
func (ps *Producers) Expire(before int64) {
	for id, p := range ps.byID {
		if s := p.sent[len(p.sent)-1]; s.Base != Pending && s.Time < before {
			delete(ps.byID, id)
		}
	}
}

// Len is the number of producers known.
func (ps *Producers) Len() int { return len(ps.byID) }

// IDs names the producers known, for a checkpoint.
func (ps *Producers) IDs() []int64 {
	ids := make([]int64, 0, len(ps.byID))
	for id := range ps.byID {
		ids = append(ids, id)
	}
	return ids
}

// Of visits the durable batches of a producer, oldest first; none if it is not known any more.
func (ps *Producers) Of(id int64, visit func(Sent)) {
	p := ps.byID[id]
	if p == nil {
		return
	}
	for _, s := range p.sent {
		if s.Base != Pending {
			visit(s)
		}
	}
}

// Restore puts back a batch that Of gave.
func (ps *Producers) Restore(id int64, s Sent) {
	if ps.byID == nil {
		ps.byID = make(map[int64]*producer)
	}
	p := ps.byID[id]
	if p == nil {
		p = &producer{}
		ps.byID[id] = p
	}
	p.sent = append(p.sent, s)
}
