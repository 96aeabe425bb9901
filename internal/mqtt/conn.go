package mqtt

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// conn is one connection. Its driver (see hold) reads, decodes and appends to the log; receipts come from
// the log's goroutine, deliveries from the workers of fanout and retain. What they share is in mu;
// everything else belongs to the driver once the connection is served.
type conn struct {
	door   *Door
	sock   *socket // a plain socket that a poller watches; nil:
	net    net.Conn
	poller *poller // of sock
	pusher *pusher

	hold     hold         // who drives
	sends    hold         // who writes to the socket
	stalled  atomic.Bool  // a write is under way, or the socket did not take it whole
	ending   atomic.Bool  // somebody else ends the connection
	lingers  atomic.Bool  // all is said: what the client still sends is thrown away
	patience atomic.Int64 // nanoseconds of silence after which the client is taken for dead; 0: any
	heard    atomic.Int64 // when a packet last came whole, nanoseconds since the door was opened
	timer    *time.Timer  // calls lapse

	in        input
	version   packet.Version // 0 before CONNECT
	maxPacket int            // bytes that the client takes, once it has sent its CONNECT
	principal Principal
	member    *fanout.Member
	noLocal   bool // some subscription has No Local
	routes    routes
	leaving   sync.Once
	discarded int    // bytes since it lingers
	writer    func() // c.write: made once, so that starting it allocates nothing

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
		requests []*retain.Request // retained messages that were told Later
		settled  chan struct{}     // closed when no PUBLISH waits for the log
	}
}

// The ways a connection ends besides a *packet.Error and an error of the socket.
var (
	errDisconnect = errors.New("the client disconnected")
	errEnded      = errors.New("ended by the server")
	errRefused    = errors.New("connection refused")
	errDeaf       = errors.New("the client does not read")
)

func (d *Door) newConn(n net.Conn) *conn {
	c := &conn{door: d}
	if c.sock = takeSocket(n); c.sock == nil {
		c.net = n
		c.writer = c.write
	}
	i := int(d.accepted.Add(1))
	c.poller, c.pusher = d.pollers[i%len(d.pollers)], d.pushers[i%len(d.pushers)]
	c.hold.claim()
	c.timer = time.AfterFunc(time.Hour, c.lapse)
	c.bear(d.opt.ConnectTimeout) // for its CONNECT
	return c
}

// start begins to serve the connection.
func (c *conn) start() {
	if c.sock == nil {
		go c.serve()
		return
	}
	if err := c.poller.add(c); err != nil {
		c.door.opt.Logger.Error("cannot watch a connection", "remote", c.remote(), "err", err)
		c.sock.close()
	} else if c.hold.release() {
		return
	}
	go c.drive(nil)
}

// lastWords puts a DISCONNECT last into the outbox, unless the outbox is closed already.
func (c *conn) lastWords(reason packet.ReasonCode) {
	c.mu.Lock()
	if !c.mu.closed && reason.Failed() && c.mu.session != nil && c.mu.session.Version() == packet.V5 { // [MQTT-4.13.1-1]
		c.put((&packet.Disconnect{Reason: reason}).AppendTo(c.pending(), packet.V5))
	}
	c.mu.closed = true // from here on no delivery and no acknowledgement
	c.mu.Unlock()
	c.push()
}

// finish ends the connection for a cause: the session first, then last words, then the socket. False: it
// lingers, and the driver goes on until it is called again.
func (c *conn) finish(cause error) (ended bool) {
	if !c.lingers.Load() && c.part(cause) && c.farewell() {
		return false
	}
	c.timer.Stop()
	c.hangUp()
	c.door.exit(c)
	return true
}

// part ends the session and tells whether the client is there to hear last words.
func (c *conn) part(cause error) (hears bool) {
	if errors.Is(cause, errEnded) && c.silent() {
		cause = &packet.Error{Reason: packet.KeepAliveTimeout, Detail: "no packet within one and a half keep alive"}
	}
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
	return speak || errors.Is(cause, errRefused)
}

// silent tells whether the connection was ended because its client said nothing.
func (c *conn) silent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.reason == packet.KeepAliveTimeout && c.mu.session != nil
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
	var wrong *packet.Error
	switch {
	case errors.As(cause, &wrong):
		c.door.metrics.refused(wrong.Reason)
		what := "connection ended for an error of the client"
		if wrong.Reason == packet.ServerUnavailable || wrong.Reason == packet.ServerShuttingDown {
			what = "connection ended: a message could not be stored"
		}
		log.Info(what,
			"client", fault.Text(c.principal.ClientID), "remote", c.remote(), "reason", reason.String(), "err", cause)
	default:
		log.Debug("connection ended", "client", fault.Text(c.principal.ClientID), "remote", c.remote(), "cause", cause)
	}
}

func (c *conn) remote() string {
	var a net.Addr
	if c.sock != nil {
		a = c.sock.remote
	} else {
		a = c.net.RemoteAddr()
	}
	if a == nil {
		return ""
	}
	return a.String()
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
// client would never see why. True: the connection lingers until its driver has seen the end.
func (c *conn) farewell() (lingers bool) {
	most := c.door.opt.CloseTimeout
	if c.sock != nil {
		c.awaitIdle(most)
		if c.sock.closeWrite() != nil {
			return false
		}
		c.lingers.Store(true)
		c.timer.Reset(most)
		return true
	}
	until := time.Now().Add(most)
	if err := c.net.SetWriteDeadline(until); err != nil {
		return false
	}
	c.awaitIdle(most)
	half, ok := c.net.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return false
	}
	if err := c.net.SetReadDeadline(until); err != nil {
		return false
	}
	if _, err := io.CopyN(io.Discard, c.net, maxLinger); err != nil && !errors.Is(err, io.EOF) {
		c.door.opt.Logger.Debug("the client did not close", "client", fault.Text(c.principal.ClientID), "err", err)
	}
	return false
}

// maxLinger is how many bytes of a connection that lingers are thrown away.
const maxLinger = 64 << 20

// discard throws away what a client sends after its connection ended.
func (c *conn) discard(lent []byte) (more bool, err error) {
	n, err := c.sock.read(lent)
	if errors.Is(err, errAgain) {
		return false, nil
	}
	if c.discarded += n; c.discarded > maxLinger && err == nil {
		err = io.ErrShortBuffer
	}
	return n == len(lent), err
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
	await(settled, most)
}
