package partition

import (
	"sort"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
)

// attempts is how often a read starts over because the file it had found was replaced meanwhile.
const attempts = 8

// Read appends whole batches from the one that holds from, up to the high watermark and about maxBytes,
// at least one. See stream.Log.
func (p *Partition) Read(from record.Offset, maxBytes int, into []record.Batch) ([]record.Batch, error) {
	for range attempts {
		out, span, done, err := p.find(from, maxBytes, into)
		if err == nil && !done {
			out, err = p.readSpan(span, from, maxBytes, into)
		}
		if !fault.Is(err, fault.Closed) {
			return out, err
		}
	}
	return into, p.restless()
}

// find answers from the tail, or names the span to read, whose file is then acquired.
func (p *Partition) find(
	from record.Offset, maxBytes int, into []record.Batch,
) (out []record.Batch, span Span, done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.mu.deleted:
		return into, Span{}, true, deleted(p.ID)
	case from < p.mu.start || from > p.mu.high:
		return into, Span{}, true, fault.New(fault.OutOfRange, "log.Read",
			"partition %d: offset %d is not in [%d, %d]", p.ID, from, p.mu.start, p.mu.high)
	case from == p.mu.high:
		return into, Span{}, true, nil
	}
	tail := p.mu.tail[p.mu.dead:]
	if len(tail) > 0 && tail[0].BaseOffset() <= from {
		i := sort.Search(len(tail), func(i int) bool { return tail[i].BaseOffset() > from }) - 1
		for size := 0; i < len(tail) && (size == 0 || size+len(tail[i]) <= maxBytes); i++ {
			into = append(into, tail[i])
			size += len(tail[i])
		}
		return into, Span{}, true, nil
	}
	i := search(p.mu.spans, from)
	if i == len(p.mu.spans) || p.mu.spans[i].Base > from {
		return into, Span{}, true, p.missing(from)
	}
	span = p.mu.spans[i]
	span = p.withExtentsLocked(span)
	if !span.File.Acquire() {
		return into, span, false, replaced()
	}
	return into, span, false, nil
}

// withExtentsLocked is a span with its extents, if they are at hand.
func (p *Partition) withExtentsLocked(span Span) Span {
	for i := range p.mu.cold {
		if p.mu.cold[i].File == span.File {
			return p.mu.cold[i]
		}
	}
	return span
}

// replaced says that a file went between finding and reading it: the caller looks again.
func replaced() error { return fault.New(fault.Closed, "log.Read", "file replaced") }

func (p *Partition) missing(from record.Offset) error {
	return fault.New(fault.Corrupt, "log.Read", "partition %d: the records from offset %d on are lost", p.ID, from).
		WithHint("run firth log check on the stopped log to see what is damaged")
}

// readSpan reads from an acquired span.
func (p *Partition) readSpan(
	span Span, from record.Offset, maxBytes int, into []record.Batch,
) ([]record.Batch, error) {
	defer span.File.Release()
	extents, err := p.from(span, from)
	if err != nil {
		return into, err
	}
	have := len(into)
	into, err = span.File.Read(p.ID, extents, maxBytes, into)
	into = fromOffset(into, have, from)
	if err != nil && (len(into) == have || fault.Is(err, fault.Closed)) {
		return into[:have], err
	}
	return into, nil // what lies before the damage is as good as ever; who reads on meets the error
}

// gap tells whether all of the offsets [from, to) may be missing because the span was compacted.
func (s *Span) gap(from, to record.Offset) bool {
	return s.Compacted != nil && s.Base <= from && to <= s.Compacted.Gaps
}

// Gap tells whether all of the offsets [from, to) may be missing: they are in files that were compacted.
func (p *Partition) Gap(from, to record.Offset) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := search(p.mu.spans, from); i < len(p.mu.spans) && from < to; i++ {
		s := &p.mu.spans[i]
		if !s.gap(from, min(to, s.Last+1)) {
			return false
		}
		from = s.Last + 1
	}
	return from >= to
}

// from gives the extents of an acquired span from the one on that holds an offset, or the next one if that offset
// was compacted away.
func (p *Partition) from(span Span, from record.Offset) ([]segment.Extent, error) {
	if span.Extents == nil {
		extents, err := span.File.Extents(p.ID)
		if err != nil {
			return nil, err
		}
		span.Extents = extents
		p.mu.Lock()
		p.mu.cold[0], p.mu.cold[1] = span, p.mu.cold[0]
		p.mu.Unlock()
	}
	i := sort.Search(len(span.Extents), func(i int) bool { return span.Extents[i].Last >= from })
	if i == len(span.Extents) || span.Extents[i].Base > from && !span.gap(from, span.Extents[i].Base) {
		return nil, p.missing(from)
	}
	return span.Extents[i:], nil
}

// fromOffset drops the batches behind have that end before from: an extent may begin with some.
func fromOffset(batches []record.Batch, have int, from record.Offset) []record.Batch {
	first := have
	for first < len(batches) && batches[first].LastOffset() < from {
		first++
	}
	return append(batches[:have], batches[first:]...)
}

