// Package client is an MQTT client (5.0, 3.1.1 and 3.1) for commands, load generators and bridges: a server that
// connects to others keeps the rules of a client with it [MQTT-7.0.0-1 of 3.1.1].
//
// It keeps many messages in flight and writes what has gathered in one system call. Acknowledgements
// come back as tickets: nothing is allocated for a message, and no goroutine waits for one. A
// connection has one goroutine that reads and calls back, and a second one that writes from the first
// Publish on. It does not reconnect: when a connection ends, every message without an acknowledgement
// is reported once, and whoever owns the client dials again.
//
//	c, err := client.Dial(ctx, "127.0.0.1:1883", client.Options{ClientID: "me", OnAck: acked})
//	err = c.Publish(&packet.Publish{Topic: topic, Payload: payload, QoS: 1}, ticket)
//	err = c.Close()
//
// There are two ways to send. Publish wakes the writer and blocks while the window or the buffer is
// full: for goroutines of the caller. Offer never blocks and wakes nobody: for callbacks, whose
// messages are written together once all that was read has been handled.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Options say how to connect and whom to call back. The zero value connects with MQTT 5.0, a clean
// start and a client identifier that the server chooses.
type Options struct {
	ClientID  string
	Version   packet.Version // 0: 5.0
	Bridge    bool           // with MQTT 3: says so as Mosquitto does (try_private)
	Resume    bool           // go on with the session of ClientID: for its subscriptions, not for QoS 2 sent
	KeepAlive time.Duration  // whole seconds up to 65,535; 0: 60 s; below 0: none

	UserName string
	Password []byte
	Will     *packet.Will
	Props    packet.Properties // of the CONNECT, MQTT 5; with a Topic Alias Maximum the server may use aliases
	Farewell packet.Properties // of the DISCONNECT that Close sends, MQTT 5

	Inflight      int // most messages of QoS 1 and 2 without an acknowledgement, up to 65,000; 0: 1,024
	WriteBuffer   int // bytes that may wait to be written before Publish blocks; 0: 64 KiB
	ReadBuffer    int // bytes of the read buffer at first; it grows to the largest packet; 0: 4 KiB
	MaxPacketSize int // largest packet taken from the server, in bytes; 0: 256 MiB, MQTT's own limit
	ManualAck     bool

	TLS  *tls.Config // nil: plain TCP
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// OnMessage is called for each message that arrives, in order, by the client's reader. The
	// packet and its slices are valid during the call. With QoS 1 and 2 the acknowledgement leaves
	// after the call, or with ManualAck when Ack is called.
	OnMessage func(p *packet.Publish)

	// OnAck is called exactly once for each message of QoS 1 and 2 that Publish or Offer took: with
	// the server's answer, or with the error that ended the connection before it. The client's
	// reader calls it; it may Offer, it must not Publish.
	OnAck func(ticket uint64, reason packet.ReasonCode, err error)
}

