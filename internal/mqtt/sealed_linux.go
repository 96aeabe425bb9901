package mqtt

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/seal"
)

// sealed is TLS 1.3 on a socket that a poller watches: the records behind the handshake. It keeps nothing while the
// connection is idle but its keys: memory to open and to seal in is lent for the time of a call. The driver reads, who
// holds sends writes; alerts come from the driver or from who closes.
type sealed struct {
	buffers *buffers
	account *limit.Account // of what waits to be written
	in      *seal.In
	kept    []byte      // the beginning of a record
	plain   []byte      // opened, and not read yet
	ended   error       // how reading ended, behind plain
	over    atomic.Bool // that it did
	asked   atomic.Bool // new keys are asked of us

	mu struct { // of writing
		sync.Mutex
		out    *seal.Out
		lent   *buffer // where what waits is; nil: nothing waits
		waits  int     // bytes of memory of it, as the account knows them
		from   int     // what of it is written
		covers int     // bytes of the outbox that are in it
		closed bool    // an alert was the last
	}
}

const (
	// openBytes is the memory to open records in: the longest fits.
	openBytes = 32 << 10
	// sealBytes is how much of an outbox is sealed at a time.
	sealBytes = 48 << 10
)

func newSealed(b *buffers, a *limit.Account, in *seal.In, out *seal.Out) *sealed {
	t := &sealed{buffers: b, account: a, in: in}
	t.mu.out = out
	return t
}

// held is how many bytes wait in memory to be read, or for the rest of their record.
func (t *sealed) held() int { return cap(t.kept) + cap(t.plain) }

// read reads what has come, as socket.read does: it fills b, or there is no more now. More opened than b holds waits.
func (t *sealed) read(s *socket, b []byte) (n int, err error) {
	if len(t.plain) > 0 {
		n = copy(b, t.plain)
		if t.plain = t.plain[n:]; len(t.plain) > 0 {
			return n, nil
		}
		t.plain = nil
	}
	lent := t.buffers.take(openBytes)
	defer t.buffers.give(lent)
	buf := lent.b[:cap(lent.b)]
	for drained := false; n < len(b) && t.ended == nil && !drained; {
		have := copy(buf, t.kept)
		got, err := 0, error(nil)
		if !t.whole() {
			got, err = s.receive(buf[have:])
			if errors.Is(err, errAgain) {
				break
			}
			drained = got < len(buf)-have
		}
		m, bad := t.open(buf[:have+got], b[n:])
		n += m
		if t.ended = bad; bad == nil && err != nil {
			t.ended = err
		}
	}
	switch {
	case n > 0:
		t.over.Store(t.ended != nil && len(t.plain) == 0)
		return n, nil
	case t.ended != nil:
		t.answer(s)
		return 0, t.ended
	}
	return 0, errAgain
}

// whole tells whether a whole record waits: nothing need be received first.
func (t *sealed) whole() bool {
	return len(t.kept) >= seal.Head && len(t.kept) >= seal.Head+(int(t.kept[3])<<8|int(t.kept[4]))
}

// open opens what records are in buf, into b, and keeps the rest of them, sealed or not.
func (t *sealed) open(buf, b []byte) (n int, err error) {
	used := 0
	for n < len(b) && err == nil {
		var size int
		var plain []byte
		var asked bool
		size, plain, asked, err = t.in.Open(buf[used:])
		if size == 0 {
			break
		}
		if asked {
			t.asked.Store(true)
		}
		used += size
		m := copy(b[n:], plain)
		n += m
		if m < len(plain) {
			t.plain = bytes.Clone(plain[m:])
		}
	}
	switch rest := buf[used:]; {
	case len(rest) == 0 || err != nil:
		t.kept = nil
	default:
		t.kept = append(t.kept[:0], rest...)
	}
	return n, err
}

// answer tells the client what was wrong with what it sent, if anything.
func (t *sealed) answer(s *socket) {
	if wrong, ok := errors.AsType[seal.Alert](t.ended); ok {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.alertLocked(s, wrong)
	}
}

// alertLocked sends an alert, if the socket takes it and nothing is in the way.
func (t *sealed) alertLocked(s *socket, a seal.Alert) {
	if t.mu.closed || t.mu.lent != nil {
		return
	}
	t.mu.closed = true
	_, _ = s.send(t.mu.out.Alert(make([]byte, 0, seal.Overhead+2), a)) // a client that has gone needs none
}

// close says goodbye, unless somebody writes just now.
func (t *sealed) close(s *socket) {
	if t.mu.TryLock() {
		defer t.mu.Unlock()
		t.alertLocked(s, seal.CloseNotify)
		t.dropLocked()
	}
}

// write writes what the socket takes of b, sealed. Written is what has gone whole: with errAgain, what follows it is
// partly sealed, and must be what the next call begins with. Errors: as those of socket.write.
func (t *sealed) write(s *socket, b []byte) (written int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if t.mu.lent != nil {
			n, err := s.send(t.mu.lent.b[t.mu.from:])
			if t.mu.from += n; err != nil {
				t.countLocked(cap(t.mu.lent.b))
				return written, err
			}
			written += t.mu.covers
			t.dropLocked()
		}
		switch rest := b[written:]; {
		case t.mu.closed:
			return written, net.ErrClosed
		case len(rest) == 0:
			return written, nil
		default:
			t.sealLocked(rest[:min(len(rest), sealBytes)])
		}
	}
}

// sealLocked seals bytes, behind a change of keys if one is due.
func (t *sealed) sealLocked(b []byte) {
	t.mu.lent = t.buffers.take(lentSize(len(b) + (len(b)/seal.MaxPlain+3)*seal.Overhead + seal.Head))
	dst := t.mu.lent.b[:0]
	if t.asked.Swap(false) {
		dst = t.mu.out.Update(dst)
	}
	t.mu.lent.b = t.mu.out.Seal(dst, b)
	t.mu.from, t.mu.covers = 0, len(b)
}

// countLocked tells the account how much memory waits to be written.
func (t *sealed) countLocked(n int) {
	if n != t.mu.waits {
		t.account.Add(int64(n - t.mu.waits))
		t.mu.waits = n
	}
}

func (t *sealed) dropLocked() {
	t.countLocked(0)
	t.buffers.give(t.mu.lent)
	t.mu.lent, t.mu.from, t.mu.covers = nil, 0, 0
}

// isOver tells whether reading ends without news of the socket.
func (t *sealed) isOver() bool { return t != nil && t.over.Load() }
