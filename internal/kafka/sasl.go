package kafka

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
)

// A client authenticates by SaslHandshake, which names a mechanism, and SaslAuthenticate, which carries the mechanism's
// own messages (KIP-43, KIP-152). Behind a SaslHandshake of version 0 they come as they are, each behind its length.
// What a listener demands of a connection before anything else is held in admit.

// SASL is how clients may authenticate.
type SASL struct {
	// Mechanisms are those that are offered, in the order in which clients are told them. None: nobody can.
	Mechanisms []Mechanism
	// MaxLifetime is how long a connection is served before it has to authenticate again (KIP-368),
	// connections.max.reauth.ms of Kafka. 0: for ever, if its credentials do not end sooner.
	MaxLifetime time.Duration
	// BareAnywhere offers mechanisms that are Bare on connections without TLS from other machines, too.
	BareAnywhere bool
}

// Mechanism is one way to authenticate. It is used by many connections at once.
type Mechanism interface {
	// Name is its name as IANA registers it, such as "SCRAM-SHA-256".
	Name() string
	// Bare tells that it sends what proves who the client is as it is: for whoever listens to use, too.
	Bare() bool
	// Begin begins to authenticate a client.
	Begin(from Peer) Exchange
}

// Peer is what is known of a client before it has authenticated.
type Peer struct {
	Host       string // its address without the port, such as "10.0.0.7"
	ClientID   string // as it calls itself
	Listener   string
	CommonName string // of its certificate
	Encrypted  bool   // with TLS
}

// Exchange is one authentication that is under way: a state machine that one goroutine steps.
type Exchange interface {
	// Step takes what the client says and gives what it is answered. The exchange is over once it gives who the client
	// is, or an error; who is nil until then. What the error says is logged; the client is told that it failed. It may
	// wait until ctx ends: for its turn, or to slow down who guesses.
	Step(ctx context.Context, token []byte) (answer []byte, who *Identity, err error)
}

// Claimant is an Exchange that knows who the client says that it is, before that is proven.
type Claimant interface{ Claims() string }

// Identity is who a client has shown to be.
type Identity struct {
	Principal string        // as the Guard is asked about it, such as "User:alice"
	Lifetime  time.Duration // of its credentials, from now on; 0: they do not end
	Grant     *access.Grant // of the token that it has shown; nil: it has shown none
}

const (
	maxToken      = 512 << 10              // bytes of a message of a mechanism; sasl.server.max.receive.size of Kafka
	maxSteps      = 16                     // messages of a client in one exchange; mechanisms need up to three
	refusalDelay  = 100 * time.Millisecond // before a failed one is told; connection.failed.authentication.delay.ms
	mostReauths   = time.Second            // between two of them, at least, as in Kafka
	knockingTicks = uint32(time.Minute / tick)
)

// login is how far a connection has authenticated. It is its reader's; while a request is under way it stands still.
type login struct {
	required bool // nothing else is served before
	known    bool // it has authenticated
	unframed bool // what comes next is a message of the mechanism as it is
	over     bool // the connection ends once its answer is written

	stranger error // why it is not served as it came, without a name or with its certificate; nil: it is

	mechanism Mechanism     // of the exchange that is under way, or of the last
	exchange  Exchange      // nil: none is under way
	steps     int           // of it
	until     time.Duration // when the connection has to authenticate again, as Door.now tells it; 0: never
	began     time.Duration // when it began to authenticate again
}

// admits tells why a request is not served before or while a client authenticates, or because that was too long ago.
func (l *login) admits(key int16, now func() time.Duration) error {
	const op = "kafka.authenticate"
	switch {
	case l.exchange != nil && key != wire.SaslAuthenticate:
		return fault.New(fault.Denied, op, "API key %d in the middle of an authentication", key)
	case l.known && l.until > 0 && now() >= l.until && key != wire.SaslHandshake && l.exchange == nil:
		return fault.New(fault.Denied, op, "the session ended, and was not renewed").WithHint(
			"the client should authenticate again in time (KIP-368)")
	case l.known || !l.required, l.knocks(key):
		return nil
	}
	because := ""
	if l.stranger != nil {
		because = ": " + l.stranger.Error()
	}
	return fault.New(fault.Denied, op, "API key %d before authentication%s", key, because).WithHint(
		"set the client's security.protocol to SASL_PLAINTEXT or SASL_SSL, and its sasl.mechanism")
}

// knocks tells whether a request is one that a client makes before it has authenticated.
func (l *login) knocks(key int16) bool {
	return !l.known && (key == wire.ApiVersions || key == wire.SaslHandshake || key == wire.SaslAuthenticate)
}

// handshake begins an exchange by the mechanism of a name.
func (c *conn) handshake(name string, version int16) wire.Code {
	l := &c.login
	now := c.door.now()
	again := l.known
	switch {
	case l.exchange != nil, again && l.until == 0, again && l.began > 0 && now-l.began < mostReauths:
		l.over = l.required && !again
		return wire.IllegalSaslState
	case again && name != l.mechanism.Name():
		l.over = true
		return wire.IllegalSaslState
	}
	for _, m := range c.mechanisms() {
		if m.Name() != name {
			continue
		}
		l.mechanism, l.exchange, l.steps, l.unframed = m, m.Begin(c.whoAsks()), 0, version == 0
		if again {
			l.began = now
		}
		return wire.None
	}
	l.over = l.required
	return wire.UnsupportedSaslMechanism
}