const (
	maxInflight = 65_000 // identifiers above it are for SUBSCRIBE and UNSUBSCRIBE
	turnBytes   = 64 << 10
	closeWait   = 2 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Version == 0 {
		o.Version = packet.V5
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = time.Minute
	}
	if o.Inflight <= 0 {
		o.Inflight = 1024
	}
	o.Inflight = min(o.Inflight, maxInflight)
	if o.WriteBuffer <= 0 {
		o.WriteBuffer = 64 << 10
	}
	if o.ReadBuffer <= 0 {
		o.ReadBuffer = 4 << 10
	}
	if o.MaxPacketSize <= 0 || o.MaxPacketSize > packet.MaxSize {
		o.MaxPacketSize = packet.MaxSize
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o
}

// Server is what the server said in its CONNACK.
type Server struct {
	SessionPresent bool
	ClientID       string        // the one in force: ours, or the one the server chose
	KeepAlive      time.Duration // the one in force; 0: none
	ReceiveMaximum int           // messages of QoS 1 and 2 in flight to the server
	MaximumQoS     byte
	Retain         bool // retained messages are kept
	MaxPacketSize  int  // bytes
	TopicAliases   int  // how many aliases Publish may use, from 1 on
	// ResponseInformation is where responses are to go, for who asked for it; empty: the server did not say.
	ResponseInformation string
}

// Client is one connection. All methods may be called from any goroutine, except where they say so.
type Client struct {
	o      Options
	server Server
	told   packet.UserProperties // of the CONNACK
	conn   net.Conn
	direct *direct // writes without waiting; nil: not possible

	wake   chan struct{} // to the writer, one place
	stop   chan struct{} // to the writer: the reader has ended
	done   chan struct{} // closed when reader and writer have ended and every ticket is settled
	writer sync.WaitGroup
	wrote  atomic.Bool // since the last tick of the keep alive
	read   atomic.Bool

	// The reader's own:
	seen    map[uint16]struct{} // QoS 2 identifiers received and not released
	aliases [][]byte            // topics by the alias that the server has set, alias 1 first

	mu struct {
		sync.Mutex
		changed  *sync.Cond // room, window, inflight or err
		waiters  int
		out      []byte // waits to be written
		spare    []byte // the other buffer, empty
		writing  bool   // somebody is writing: he looks at out again before he stops
		writer   bool   // the writer has been started
		tick     *time.Timer
		closing  bool   // DISCONNECT is out: a closed connection is the end we asked for
		pinged   bool   // a PINGREQ waits for its answer
		slots    []slot // by packet identifier - 1
		free     []uint16
		inflight int
		calls    map[uint16]chan []packet.ReasonCode // SUBSCRIBE and UNSUBSCRIBE by identifier
		nextCall uint16
		err      error // why the connection ended
	}
}

// slot is a message in flight.
type slot struct {
	ticket uint64
	waits  packet.Type // PUBACK, PUBREC or PUBCOMP; 0: the slot is free
}

// Dial connects, and returns once the server has accepted. Errors: those of the dialler; Denied for
// credentials, Unsupported for a protocol version, Limited for a busy server, Invalid for other
// refusals, all with the server's reason code in packet.ReasonOf; Timeout and those of ctx.
func Dial(ctx context.Context, address string, o Options) (*Client, error) {
	c, in, err := open(ctx, address, o.withDefaults())
	if err != nil {
		return nil, err
	}
	c.direct = newDirect(c.conn)
	c.wake, c.stop, c.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	c.mu.changed = sync.NewCond(&c.mu)
	if c.server.KeepAlive > 0 {
		c.mu.Lock()
		c.mu.tick = time.AfterFunc(c.server.KeepAlive/2, c.keepAlive)
		c.mu.Unlock()
	}
	go c.run(in)
	return c, nil
}

// open connects, and returns once the server has accepted.
func open(ctx context.Context, address string, o Options) (*Client, *input, error) {
	conn, err := o.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	if o.TLS != nil {
		conn = tls.Client(conn, o.TLS)
	}
	c := &Client{o: o, conn: conn}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	in := &input{buf: make([]byte, o.ReadBuffer), max: o.MaxPacketSize,
		dec: packet.Decoder{Version: o.Version, Client: true}}
	err = c.handshake(in)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err == nil {
		return c, in, nil
	}
	_ = conn.Close()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, nil, err
}

// handshake sends CONNECT and reads CONNACK.
func (c *Client) handshake(in *input) error {
	connect := &packet.Connect{
		Version: c.o.Version, Bridge: c.o.Bridge, CleanStart: !c.o.Resume, ClientID: []byte(c.o.ClientID),
		Will: c.o.Will, Props: c.o.Props,
		HasUserName: c.o.UserName != "", UserName: []byte(c.o.UserName),
		HasPassword: c.o.Password != nil, Password: c.o.Password,
	}
	if c.o.KeepAlive > 0 {
		connect.KeepAlive = uint16(min(max(c.o.KeepAlive/time.Second, 1), 65535))
	}
	if c.o.Version == packet.V5 && c.o.MaxPacketSize < packet.MaxSize {
		connect.Props.SetMaximumPacketSize(uint32(c.o.MaxPacketSize))
	}
	if _, err := c.conn.Write(connect.AppendTo(nil, c.o.Version)); err != nil {
		return err
	}
	p, err := in.next(c.conn)
	if err != nil {
		return err
	}
	ack, ok := p.(*packet.Connack)
	if !ok {
		return fault.New(fault.Invalid, "mqtt connect", "the server answered CONNECT with %s", p.Type())
	}
	if ack.Reason != packet.Success {
		return refusal(ack)
	}
	c.server, c.told = c.terms(ack, connect.KeepAlive), bytes.Clone(ack.Props.User)
	c.o.Inflight = min(c.o.Inflight, c.server.ReceiveMaximum)
	c.aliases = make([][]byte, c.o.Props.TopicAliasMaximum)
	return nil
}

// terms are the server's terms, with the defaults of section 3.2.2.3.
func (c *Client) terms(ack *packet.Connack, keepAlive uint16) Server {
	s := Server{
		SessionPresent: ack.SessionPresent, ClientID: c.o.ClientID, KeepAlive: time.Duration(keepAlive) * time.Second,
		ReceiveMaximum: 65535, MaximumQoS: 2, Retain: true, MaxPacketSize: packet.MaxSize,
	}
	p := &ack.Props
	if p.Has(packet.PropAssignedClientID) {
		s.ClientID = string(p.AssignedClientID)
	}
	if p.Has(packet.PropServerKeepAlive) {
		s.KeepAlive = time.Duration(p.ServerKeepAlive) * time.Second
	}
	if p.Has(packet.PropReceiveMaximum) {
		s.ReceiveMaximum = int(p.ReceiveMaximum)
	}
	if p.Has(packet.PropMaximumQoS) {
		s.MaximumQoS = p.MaximumQoS
	}
	if p.Has(packet.PropRetainAvailable) {
		s.Retain = p.RetainAvailable == 1
	}
	if p.Has(packet.PropMaximumPacketSize) {
		s.MaxPacketSize = int(min(p.MaximumPacketSize, packet.MaxSize))
	}
	s.TopicAliases, s.ResponseInformation = int(p.TopicAliasMaximum), string(p.ResponseInfo)
	return s
}

// refusal turns the CONNACK of a refusal into an error.
func refusal(ack *packet.Connack) error {
	cause := &packet.Error{Reason: ack.Reason, Detail: "the server refused the connection"}
	if len(ack.Props.ReasonString) > 0 {
		cause.Detail += ": " + string(ack.Props.ReasonString)
	}
	if len(ack.Props.ServerReference) > 0 {
		cause.Detail += ": it names " + string(ack.Props.ServerReference)
	}
	kind := fault.Invalid
	switch ack.Reason {
	case packet.BadUserNameOrPassword, packet.NotAuthorized, packet.Banned, packet.BadAuthenticationMethod:
		kind = fault.Denied
	case packet.UnsupportedVersion:
		kind = fault.Unsupported
	case packet.ServerUnavailable, packet.ServerBusy, packet.QuotaExceeded, packet.ConnectionRateExceeded:
		kind = fault.Limited
	}
	return fault.Wrap(kind, "mqtt connect", cause)
}

// Server is what the server said when it accepted.
func (c *Client) Server() Server { return c.server }

// Done is closed when the connection has ended and every ticket is settled.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the connection ended: nil while it stands and after Close.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.mu.err, errClosed) {
		return nil
	}
	return c.mu.err
}

