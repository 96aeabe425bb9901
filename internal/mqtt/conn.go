package mqtt

import (
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// conn is one connection. One goroutine, the reader, reads, decodes and appends to the log; receipts
// come from the log's goroutine, deliveries from the workers of fanout and retain. What they share is
// in mu; everything else belongs to the reader once it runs.
type conn struct {
	door   *Door
	net    net.Conn
	writer func() // c.write: made once, so that starting it allocates nothing

	in        input
	version   packet.Version // 0 before CONNECT
	principal Principal
	patience  time.Duration // silence after which the client is taken for dead; 0: any
	heard     time.Duration // when a packet last came whole, since the door was opened
	rests     uint8         // how often the reader was started anew since
	member    *fanout.Member
	noLocal   bool // some subscription has No Local
	routes    routes

	ending  atomic.Bool // somebody else ends the connection
	leaving sync.Once

	mu struct {
		sync.Mutex
		session  *session.Session // nil before CONNECT
		out      outbox
		reason   packet.ReasonCode // why the connection was ended, when ending is set
		left     bool              // the session is over: another may have the client identifier
		detached chan struct{}     // closed when left is set
		closed   bool              // nothing is sent any more but the last words
		starved  bool              // a delivery was told Later
		sent     [2]int            // messages since the last Flush, by QoS, for the metrics
		own      []stream.PartitionID
		requests []*retain.Request // retained messages under way
		settled  chan struct{}     // closed when no PUBLISH waits for the log
	}
}

// The ways a connection ends besides a *packet.Error and an error of the socket.
var (
	errDisconnect = errors.New("the client disconnected")
	errEnded      = errors.New("ended by the server")
	errRefused    = errors.New("connection refused")
	errDeaf       = errors.New("the client does not read")
	errRest       = errors.New("nothing happens") // no end: see rest
)

func (d *Door) newConn(n net.Conn) *conn {
	c := &conn{door: d, net: n, heard: d.uptime()}
	c.writer = c.write
	c.in.init(c)
	return c
}

// serve is the reader: it lives as long as the connection. A panic costs this connection only.
func (c *conn) serve() {
	resting := false
	defer func() {
		if p := recover(); p != nil {
			c.door.metrics.panics.Inc()
			c.door.opt.Logger.Error("a connection panicked",
				"client", c.principal.ClientID, "panic", p, "stack", string(debug.Stack()))
			c.abandon()
		}
		if !resting {
			c.in.release()
			c.door.exit(c)
		}
	}()
	cause := c.read()
	if errors.Is(cause, errRest) {
		if cause = c.rest(); cause == nil {
			resting = true
			return
		}
	}
	c.finish(cause)
}

// rest lets another goroutine go on. Decoding and appending have made the stack of this one large, and
// the runtime does not make it small again; a connection where nothing happens shall not keep it. For
// the same reason the other one does nothing but wait, until bytes come: even a timer is set here. It is
// done once more later: the runtime gives a new goroutine the stack that goroutines have on average,
// which is small only when most connections rest.
func (c *conn) rest() error {
	c.rests++
	if err := c.armIdle(); err != nil {
		return err
	}
	go c.serve()
	return nil
}

// abandon ends a connection whose reader panicked: locks may be held, so nothing is said.
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

// read reads and consumes until something ends the connection; the error says what.
func (c *conn) read() error {
	if c.rests == 0 {
		if err := c.armIdle(); err != nil {
			return err
		}
	}
	for {
		if err := c.in.fill(); err != nil {
			if !errors.Is(err, errTimeout) {
				return err
			}
			if err := c.silent(); err != nil {
				return err
			}
			continue
		}
		whole, err := c.consumeAll()
		if err != nil {
			return err
		}
		if whole && (!c.in.lazy() || c.rests > 0) {
			c.rests = 0
			if err := c.armIdle(); err != nil {
				return err
			}
		}
	}
}

// consumeAll consumes what is in the buffer, keeps the rest for later and tells whether there was a whole
// packet: only those count for the keep alive [MQTT-3.1.2-22], and for the time that a CONNECT has.
func (c *conn) consumeAll() (whole bool, err error) {
	c.door.metrics.bytesReceived.Add(float64(c.in.fresh))
	used, err := c.consume(c.in.bytes())
	if err != nil {
		return false, err
	}
	c.in.consumed(used, c.packetLimit())
	if !c.awaitRoom() {
		return false, errDeaf
	}
	if c.ending.Load() {
		return false, errEnded
	}
	if used > 0 {
		c.heard = c.door.uptime()
	}
	return used > 0, nil
}

// armIdle sets the time for which the client may be silent until silent is asked.
func (c *conn) armIdle() error {
	if c.version == 0 {
		return c.arm(c.door.opt.ConnectTimeout)
	}
	if rest := c.nextRest(); rest > 0 && (c.patience == 0 || rest < c.patience) {
		return c.arm(rest)
	}
	return c.arm(c.patience)
}

// nextRest is the silence after which the reader rests; 0: never.
func (c *conn) nextRest() time.Duration {
	const first, again = 1, 10
	switch {
	case !c.in.lazy():
		return 0
	case c.rests == 0:
		return first * c.door.opt.RestAfter
	case c.rests == 1:
		return again * c.door.opt.RestAfter
	}
	return 0
}

// arm sets the time by which a packet must come whole; 0: any time. Whoever ends the connection sets ending
// first and then sets the time to the past; the look at ending after setting it makes sure that this is not
// undone.
func (c *conn) arm(silence time.Duration) error {
	var until time.Time
	if silence > 0 {
		until = c.door.opened.Add(c.heard + silence)
	}
	if err := c.net.SetReadDeadline(until); err != nil {
		return err
	}
	if c.ending.Load() {
		return errEnded
	}
	return nil
}

// silent is asked when the time set by arm has passed. It is set once for many packets, so it may be
// too early: then it is set again.
func (c *conn) silent() error {
	if c.ending.Load() {
		return errEnded
	}
	if c.version == 0 {
		return errRefused // no CONNECT in time
	}
	idle, rest := c.door.uptime()-c.heard, c.nextRest()
	switch {
	case c.patience > 0 && idle >= c.patience: // [MQTT-3.1.2-22]
		return &packet.Error{Reason: packet.KeepAliveTimeout, Detail: "no packet within one and a half keep alive"}
	case rest > 0 && idle >= rest:
		return errRest
	}
	return c.armIdle()
}

// end ends the connection from another goroutine; the reader does it. It does not block.
func (c *conn) end(reason packet.ReasonCode) {
	c.mu.Lock()
	first := !c.ending.Load()
	if first {
		c.mu.reason = reason
		c.ending.Store(true)
		signal(&c.mu.out.room)
	}
	c.mu.Unlock()
	switch {
	case !first:
	case c.in.lazy():
		c.interrupt()
	default:
		go c.dismiss(reason)
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

// lastWords puts a DISCONNECT last into the outbox, unless the outbox is closed already.
func (c *conn) lastWords(reason packet.ReasonCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.closed && reason.Failed() && c.mu.session != nil && c.mu.session.Version() == packet.V5 { // [MQTT-4.13.1-1]
		c.put((&packet.Disconnect{Reason: reason}).AppendTo(c.pending(), packet.V5))
	}
	c.mu.closed = true // from here on no delivery and no acknowledgement
	c.send()
}

// interrupt wakes the reader. An error means that the socket is closed, and so it is awake.
func (c *conn) interrupt() {
	if err := c.net.SetReadDeadline(time.Unix(1, 0)); err != nil {
		c.door.opt.Logger.Debug("interrupting a closed connection", "err", err)
	}
}

// finish ends the connection for a cause: the session first, then last words, then the socket.
func (c *conn) finish(cause error) {
	reason, speak := c.lastReason(cause)
	if speak && reason == packet.ServerShuttingDown {
		c.awaitSettled(c.door.opt.CloseTimeout)
	}
	if !speak {
		reason = packet.Success
	}
	c.lastWords(reason)
	c.logEnd(cause, reason)
	c.leave()
	if speak || errors.Is(cause, errRefused) {
		c.farewell()
	}
	c.hangUp()
}

// lastReason is the reason code to end with, and whether the client is there to hear it.
func (c *conn) lastReason(cause error) (reason packet.ReasonCode, speak bool) {
	var fault *packet.Error
	switch {
	case errors.As(cause, &fault):
		return fault.Reason, true
	case errors.Is(cause, errEnded):
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.mu.reason, true
	case errors.Is(cause, errDeaf):
		return packet.KeepAliveTimeout, false
	}
	return packet.Success, false
}

func (c *conn) logEnd(cause error, reason packet.ReasonCode) {
	log := c.door.opt.Logger
	var fault *packet.Error
	switch {
	case errors.As(cause, &fault):
		c.door.metrics.refused(fault.Reason)
		log.Info("connection ended for an error of the client",
			"client", c.principal.ClientID, "remote", c.remote(), "reason", reason.String(), "err", cause)
	default:
		log.Debug("connection ended", "client", c.principal.ClientID, "remote", c.remote(), "cause", cause)
	}
}

func (c *conn) remote() string {
	if a := c.net.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// leave ends the session: subscriptions go, the will is published, the client identifier is free.
func (c *conn) leave() { c.leaving.Do(c.leaveOnce) }

func (c *conn) leaveOnce() {
	defer c.detach()
	c.mu.Lock()
	c.mu.closed = true
	s := c.mu.session
	c.mu.requests = nil
	c.mu.Unlock()
	if c.member != nil {
		c.door.fanout.Leave(c.member)
	}
	if s != nil {
		if will := s.TakeWill(); will != nil { // [MQTT-3.1.2-8]
			c.publishWill(will)
		}
		c.door.clients.remove(c)
	}
}

func (c *conn) detach() {
	c.mu.Lock()
	c.mu.left = true
	signal(&c.mu.detached)
	c.mu.Unlock()
}

// awaitLeft waits until the session is over.
func (c *conn) awaitLeft() {
	c.mu.Lock()
	if c.mu.left {
		c.mu.Unlock()
		return
	}
	if c.mu.detached == nil {
		c.mu.detached = make(chan struct{})
	}
	detached := c.mu.detached
	c.mu.Unlock()
	<-detached
}

// farewell lets the client hear our last words: everything is written, our side is closed, and what the
// client still sends is read and thrown away. A close with unread bytes would be a reset, and the
// client would never see why.
func (c *conn) farewell() {
	most := c.door.opt.CloseTimeout
	until := time.Now().Add(most)
	if err := c.net.SetWriteDeadline(until); err != nil {
		return
	}
	c.awaitIdle(most)
	half, ok := c.net.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if err := c.net.SetReadDeadline(until); err != nil {
		return
	}
	const most64 = 64 << 20
	if _, err := io.CopyN(io.Discard, c.net, most64); err != nil && !errors.Is(err, io.EOF) {
		c.door.opt.Logger.Debug("the client did not close", "client", c.principal.ClientID, "err", err)
	}
}

// hangUp closes the socket. An error means that it is closed already.
func (c *conn) hangUp() {
	if err := c.net.Close(); err != nil {
		c.door.opt.Logger.Debug("closing a connection", "client", c.principal.ClientID, "err", err)
	}
}

// awaitSettled waits until every PUBLISH of the client has its PUBACK in the outbox.
func (c *conn) awaitSettled(most time.Duration) {
	c.mu.Lock()
	if c.mu.session == nil || c.mu.session.Waiting() == 0 {
		c.mu.Unlock()
		return
	}
	settled := make(chan struct{})
	c.mu.settled = settled
	c.mu.Unlock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
	}
}
