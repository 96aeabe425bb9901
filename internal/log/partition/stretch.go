package partition

import (
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// Stretch is a run of whole batches of a partition that lie in a file and were not read yet. It holds
// neither memory nor the file: whoever waits with one in his hands keeps nothing from going.
type Stretch struct {
	p       *Partition
	file    File
	extents []segment.Extent // what is left to load; shared
	ahead   []segment.Extent // what follows, twice as much; shared
	beyond  File             // the next file, if that is not as much; nil: none
	then    []segment.Extent // what follows there; shared
	size    int              // bytes of them
	next    record.Offset    // behind the last of them
}

// Size is how many bytes are left to load.
func (s *Stretch) Size() int { return s.size }

// Next is the offset behind the last batch.
func (s *Stretch) Next() record.Offset { return s.next }

// Find is Read without reading: it appends the batches that are in memory to into, or gives the stretch of
// a file that holds them. What cannot be told without reading is read: the batches from the middle of an
// extent on, and all of a partition that was found damaged.
func (p *Partition) Find(
	from record.Offset, maxBytes int, into []record.Batch,
) (out []record.Batch, st Stretch, err error) {
	for range attempts {
		out, span, done, err := p.find(from, maxBytes, into)
		if err == nil && !done {
			out, st, err = p.findSpan(span, from, maxBytes, into)
		}
		if !fault.Is(err, fault.Closed) {
			return out, st, err
		}
	}
	return into, Stretch{}, p.restless()
}

// findSpan looks into an acquired span.
func (p *Partition) findSpan(
	span Span, from record.Offset, maxBytes int, into []record.Batch,
) ([]record.Batch, Stretch, error) {
	extents, err := p.from(span, from)
	if err == nil && p.harmed(extents, maxBytes) {
		out, err := p.readSpan(span, from, maxBytes, into)
		p.heal(out[len(into):], from)
		return out, Stretch{}, err
	}
	if err == nil && extents[0].Base < from {
		out, err := p.readSpan(span, from, 1, into)
		return out, Stretch{}, err
	}
	if err != nil {
		span.File.Release()
		return into, Stretch{}, err
	}
	n, size := within(extents, maxBytes)
	ahead, lead := within(extents[n:], 2*maxBytes)
	if p.Settings().Rewritten() {
		if span.File.Promise(); !p.has(span) {
			span.File.Release()
			return into, Stretch{}, replaced() // it may have been let go of without regard to the promise
		}
	}
	span.File.Release()
	st := Stretch{
		p: p, file: span.File, extents: extents[:n:n], ahead: extents[n : n+ahead], size: size, next: extents[n-1].Last + 1,
	}
	if n+ahead == len(extents) {
		st.beyond, st.then = p.beyond(span.Last+1, 2*maxBytes-lead)
	}
	return into, st, nil
}

// beyond gives about so many bytes of extents of the span that begins at an offset, which nobody has asked for yet.
func (p *Partition) beyond(from record.Offset, maxBytes int) (File, []segment.Extent) {
	p.mu.Lock()
	i := search(p.mu.spans, from)
	if maxBytes <= 0 || i == len(p.mu.spans) {
		p.mu.Unlock()
		return nil, nil
	}
	span := p.withExtentsLocked(p.mu.spans[i])
	acquired := span.File.Acquire()
	p.mu.Unlock()
	if !acquired {
		return nil, nil
	}
	defer span.File.Release()
	extents, err := p.from(span, span.Base)
	if err != nil {
		return nil, nil // who comes to them will be told
	}
	n, _ := within(extents, maxBytes)
	return span.File, extents[:n]
}

// harmed tells whether some of the extents that maxBytes reach could not be read before.
func (p *Partition) harmed(extents []segment.Extent, maxBytes int) bool {
	n, _ := within(extents, maxBytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.mu.harmed
	return h.from < h.to && extents[0].Base < h.to && h.from <= extents[n-1].Last
}

// harm notes that extents could not be read.
func (p *Partition) harm(extents []segment.Extent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := harm{from: extents[0].Base, to: extents[len(extents)-1].Last + 1}
	if old := p.mu.harmed; old.from < old.to {
		h.from, h.to = min(h.from, old.from), max(h.to, old.to)
	}
	p.mu.harmed = h
}

// heal forgets what could not be read as far as it was read now, from an offset on: a disk may fail once.
func (p *Partition) heal(batches []record.Batch, from record.Offset) {
	if len(batches) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := &p.mu.harmed; min(from, batches[0].BaseOffset()) <= h.from {
		h.from = max(h.from, batches[len(batches)-1].LastOffset()+1)
	}
}

// has tells whether a span is still where it was found.
func (p *Partition) has(span Span) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := search(p.mu.spans, span.Last)
	return i < len(p.mu.spans) && p.mu.spans[i].File == span.File
}

// within counts the extents that have at most so many bytes together, but one if there is any.
func within(extents []segment.Extent, maxBytes int) (n, size int) {
	for n < len(extents) && (n == 0 || size+int(extents[n].Len) <= maxBytes) {
		size += int(extents[n].Len)
		n++
	}
	return n, size
}

// At is the partition and the first offset that is left to load. Only asked while something is left.
func (s *Stretch) At() (stream.PartitionID, record.Offset) { return s.p.ID, s.extents[0].Base }

// File is the file it lies in, as far as is known.
func (s *Stretch) File() File { return s.file }

// Extents is what is left to load, and what follows it in the file, about twice as much. They are shared.
func (s *Stretch) Extents() (left, next []segment.Extent) { return s.extents, s.ahead }

// Beyond is what follows in the next file, if what follows in this one is less than twice as much; nil: none.
func (s *Stretch) Beyond() (File, []segment.Extent) { return s.beyond, s.then }

// Reach is the part of the file that Load looks at for so much room.
func (s *Stretch) Reach(room int) (pos, end int64) {
	n, _ := within(s.extents, room)
	return s.extents[0].Pos, s.extents[n-1].End()
}

// Load reads and checks as much as the free room of buf takes, appends it to buf, and the pieces of buf that
// are batches, in order, to into. If not even the first extent has room, an empty buf is replaced by a larger
// one and one with something in it given back as it is. Errors: Corrupt, IO, those of Read; what was
// appended before is good.
func (s *Stretch) Load(buf []byte, into [][]byte) ([]byte, [][]byte, error) {
	for s.size > 0 {
		n, length, bytes := s.fit(cap(buf) - len(buf))
		if n == 0 {
			if len(buf) > 0 {
				return buf, into, nil
			}
			buf = make([]byte, 0, s.extents[0].Len)
			continue
		}
		at := len(buf)
		if err := s.fill(s.extents[:n], buf[at:at+length]); err != nil {
			return buf, into, err
		}
		buf = buf[:at+length]
		into = appendPieces(into, s.extents[:n], buf[at:])
		s.extents, s.size = s.extents[n:], s.size-bytes
	}
	return buf, into, nil
}

// fit counts the extents that are read at once into so much room, the length of that read and the bytes of
// batches in it.
func (s *Stretch) fit(room int) (n, length, bytes int) {
	first := s.extents[0].Pos
	for i := range s.extents {
		e := &s.extents[i]
		end := e.Pos - first + int64(e.Len)
		if end > int64(room) || i > 0 && !s.extents[i-1].Near(e) {
			break
		}
		n, length, bytes = i+1, int(end), bytes+int(e.Len)
	}
	return n, length, bytes
}

// appendPieces appends the extents in b, those without a hole between them as one.
func appendPieces(into [][]byte, extents []segment.Extent, b []byte) [][]byte {
	from, to := int64(0), int64(0)
	for i := range extents {
		at := extents[i].Pos - extents[0].Pos
		if at != to {
			into = append(into, b[from:to])
			from = at
		}
		to = at + int64(extents[i].Len)
	}
	return append(into, b[from:to])
}

// fill reads extents that lie close together.
func (s *Stretch) fill(extents []segment.Extent, b []byte) error {
	var err error
	if s.file.Acquire() {
		err = s.file.Fill(s.p.ID, extents, b)
		s.file.Release()
	} else {
		err = s.follow(extents, b)
	}
	if err != nil && !fault.Is(err, fault.Closed) && !fault.Is(err, fault.OutOfRange) { // these tell of no damage
		s.p.harm(extents)
	}
	return err
}

// follow reads the batches from where they are now: their file was replaced. Their bytes are the same, unless they
// were compacted or shredded: then there is nothing of the length that was promised, and the caller has to Find again.
func (s *Stretch) follow(extents []segment.Extent, b []byte) error {
	var batches []record.Batch
	for _, e := range extents {
		at := e.Pos - extents[0].Pos
		dst := b[at : at+int64(e.Len)]
		for from := e.Base; len(dst) > 0; {
			var err error
			batches, err = s.p.Read(from, len(dst), batches[:0])
			if err != nil {
				return err
			}
			got := 0
			for _, batch := range batches {
				if len(dst) == 0 || batch.BaseOffset() < from || len(batch) > len(dst) {
					break
				}
				n := copy(dst, batch)
				dst, from, got = dst[n:], batch.LastOffset()+1, got+n
			}
			if got == 0 || len(dst) == 0 && from != e.Last+1 {
				return fault.New(fault.Closed, "log.Read", "partition %d: offset %d was compacted while it was read",
					s.p.ID, from)
			}
		}
	}
	return nil
}
