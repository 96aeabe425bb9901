package mqtt

import (
	"context"
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/secure"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// conn is one connection: a wire (the socket and what waits to be written), a reader (what has come and waits) and,
// from its CONNECT on, a link to the session. Its driver (see hold) reads, decodes and appends to the log; receipts
// come from the log's goroutine, deliveries from the workers of fanout and retain.
type conn struct {
	door      *Door
	listener  *Listener     // that it came by
	account   limit.Account // of what we make the door hold
	stranger  limit.Account // and of that, before the CONNECT is accepted, in the budget of strangers
	wire      wire
	reader    reader
	link      link
	auth      *auth        // nil: the client has no authentication method
	enrolling *enrolling   // nil: it is no device that enrols
	crossing  *crossing    // nil: all sessions are here
	peer      *secure.Peer // what the certificate of the client says; nil: it showed none
	poller    *poller      // of a plain socket
	pusher    *pusher
	pace      *pace // nil: the client publishes as fast as it can
	encrypted bool  // it speaks TLS
	refused   bool  // too many connect: its CONNECT is refused

	hold    hold         // who drives
	ending  atomic.Bool  // somebody has asked for the end
	hungUp  atomic.Bool  // the poller saw that the client sends no more: a short read is not the last
	lingers atomic.Bool  // all is said: what the client still sends is thrown away
	waits   atomic.Int32 // what the driver waits for: waitLog, waitClient
	timeout atomic.Int64 // nanoseconds of silence after which the client is taken for dead; 0: any
	heard   atomic.Int64 // when a packet last came whole, nanoseconds since the door was opened
	timer   *time.Timer  // calls checkAlive
	expiry  *time.Timer  // calls checkEnd; nil: the client is there for as long as it likes

	taken  atomic.Int64 // bytes that the client had taken when isDeaf looked last
	tookAt atomic.Int64 // and when they were more than before, nanoseconds since the door was opened

	discarded int  // bytes since it lingers
	tapped    bool // the packet in hand was traced

	mu struct {
		sync.Mutex
		reason packet.ReasonCode // why the end was asked for, when ending is set
	}
}

// What a driver waits for while it takes no messages.
const (
	waitLog    = 1 << iota // room in the log
	waitClient             // that the client reads our answers
	waitPace               // until the client may publish again
	// notListening: so much waits that nothing is read. What the client says now is not heard, and that is our doing.
	notListening
)

// The ways a connection ends besides a *packet.Error and an error of the socket.
var (
	errDisconnect = errors.New("the client disconnected")
	errEnded      = errors.New("ended by the server")
	errRefused    = errors.New("connection refused")
	errDeaf       = errors.New("the client does not read")
)

func (d *Door) newConn(by *Listener, n net.Conn) *conn {
	c := &conn{door: d, listener: by, crossing: d.newCrossing(n)}
	c.account.Open(d.budget)
	c.wire.init(d, n, &c.account, c)
	c.link.init(d, &c.wire, &c.account, c)
	c.stranger.Open(d.strangers)
	c.reader.account, c.reader.stranger = &c.account, &c.stranger
	c.pace = by.newPace(c)
	if s := secureConn(n); s != nil {
		c.encrypted, c.peer = true, s.Peer()
	} else if s, ok := n.(*secure.Carried); ok {
		c.encrypted, c.peer = true, s.Peer()
	}
	i := int(d.accepted.Add(1))
	c.poller, c.pusher = d.pollers[i%len(d.pollers)], d.pushers[i%len(d.pushers)]
	c.hold.claim()
	c.timer = time.AfterFunc(time.Hour, c.checkAlive)
	c.setTimeout(d.opt.ConnectTimeout) // for its CONNECT
	return c
}

// secureConn is the connection of TLS that n is, or is carried by; nil: none.
func secureConn(n net.Conn) *secure.Conn {
	switch n := n.(type) {
	case *secure.Conn:
		return n
	case *webConn:
		return n.secure
	}
	return nil
}

// closeAccounts gives back what the connection made the door hold.
func (c *conn) closeAccounts() {
	c.account.Close()
	c.stranger.Close()
}

// known is for a client that was accepted: what it makes the door hold is not that of a stranger any more.
func (c *conn) known() {
	c.reader.stranger = nil
	c.stranger.Close()
}

// start begins to serve the connection.
func (c *conn) start() {
	c.heedRevocation()
	if c.wire.sock == nil {
		go c.serve()
		return
	}
	if err := c.poller.add(c); err != nil {
		c.door.opt.Logger.Error("cannot watch a connection", "remote", c.wire.remote(), "error", err)
		c.close()
	} else if c.hold.release() {
		return
	}
	go c.drive(nil)
}

// heedRevocation has the connection end when the certificate of the client is revoked.
func (c *conn) heedRevocation() {
	if c.peer != nil {
		c.peer.OnRevoked(func() { c.disconnect(packet.NotAuthorized) })
	}
}

// disconnect asks for the end of the connection from any goroutine; the driver does it. It does not block.
func (c *conn) disconnect(reason packet.ReasonCode) {
	if !c.setReason(reason) {
		return
	}
	c.pace.end()
	switch {
	case c.wire.sock != nil:
		c.wakeDriver()
	case c.wire.interruptible():
		c.wire.interrupt()
		c.wire.wakeAwaitRoom()
	default:
		go c.closeWebSocket(reason)
	}
}

// setReason notes why the connection is to end, if nobody did before.
func (c *conn) setReason(reason packet.ReasonCode) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending.Load() {
		return false
	}
	c.mu.reason = reason
	c.ending.Store(true)
	return true
}

