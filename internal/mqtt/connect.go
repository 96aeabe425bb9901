package mqtt

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/mqtt/sys"
)

// connect takes the first packet. Its bytes are copied: client identifier and will stay.
func (c *conn) connect(t *turn, frame []byte) error {
	p, err := t.dec.Decode(bytes.Clone(frame))
	if err != nil && looksLikeTLS(frame) {
		c.listener.metrics.encrypted.Inc()
		c.door.tell("a client speaks TLS to a listener that does not: listen.mqtts does", c.listener.opt.Name,
			packet.ProtocolError, "listener", c.listener.opt.Name, "remote", c.wire.remote())
		return errRefused
	}
	if err != nil {
		return c.refuseConnect(t.dec.Version, most(t.dec.ClientMaximum), nil, err) // [MQTT-3.1.4-1]
	}
	t.dec = packet.Decoder{Version: t.dec.Version} // it may hold memory of the copy
	hello, ok := p.(*packet.Connect)
	if !ok {
		return errRefused
	}
	c.door.metrics.connects.Inc()
	c.door.metrics.othersIn.Inc()
	if !c.account.Fits(int64(len(frame) - c.reader.counted)) { // the copy takes the place of what was read
		return c.refuseHello(hello, &packet.Error{Reason: packet.QuotaExceeded, Detail: "no memory for another session"})
	}
	c.account.Add(int64(len(frame)))
	c.stranger.Add(int64(len(frame))) // it is kept while the client authenticates itself: the reader has asked for it
	c.link.principal = Principal{ClientID: string(hello.ClientID), UserName: string(hello.UserName)}
	if c.refused {
		c.listener.metrics.hasty.Inc()
		return c.refuseHello(hello, &packet.Error{Reason: packet.ConnectionRateExceeded, Detail: "too many connect"})
	}
	if err := c.redirect(); err != nil {
		return c.refuseHello(hello, err)
	}
	if err := c.handOver(hello, frame); errors.Is(err, errHandedOver) {
		return err
	} else if err != nil {
		return c.refuseHello(hello, err)
	}
	if hello.Props.Has(packet.PropAuthMethod) {
		if err := c.beginAuth(hello, c.link.principal); err != nil {
			return c.refuseHello(hello, err)
		}
		return c.authenticate(hello, hello.Props.AuthData)
	}
	return c.accept(hello, c.link.principal, nil)
}

// accept begins the session of a client that is who it says, or refuses it [MQTT-3.1.4-5] [MQTT-3.2.0-2]. The answer
// goes with the CONNACK to a client that authenticated itself.
func (c *conn) accept(hello *packet.Connect, principal Principal, answer []byte) (err error) {
	c.link.principal = principal
	if err := c.refuseBanned(); err != nil {
		return c.refuseHello(hello, err)
	}
	if c.enrols(hello) {
		return c.beginEnrolment(hello)
	}
	assigned := ""
	if len(hello.ClientID) == 0 {
		assigned = c.door.newClientID() // [MQTT-3.1.3-6]
		principal.ClientID = assigned
	}
	if principal.pass, err = c.enter(hello, &principal); err != nil {
		return c.refuseHello(hello, err)
	}
	if err := principal.known(); err != nil {
		return c.refuseHello(hello, err)
	}
	c.link.principal.UserName, c.link.principal.pass = principal.UserName, principal.pass
	if err := c.refuseBanned(); err != nil { // by the name that was proven
		return c.refuseHello(hello, err)
	}
	if err := c.admitConnect(hello); err != nil {
		return c.refuseHello(hello, err)
	}
	o := session.Open(hello, &c.listener.limits, assigned)
	if o.User, o.Owner = principal.UserName, principal.owner(); hello.Will != nil {
		o.From = principal.from()
	}
	if c.auth != nil {
		c.auth.say(&o.Connack.Props, answer)
	}
	c.markConnack(hello, o.Connack)
	o.Fit()
	if err := tooLarge(o.Connack, hello.Version, takenBy(hello)); err != nil { // [MQTT-3.1.2-24]
		return c.refuseHello(hello, err)
	}
	principal.ClientID = o.ClientID // [MQTT-3.1.3-7]
	c.link.bridge = hello.Bridge
	present, err := c.link.begin(principal, o)
	if err != nil {
		return c.refuseHello(hello, c.door.refusal(o.ClientID, err))
	}
	c.known()
	c.tellLogin(hello)
	if tap := c.wire.tap.Load(); tap != nil { // of the packet it was not known whose it is
		tap.take(true, hello.AppendTo(nil, hello.Version))
	}
	// Who banned it, or took its user away, since it was looked at may not have seen this connection.
	switch {
	case c.isBanned():
		c.disconnect(packet.AdministrativeAction)
	case c.isOver():
		c.disconnect(packet.NotAuthorized)
		present = false // nothing of the session is for it
	}
	c.heedEnd()
	o.Connack.SessionPresent = present                                                   // [MQTT-3.2.2-3]
	c.setTimeout(time.Duration(o.Link.KeepAlive()) * time.Second * 3 / 2)                // [MQTT-3.1.2-22]
	c.wire.append(func(b []byte) []byte { return o.Connack.AppendTo(b, hello.Version) }) // [MQTT-3.2.0-1]
	c.door.metrics.othersOut.Inc()
	if present { // before the client knows that it is here: what is published from then on is new to it
		c.link.goOn()
	}
	err = c.subscribeUnasked()
	c.wire.push()
	return err
}

// subscribeUnasked subscribes a client to what it did not ask for; the node itself is no device.
func (c *conn) subscribeUnasked() error {
	if c.listener.opt.Inside {
		return nil
	}
	return c.link.subscribeUnasked()
}

