package mqtt

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// connect takes the first packet. Its bytes are copied: client identifier and will stay.
func (c *conn) connect(t *turn, frame []byte) error {
	p, err := t.dec.Decode(bytes.Clone(frame))
	takes := packet.MaxSize // the largest packet that the client takes
	if most := t.dec.ClientMaximum; most > 0 {
		takes = int(min(most, packet.MaxSize))
	}
	if err != nil {
		return c.refuseConnect(t.dec.Version, takes, err)
	}
	t.dec = packet.Decoder{Version: t.dec.Version} // it may hold memory of the copy
	hello, ok := p.(*packet.Connect)
	if !ok {
		return errRefused
	}
	if !c.account.Fits(int64(len(frame))) {
		return c.refuseConnect(hello.Version, takes,
			&packet.Error{Reason: packet.QuotaExceeded, Detail: "no memory for another session"})
	}
	c.account.Add(int64(len(frame)))
	principal := Principal{ClientID: string(hello.ClientID), UserName: string(hello.UserName)}
	c.link.principal = principal
	if err := c.admitConnect(hello); err != nil {
		return c.refuseConnect(hello.Version, takes, err)
	}
	assigned := ""
	if len(hello.ClientID) == 0 {
		assigned = newClientID()
	}
	o := session.Open(hello, &c.listener.limits, assigned)
	if err := tooLarge(o.Connack, hello.Version, takes); err != nil { // [MQTT-3.1.2-24]
		return c.refuseConnect(hello.Version, takes, err)
	}
	principal.ClientID = o.ClientID
	present, err := c.link.begin(principal, o)
	if err != nil {
		return c.refuseConnect(hello.Version, takes, &packet.Error{Reason: connackReason(err), Detail: err.Error()})
	}
	o.Connack.SessionPresent = present
	c.setTimeout(time.Duration(o.Link.KeepAlive()) * time.Second * 3 / 2)             // [MQTT-3.1.2-22]
	c.wire.put(func(b []byte) []byte { return o.Connack.AppendTo(b, hello.Version) }) // [MQTT-3.2.0-1]
	if present {
		c.link.goOn()
	}
	return nil
}

// admitConnect refuses what the codec cannot judge.
func (c *conn) admitConnect(p *packet.Connect) error {
	if p.Props.Has(packet.PropAuthMethod) { // [MQTT-4.12.0-1]
		return &packet.Error{Reason: packet.BadAuthenticationMethod, Detail: "no extended authentication"}
	}
	w := p.Will
	if w == nil {
		return nil
	}
	dollar := isDollar(w.Topic)
	switch {
	case !dollar && !c.door.may(&c.link.principal, Publish, w.Topic):
		return &packet.Error{Reason: packet.NotAuthorized, Detail: "will topic"}
	}
	if dollar {
		// Bridges of Mosquitto announce themselves there. Their client would never get in.
		c.door.tell("a will to a topic that begins with $ will not be published", c.link.principal.ClientID,
			packet.TopicNameInvalid, "topic", fault.Text(w.Topic))
		p.Will = nil
	}
	return nil
}

// refuseConnect answers a CONNECT that is refused, if the client takes so large an answer [MQTT-3.1.2-24]. What MQTT 3
// has no return code for, and what is no CONNECT of any version, gets no answer.
func (c *conn) refuseConnect(v packet.Version, takes int, cause error) error {
	reason := packet.ReasonOf(cause)
	c.door.metrics.refused(reason)
	c.door.tell("connection refused", c.link.principal.ClientID, reason, "remote", c.wire.remote(), "err", cause)
	answer := v == packet.V5
	switch reason {
	case packet.UnsupportedVersion, packet.QuotaExceeded, // [MQTT-3.1.2-2]
		packet.ClientIDNotValid, packet.NotAuthorized, packet.BadUserNameOrPassword, packet.BadAuthenticationMethod:
		answer = v != 0
	}
	if connack := (packet.Connack{Reason: reason}); answer && connack.Size(v) <= takes {
		c.wire.put(func(b []byte) []byte { return connack.AppendTo(b, v) })
	}
	return errRefused
}

func newClientID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return "auto-" + hex.EncodeToString(b[:])
}

func tooLarge(p packet.Packet, v packet.Version, most int) error {
	if size := p.Size(v); size > most {
		return &packet.Error{Reason: packet.PacketTooLarge,
			Detail: fmt.Sprintf("%s of %d bytes, the client takes %d", p.Type(), size, most)}
	}
	return nil
}
