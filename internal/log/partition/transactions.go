package partition

import (
	"cmp"
	"slices"
	"sort"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
)

// Open is a transaction that is under way in a partition.
type Open struct {
	ProducerID int64
	Epoch      int16
	First      record.Offset // of its first batch
}

// Aborted is a transaction that was aborted.
type Aborted = segment.Aborted

// Transactions is what a partition knows of transactions from its own batches (KIP-98): a pure state machine. The zero
// Transactions has seen none.
type Transactions struct {
	Opened []Open    // under way, in the order of their first batches
	Aborts []Aborted // of which no sealed file tells, in the order of their markers
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

// aborted appends the aborted transactions that have something in [from, to).
func (t *Transactions) aborted(from, to record.Offset, into []Aborted) []Aborted {
	for _, a := range t.Aborts[t.endedFrom(from):] {
		if a.First < to {
			into = append(into, a)
		}
		if a.Stable >= to {
			break
		}
	}
	return into
}

// endedFrom is the place in Aborts of the first one whose marker is at an offset or behind it.
func (t *Transactions) endedFrom(at record.Offset) int {
	return sort.Search(len(t.Aborts), func(i int) bool { return t.Aborts[i].Last >= at })
}

// told forgets the aborted transactions whose markers are in a span, if its file tells of them.
func (t *Transactions) told(s *Span) {
	from, to := t.endedFrom(s.Base), t.endedFrom(s.Last+1)
	if s.Aborts == segment.AbortsUnknown || from == to {
		return
	}
	t.Aborts = slices.Concat(t.Aborts[:from], t.Aborts[to:])
}

// Trim forgets what ended below the log start offset.
func (t *Transactions) Trim(start record.Offset) {
	if n := t.endedFrom(start); n > 0 {
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

// Hidden is what was aborted and has something in [from, to). Errors: those of Aborted.
func (p *Partition) Hidden(from, to record.Offset) (Hidden, error) {
	all, err := p.Aborted(from, to, nil)
	h := Hidden{}
	for _, a := range all {
		h[a.ProducerID] = append(h[a.ProducerID], a)
	}
	return h, err
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

// Aborted appends the aborted transactions that have something in [from, to), in the order of their first batches. The
// footers of sealed files tell of theirs, only the others are in memory. Errors: Corrupt, IO.
func (p *Partition) Aborted(from, to record.Offset, into []Aborted) ([]Aborted, error) {
	had := len(into)
	p.mu.Lock()
	into = p.mu.txns.aborted(from, to, into)
	p.mu.Unlock()
	for at, enough := from, false; !enough; {
		s, err := p.telling(at)
		if err != nil {
			return into[:had], err
		}
		if s.File == nil {
			break
		}
		err = s.File.Aborts(p.ID, from, func(a Aborted) bool {
			if a.First < to {
				into = append(into, a)
			}
			enough = a.Stable >= to
			return !enough
		})
		s.File.Release()
		if err != nil {
			return into[:had], err
		}
		at = s.Last + 1
	}
	found := into[had:]
	slices.SortFunc(found, func(a, b Aborted) int { return cmp.Compare(a.First, b.First) })
	return into[:had+len(slices.Compact(found))], nil // some may have come from memory into a file meanwhile
}

// telling is the first span that ends at an offset or behind it whose file tells of aborted transactions, and is then
// acquired; without a file if there is none.
func (p *Partition) telling(at record.Offset) (Span, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := search(p.mu.spans, at); i < len(p.mu.spans); i++ {
		if s := &p.mu.spans[i]; s.Aborts > 0 {
			if !s.File.Acquire() {
				return Span{}, replaced()
			}
			return *s, nil
		}
	}
	return Span{}, nil
}

// AbortsOf visits the aborted transactions whose markers are in a span, at an offset or behind it, in the order of
// their markers. The caller keeps the file from going. Errors: Corrupt, IO.
func (p *Partition) AbortsOf(s *Span, from record.Offset, visit func(Aborted)) error {
	switch {
	case s.Aborts > 0:
		return s.File.Aborts(p.ID, from, func(a Aborted) bool {
			visit(a)
			return true
		})
	case s.Aborts == segment.AbortsUnknown:
		p.mu.Lock()
		t := &p.mu.txns
		first := t.endedFrom(max(from, s.Base))
		all := slices.Clone(t.Aborts[first:max(first, t.endedFrom(s.Last+1))])
		p.mu.Unlock()
		for _, a := range all {
			visit(a)
		}
	}
	return nil
}

// Told forgets the aborted transactions of which files tell, once all are there when the log is opened. all, if it is
// not nil, is all that there are: of some files it was found out anew.
func (p *Partition) Told(all []Aborted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := &p.mu.txns; all != nil {
		t.Aborts = append(t.Aborts, all...)
		slices.SortFunc(t.Aborts, func(a, b Aborted) int { return cmp.Compare(a.Last, b.Last) })
		t.Aborts = slices.CompactFunc(t.Aborts, func(a, b Aborted) bool { return a.Last == b.Last })
	}
	for i := range p.mu.spans {
		p.mu.txns.told(&p.mu.spans[i])
	}
}

// Cleaned counts how often compaction replaced something. Batches and the aborted transactions in them go together if
// it is the same before they were read and behind.
func (p *Partition) Cleaned() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.cleaned
}
