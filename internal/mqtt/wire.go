package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/limit"
)

// wire is the socket of a connection and what waits to be written to it. It knows bytes, not packets, and is the only
// place that decides when and how they go to the socket. Everybody may put bytes into the outbox, under its lock; one
// at a time writes, who has claimed sends; one at a time reads, the driver of the connection.
type wire struct {
	door    *Door
	account *limit.Account
	user    wireUser
	sock    *socket // a plain socket that a poller watches; nil:
	net     *netConn

	sends   hold                // who writes
	stalled atomic.Bool         // a write is under way, or the socket did not take it whole
	tap     atomic.Pointer[tap] // where packets go besides, of who is traced; nil mostly
	starved atomic.Bool         // a delivery found no room: the user is told when there is some; written under mu

	mu struct {
		sync.Mutex
		buf     *buffer // waits to be written; nil when empty
		left    int     // bytes of flight that are not written
		counted int     // bytes of memory of buf, as the account knows them
		flying  int     // and those of flight
		written int64   // bytes that left the outbox, ever
		large   int     // bytes of a message that is larger than the bound by itself, while it waits
		behind  int64   // how many bytes will have been written when it is
		closed  bool    // nothing more is taken: the last packet is in, or the session is over
		broken  bool    // the socket is gone
		queued  bool    // the pusher has the connection on its list
		queuing bool    // we are in the line of the budget
		held    bool    // the driver found no room, and does not read until it is told that there is some
		waking  bool    // no driver waits for room any more
		idle    chan struct{}
		room    chan struct{}
	}
	flight *buffer // is being written; it belongs to who holds sends
}

// netConn is any other connection.
type netConn struct {
	net.Conn
	writer func() // write of its wire: made once, so that starting it allocates nothing
}

// wireUser is who is told what happens on a wire. Its methods must not block.
type wireUser interface {
	// roomy tells that there is room in the outbox again for deliveries, for the driver, or for both.
	roomy(deliveries, driver bool)
	// memoryRoomy tells that the budget of the door may have memory for a delivery that found none.
	memoryRoomy()
}

func (w *wire) init(d *Door, n net.Conn, a *limit.Account, u wireUser) {
	w.door, w.account, w.user = d, a, u
	if w.sock = takeSocket(n, &d.buffers, a); w.sock == nil {
		w.net = &netConn{Conn: n, writer: w.write}
	}
}

// from is whose the connection is; nil: that is not known.
func (w *wire) from() net.Addr {
	if w.sock != nil {
		return w.sock.remote
	}
	return w.net.RemoteAddr()
}

func (w *wire) remote() string {
	a := w.from()
	if a == nil {
		return ""
	}
	if name := a.String(); a.Network() == "unix" {
		return "unix:" + strings.TrimPrefix(name, "@") // who connects to a Unix socket has no name, as a rule
	}
	return a.String()
}

// read reads what has come; 0 without an error: nothing.
func (w *wire) read(b []byte) (n int, err error) {
	if w.sock != nil {
		n, err = w.sock.read(b)
	} else if n, err = w.net.Read(b); n > 0 {
		err = nil // an error comes again
	}
	if errors.Is(err, errAgain) || errors.Is(err, os.ErrDeadlineExceeded) { // see interrupt
		err = nil
	}
	return n, err
}

// errAgain is a read that found nothing, or a write that did not go whole.
var errAgain = errors.New("nothing to read now")

// close closes the socket. An error means that it is closed already.
func (w *wire) close() {
	if w.sock != nil {
		w.sock.close()
		return
	}
	if err := w.net.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		w.door.opt.Logger.Debug("closing a connection", "remote", w.remote(), "error", err)
	}
}

// closeWrite ends our side once everything is written, for which it waits at most so long. False: the socket cannot
// do that, or is gone.
func (w *wire) closeWrite(most time.Duration) bool {
	if w.sock != nil {
		w.awaitIdle(most)
		return w.sock.closeWrite() == nil
	}
	if err := w.net.SetWriteDeadline(time.Now().Add(most)); err != nil {
		return false
	}
	w.awaitIdle(most)
	half, ok := w.net.Conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

// discard reads what a client still sends, until it closes, for so long at most and maxLinger bytes at most.
func (w *wire) discard(most time.Duration) error {
	if err := w.net.SetReadDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, w.net, maxLinger); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// maxLinger is how many bytes of a connection that lingers are thrown away.
const maxLinger = 64 << 20

// interruptible tells whether interrupt works: on a WebSocket it would break the connection.
func (w *wire) interruptible() bool {
	_, web := w.net.Conn.(*webConn)
	return !web
}

// interrupt wakes the goroutine that reads. An error means that the socket is closed, and so it is awake.
func (w *wire) interrupt() {
	if err := w.net.SetReadDeadline(time.Unix(1, 0)); err != nil {
		w.door.opt.Logger.Debug("interrupting a closed connection", "error", err)
	}
}
