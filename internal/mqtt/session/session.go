// Package session holds the state of one MQTT session as a pure machine: packet ids and windows in both
// directions, topic aliases, subscriptions and the will.
//
// Events come in as method calls, effects go out as results or as bytes appended to the caller's buffer.
// There is no goroutine, lock, clock or socket here: whoever holds the session's lock (the connection's)
// calls it, and time never matters. A session belongs to one connection at a time; nothing in it knows
// which, so that it can outlive the connection.
//
//	s, connack := session.Open(connect, limits, "auto-1")
//	topic, err := s.Publish(p)               // alias resolved, rules applied
//	err = s.Receive(p.PacketID)              // a QoS 1 PUBLISH waits for the log
//	out = s.Settle(1, packet.Success, out)   // the log has it: PUBACK
package session

import (
	"fmt"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Limits are what the server allows every session.
type Limits struct {
	ReceiveMaximum    uint16 // QoS 1 messages that a client may have unacknowledged; not 0
	MaxInflight       uint16 // QoS 1 messages that we send without an acknowledgement; not 0
	TopicAliasMaximum uint16 // topic aliases that a client may set; 0: none
	MaxPacketBytes    int    // largest packet that we take
	MaxKeepAlive      uint16 // seconds; a client that asks for more, or for none, gets this. 0: no bound
	MaxSubscriptions  int    // filters of one session
}

// Session is the state of one session. Open makes it. It is not safe for concurrent use.
type Session struct {
	// Out is the table of what was sent to the client and not acknowledged.
	Out Outbound

	version   packet.Version
	clientID  string
	keepAlive uint16
	maxPacket int // largest packet that the client takes
	expiry    uint32
	limits    *Limits
	will      *packet.Publish

	in      inbound
	aliases [][]byte // topic by alias-1, made when the first is set
	subs    map[string]*Subscription
}

// Open starts the session that c asks for and says what to answer. assignedID is the client identifier
// for a client that has none. The will keeps c's slices: c must not be reused.
//
// Sessions end with their connection for now: the session expiry interval in force is 0, which the
// CONNACK says to a client that asked for another (section 3.2.2.3.2).
func Open(c *packet.Connect, limits *Limits, assignedID string) (*Session, *packet.Connack) {
	s := &Session{
		version: c.Version, clientID: string(c.ClientID), keepAlive: c.KeepAlive,
		maxPacket: packet.MaxSize, expiry: c.Props.SessionExpiry, limits: limits,
	}
	ack := &packet.Connack{}
	if s.clientID == "" {
		s.clientID = assignedID
		ack.Props.SetAssignedClientID([]byte(assignedID)) // [MQTT-3.2.2-16]
	}
	s.Out.window = limits.MaxInflight
	if c.Props.Has(packet.PropReceiveMaximum) {
		s.Out.window = min(s.Out.window, c.Props.ReceiveMaximum) // [MQTT-3.3.4-9]
	}
	if c.Props.Has(packet.PropMaximumPacketSize) {
		s.maxPacket = int(min(c.Props.MaximumPacketSize, packet.MaxSize))
	}
	if most := limits.MaxKeepAlive; s.version == packet.V5 && most > 0 && (s.keepAlive == 0 || s.keepAlive > most) {
		s.keepAlive = most
		ack.Props.SetServerKeepAlive(most) // [MQTT-3.2.2-21]
	}
	if w := c.Will; w != nil {
		s.will = &packet.Publish{Topic: w.Topic, Payload: w.Payload, Props: w.Props, QoS: w.QoS, Retain: w.Retain}
		s.will.Props.Remove(packet.PropWillDelay)
	}
	if c.Version == packet.V5 {
		s.announce(c, &ack.Props)
	} else {
		ack.Props = packet.Properties{}
	}
	return s, ack
}

// announce states in the CONNACK where we do less than the defaults of the specification.
func (s *Session) announce(c *packet.Connect, props *packet.Properties) {
	if c.Props.SessionExpiry > 0 {
		props.SetSessionExpiry(0)
	}
	if s.limits.ReceiveMaximum < 0xffff {
		props.SetReceiveMaximum(s.limits.ReceiveMaximum)
	}
	props.SetMaximumQoS(1)
	if s.limits.MaxPacketBytes < packet.MaxSize {
		props.SetMaximumPacketSize(uint32(s.limits.MaxPacketBytes))
	}
	if s.limits.TopicAliasMaximum > 0 {
		props.SetTopicAliasMaximum(s.limits.TopicAliasMaximum)
	}
	props.SetSharedAvailable(0)
}

// Version is the protocol version of the client.
func (s *Session) Version() packet.Version { return s.version }

// ClientID is the client identifier, given or assigned.
func (s *Session) ClientID() string { return s.clientID }

// KeepAlive is the keep alive in force, in seconds; 0: none.
func (s *Session) KeepAlive() uint16 { return s.keepAlive }

// MaxPacket is the largest packet in bytes that the client takes [MQTT-3.1.2-24].
func (s *Session) MaxPacket() int { return s.maxPacket }

// Publish judges a PUBLISH from the client and resolves its topic alias. The topic points into p or
// into the session, and holds until the next call. An error ends the connection: *packet.Error.
func (s *Session) Publish(p *packet.Publish) (topic []byte, err error) {
	if p.QoS > 1 { // we announced Maximum QoS 1 [MQTT-3.2.2-11]
		return nil, &packet.Error{Reason: packet.QoSNotSupported, Detail: "PUBLISH with QoS 2"}
	}
	if len(p.Props.SubscriptionIDs) > 0 { // [MQTT-3.3.4-6]
		return nil, &packet.Error{Reason: packet.ProtocolError, Detail: "subscription identifier in a PUBLISH from a client"}
	}
	if !p.Props.Has(packet.PropTopicAlias) {
		return p.Topic, nil
	}
	return s.alias(p)
}

func (s *Session) alias(p *packet.Publish) ([]byte, error) {
	n := p.Props.TopicAlias
	if n == 0 || n > s.limits.TopicAliasMaximum { // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
		return nil, &packet.Error{Reason: packet.TopicAliasInvalid,
			Detail: fmt.Sprintf("topic alias %d, the maximum is %d", n, s.limits.TopicAliasMaximum)}
	}
	if len(p.Topic) > 0 {
		if s.aliases == nil {
			s.aliases = make([][]byte, s.limits.TopicAliasMaximum)
		}
		s.aliases[n-1] = append(s.aliases[n-1][:0], p.Topic...)
		return p.Topic, nil
	}
	if s.aliases == nil || len(s.aliases[n-1]) == 0 {
		// Section 3.3.4: a protocol error, not an alias that is invalid.
		return nil, &packet.Error{Reason: packet.ProtocolError, Detail: fmt.Sprintf("topic alias %d is not set", n)}
	}
	return s.aliases[n-1], nil
}

// Receive notes that a QoS 1 PUBLISH of the client waits for the log. More of them than the receive
// maximum end the connection with reason 0x93 [MQTT-3.3.4-9]; MQTT 3 knows no such number, its
// clients may use all packet ids.
func (s *Session) Receive(id uint16) error {
	most := int(s.limits.ReceiveMaximum)
	if s.version != packet.V5 {
		most = 0xffff
	}
	if s.in.len() >= most {
		return &packet.Error{Reason: packet.ReceiveMaximumExceeded,
			Detail: fmt.Sprintf("more than %d unacknowledged PUBLISH packets", most)}
	}
	s.in.push(id)
	return nil
}

// Waiting is the number of QoS 1 PUBLISH packets of the client without a PUBACK.
func (s *Session) Waiting() int { return s.in.len() }

// Waits tells whether a QoS 1 PUBLISH of the client with a packet id has no PUBACK yet.
func (s *Session) Waits(id uint16) bool { return s.in.has(id) }

// Settle decides the n oldest undecided PUBLISH packets of the client and appends every PUBACK that is
// now due to dst: acknowledgements leave in the order of the packets [MQTT-4.6.0-2].
func (s *Session) Settle(n int, reason packet.ReasonCode, dst []byte) []byte {
	s.in.settle(n, reason)
	return s.in.appendDue(dst, s.version)
}

// Refuse decides the n newest PUBLISH packets, which were just received and never got to the log, and
// appends what is due to dst. The result of older ones still comes by Settle.
func (s *Session) Refuse(n int, reason packet.ReasonCode, dst []byte) []byte {
	s.in.refuse(n, reason)
	return s.in.appendDue(dst, s.version)
}

// Withdraw takes the n newest undecided PUBLISH packets out again, as if they had not been received.
func (s *Session) Withdraw(n int) { s.in.withdraw(n) }

// TakeWill is the will to publish when the connection ends, or nil. The second time it is nil.
func (s *Session) TakeWill() *packet.Publish {
	w := s.will
	s.will = nil
	return w
}

// Will is the will, or nil.
func (s *Session) Will() *packet.Publish { return s.will }

// Disconnect takes a DISCONNECT of the client: unless it says so, the will is deleted
// [MQTT-3.14.4-3]. It may not raise the session expiry interval from 0 [MQTT-3.1.2-23].
func (s *Session) Disconnect(p *packet.Disconnect) error {
	if p.Props.SessionExpiry > 0 && s.expiry == 0 {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "session expiry interval raised from 0"}
	}
	if p.Reason == packet.Success {
		s.will = nil
	}
	return nil
}
