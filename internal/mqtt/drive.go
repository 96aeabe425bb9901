package mqtt

import (
	"errors"
	"net"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Who drives a connection: reads from it, consumes what came and ends it. A plain socket on Linux is driven
// by its poller. For what may block a goroutine takes over, until there is nothing left to do. Every other
// connection has a goroutine for as long as it lives.

// errDefer is something that may block, and that the poller leaves to a goroutine.
var errDefer = errors.New("left to a goroutine")

// poll drives for the poller, which has claimed the connection. Ended tells that the client sends no more,
// so that a short read is not the last.
func (c *conn) poll(lent []byte, ended bool) {
	defer c.rescue()
	for {
		more, err := c.step(lent, true)
		switch {
		case err != nil || more: // a large client shall not hold up the others
			go c.drive(err)
			return
		case ended:
			ended = false
			continue
		}
		if c.letGo() {
			return
		}
	}
}

// drive drives in a goroutine of its own, until there is nothing to do or the connection ends for a cause.
func (c *conn) drive(cause error) {
	defer c.rescue()
	lent := c.door.takeBuffer()
	defer c.door.giveBuffer(lent)
	for {
		for cause == nil || errors.Is(cause, errDefer) {
			var more bool
			more, cause = c.step(lent.b[:cap(lent.b)], false)
			if cause == nil && !more && c.letGo() {
				return
			}
		}
		if c.finish(cause) {
			return
		}
		cause = nil // it lingers
	}
}

// letGo lets the poller drive again. False: there is news.
func (c *conn) letGo() bool {
	c.in.rest()
	return c.hold.release()
}

// serve drives a connection that has no poller, in a goroutine, for as long as it lives. It waits with a
// small buffer and borrows a large one when more comes.
func (c *conn) serve() {
	defer c.rescue()
	const small = 1024
	own := make([]byte, small)
	var borrowed *buffer
	defer func() { c.door.giveBuffer(borrowed) }()
	for {
		lent := own
		if borrowed != nil {
			lent = borrowed.b[:cap(borrowed.b)]
		}
		more, cause := c.step(lent, false)
		switch {
		case cause != nil:
			c.finish(cause)
			return
		case more && borrowed == nil:
			borrowed = c.door.takeBuffer()
		case !more:
			c.door.giveBuffer(borrowed)
			borrowed = nil
		}
	}
}

// step reads once and consumes what has come. More tells that the socket may have more. A polite step does
// nothing that may block: it gives errDefer instead. Any other error ends the connection.
func (c *conn) step(lent []byte, polite bool) (more bool, err error) {
	switch {
	case c.lingers.Load():
		return c.discard(lent)
	case c.ending.Load():
		return false, errEnded
	case polite && (!c.hasRoom() || c.door.opt.Log.Crowded()):
		return false, errDefer
	case !polite && !c.awaitRoom():
		return false, errDeaf
	}
	b, more := c.in.kept, true
	if !c.in.deferred {
		if b, err = c.receiveBytes(lent); err != nil || b == nil {
			return false, err
		}
		more = len(b) == cap(b)
	}
	used, err := c.consume(b, polite)
	c.in.deferred = errors.Is(err, errDefer)
	c.in.keep(b[used:])
	// Only whole packets count for the keep alive [MQTT-3.1.2-22], and for the time that a CONNECT has.
	if used > 0 {
		c.heard.Store(int64(c.door.uptime()))
	}
	return more, err
}

// receiveBytes reads behind what is kept; nil: nothing has come. What it gives is full when there may be more.
func (c *conn) receiveBytes(lent []byte) ([]byte, error) {
	b, kept := c.in.memory(lent, c.packetLimit())
	var n int
	var err error
	if c.sock != nil {
		n, err = c.sock.read(b[kept:])
	} else if n, err = c.net.Read(b[kept:]); n > 0 {
		err = nil // an error comes again
	}
	switch {
	case errors.Is(err, errAgain), errors.Is(err, os.ErrDeadlineExceeded): // see interrupt
		return nil, nil
	case err != nil:
		return nil, err
	}
	c.door.metrics.bytesReceived.Add(float64(n))
	return b[: kept+n : len(b)], nil
}

// rescue ends a connection whose driver panicked. That costs this connection only.
func (c *conn) rescue() {
	if p := recover(); p != nil {
		c.door.metrics.panics.Inc()
		c.door.opt.Logger.Error("a connection panicked",
			"client", fault.Text(c.principal.ClientID), "panic", p, "stack", string(debug.Stack()))
		c.abandon()
		c.door.exit(c)
	}
}

// abandon ends a connection whose driver panicked: locks may be held, so nothing is said.
func (c *conn) abandon() {
	c.hangUp()
	go func() { // if the panic left c.mu locked, only this goroutine hangs
		defer func() {
			if p := recover(); p != nil {
				c.door.opt.Logger.Error("ending a session after a panic panicked", "panic", p)
			}
		}()
		c.leave()
	}()
}

// lapse is called when the client may have been silent for too long. The time is set once for many packets,
// so it may be too early: then it is set again.
func (c *conn) lapse() {
	patience := time.Duration(c.patience.Load())
	if c.lingers.Load() {
		c.hangUp()
		return
	}
	if patience == 0 {
		return
	}
	if idle := c.door.uptime() - time.Duration(c.heard.Load()); idle < patience {
		c.timer.Reset(patience - idle)
		return
	}
	c.end(packet.KeepAliveTimeout) // [MQTT-3.1.2-22]
}

// bear sets how long the client may be silent; 0: for ever.
func (c *conn) bear(silence time.Duration) {
	c.heard.Store(int64(c.door.uptime()))
	c.patience.Store(int64(silence))
	if silence == 0 {
		c.timer.Stop()
	} else {
		c.timer.Reset(silence)
	}
}

// end ends the connection from another goroutine; its driver does it. It does not block.
func (c *conn) end(reason packet.ReasonCode) {
	c.mu.Lock()
	first := !c.ending.Load()
	if first {
		c.mu.reason = reason
		c.ending.Store(true)
		signal(&c.mu.out.room)
	}
	c.mu.Unlock()
	switch _, plain := c.net.(syscall.Conn); {
	case !first:
	case c.sock != nil:
		c.nudge()
	case plain:
		c.interrupt()
	default:
		go c.dismiss(reason)
	}
}

// nudge makes the driver of a plain socket look at what changed; when there is none, it becomes one.
func (c *conn) nudge() {
	if c.hold.claim() {
		go c.drive(nil)
	}
}

// interrupt wakes the goroutine that reads. An error means that the socket is closed, and so it is awake.
func (c *conn) interrupt() {
	if err := c.net.SetReadDeadline(time.Unix(1, 0)); err != nil {
		c.door.opt.Logger.Debug("interrupting a closed connection", "err", err)
	}
}

// dismiss ends a connection that cannot be interrupted without being closed, a WebSocket: last words
// first, then the close, which wakes the reader.
func (c *conn) dismiss(reason packet.ReasonCode) {
	if reason == packet.ServerShuttingDown {
		c.awaitSettled(c.door.opt.CloseTimeout)
	}
	c.lastWords(reason)
	c.awaitIdle(c.door.opt.CloseTimeout)
	c.hangUp()
}

// drop closes the socket of a connection that is not served.
func (c *conn) drop() {
	c.timer.Stop()
	if c.sock != nil {
		c.sock.close()
		return
	}
	c.hangUp()
}

// hangUp closes the socket. An error means that it is closed already.
func (c *conn) hangUp() {
	if c.sock != nil {
		c.sock.close()
		c.nudge()
		return
	}
	if err := c.net.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.door.opt.Logger.Debug("closing a connection", "client", fault.Text(c.principal.ClientID), "err", err)
	}
}