func (c *conn) endReason() packet.ReasonCode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.reason
}

// closeWebSocket ends a connection that cannot be interrupted without being broken: a DISCONNECT first, then the
// close, which wakes the reader.
func (c *conn) closeWebSocket(reason packet.ReasonCode) {
	defer c.rescue()
	c.wire.wakeAwaitRoom()
	if reason == packet.ServerShuttingDown {
		c.link.awaitSettled(c.door.opt.CloseTimeout)
	}
	c.link.close(reason, nil)
	c.wire.awaitIdle(c.door.opt.CloseTimeout)
	c.wire.close()
}

// finish ends the connection for a cause: the session first, then the DISCONNECT, then the socket [MQTT-4.13.2-1].
// False: it lingers, and the driver goes on until it is called again.
func (c *conn) finish(cause error) (ended bool) {
	if !c.lingers.Load() && c.endSession(cause) && c.linger() {
		return false
	}
	c.timer.Stop()
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.pace.stop()
	c.endCrossing()
	c.close()
	c.door.remove(c)
	return true
}

// endSession ends the session and tells whether the client is there to hear why.
func (c *conn) endSession(cause error) (hears bool) {
	reason, hears := c.lastReason(cause)
	if hears && reason == packet.ServerShuttingDown {
		c.link.awaitSettled(c.door.opt.CloseTimeout)
	}
	if hears {
		c.link.close(reason, cause)
	} else {
		c.link.close(packet.Success, nil)
	}
	c.logEnd(cause, reason)
	c.link.end()
	ours := reason == packet.ServerShuttingDown || reason == packet.ServerMoved
	if c.link.version != 0 && !ours && !c.listener.opt.Inside {
		c.countLeft()
	}
	return hears || errors.Is(cause, errRefused)
}

// countLeft counts that a client left.
func (c *conn) countLeft() {
	ctx, cancel := context.WithTimeout(context.Background(), c.door.opt.ConnectTimeout)
	defer cancel()
	c.door.bans.left(ctx, &c.link.principal)
}

// lastReason is the reason code to end with, and whether the client is there to hear it.
func (c *conn) lastReason(cause error) (reason packet.ReasonCode, hears bool) {
	var wrong *packet.Error
	switch {
	case errors.As(cause, &wrong):
		return wrong.Reason, true
	case errors.Is(cause, errEnded):
		return c.endReason(), true
	}
	return packet.Success, false
}

