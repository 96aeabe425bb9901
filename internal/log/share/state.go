package share

import (
	"encoding/binary"
	"math"

	"github.com/firthmq/firth/internal/kit/fault"
)

// stateVersion is the first byte of a stored state: writes 1, reads 1.
const stateVersion = 1

// AppendTo appends what is to be stored of the partition (docs/format/sessions.md): it grows with what is open.
func (p *Partition) AppendTo(b []byte) []byte {
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, uint64(p.next))
	b = binary.AppendUvarint(b, uint64(p.open))
	before := p.next
	for i := len(p.entries) - 1; i >= 0; i-- {
		if e := &p.entries[i]; !e.done {
			b = binary.AppendUvarint(b, uint64(before-e.offset))
			before = e.offset
		}
	}
	return b
}

// Parse is a partition as it was stored: what was open is released. It allocates no more than some times the bytes that
// it is given. Errors: Unsupported, for a version that is not known; Corrupt.
func Parse(b []byte) (*Partition, error) {
	const op = "share.Parse"
	corrupt := func() error {
		return fault.New(fault.Corrupt, op, "a state of %d bytes that is cut short or out of range", len(b))
	}
	switch {
	case len(b) == 0:
		return nil, corrupt()
	case b[0] != stateVersion:
		return nil, fault.New(fault.Unsupported, op, "version %d", b[0])
	}
	rest := b[1:]
	take := func() (uint64, bool) {
		n, width := binary.Uvarint(rest)
		if width <= 0 {
			return 0, false
		}
		rest = rest[width:]
		return n, true
	}
	next, ok := take()
	count, all := take()
	if !ok || !all || next > math.MaxInt64 || count > uint64(len(rest)) || count > MaxOpen {
		return nil, corrupt()
	}
	p := &Partition{next: int64(next), open: int(count), free: int(count)}
	if count == 0 {
		return p, nil
	}
	p.entries = make([]entry, count)
	before := next
	for i := int(count) - 1; i >= 0; i-- {
		distance, ok := take()
		if !ok || distance == 0 || distance > before {
			return nil, corrupt()
		}
		before -= distance
		p.entries[i] = entry{offset: int64(before)}
	}
	return p, nil
}

// Shift is for a log that was copied, with offsets that are lower by a number: what lay before it is not there. The
// partition is as Parse gives it.
func (p *Partition) Shift(by int64) {
	p.next = max(p.next-by, 0)
	kept := p.entries[:0]
	for _, e := range p.entries {
		if e.offset -= by; e.offset >= 0 {
			kept = append(kept, e)
			continue
		}
		p.open--
		p.free--
	}
	p.entries = kept
}
