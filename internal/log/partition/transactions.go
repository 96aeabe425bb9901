package partition

import (
	"slices"
	"sort"

	"github.com/firthmq/firth/internal/log/record"
)

// Open is a transaction that is under way in a partition.
type Open struct {
	ProducerID int64
	Epoch      int16
	First      record.Offset // of its first batch
}

// Aborted is a transaction that was aborted: what its producer wrote from First up to its marker at Last is seen by
// nobody who reads committed records.
type Aborted struct {
	ProducerID  int64
	First, Last record.Offset
	// Stable is the last stable offset behind its marker: whatever ends later began there or behind.
	Stable record.Offset
}

// Transactions is what a partition knows of transactions from its own batches (KIP-98): a pure state machine. The zero
// Transactions has seen none.
type Transactions struct {
	Opened []Open    // under way, in the order of their first batches
	Aborts []Aborted // in the order of their markers
}

// Apply takes the next batch into account; high is the offset behind it.
func (t *Transactions) Apply(b record.Batch, high record.Offset) {
	switch a := b.Attributes(); {
	case !a.Transactional():
	case a.Control():
		t.end(b, high)
	default:
		t.begin(Open{ProducerID: b.ProducerID(), Epoch: b.ProducerEpoch(), First: b.BaseOffset()})
	}
}

func (t *Transactions) begin(o Open) {
	if t.find(o.ProducerID) < 0 {
		t.Opened = append(t.Opened, o)
	}
}

// find is the place of a producer's open transaction, or -1.
func (t *Transactions) find(producerID int64) int {
	for i := range t.Opened {
		if t.Opened[i].ProducerID == producerID {
			return i
		}
	}
	return -1
}

// end applies a marker. One without a transaction, as it comes to a partition that the producer named and never wrote
// to, ends nothing.
func (t *Transactions) end(marker record.Batch, high record.Offset) {
	i := t.find(marker.ProducerID())
	if i < 0 {
		return
	}
	first := t.Opened[i].First
	t.Opened = slices.Delete(t.Opened, i, i+1)
	if commit, ok := marker.Marker(); ok && !commit {
		t.Aborts = append(t.Aborts, Aborted{
			ProducerID: marker.ProducerID(), First: first, Last: marker.LastOffset(), Stable: t.Stable(high),
		})
	}
}

// Stable is the last stable offset of a partition whose high watermark is high.
func (t *Transactions) Stable(high record.Offset) record.Offset {
	if len(t.Opened) > 0 {
		return min(high, t.Opened[0].First)
	}
	return high
}

// Aborted appends the aborted transactions that have something in [from, to), in the order of their first batches.
func (t *Transactions) Aborted(from, to record.Offset, into []Aborted) []Aborted {
	had := len(into)
	i := sort.Search(len(t.Aborts), func(i int) bool { return t.Aborts[i].Last >= from })
	for ; i < len(t.Aborts); i++ {
		a := &t.Aborts[i]
		if a.First < to {
			into = append(into, *a)
		}
		if a.Stable >= to {
			break
		}
	}
	found := into[had:]
	sort.Slice(found, func(i, j int) bool { return found[i].First < found[j].First })
	return into
}

// Trim forgets what ended below the log start offset.
func (t *Transactions) Trim(start record.Offset) {
	n := sort.Search(len(t.Aborts), func(i int) bool { return t.Aborts[i].Last >= start })
	if n > 0 {
		t.Aborts = slices.Clone(t.Aborts[n:])
	}
}

// CutOff forgets the transactions that began at an offset or behind it: what they wrote was lost before it was synced.
// A marker is never lost so.
func (t *Transactions) CutOff(from record.Offset) {
	n := sort.Search(len(t.Opened), func(i int) bool { return t.Opened[i].First >= from })
	t.Opened = t.Opened[:n]
}

// forgetOpen forgets the transactions that began below an offset.
func (t *Transactions) forgetOpen(below record.Offset) {
	n := sort.Search(len(t.Opened), func(i int) bool { return t.Opened[i].First >= below })
	t.Opened = t.Opened[n:]
}

// clone is a copy for who keeps it.
func (t *Transactions) clone() Transactions {
	return Transactions{Opened: slices.Clone(t.Opened), Aborts: slices.Clone(t.Aborts)}
}

// Hides tells whether a batch belongs to one of some aborted transactions: then no reader of committed records sees it.
func Hides(aborted []Aborted, b record.Batch) bool {
	if !b.Attributes().Transactional() {
		return false
	}
	for i := range aborted {
		if a := &aborted[i]; a.ProducerID == b.ProducerID() && a.First <= b.BaseOffset() && b.BaseOffset() <= a.Last {
			return true
		}
	}
	return false
}

// Hidden are aborted transactions by their producers, of each in the order of their offsets, for who looks at many
// batches.
type Hidden map[int64][]Aborted

// Hidden is what was aborted below an offset.
func (p *Partition) Hidden(to record.Offset) Hidden {
	h := Hidden{}
	for _, a := range p.Aborted(0, to, nil) {
		h[a.ProducerID] = append(h[a.ProducerID], a)
	}
	return h
}

// Hides is the function Hides.
func (h Hidden) Hides(b record.Batch) bool {
	all := h[b.ProducerID()]
	i := sort.Search(len(all), func(i int) bool { return all[i].Last >= b.BaseOffset() })
	return i < len(all) && Hides(all[i:i+1], b)
}

// Transactions copies what the partition knows of transactions.
func (p *Partition) Transactions() Transactions {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.txns.clone()
}

// Aborted appends the aborted transactions that have something in [from, to), in the order of their first batches.
func (p *Partition) Aborted(from, to record.Offset, into []Aborted) []Aborted {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.txns.Aborted(from, to, into)
}
