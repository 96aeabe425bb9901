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
	beneath int // bytes that the socket keeps, because they are no whole record of TLS yet
	counted int // bytes of kept and beneath, as the accounts know them
	// stranger is an account in the budget of all whose CONNECT was not accepted yet; nil: it was.
	stranger *limit.Account
}

// Memory for packets that are not complete which is not counted: of clients, and of strangers, for whom it is a segment
// of TCP, so that the beginning of an ordinary CONNECT needs no room.
const (
	freeKept     = 4 << 10
	freeStranger = 1536
)

// free is the memory for packets that are not complete which is not counted.
func (r *reader) free() int {
	if r.stranger != nil {
		return freeStranger
	}
	return freeKept
}

// count tells the accounts how much is kept.
func (r *reader) count() {
	n := cap(r.kept) + r.beneath
	if n <= r.free() {
		n = 0
	}
	if n != r.counted {
		r.account.Add(int64(n - r.counted))
		if r.stranger != nil {
			r.stranger.Add(int64(n - r.counted))
		}
		r.counted = n
	}
}

// affords judges whether so many bytes may be kept, in place of those that are. Errors: one that ends the connection,
// when the door has no memory left for it, or strangers have none.
func (r *reader) affords(size int) error {
	more := int64(size - r.counted)
	switch {
	case r.stranger != nil && size > freeStranger && !r.stranger.FitsOne(more):
		return &packet.Error{Reason: packet.QuotaExceeded, Detail: "no memory for a large CONNECT"}
	case size > bufferBytes && !r.account.FitsOne(more):
		return &packet.Error{Reason: packet.QuotaExceeded, Detail: "no memory for a large packet"}
	}
	return nil
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
	if err := r.affords(size); err != nil {
		return err
	}
	bigger := make([]byte, have, size)
	copy(bigger, r.kept)
	r.kept = bigger
	r.count()
	return nil
}

// keep keeps what was not consumed. Errors: one that ends the connection of a stranger for whom there is no memory.
func (r *reader) keep(rest []byte) error {
	switch {
	case len(rest) == 0 && cap(r.kept) > maxIdleKept:
		r.kept = nil
	case r.large && cap(r.kept) >= len(rest): // rest is in it
		r.kept = r.kept[:copy(r.kept[:cap(r.kept)], rest)]
	default:
		if r.stranger != nil && len(rest) > cap(r.kept) {
			if err := r.affords(len(rest)); err != nil {
				return err
			}
		}
		r.kept = append(r.kept[:0], rest...)
	}
	r.large, r.scanned, r.barred = false, 0, false
	r.count()
	return nil
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
	if full := r.heed(w); full != nil && err == nil {
		return nil, full
	}
	if err != nil || n == 0 {
		return nil, err
	}
	w.door.metrics.bytesReceived.Add(float64(n))
	return b[: kept+n : len(b)], nil
}

// heed counts what the socket keeps. Errors: as affords.
func (r *reader) heed(w *wire) error {
	if w.sock == nil {
		return nil
	}
	held := w.sock.held()
	if held == r.beneath {
		return nil
	}
	more := held > r.beneath
	r.beneath = held
	if more {
		if err := r.affords(cap(r.kept) + held); err != nil {
			return err
		}
	}
	r.count()
	return nil
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
