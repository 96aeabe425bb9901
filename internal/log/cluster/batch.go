package cluster

import (
	"math"
	"sync"

	"github.com/firthmq/firth/internal/log/record"
)

// batch is what a partition gets in one request.
type batch struct {
	attempt
	p       *part
	writes  []write
	builder record.Builder
	memory  []byte // the builder's, to be used again

	sealed record.Batch  // under the id and epoch that its producer has now; nil: not yet
	step   step          // after the last answer
	err    error         // what the last answer said
	base   record.Offset // of the first record, once it is there
}

// write is a record of a unit.
type write struct {
	u *unit
	i int // in u.records
}

// batches are lent, with their memory, so that a sender holds none while it has nothing to send.
var batches = sync.Pool{New: func() any { return new(batch) }}

func newBatch(p *part) *batch {
	b, _ := batches.Get().(*batch) // the pool holds nothing else
	*b = batch{p: p, writes: b.writes[:0], memory: b.memory}
	return b
}

// release gives batches back. None of them may be in a request that somebody still reads.
func release(all []*batch) {
	for _, b := range all {
		clear(b.writes)
		*b = batch{writes: b.writes[:0], memory: b.memory}
		batches.Put(b)
	}
}

// pack puts the records of units into batches as their partitions take them, those of a partition in order. Without
// transactions a unit, which is for one partition then, is never cut, whatever it has become too large for.
func pack(units []*unit, by *producer) (all []*batch) {
	open, whole := make(map[*part]*batch), !by.transactional()
	for _, u := range units {
		for i := range u.records {
			at := u.places[i]
			size := at.bytes
			if whole {
				size = u.encoded
			}
			b := open[at.p]
			if b == nil || (!whole || i == 0) && !b.fits(size) {
				b = newBatch(at.p)
				b.attempt = attempt{undoable: by.transactional(), owned: by.owned}
				b.builder.Reset(b.memory, u.records[i].Timestamp)
				open[at.p] = b
				all = append(all, b)
			}
			b.builder.Append(&u.records[i])
			b.writes = append(b.writes, write{u, i})
		}
	}
	return all
}

func (b *batch) fits(bytes int64) bool {
	return int64(b.builder.Len())+bytes <= b.p.limit.Load()
}

// seal makes it the batch of a producer, once more if it was that of another before.
func (b *batch) seal(by *producer) {
	if b.sealed != nil {
		return
	}
	b.builder.SetProducer(by.id, by.epoch, by.sequences[b.p])
	if by.transactional() {
		b.builder.SetTransactional()
	}
	const anyEpoch = -1
	b.sealed = b.builder.Seal(0, anyEpoch)
	b.memory = b.sealed
}

// sequence gives the number after that of the last record: they go from 2^31-1 on to 0.
func (b *batch) sequence() int32 {
	return int32((int64(b.sealed.LastSequence()) + 1) & math.MaxInt32)
}

// place tells the units where their records are.
func (b *batch) place() {
	for n, w := range b.writes {
		w.u.offsets[w.i] = b.base + record.Offset(n)
	}
}

// lost tells the units why they are.
func (b *batch) lost() {
	for _, w := range b.writes {
		w.u.err = b.err
	}
}

// units are those of a batch of whole ones.
func (b *batch) units() (all []*unit) {
	for _, w := range b.writes {
		if w.i == 0 {
			all = append(all, w.u)
		}
	}
	return all
}