func (c *conn) logEnd(cause error, reason packet.ReasonCode) {
	defer func() { c.link.noteEnd(cause, reason) }()
	log := c.door.opt.Logger
	var wrong *packet.Error
	if errors.Is(cause, errEnded) && reason == packet.KeepAliveTimeout && c.link.version != 0 {
		cause = &packet.Error{Reason: reason, Detail: "no packet within one and a half keep alive"}
	}
	if !errors.As(cause, &wrong) {
		log.Debug("connection ended",
			"client", fault.Text(c.link.principal.ClientID), "remote", c.wire.remote(), "cause", cause)
		return
	}
	c.door.metrics.refused(wrong.Reason)
	what := "connection ended for an error of the client"
	if wrong.Reason == packet.ServerUnavailable || wrong.Reason == packet.ServerShuttingDown {
		what = "connection ended: a message could not be stored"
	}
	c.door.tell(what, c.link.principal.ClientID, wrong.Reason, "remote", c.wire.remote(), "error", cause)
}

// linger lets the client read why the connection ends: everything is written, our side is closed, and what the client
// still sends is read and thrown away. A close with unread bytes would be a reset, and the client would never see the
// reason. True: the connection lingers until its driver has seen the end.
func (c *conn) linger() bool {
	most := c.door.opt.CloseTimeout
	if !c.wire.closeWrite(most) {
		return false
	}
	if c.wire.sock != nil {
		c.lingers.Store(true)
		c.timer.Reset(most)
		return true
	}
	if err := c.wire.discard(most); err != nil {
		c.door.opt.Logger.Debug("the client did not close", "client", fault.Text(c.link.principal.ClientID), "error", err)
	}
	return false
}

// close closes the socket; a plain one has its driver look at it.
func (c *conn) close() {
	c.wire.close()
	if c.wire.sock != nil {
		c.wakeDriver()
	}
}

// rescue ends a connection in whose name a goroutine panicked. That costs this connection only.
func (c *conn) rescue() {
	if p := recover(); p != nil {
		c.panicked(p)
	}
}

func (c *conn) panicked(p any) {
	c.door.metrics.panics.Inc()
	c.door.opt.Logger.Error("a connection panicked",
		"client", fault.Text(c.link.principal.ClientID), "panic", p, "stack", string(debug.Stack()))
	c.endCrossing()
	c.wire.close()
	c.door.remove(c)
	go c.endAfterPanic()
}

// endAfterPanic ends the session in a goroutine of its own, for the one that panicked may be one that must not wait.
func (c *conn) endAfterPanic() {
	defer func() {
		if p := recover(); p != nil {
			c.door.opt.Logger.Error("ending a session after a panic panicked", "panic", p)
		}
	}()
	c.link.end()
}

// setTimeout sets how long the client may be silent; 0: for ever.
func (c *conn) setTimeout(silence time.Duration) {
	c.heard.Store(int64(c.door.uptime()))
	c.timeout.Store(int64(silence))
	if silence == 0 {
		c.timer.Stop()
	} else {
		c.timer.Reset(silence)
	}
}

// checkAlive is called when the client may have been silent for too long. The time is set once for many packets, so it
// may be too early: then it is set again.
func (c *conn) checkAlive() {
	defer c.rescue()
	waits := c.waits.Load()
	next := time.Duration(c.timeout.Load())
	if next > 0 && waits&notListening == 0 {
		idle := c.door.uptime() - time.Duration(c.heard.Load())
		if next -= idle; next <= 0 && !c.lingers.Load() {
			c.disconnect(packet.KeepAliveTimeout) // [MQTT-3.1.2-22]
			return
		}
	}
	switch {
	case c.lingers.Load():
		c.close()
		return
	case waits&waitClient != 0:
		if c.isDeaf() {
			c.disconnect(packet.KeepAliveTimeout)
			return
		}
		if next == 0 {
			next = minDeaf
		}
	}
	if next > 0 {
		c.timer.Reset(next)
	}
}