var errClosed = fault.New(fault.Closed, "mqtt client", "the connection is closed")

// fail ends the connection for a reason; the first one counts.
func (c *Client) fail(err error) {
	c.mu.Lock()
	c.failLocked(err)
	c.mu.Unlock()
}

func (c *Client) failLocked(err error) {
	if c.mu.err == nil {
		if c.mu.closing {
			err = errClosed
		}
		c.mu.err = err
	}
	_ = c.conn.Close()
	c.mu.changed.Broadcast()
}

// Drain waits until everything is written and every message of QoS 1 and 2 is acknowledged. Not to be
// called from a callback. Errors: why the connection ended; those of ctx.
func (c *Client) Drain(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		c.mu.changed.Broadcast()
		c.mu.Unlock()
	})
	defer stop()
	c.Flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.mu.err == nil && ctx.Err() == nil && (c.mu.inflight > 0 || len(c.mu.out) > 0 || c.mu.writing) {
		c.waitLocked()
	}
	if c.mu.err != nil {
		return c.mu.err
	}
	return ctx.Err()
}

// waitLocked waits for a change.
func (c *Client) waitLocked() {
	c.mu.waiters++
	c.mu.changed.Wait()
	c.mu.waiters--
}

// changedLocked tells those who wait, if there are any.
func (c *Client) changedLocked() {
	if c.mu.waiters > 0 {
		c.mu.changed.Broadcast()
	}
}

// Close writes what is waiting, sends DISCONNECT and waits, at most 2 s, until the server has read all
// of it. It does not wait for acknowledgements: Drain does. Not to be called from a callback.
// Errors: why the connection had ended before, if it had.
func (c *Client) Close() error {
	c.mu.Lock()
	closed := c.mu.closing || c.mu.err != nil
	if !closed {
		c.mu.out = (&packet.Disconnect{Props: c.o.Farewell}).AppendTo(c.mu.out, c.o.Version)
		c.mu.closing = true
	}
	c.mu.Unlock()
	if closed {
		<-c.done
		return c.Err()
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(closeWait))
	c.Flush()
	c.mu.Lock()
	for c.mu.err == nil && (c.mu.writing || len(c.mu.out) > 0) {
		c.startWriteLocked()
		c.waitLocked()
	}
	c.mu.Unlock()
	// A plain close with unread input resets the connection, and what was sent may be lost with it.
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.conn.SetReadDeadline(time.Now().Add(closeWait))
		<-c.done
	}
	c.fail(errClosed)
	<-c.done
	return c.Err()
}

// Abort cuts the connection without a DISCONNECT, so that the server publishes the will.
func (c *Client) Abort() {
	c.fail(errClosed)
	<-c.done
}
