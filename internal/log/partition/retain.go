package partition

import (
	"sort"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
)

// Trim moves the log start offset up to start (never back, never beyond the last stable offset: an open transaction
// keeps what it wrote), forgets the spans that lie wholly below it and returns the log start offset.
func (p *Partition) Trim(start record.Offset) record.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.start = max(p.mu.start, min(start, p.mu.txns.Stable(p.mu.high)))
	n := 0
	for n < len(p.mu.spans) && p.mu.spans[n].Last < p.mu.start {
		n++
	}
	if n > 0 {
		p.mu.spans = peaks(append([]Span(nil), p.mu.spans[n:]...), 0)
		p.mu.cold = [2]Span{}
	}
	p.mu.epochs = p.mu.epochs.Trim(p.mu.start)
	p.mu.txns.Trim(p.mu.start)
	return p.mu.start
}

// Survive moves the log start offset up to the first record that is still there, when the log is opened with an old
// checkpoint. What was open below it has ended since, for nothing goes before it has: its marker went along.
func (p *Partition) Survive(first record.Offset) {
	p.mu.Lock()
	p.mu.txns.forgetOpen(first)
	p.mu.Unlock()
	p.Trim(first)
}

// Expired is the log start offset that the topic's retention asks for at the time: whole spans go while
// the largest timestamp in them is too old, or while retention.bytes are left without them. What has no
// timestamp is as old as its file, as in Kafka. A span of more than segment.bytes goes in steps. It changes
// nothing.
func (p *Partition) Expired(unixMillis int64) record.Offset {
	settings := p.Settings()
	p.mu.Lock()
	start := p.mu.start
	spans := append([]Span(nil), p.mu.spans...)
	p.mu.Unlock()
	if !settings.Delete || settings.RetentionMs < 0 && settings.RetentionBytes < 0 {
		return start
	}
	var left int64
	for i := range spans {
		left += spans[i].Bytes
	}
	due := func(s *Span, maxTime, bytes int64) bool {
		if maxTime < 0 && settings.RetentionMs >= 0 {
			maxTime = s.File.Written()
		}
		return settings.RetentionMs >= 0 && maxTime < unixMillis-settings.RetentionMs ||
			settings.RetentionBytes >= 0 && left-bytes >= settings.RetentionBytes
	}
	for i := range spans {
		s := &spans[i]
		if s.Bytes <= settings.SegmentBytes {
			if !due(s, s.MaxTime, s.Bytes) {
				return start
			}
			start, left = s.Last+1, left-s.Bytes
			continue
		}
		extents, err := p.extents(*s)
		if err != nil {
			return start // the file was just replaced or cannot be read: the next pass decides
		}
		for _, e := range extents {
			if e.Last < start {
				left -= int64(e.Len)
				continue
			}
			if !due(s, e.MaxTime, int64(e.Len)) {
				return start
			}
			start, left = e.Last+1, left-int64(e.Len)
		}
	}
	return start
}

// CutOff forgets the batches that lie in a file from the byte end on: they were readable before they were synced, and
// the sync failed. Their offsets stay taken: the caller puts something else there. It returns the first of them, or
// the high watermark if there is none.
func (p *Partition) CutOff(file File, end int64) record.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.mu.spans)
	if p.mu.deleted || n == 0 || p.mu.spans[n-1].File != file {
		return p.mu.high
	}
	s := p.mu.spans[n-1]
	left := sort.Search(len(s.Extents), func(i int) bool { return s.Extents[i].Pos >= end })
	if left == len(s.Extents) {
		return p.mu.high
	}
	first := s.Extents[left].Base
	rest := p.mu.spans[: n-1 : n-1]
	if left > 0 {
		short := Span{
			Base: s.Base, File: file, MaxTime: s.Extents[0].MaxTime, Extents: s.Extents[:left:left], Aborts: s.Aborts,
		}
		for i := range short.Extents {
			e := &short.Extents[i]
			short.Last, short.Bytes, short.MaxTime = e.Last, short.Bytes+int64(e.Len), max(short.MaxTime, e.MaxTime)
		}
		rest = append(rest, short)
	}
	p.mu.spans, p.mu.cold = peaks(rest, max(0, n-1)), [2]Span{}
	tail := p.mu.tail[p.mu.dead:]
	keep := sort.Search(len(tail), func(i int) bool { return tail[i].BaseOffset() >= first })
	p.mu.tail, p.mu.dead = append([]record.Batch(nil), tail[:keep]...), 0
	p.mu.txns.CutOff(first)
	return first
}

// Live visits the spans that hold readable records.
func (p *Partition) Live(visit func(s Span)) {
	p.mu.Lock()
	spans := append([]Span(nil), p.mu.spans...)
	p.mu.Unlock()
	for _, s := range spans {
		visit(s)
	}
}

// In is the span of the partition in a file, with its extents, if it has one.
func (p *Partition) In(file File) (Span, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.mu.spans {
		if s.File == file {
			return s, true
		}
	}
	return Span{}, false
}

// SpansIn lists the spans of the partition that lie in some files, and tells whether they follow one another without
// another between them.
func (p *Partition) SpansIn(in func(File) bool) (spans []Span, together bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, last := -1, -1
	for i := range p.mu.spans {
		if !in(p.mu.spans[i].File) {
			continue
		}
		if first < 0 {
			first = i
		}
		last = i
		spans = append(spans, p.mu.spans[i])
	}
	return spans, first < 0 || last-first+1 == len(spans)
}

// Summary is what another file holds of the partition.
type Summary segment.Summary

// Replace puts another file in the place of one: it holds the same batches, or, where sum is nil, none of
// this partition's that are still readable.
func (p *Partition) Replace(old, by File, sum *Summary) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.cold[0].File == old || p.mu.cold[1].File == old {
		p.mu.cold = [2]Span{}
	}
	for i := range p.mu.spans {
		if p.mu.spans[i].File != old {
			continue
		}
		spans := append([]Span(nil), p.mu.spans...)
		if sum == nil {
			spans = append(spans[:i], spans[i+1:]...)
		} else {
			spans[i] = SpanOf(segment.Summary(*sum), by)
			p.mu.txns.told(&spans[i])
		}
		p.mu.spans = peaks(spans, i)
		return
	}
}
