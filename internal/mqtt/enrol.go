package mqtt

import (
	"context"
	"encoding/pem"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/access/enrol"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// A device that has no certificate yet connects with its name as user name and the token of a claim as password, over
// TLS. It gets no session, and may do one thing: publish a certificate request to $enroll/request. The answer comes to
// $enroll/accepted or $enroll/rejected on this very connection, subscribed or not.
const (
	enrolTopics   = "$enroll/"
	enrolRequest  = enrolTopics + "request"
	enrolAccepted = enrolTopics + "accepted"
	enrolRejected = enrolTopics + "rejected"
)

// maxEnrolPackets bounds what a device may say while it enrols.
const maxEnrolPackets = 32

// Enrolment gives certificates to devices that have a claim. It may wait until ctx ends. *enrol.Desk is one.
type Enrolment interface {
	// Claimed tells whether a token is one of a claim for a name. Errors: Denied; that of ctx.
	Claimed(ctx context.Context, who enrol.Applicant) error
	// Enrol issues a certificate for the key of a request and gives it with that of its authority, as DER.
	Enrol(ctx context.Context, who enrol.Applicant, request []byte) (chain [][]byte, err error)
}

// enrolling is a connection that enrols: nil for most. It belongs to the driver.
type enrolling struct {
	hello *packet.Connect
	who   enrol.Applicant
	said  int // packets
}

// enrols tells whether a CONNECT is that of a device that enrols.
func (c *conn) enrols(hello *packet.Connect) bool {
	return c.door.opt.Enrolment != nil && c.auth == nil && authority.IsToken(hello.Password)
}

// beginEnrolment accepts a device that has a claim. It stays a stranger: what it makes us hold is bounded as theirs is.
func (c *conn) beginEnrolment(hello *packet.Connect) error {
	if !c.encrypted {
		return c.refuseHello(hello, &packet.Error{Reason: packet.NotAuthorized, Detail: "devices enrol over TLS only"})
	}
	e := &enrolling{hello: hello, who: enrol.Applicant{Name: string(hello.UserName), Token: hello.Password,
		Address: c.address(), Way: "mqtt"}}
	ctx, cancel := context.WithTimeout(context.Background(), c.door.opt.ConnectTimeout)
	defer cancel()
	switch err := c.door.opt.Enrolment.Claimed(ctx, e.who); {
	case fault.Is(err, fault.Denied):
		return c.refuseHello(hello, &packet.Error{Reason: packet.BadUserNameOrPassword, Detail: err.Error()})
	case err != nil:
		return c.refuseHello(hello, &packet.Error{Reason: packet.ServerBusy, Detail: err.Error()})
	}
	c.enrolling = e
	connack := &packet.Connack{}
	if hello.Version == packet.V5 {
		connack.Props.SetMaximumQoS(1)
		connack.Props.SetRetainAvailable(0)
		connack.Props.SetSharedAvailable(0)
		connack.Props.SetSessionExpiry(0)
		if len(hello.ClientID) == 0 {
			connack.Props.SetAssignedClientID([]byte(randomID()))
		}
	}
	return c.sayEnrolling(connack)
}

// sayEnrolling sends a packet to a device that enrols.
func (c *conn) sayEnrolling(p packet.Packet) error {
	hello := c.enrolling.hello
	if err := tooLarge(p, hello.Version, takenBy(hello)); err != nil {
		return errRefused
	}
	c.wire.put(func(b []byte) []byte { return p.AppendTo(b, hello.Version) })
	return nil
}

// endEnrolling ends the connection of a device that does something else.
func (c *conn) endEnrolling(reason packet.ReasonCode) error {
	if c.enrolling.hello.Version == packet.V5 {
		_ = c.sayEnrolling(&packet.Disconnect{Reason: reason}) // it ends
	}
	return errRefused
}

// enrol takes a packet of a device that enrols.
func (c *conn) enrol(t *turn, frame []byte) error {
	e := c.enrolling
	if e.said++; e.said > maxEnrolPackets {
		return c.endEnrolling(packet.QuotaExceeded)
	}
	t.dec.Version = e.hello.Version
	p, err := t.dec.Decode(frame)
	t.dec.Version = 0
	if err != nil {
		return c.endEnrolling(packet.ReasonOf(err))
	}
	switch p := p.(type) {
	case *packet.Publish:
		return c.enrolBy(p)
	case *packet.Subscribe:
		ack := &packet.Suback{PacketID: p.PacketID}
		for i := range p.Subscriptions {
			ack.Reasons = append(ack.Reasons, enrolFilter(&p.Subscriptions[i]))
		}
		return c.sayEnrolling(ack)
	case *packet.Unsubscribe:
		return c.sayEnrolling(&packet.Unsuback{PacketID: p.PacketID, Reasons: make([]packet.ReasonCode, len(p.Filters))})
	case *packet.Pingreq:
		c.wire.put(packet.AppendPingresp)
		return nil
	case *packet.Disconnect:
		return errDisconnect
	}
	return c.endEnrolling(packet.ProtocolError)
}

// enrolFilter is the answer to a subscription: to what is sent anyway, or to nothing.
func enrolFilter(s *packet.Subscription) packet.ReasonCode {
	switch string(s.Filter) {
	case enrolTopics + "#", enrolTopics + "+", enrolAccepted, enrolRejected:
		return packet.GrantedQoS0
	}
	return packet.NotAuthorized
}

// enrolBy takes a certificate request and answers it.
func (c *conn) enrolBy(p *packet.Publish) error {
	switch {
	case p.QoS > 1:
		return c.endEnrolling(packet.QoSNotSupported)
	case string(p.Topic) != enrolRequest:
		return c.endEnrolling(packet.NotAuthorized)
	case p.QoS == 1:
		if err := c.sayEnrolling(&packet.Puback{PacketID: p.PacketID}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.door.opt.ConnectTimeout)
	defer cancel()
	answer := &packet.Publish{Topic: []byte(enrolAccepted)}
	chain, err := c.door.opt.Enrolment.Enrol(ctx, c.enrolling.who, p.Payload)
	for _, der := range chain {
		answer.Payload = append(answer.Payload, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err != nil {
		answer.Topic, answer.Payload = []byte(enrolRejected), []byte(err.Error())
	}
	if p.Props.Has(packet.PropCorrelationData) {
		answer.Props.SetCorrelationData(p.Props.CorrelationData)
	}
	return c.sayEnrolling(answer)
}
