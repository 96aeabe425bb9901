package secure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// beneath is the connection beneath a handshake. Until that is done it gives away no byte of what follows it, counts
// what comes, and lends the processor out while it waits for the client.
type beneath struct {
	net.Conn
	gate     *Gate
	began    time.Time
	deadline time.Time
	done     bool     // the handshake is: bytes pass as they are
	computes bool     // it has a processor of the gate
	secrets  *secrets // nil: nobody wants them

	bulk atomic.Pointer[bulk] // where records that are written are gathered; nil: they pass

	got    int          // bytes
	waits  atomic.Int64 // for the client, since so many nanoseconds after it began; 0: it does not
	waited atomic.Int64 // nanoseconds for the client, until it did not
	spoke  atomic.Bool  // its first record came whole
	head   [recordHead]byte
	have   int // of head
	rest   int // of the record behind head
}

const (
	recordHead = 5
	// maxHandshake is what a client may send before its handshake is done: a chain of certificates fits.
	maxHandshake = 64 << 10
)

var (
	errTooMuch = errors.New("the client sent too much before its handshake was done")
	errBusy    = fmt.Errorf("no processor was free: %w", os.ErrDeadlineExceeded)
)

// Read implements net.Conn. During the handshake it ends where a record ends.
func (b *beneath) Read(p []byte) (int, error) {
	if b.done {
		return b.Conn.Read(p)
	}
	if b.got >= maxHandshake {
		return 0, errTooMuch
	}
	into := p[:min(len(p), recordHead-b.have)]
	if b.rest > 0 {
		into = p[:min(len(p), b.rest)]
	}
	b.rests()
	from := max(time.Since(b.began), 1)
	b.waits.Store(int64(from))
	n, err := b.Conn.Read(into)
	b.waits.Store(0)
	b.waited.Add(int64(time.Since(b.began) - from))
	b.took(into[:n])
	if err != nil {
		return n, err
	}
	return n, b.compute()
}

// letUsWait is for how long the client has let us wait in all, if it does now; else 0. What we took for ourselves, or
// others took before it, is not its fault.
func (b *beneath) letUsWait(now time.Time) time.Duration {
	from := b.waits.Load()
	if from == 0 {
		return 0
	}
	return now.Sub(b.began) - time.Duration(from) + time.Duration(b.waited.Load())
}

// compute waits for a processor. Errors: errBusy.
func (b *beneath) compute() error {
	if b.computes = b.gate.compute(b.deadline); !b.computes {
		return errBusy
	}
	return nil
}

func (b *beneath) rests() {
	if b.computes {
		b.computes = false
		b.gate.rest()
	}
}

// Write implements net.Conn.
func (b *beneath) Write(p []byte) (int, error) {
	if !b.done && b.secrets != nil && len(b.secrets.sent) <= maxSent {
		b.secrets.sent = append(b.secrets.sent, p...)
	}
	out, due := b.gather(p)
	if !due {
		return len(p), nil
	}
	if _, err := b.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// took follows the records.
func (b *beneath) took(p []byte) {
	b.got += len(p)
	if b.rest > 0 {
		if b.rest -= len(p); b.rest == 0 {
			b.spoke.Store(true)
		}
		return
	}
	b.have += copy(b.head[b.have:], p)
	if b.have == recordHead {
		b.have, b.rest = 0, int(binary.BigEndian.Uint16(b.head[3:]))
	}
}
