package partition

import (
	"sort"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
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
	if i == len(p.mu.spans) {
		return into, Span{}, true, p.missing(from)
	}
	span = p.mu.spans[i]
	if span.File == p.mu.cold.File {
		span = p.mu.cold
	}
	if !span.File.Acquire() {
		return into, span, false, replaced()
	}
	return into, span, false, nil
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
	if span.Extents == nil {
		extents, err := span.File.Extents(p.ID)
		if err != nil {
			return into, err
		}
		span.Extents = extents
		p.mu.Lock()
		p.mu.cold = span
		p.mu.Unlock()
	}
	i := sort.Search(len(span.Extents), func(i int) bool { return span.Extents[i].Last >= from })
	if i == len(span.Extents) || span.Extents[i].Base > from {
		return into, p.missing(from)
	}
	have := len(into)
	into, err := span.File.Read(p.ID, span.Extents[i:], maxBytes, into)
	if err != nil {
		return into[:have], err
	}
	return fromOffset(into, have, from), nil
}

// fromOffset drops the batches behind have that end before from: an extent may begin with some.
func fromOffset(batches []record.Batch, have int, from record.Offset) []record.Batch {
	first := have
	for first < len(batches) && batches[first].LastOffset() < from {
		first++
	}
	return append(batches[:have], batches[first:]...)
}

// AtTime names the offset from which to look for the first record not older than the time: the base of the
// first extent that can hold it. It is the high watermark if none can.
func (p *Partition) AtTime(unixMillis int64) (record.Offset, error) {
	found, high := record.Offset(-1), record.Offset(0)
	err := p.retry(func(spans []Span, bounds stream.Bounds) error {
		found, high = -1, bounds.High
		for _, s := range spans {
			if s.MaxTime < unixMillis || s.Last < bounds.Start {
				continue
			}
			extents, err := p.extents(s)
			if err != nil {
				return err
			}
			for _, e := range extents {
				if e.MaxTime >= unixMillis && e.Last >= bounds.Start {
					found = max(e.Base, bounds.Start)
					return nil
				}
			}
		}
		return nil
	})
	if err != nil {
		return -1, err
	}
	if found < 0 {
		return high, nil
	}
	return found, nil
}

// Newest names the base of the extent with the largest timestamp, the high watermark when there is none.
func (p *Partition) Newest() (record.Offset, error) {
	var largest int64
	err := p.retry(func(spans []Span, bounds stream.Bounds) error {
		largest = -1
		for _, s := range spans {
			if s.MaxTime <= largest || s.Last < bounds.Start {
				continue
			}
			if s.Base >= bounds.Start {
				largest = s.MaxTime
				continue
			}
			extents, err := p.extents(s) // a part of it was trimmed: that does not count
			if err != nil {
				return err
			}
			for _, e := range extents {
				if e.Last >= bounds.Start {
					largest = max(largest, e.MaxTime)
				}
			}
		}
		return nil
	})
	if err != nil {
		return -1, err
	}
	if largest < 0 {
		bounds, err := p.Bounds()
		return bounds.High, err
	}
	return p.AtTime(largest)
}

// retry looks through the spans, again while it meets files that were just replaced.
func (p *Partition) retry(look func(spans []Span, bounds stream.Bounds) error) error {
	for range attempts {
		p.mu.Lock()
		gone, bounds := p.mu.deleted, stream.Bounds{Start: p.mu.start, High: p.mu.high}
		spans := append([]Span(nil), p.mu.spans...)
		p.mu.Unlock()
		if gone {
			return deleted(p.ID)
		}
		if err := look(spans, bounds); !fault.Is(err, fault.Closed) {
			return err
		}
	}
	return p.restless()
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
