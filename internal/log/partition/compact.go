package partition

import (
	"math"
	"sort"

	"github.com/firthmq/firth/internal/log/record"
)

// Cleanable is what a pass of compaction can do for a partition now.
type Cleanable struct {
	// Spans are the sealed spans that a pass goes through: from the log start on, so that those that begin below Dirty
	// were compacted before, or a Part.
	Spans []Span
	// Part: some of those that are dirty, compacted for themselves so that they become one.
	Part  bool
	Dirty record.Offset // the first offset that was not compacted with all before it
	End   record.Offset // behind the last offset that may be compacted now: where the last of Spans ends

	CleanBytes, DirtyBytes int64
}

// Ratio is the share of what is dirty.
func (c *Cleanable) Ratio() float64 {
	if c.DirtyBytes == 0 {
		return 0
	}
	return float64(c.DirtyBytes) / float64(c.CleanBytes+c.DirtyBytes)
}

// Cleanable tells what compaction could do at the time, and whether the topic's settings ask for it: the share of
// dirty bytes is above min.cleanable.dirty.ratio, or the oldest dirty record reached max.compaction.lag.ms. What is in
// the active file, not stable yet, or younger than min.compaction.lag.ms, is left for later.
func (p *Partition) Cleanable(unixMillis int64) (c Cleanable, due bool) {
	settings := p.Settings()
	bounds, err := p.Bounds()
	if !settings.Compact || err != nil {
		return Cleanable{}, false
	}
	c.Spans = p.sealed()
	n := 0
	for n < len(c.Spans) && c.Spans[n].clean() > c.Spans[n].Last {
		c.CleanBytes += c.Spans[n].Bytes
		n++
	}
	if n == len(c.Spans) {
		return c, false
	}
	first := n
	youngest := before(unixMillis, settings.MinCompactionLagMs)
	for n < len(c.Spans) && c.Spans[n].MaxTime <= youngest && c.Spans[n].Last < bounds.Stable {
		c.DirtyBytes += c.Spans[n].Bytes
		n++
	}
	if c.Spans = c.Spans[:n]; n == first {
		return c, false
	}
	c.Dirty, c.End = c.Spans[first].clean(), c.Spans[n-1].Last+1
	part := int64(float64(c.Spans[first].Bytes) * c.Spans[first].part())
	c.CleanBytes, c.DirtyBytes = c.CleanBytes+part, c.DirtyBytes-part
	due = c.Ratio() > settings.MinDirtyRatio ||
		p.dirtySince(c.Spans[first]) <= before(unixMillis, settings.MaxCompactionLagMs)
	if dirty := c.Spans[first:]; !due && many(dirty) > 0 {
		return partly(dirty[len(dirty)-many(dirty):]), true
	}
	return c, due
}

const (
	// manySpans is how many dirty spans of about one size are made one before their share asks for more.
	manySpans = 16
	// smallSpan is a size in bytes below which all are of about one size.
	smallSpan = 64 << 10
)

// many counts the newest spans of which none is larger than all behind it together, so that no record is written often;
// 0 if they are few.
func many(dirty []Span) int {
	n, behind := 0, int64(smallSpan)
	for n < len(dirty) && dirty[len(dirty)-1-n].Bytes <= behind {
		behind += dirty[len(dirty)-1-n].Bytes
		n++
	}
	if n < manySpans {
		return 0
	}
	return n
}

// partly is a pass over some dirty spans alone.
func partly(dirty []Span) Cleanable {
	c := Cleanable{Spans: dirty, Part: true, Dirty: dirty[0].Base, End: dirty[len(dirty)-1].Last + 1}
	for i := range dirty {
		c.DirtyBytes += dirty[i].Bytes
	}
	return c
}

// before is the time so many milliseconds ago.
func before(unixMillis, ago int64) int64 {
	if unixMillis < math.MinInt64+ago {
		return math.MinInt64
	}
	return unixMillis - ago
}

// sealed lists the spans in front of the first that lies in a journal.
func (p *Partition) sealed() []Span {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.mu.spans) && p.mu.spans[n].Extents == nil {
		n++
	}
	return append([]Span(nil), p.mu.spans[:n]...)
}

// Active is the file that holds the newest batches if that is no sealed one yet, or nil.
func (p *Partition) Active() File {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.mu.spans); n > 0 && p.mu.spans[n-1].Extents != nil {
		return p.mu.spans[n-1].File
	}
	return nil
}

// clean is the offset below which the span was compacted with all before it.
func (s *Span) clean() record.Offset {
	if s.Compacted == nil {
		return s.Base
	}
	return s.Compacted.Clean
}

// part is about which part of the span that is, 0 to 1.
func (s *Span) part() float64 { return float64(s.clean()-s.Base) / float64(s.Last+1-s.Base) }

// dirtySince is about the time of the first record of a span that was not compacted, MaxInt64 if it cannot be told.
func (p *Partition) dirtySince(s Span) int64 {
	if p.Settings().MaxCompactionLagMs == math.MaxInt64 {
		return math.MaxInt64
	}
	extents, err := p.extents(s)
	if err != nil {
		return math.MaxInt64 // the next look tells
	}
	i := sort.Search(len(extents), func(i int) bool { return extents[i].Last >= s.clean() })
	if i == len(extents) {
		return math.MaxInt64
	}
	return extents[i].MaxTime
}

// Cover puts a span in the place of those that a pass of compaction or a merge read for it, less what was trimmed
// meanwhile. From then on nobody reads what was compacted with all before it, not even from memory. It is false if the
// spans are no longer what the partition has there.
func (p *Partition) Cover(s Span, read []Span) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(read) > 0 && read[0].Last < p.mu.start {
		read = read[1:]
	}
	if p.mu.deleted || len(read) == 0 {
		return false
	}
	i := search(p.mu.spans, read[0].Base)
	if len(p.mu.spans)-i < len(read) {
		return false
	}
	for j := range read {
		if p.mu.spans[i+j].File != read[j].File {
			return false
		}
	}
	p.mu.cold = [2]Span{}
	spans := append(append([]Span(nil), p.mu.spans[:i]...), s)
	p.mu.spans = peaks(append(spans, p.mu.spans[i+len(read):]...), 0)
	p.mu.txns.told(&s)
	if c := s.Compacted; c != nil {
		p.mu.cleaned++
		p.forgetLocked(c.Clean)
	}
	return true
}

// Forget drops the batches that end before an offset from memory: who reads them reads their file.
func (p *Partition) Forget(before record.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(before)
}

// forgetLocked drops the batches that end before an offset from memory.
func (p *Partition) forgetLocked(before record.Offset) {
	tail := p.mu.tail[p.mu.dead:]
	n := sort.Search(len(tail), func(i int) bool { return tail[i].LastOffset() >= before })
	p.mu.tail, p.mu.dead = append([]record.Batch(nil), tail[n:]...), 0
	p.mu.spared += n
}

// AddSpan notes a whole span of a sealed file while the log is opened, older files first: it stands for what older
// ones have in its offsets.
func (p *Partition) AddSpan(s Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := len(p.mu.spans)
	for at > 0 && max(p.mu.spans[at-1].Base, p.mu.start) >= s.Base {
		at--
	}
	behind := at
	for behind < len(p.mu.spans) && p.mu.spans[behind].Last <= s.Last {
		behind++
	}
	if at == behind && at == len(p.mu.spans) {
		p.mu.spans = peaks(append(p.mu.spans, s), at)
		return
	}
	spans := append(append([]Span(nil), p.mu.spans[:at]...), s)
	p.mu.spans = peaks(append(spans, p.mu.spans[behind:]...), 0)
}