// AtTime names the offset from which to look for the first record behind from that is not older than the time: the
// base of the first extent that can hold it. It is the high watermark if none can. An extent of which a part was
// trimmed or compacted away may have lost the record: who does not find it there asks again from behind.
func (p *Partition) AtTime(from record.Offset, unixMillis int64) (record.Offset, error) {
	for range attempts {
		found, err := p.atTime(from, unixMillis)
		if !fault.Is(err, fault.Closed) {
			return found, err
		}
	}
	return -1, p.restless()
}

func (p *Partition) atTime(from record.Offset, unixMillis int64) (record.Offset, error) {
	for {
		span, first, high, err := p.claims(from, unixMillis)
		if err != nil || span.File == nil {
			return high, err
		}
		extents, err := p.extents(span)
		if err != nil {
			return -1, err
		}
		for i := range extents {
			if e := &extents[i]; e.MaxTime >= unixMillis && e.Last >= first {
				return max(e.Base, first), nil
			}
		}
		from = span.Last + 1
	}
}

// claims is the first span that ends at or behind from and claims a record not older than the time; without a file
// if there is none. first is from, or the log start if that is later.
func (p *Partition) claims(
	from record.Offset, unixMillis int64,
) (span Span, first, high record.Offset, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.deleted {
		return Span{}, -1, -1, deleted(p.ID)
	}
	first = max(from, p.mu.start)
	spans, i := p.mu.spans, search(p.mu.spans, first)
	if i == 0 && len(spans) > 0 && spans[0].MaxTime < unixMillis {
		i = 1
	}
	if i == 1 { // the peaks count from here on
		rest := spans[1:]
		i += sort.Search(len(rest), func(i int) bool { return rest[i].peak >= unixMillis })
	}
	for i < len(spans) && spans[i].MaxTime < unixMillis {
		i++
	}
	if i < len(spans) {
		span = spans[i]
	}
	return span, first, p.mu.high, nil
}

// Newest names the base of the extent with the largest timestamp of those that end at or behind from, the high
// watermark when there is none.
func (p *Partition) Newest(from record.Offset) (record.Offset, error) {
	for range attempts {
		largest, err := p.newest(from)
		if fault.Is(err, fault.Closed) {
			continue
		}
		if err != nil {
			return -1, err
		}
		if largest < 0 {
			bounds, err := p.Bounds()
			return bounds.High, err
		}
		return p.AtTime(from, largest)
	}
	return -1, p.restless()
}

// newest is the largest timestamp, -1 when there is none.
func (p *Partition) newest(from record.Offset) (int64, error) {
	first, from, largest, err := p.newestSpans(from)
	switch {
	case err != nil:
		return -1, err
	case first.File == nil || first.MaxTime <= largest:
		return largest, nil
	case first.Base >= from:
		return first.MaxTime, nil
	}
	extents, err := p.extents(first) // a part of it is before from: that does not count
	if err != nil {
		return -1, err
	}
	for i := range extents {
		if e := &extents[i]; e.Last >= from {
			largest = max(largest, e.MaxTime)
		}
	}
	return largest, nil
}

// newestSpans is the span that holds from, or the log start if that is later, and the largest timestamp of all behind
// it.
func (p *Partition) newestSpans(from record.Offset) (first Span, at record.Offset, largest int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.deleted {
		return Span{}, -1, -1, deleted(p.ID)
	}
	at = max(from, p.mu.start)
	spans, i := p.mu.spans, search(p.mu.spans, at)
	largest = -1
	if i == len(spans) {
		return Span{}, at, largest, nil
	}
	if last := len(spans) - 1; i == 0 && last > 0 {
		return spans[0], at, spans[last].peak, nil
	}
	for _, s := range spans[i+1:] {
		largest = max(largest, s.MaxTime)
	}
	return spans[i], at, largest, nil
}

func (p *Partition) restless() error {
	return fault.New(fault.IO, "log.Read", "partition %d: files were replaced %d times while reading", p.ID, attempts)
}

func (p *Partition) extents(s Span) ([]segment.Extent, error) {
	if s.Extents != nil {
		return s.Extents, nil
	}
	if !s.File.Acquire() {
		return nil, replaced()
	}
	defer s.File.Release()
	return s.File.Extents(p.ID)
}

// Behind is the offset behind the extent that holds from, or behind the hole at from: where to read on when
// what lies at from cannot be read.
func (p *Partition) Behind(from record.Offset) record.Offset {
	p.mu.Lock()
	high, span := p.mu.high, Span{}
	if i := search(p.mu.spans, from); i < len(p.mu.spans) {
		span = p.mu.spans[i] // a copy: the last one grows
	}
	p.mu.Unlock()
	switch {
	case span.File == nil:
		return max(high, from+1)
	case span.Base > from:
		return span.Base
	}
	extents, err := p.extents(span)
	if err != nil {
		return span.Last + 1
	}
	for i := range extents {
		if e := &extents[i]; e.Base > from {
			return e.Base
		} else if e.Last >= from {
			return e.Last + 1
		}
	}
	return span.Last + 1
}

// Cached is the batch with that base offset if it is in memory, or nil. It is shared and must not be changed.
func (p *Partition) Cached(base record.Offset) record.Batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	tail := p.mu.tail[p.mu.dead:]
	i := sort.Search(len(tail), func(i int) bool { return tail[i].BaseOffset() >= base })
	if i == len(tail) || tail[i].BaseOffset() != base {
		return nil
	}
	return tail[i]
}
