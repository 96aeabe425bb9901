package mqtt

import (
	"errors"

	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// reader is what a connection keeps between reads: nothing, or the beginning of a packet, or packets that wait; and
// where the topic names that it publishes to lead. It belongs to the driver. What it reads goes into memory that is
// lent for the time of a read.
type reader struct {
	kept    []byte // has come and is not consumed
	scanned int    // bytes of kept that were looked through for packets that need not wait
	large   bool   // kept is where the last fill read to
	whole   bool   // kept may hold whole packets: they are consumed before more is read
	barred  bool   // behind those scanned is a packet that nothing may overtake
	failed  error  // how reading ended, while what came before it waits
	routes  routes
	account *limit.Account
	counted int // bytes of kept, as the account knows them
}

// freeKept is memory for packets that are not complete which is not counted.
const freeKept = 4 << 10

// count tells the account how much is kept.
func (r *reader) count() {
	n := cap(r.kept)
	if n <= freeKept {
		n = 0
	}
	if n != r.counted {
		r.account.Add(int64(n - r.counted))
		r.counted = n
	}
}

// maxIdleKept is the memory for the beginnings of packets that a connection keeps while it needs none.
const maxIdleKept = 512

// memory is where to read next, behind n bytes that are kept: the memory lent, or memory of our own for a packet that
// does not fit.
func (r *reader) memory(lent []byte, limit int) (b []byte, n int, err error) {
	n = len(r.kept)
	if r.large = n > len(lent)/2; !r.large {
		copy(lent, r.kept)
		return lent, n, nil
	}
	err = r.grow(limit)
	return r.kept[:cap(r.kept)], n, err
}

// grow makes room behind what is kept, step by step: memory is never more than twice of what came. Errors: one that
// ends the connection, when the door has no memory left for it.
func (r *reader) grow(limit int) error {
	have := len(r.kept)
	if have < cap(r.kept) {
		return nil
	}
	size := 2 * have
	if need, err := packet.Length(r.kept, limit); err == nil && need > have {
		size = min(size, need)
	}
	if size > bufferBytes && !r.account.FitsOne(int64(size)) {
		return &packet.Error{Reason: packet.QuotaExceeded, Detail: "no memory for a large packet"}
	}
	bigger := make([]byte, have, size)
	copy(bigger, r.kept)
	r.kept = bigger
	r.count()
	return nil
}

// keep keeps what was not consumed.
func (r *reader) keep(rest []byte) {
	switch {
	case len(rest) == 0 && cap(r.kept) > maxIdleKept:
		r.kept = nil
	case r.large && cap(r.kept) >= len(rest): // rest is in it
		r.kept = r.kept[:copy(r.kept[:cap(r.kept)], rest)]
	default:
		r.kept = append(r.kept[:0], rest...)
	}
	r.large, r.scanned, r.barred = false, 0, false
	r.count()
}

// rest gives back memory before the connection waits.
func (r *reader) rest() {
	if len(r.kept) == 0 {
		r.kept = nil
	}
}

// fill reads behind what is kept. b is all that is there, nil when nothing has come, and full when there may be more.
func (r *reader) fill(w *wire, lent []byte, limit int) (b []byte, err error) {
	b, kept, err := r.memory(lent, limit)
	if err != nil {
		return nil, err
	}
	n, err := w.read(b[kept:])
	if err != nil || n == 0 {
		return nil, err
	}
	w.door.metrics.bytesReceived.Add(float64(n))
	return b[: kept+n : len(b)], nil
}

// aheadBytes is how much is read while messages wait for room, to find what need not wait behind them.
const aheadBytes = bufferBytes

// ahead takes packets out of what waits that need not wait (PINGREQ and acknowledgements) and has them handled, up to a
// packet that nothing may overtake: all but PUBLISH and PUBREL. Back-pressure on messages shall not stop the rest.
func (r *reader) ahead(frame func([]byte) (int, error), handle func(frame []byte) error) (took bool, err error) {
	to := r.scanned
	from := to
	for !r.barred {
		n, bad := frame(r.kept[from:])
		if n == 0 || bad != nil { // what is bad is found again in its turn
			break
		}
		switch kind := packet.Type(r.kept[from] >> 4); {
		case kind == packet.PUBLISH || kind == packet.PUBREL:
			to += copy(r.kept[to:], r.kept[from:from+n])
		case !overtakes(kind):
			r.barred = true
			n = 0
		default:
			took = true
			if err = errors.Join(err, handle(r.kept[from:from+n])); err != nil {
				r.barred = true
			}
		}
		from += n
	}
	r.scanned = to
	r.kept = append(r.kept[:to], r.kept[from:]...)
	return took, err
}

// overtakes tells whether a packet may be handled before PUBLISH packets that came before it and wait.
func overtakes(kind packet.Type) bool {
	switch kind {
	case packet.PINGREQ, packet.PUBACK, packet.PUBREC, packet.PUBCOMP:
		return true
	default:
		return false
	}
}