// isDeaf tells whether the client has taken none of our answers for a long time, although it goes on sending.
func (c *conn) isDeaf() bool {
	now := int64(c.door.uptime())
	if taken := c.wire.progress(); taken != c.taken.Swap(taken) {
		c.tookAt.Store(now)
	}
	return time.Duration(now-c.tookAt.Load()) >= c.deafAfter()
}

// roomy implements wireUser.
func (c *conn) roomy(deliveries, driver bool) {
	if deliveries {
		c.link.wakeDeliveries()
	}
	if driver && c.wire.sock != nil {
		c.wakeDriver()
	}
}

// memoryRoomy implements wireUser.
func (c *conn) memoryRoomy() { c.link.noteRoomy() }

// wakeDriver makes the driver of a plain socket look at what changed; when there is none, it becomes one.
func (c *conn) wakeDriver() {
	if c.hold.claim() {
		go c.drive(nil)
	}
}

// resume goes on with a write that the socket did not take whole. The poller calls it.
func (c *conn) resume() {
	defer c.rescue()
	c.wire.push()
}

// The rest is what a link asks of its driver.

// Settled implements roster.Holder.
func (c *conn) Settled(ticket uint32, err error) {
	defer c.rescue()
	c.link.settled(ticket, err)
}

// Arrived implements roster.Holder.
func (c *conn) Arrived(id uint16, stored bool) {
	defer c.rescue()
	c.link.arrived(id, stored)
}

// Aside implements roster.Holder.
func (c *conn) Aside() int { return c.link.keptAside() }

// LetGo implements roster.Holder.
func (c *conn) LetGo(from session.Place) bool { return c.link.letShareGo(from) }

// Saved implements roster.Holder.
func (c *conn) Saved(n int, err error) {
	defer c.rescue()
	c.link.saved(n, err)
}

// Displaced implements roster.Holder.
func (c *conn) Displaced() {
	defer c.rescue()
	c.link.displaced()
}

// Moved implements roster.Holder.
func (c *conn) Moved() {
	defer c.rescue()
	c.link.moved()
}

// Deliver implements fanout.Sink.
func (c *conn) Deliver(r *fanout.Run) (v fanout.Verdict) { return c.deliverFor(nil, r) }

// deliverFor implements linkDriver.
func (c *conn) deliverFor(by *replay, r *fanout.Run) (v fanout.Verdict) {
	defer func() {
		if p := recover(); p != nil {
			c.link.term.Cut()
			c.panicked(p)
			v = fanout.Gone
		}
	}()
	return c.link.deliver(r, by)
}

// Flush implements fanout.Sink.
func (c *conn) Flush() {
	defer c.rescue()
	c.link.flushDeliveries()
}

// Behind implements fanout.Sink.
func (c *conn) Behind(by int) {
	defer c.rescue()
	c.link.behind(by)
}

// behindFor implements linkDriver.
func (c *conn) behindFor(r *replay, by int) {
	defer c.rescue()
	c.link.behindFor(r, by)
}

// pushLater implements linkDriver.
func (c *conn) pushLater() { c.pusher.add(c) }

// pushQueued writes what waits, for the pusher that has the connection on its list.
func (c *conn) pushQueued() {
	defer c.rescue()
	c.wire.mu.Lock()
	c.wire.mu.queued = false
	c.wire.mu.Unlock()
	c.wire.push()
}

// mayWait implements linkDriver: only who has a goroutine of its own may.
func (c *conn) mayWait() bool { return c.wire.sock == nil }

// expectRoom implements linkDriver.
func (c *conn) expectRoom(yes bool) {
	if yes {
		c.waits.Or(waitLog)
	} else {
		c.waits.And(^waitLog)
	}
}
