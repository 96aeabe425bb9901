package mqtt

import (
	"errors"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// input is what a connection keeps between reads: nothing, or the beginning of a packet. It is read into
// memory that is lent for the time of a read.
type input struct {
	kept     []byte // has come and is not consumed
	deferred bool   // kept may hold whole packets: they are consumed before more is read
	large    bool   // kept is where the last fill read to
}

// errAgain is a read that found nothing.
var errAgain = errors.New("nothing to read now")

// maxIdleKept is the memory for the beginnings of packets that a connection keeps while it needs none.
const maxIdleKept = 512

// memory is where to read next, behind n bytes that are kept: the memory lent, or memory of our own for a
// packet that does not fit.
func (in *input) memory(lent []byte, limit int) (b []byte, n int) {
	n = len(in.kept)
	if in.large = n > len(lent)/2; !in.large {
		copy(lent, in.kept)
		return lent, n
	}
	in.grow(limit)
	return in.kept[:cap(in.kept)], n
}

// grow makes room behind what is kept, step by step: memory is never more than twice of what came.
func (in *input) grow(limit int) {
	have := len(in.kept)
	if have < cap(in.kept) {
		return
	}
	size := 2 * have
	if need, err := packet.Length(in.kept, limit); err == nil && need > have {
		size = min(size, need)
	}
	bigger := make([]byte, have, size)
	copy(bigger, in.kept)
	in.kept = bigger
}

// keep keeps what was not consumed.
func (in *input) keep(rest []byte) {
	switch {
	case len(rest) == 0 && cap(in.kept) > maxIdleKept:
		in.kept = nil
	case in.large && cap(in.kept) >= len(rest): // rest is in it
		in.kept = in.kept[:copy(in.kept[:cap(in.kept)], rest)]
	default:
		in.kept = append(in.kept[:0], rest...)
	}
	in.large = false
}

// rest gives back memory before the connection waits.
func (in *input) rest() {
	if len(in.kept) == 0 {
		in.kept = nil
	}
}
