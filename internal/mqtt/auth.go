package mqtt

import (
	"bytes"
	"context"
	"errors"
	"net/netip"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Mechanism is a method of enhanced authentication (MQTT 5.0, section 4.12): client and server exchange AUTH packets
// until the server knows who the client is. It is called from many goroutines.
type Mechanism interface {
	// Begin begins an exchange with a client that says it is who, and comes from an address; zero: from a Unix socket.
	// What the exchange finds out it writes into who, until it is done.
	Begin(who *Principal, from netip.Addr) Exchange
}

// Exchange is one run of a mechanism.
type Exchange interface {
	// Step takes the authentication data of the client, nil if there is none, and gives the answer to it. Done tells
	// that the client is who it says; the answer goes with the success then. It may wait until ctx ends. An error
	// refuses the client: with its reason code if it is a *packet.Error, else as not authorized.
	Step(ctx context.Context, data []byte) (answer []byte, done bool, err error)
}

// Claimant is an Exchange that knows who the client says that it is, before that is proven.
type Claimant interface{ Claims() string }

// auth is the enhanced authentication of a connection: nil for most. It belongs to the driver.
type auth struct {
	method   []byte
	hello    *packet.Connect // waits to be accepted; nil: it was
	who      *Principal
	exchange Exchange // under way; nil: none
	steps    int      // of the exchange
	claims   string   // who the client said that it is, in the last exchange
}

// maxAuthSteps bounds an exchange.
const maxAuthSteps = 64

// beginAuth begins the exchange that a CONNECT with an authentication method asks for. Errors: *packet.Error.
func (c *conn) beginAuth(hello *packet.Connect, who Principal) error {
	method := hello.Props.AuthMethod
	mechanism := c.door.opt.Mechanisms[string(method)]
	if mechanism == nil { // [MQTT-4.12.0-1]
		return &packet.Error{Reason: packet.BadAuthenticationMethod,
			Detail: "the authentication method " + fault.Text(method) + " is not known here"}
	}
	c.auth = &auth{method: method, hello: hello, who: &who}
	c.auth.exchange = mechanism.Begin(c.auth.who, c.address())
	return nil
}

// step takes authentication data of the client. Errors: *packet.Error.
func (a *auth) step(d *Door, data []byte) (answer []byte, done bool, err error) {
	if a.steps++; a.steps > maxAuthSteps {
		return nil, false, &packet.Error{Reason: packet.NotAuthorized, Detail: "authentication takes too many steps"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.opt.ConnectTimeout)
	defer cancel()
	answer, done, err = a.exchange.Step(ctx, bytes.Clone(data))
	if by, ok := a.exchange.(Claimant); ok {
		a.claims = by.Claims()
	}
	if err != nil || done {
		a.exchange, a.steps = nil, 0
	}
	if _, ok := errors.AsType[*packet.Error](err); err != nil && !ok {
		err = &packet.Error{Reason: packet.NotAuthorized, Detail: "authentication failed: " + err.Error()}
	}
	return answer, done, err
}

// expects judges an AUTH of the client: its method is that of the CONNECT [MQTT-4.12.0-5], and it goes on with the
// exchange that is under way, or begins one.
func (a *auth) expects(p *packet.Auth) error {
	switch {
	case a == nil: // [MQTT-4.12.0-6]
		return &packet.Error{Reason: packet.ProtocolError, Detail: "AUTH without an authentication method in CONNECT"}
	case !bytes.Equal(p.Props.AuthMethod, a.method):
		return &packet.Error{Reason: packet.ProtocolError, Detail: "AUTH with another authentication method than CONNECT"}
	case p.Reason == packet.ContinueAuthentication && a.exchange == nil:
		return &packet.Error{Reason: packet.ProtocolError, Detail: "AUTH goes on with an authentication that is over"}
	case p.Reason == packet.ReAuthenticate && (a.exchange != nil || a.hello != nil):
		return &packet.Error{Reason: packet.ProtocolError, Detail: "AUTH begins while another authentication is under way"}
	}
	return nil
}

// packet is an AUTH of ours, without a reason string and user properties [MQTT-3.15.2-2] [MQTT-3.15.2-3].
func (a *auth) packet(reason packet.ReasonCode, answer []byte) *packet.Auth {
	p := &packet.Auth{Reason: reason}
	a.say(&p.Props, answer)
	return p
}

// say sets what AUTH and CONNACK say of the authentication [MQTT-4.12.0-5].
func (a *auth) say(props *packet.Properties, answer []byte) {
	props.SetAuthMethod(a.method)
	if answer != nil {
		props.SetAuthData(answer)
	}
}

// awaitAuth takes what comes between a CONNECT with an authentication method and its CONNACK: AUTH only, for a client
// that leaves is refused as well.
func (c *conn) awaitAuth(t *turn, frame []byte) error {
	hello := c.auth.hello
	t.dec.Version = packet.V5
	p, err := t.dec.Decode(frame)
	t.dec.Version = 0
	var data []byte
	switch p := p.(type) {
	case *packet.Auth:
		err = c.auth.expects(p)
		data = p.Props.AuthData
	case *packet.Disconnect:
		return errDisconnect
	default:
		if err == nil {
			err = &packet.Error{Reason: packet.ProtocolError, Detail: p.Type().String() + " before CONNACK"}
		}
	}
	if err != nil {
		return c.refuseHello(hello, err)
	}
	return c.authenticate(hello, data)
}

// authenticate goes on with the exchange of a CONNECT. The client is accepted when it is done [MQTT-4.12.0-4].
func (c *conn) authenticate(hello *packet.Connect, data []byte) error {
	answer, done, err := c.auth.step(c.door, data)
	if err != nil {
		return c.refuseHello(hello, err)
	}
	if done {
		c.auth.hello = nil
		return c.accept(hello, *c.auth.who, answer)
	}
	p := c.auth.packet(packet.ContinueAuthentication, answer) // [MQTT-4.12.0-2]
	if err := tooLarge(p, packet.V5, takenBy(hello)); err != nil {
		return c.refuseHello(hello, err)
	}
	c.wire.put(func(b []byte) []byte { return p.AppendTo(b, packet.V5) })
	return nil
}

// reauthenticate takes an AUTH of a client that was accepted (section 4.12.1). An error ends the connection
// [MQTT-4.12.1-2].
func (c *conn) reauthenticate(p *packet.Auth) error {
	a := c.auth
	if err := a.expects(p); err != nil {
		return err
	}
	if a.exchange == nil {
		a.exchange = c.door.opt.Mechanisms[string(a.method)].Begin(a.who, c.address())
	}
	answer, done, err := a.step(c.door, p.Props.AuthData)
	switch {
	case err == nil && !done:
		return c.link.answerWith(a.packet(packet.ContinueAuthentication, answer))
	case err == nil:
		err = c.renew()
	}
	c.tellAgain(err)
	if err != nil {
		return err
	}
	return c.link.answerWith(a.packet(packet.Success, answer))
}

// renew lets a client go on that has authenticated again: by a token for as long as that is good.
func (c *conn) renew() error {
	if g := c.auth.who.grant; g != nil && c.link.principal.pass != nil {
		if err := c.link.principal.pass.Renew(g); err != nil {
			return &packet.Error{Reason: packet.NotAuthorized, Detail: err.Error()}
		}
		c.heedEnd()
	}
	return nil
}