// whoAsks is what is known of the client.
func (c *conn) whoAsks() Peer {
	p := Peer{Host: c.host[1:], ClientID: c.clientID, Listener: c.listener}
	if s, ok := c.nc.(*secure.Conn); ok {
		p.Encrypted = true
		if shown := s.Peer(); shown != nil {
			p.CommonName = shown.CommonName
		}
	}
	return p
}

// mechanisms are those that the connection is offered.
func (c *conn) mechanisms() []Mechanism {
	all := c.door.opt.SASL.Mechanisms
	if _, encrypted := c.nc.(*secure.Conn); encrypted || c.door.opt.SASL.BareAnywhere || c.isHere() {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), Mechanism.Bare)
}

// isHere tells whether the client is on this machine, and came by an address that only this machine has.
func (c *conn) isHere() bool {
	at, err := netip.ParseAddr(hostOf(c.nc.LocalAddr()))
	return c.nc.LocalAddr().Network() == "unix" || err == nil && at.IsLoopback()
}

// step takes a message of the mechanism. With another code than None the authentication failed, and the connection is
// to end: RequestTimedOut, which clients try again, where it could not be found out who they are.
func (c *conn) step(ctx context.Context, token []byte) (answer []byte, code wire.Code) {
	l := &c.login
	answer, who, err := l.exchange.Step(ctx, token)
	claims := ""
	if by, ok := l.exchange.(Claimant); ok {
		claims = by.Claims()
	}
	l.steps++
	switch {
	case err == nil && who == nil && l.steps >= maxSteps:
		err = fault.New(fault.Denied, "kafka.authenticate", "%d messages, and no end", l.steps)
	case err == nil && who != nil && l.known && who.Principal != c.principal:
		err = fault.New(fault.Denied, "kafka.authenticate", "%s authenticated again as %s", c.principal, who.Principal)
	}
	if err != nil {
		c.tellLogin(l.mechanism.Name(), claims, err)
		l.exchange, l.unframed, l.over = nil, false, true
		c.door.metrics.logins.With(l.mechanism.Name(), "failed").Inc()
		if held, ok := c.door.lines.Pass("authentication " + c.host); ok {
			c.log.Warn("kafka: authentication failed", "mechanism", l.mechanism.Name(), "client_id", brief(c.clientID),
				"error", err, "more", held)
		}
		_ = clock.Pause(ctx, refusalDelay) // who guesses is slowed
		switch fault.KindOf(err) {
		case fault.Unavailable, fault.Limited, fault.Timeout:
			return nil, wire.RequestTimedOut
		}
		return nil, wire.SaslAuthenticationFailed
	}
	if who != nil {
		c.enterAs(who)
	}
	return answer, wire.None
}

// enterAs notes who the client is.
func (c *conn) enterAs(who *Identity) {
	l := &c.login
	c.door.metrics.logins.With(l.mechanism.Name(), "succeeded").Inc()
	lifetime := who.Lifetime
	if limit := c.door.opt.SASL.MaxLifetime; limit > 0 && (lifetime == 0 || limit < lifetime) {
		lifetime = limit
	}
	l.until = 0
	if lifetime > 0 {
		l.until = c.door.now() + lifetime
	}
	l.exchange, l.unframed, l.known = nil, false, true
	if c.principal != who.Principal {
		c.quota.table = nil // its quotas are others
	}
	c.know(who.Principal, who.Grant)
	c.tellLogin(l.mechanism.Name(), "", nil)
	c.knocking.Store(0)
}

// lifetime is for how many milliseconds the connection is served from now on, 0: for ever.
func (c *conn) lifetime() int64 {
	if c.login.until == 0 || c.login.exchange != nil {
		return 0
	}
	return max((c.login.until - c.door.now()).Milliseconds(), 1)
}

// nextToken reads and answers a message of a mechanism that comes as it is, behind a SaslHandshake of version 0.
func (c *conn) nextToken(ctx context.Context) error {
	if err := c.fill(wire.SizeLen); err != nil {
		return err
	}
	size := int(int32(binary.BigEndian.Uint32(c.ahead[c.from:])))
	if size < 0 || size > maxToken {
		return fault.New(fault.TooLarge, "kafka.authenticate", "a message of %d bytes", size)
	}
	if err := c.holding.take(size); err != nil {
		return err
	}
	defer c.holding.give(size)
	token, err := c.readFrame(size, nil)
	if err != nil {
		return err
	}
	answer, code := c.step(ctx, token)
	if code != wire.None {
		return errRefused // is logged; the client sees the end of the connection
	}
	c.out = append(binary.BigEndian.AppendUint32(c.out[:0], uint32(len(answer))), answer...)
	return c.writeOut()
}

// errRefused ends a connection that did not authenticate; why is logged already.
var errRefused = fault.New(fault.Denied, "kafka.authenticate", "the authentication failed")
