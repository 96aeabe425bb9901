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
	deadline time.Time
	done     bool     // the handshake is: bytes pass as they are
	computes bool     // it has a processor of the gate
	secrets  *secrets // nil: nobody wants them

	got     int         // bytes
	waiting atomic.Bool // for the client
	spoke   atomic.Bool // its first record came whole
	head    [recordHead]byte
	have    int // of head
	rest    int // of the record behind head
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
	b.waiting.Store(true)
	n, err := b.Conn.Read(into)
	b.waiting.Store(false)
	b.took(into[:n])
	if err != nil {
		return n, err
	}
	return n, b.compute()
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
	return b.Conn.Write(p)
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
