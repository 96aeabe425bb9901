package partition

import (
	"weak"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
)

// named are the names of the file that was asked last, as long as memory is not wanted for other things.
type named struct {
	file  File
	names weak.Pointer[segment.Names]
}

// skipFiles is how many files one Skip looks at, so that it takes no longer than a read.
const skipFiles = 16

// Skip passes over records of which the files say that none has a wanted name, by the mapping with that
// fingerprint: it is the offset to read on from, at most end. What is not known is not passed over.
func (p *Partition) Skip(from, end record.Offset, mapping uint64, w *segment.Wanted) record.Offset {
	for range skipFiles {
		p.mu.Lock()
		i := search(p.mu.spans, from)
		if from >= end || from < p.mu.start || i == len(p.mu.spans) || p.mu.spans[i].Base > from {
			p.mu.Unlock()
			break
		}
		span := p.mu.spans[i]
		p.mu.Unlock()
		names := p.names(span)
		if names == nil || names.Mapping != mapping {
			break
		}
		next := names.Skip(from, w)
		if next <= span.Last {
			from = max(from, next)
			break
		}
		from = span.Last + 1
	}
	return min(from, end)
}

// names are those of a sealed file; nil if nothing is known or they cannot be read.
func (p *Partition) names(s Span) *segment.Names {
	if s.Extents != nil {
		return nil
	}
	p.mu.Lock()
	known := p.mu.named
	p.mu.Unlock()
	if names := known.names.Value(); names != nil && known.file == s.File {
		return names
	}
	if !s.File.Acquire() {
		return nil
	}
	defer s.File.Release()
	names, err := s.File.Names(p.ID)
	if err != nil {
		return nil // the records can be read all the same
	}
	p.mu.Lock()
	p.mu.named = named{file: s.File, names: weak.Make(names)}
	p.mu.Unlock()
	return names
}