// MarkProperty is the user property by which a bridge asks in its CONNECT, and is told in the CONNACK, what marks
// messages that were here.
const MarkProperty = "firth-via"

// markConnack tells a bridge what marks messages that were here, if it asks.
func (c *conn) markConnack(hello *packet.Connect, ack *packet.Connack) {
	if c.door.opt.Mark == "" || len(hello.Props.User) == 0 {
		return
	}
	for name := range hello.Props.User.All() {
		if string(name) == MarkProperty {
			ack.Props.AddUser(MarkProperty, c.door.opt.Mark)
			return
		}
	}
}

// redirect refuses clients that shall go to another server.
func (c *conn) redirect() error {
	if c.listener.opt.Inside {
		return nil
	}
	switch c.door.opt.Redirect {
	case RedirectForNow:
		return &packet.Error{Reason: packet.UseAnotherServer, Detail: "clients are sent to another server for now"}
	case RedirectForGood:
		return &packet.Error{Reason: packet.ServerMoved, Detail: "clients are sent to another server for good"}
	}
	return nil
}

// admitConnect refuses what the codec cannot judge.
func (c *conn) admitConnect(p *packet.Connect) error {
	w := p.Will
	if w == nil {
		return nil
	}
	w.Topic = c.door.rewrite().Name(w.Topic, c.link.principal.who())
	dollar, may := isDollar(w.Topic), c.door.may(&c.link.principal, rule.Write, w.Topic)
	if !dollar && !may {
		c.door.tellRefused(&c.link.principal, rule.Write, audit.KindName, string(w.Topic), 0)
		return &packet.Error{Reason: packet.NotAuthorized, Detail: "the client may not publish its will"}
	}
	if err := packet.CheckPayload(&w.Props, w.Payload); err != nil {
		return err
	}
	if dollar && !(may && sys.IsBridge(w.Topic, w.Payload)) {
		// Who refused it would never let its client in.
		c.door.tell("a will to a topic that begins with $ will not be published", c.link.principal.ClientID,
			packet.TopicNameInvalid, "topic", fault.Text(w.Topic))
		p.Will = nil
	}
	return nil
}

// refuseHello answers a CONNECT that is refused although it was well formed.
func (c *conn) refuseHello(hello *packet.Connect, cause error) error {
	return c.refuseConnect(hello.Version, takenBy(hello), hello, cause)
}

// refuseConnect answers a CONNECT that is refused, if the client takes so large an answer [MQTT-3.1.2-24]. What MQTT 3
// has no return code for [MQTT-3.2.2-6 of 3.1.1], and what is no CONNECT of any version, gets no answer. hello is nil
// when the CONNECT could not be read.
func (c *conn) refuseConnect(v packet.Version, takes int, hello *packet.Connect, cause error) error {
	reason := packet.ReasonOf(cause)
	c.door.metrics.refused(reason)
	c.door.note(c.link.principal.ClientID, eventRefused, reason, fmt.Sprintf("%s, %v", c.wire.remote(), cause))
	c.tellRefusedLogin(hello, reason, cause)
	c.door.tell("connection refused", c.link.principal.ClientID, reason, "remote", c.wire.remote(), "error", cause)
	answer := v == packet.V5
	switch reason {
	case packet.UnsupportedVersion, packet.QuotaExceeded, // [MQTT-3.1.2-2]
		packet.ClientIDNotValid, packet.NotAuthorized, packet.BadUserNameOrPassword, packet.BadAuthenticationMethod,
		packet.UseAnotherServer, packet.ServerMoved, packet.ConnectionRateExceeded, packet.Banned,
		packet.ServerUnavailable, packet.ServerBusy:
		answer = v != 0
	}
	connack := packet.Connack{Reason: reason.InConnack()} // [MQTT-3.1.3-8] [MQTT-3.1.4-2]
	if v == packet.V5 && hello != nil {
		c.door.refer(reason, &connack.Props)
		referTo(cause, &connack.Props)
		explain(&connack, &connack.Props, cause, takes, hello.TakesReasons())
	}
	if answer && connack.Size(v) <= takes {
		c.wire.put(func(b []byte) []byte { return connack.AppendTo(b, v) })
	}
	return errRefused // it ends the connection, and what is behind it [MQTT-3.1.4-6] [MQTT-3.2.2-7]
}

// looksLikeTLS tells whether what came in place of a CONNECT begins a handshake of TLS (RFC 8446, section 5.1).
func looksLikeTLS(frame []byte) bool { return len(frame) > 1 && frame[0] == 0x16 && frame[1] == 3 }

// newClientID is one that nobody else has, in a shard that is served here if there are some elsewhere.
func (d *Door) newClientID() (id string) {
	for try := 0; ; try++ {
		if id = randomID(); d.opt.Sharding == nil || d.seats.Serves(id) || try == mostTries {
			return id
		}
	}
}

// mostTries is how many client identifiers are tried until one is in a shard that is here: with one shard in a hundred
// all are elsewhere once in 20,000 times.
const mostTries = 1000

func randomID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return "auto-" + hex.EncodeToString(b[:])
}

// takenBy is the largest packet that a client takes, in bytes.
func takenBy(hello *packet.Connect) int { return most(hello.Props.MaximumPacketSize) }

func most(maximumPacketSize uint32) int {
	if maximumPacketSize == 0 {
		return packet.MaxSize
	}
	return int(min(maximumPacketSize, packet.MaxSize))
}

func tooLarge(p packet.Packet, v packet.Version, most int) error {
	if size := p.Size(v); size > most {
		return &packet.Error{Reason: packet.PacketTooLarge,
			Detail: fmt.Sprintf("%s of %d bytes, the client takes %d", p.Type(), size, most)}
	}
	return nil
}
