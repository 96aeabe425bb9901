// Package session holds one MQTT session as pure machines: State is what may outlive a connection (subscriptions, what
// was sent and not acknowledged, the will, the expiry), Link is what belongs to the connection alone (what was agreed
// on in CONNECT and CONNACK, topic aliases), and Acks, a part of it, is the acknowledgements that we owe.
//
// Outbound and Received are the packet ids of both ways, Marks the places in the log that many sessions share. What of
// them is stored are records of __firth_sessions, which have their codec here.
//
// Events come in as method calls, effects go out as results or as bytes appended to the caller's buffer. There is no
// goroutine, lock, clock or socket here: each machine says nothing of who guards it, and time never matters.
//
//	state, link, connack := session.Open(connect, limits, "auto-1")
//	topic, err := link.Publish(p)                        // alias resolved, rules applied
//	err = link.Acks.Expect(packet.PUBACK, p.PacketID)    // a QoS 1 PUBLISH waits for the log
//	out = link.Acks.Settle(1, packet.Success, out)       // the log has it: PUBACK
package session

import "github.com/firthmq/firth/internal/mqtt/packet"

// MaxQoS is the highest quality of service that is granted and announced [MQTT-3.2.2-9].
const MaxQoS = 1

// QoSLevels is how many levels MQTT knows: the size of a table by QoS.
const QoSLevels = 3

// Limits are what the server allows every session.
type Limits struct {
	ReceiveMaximum    uint16 // messages above QoS 0 that a client may have unacknowledged; not 0
	MaxInflight       uint16 // messages above QoS 0 that we send without an acknowledgement; not 0
	TopicAliasMaximum uint16 // topic aliases that a client may set; 0: none
	MaxPacketBytes    int    // largest packet that we take
	MaxKeepAlive      uint16 // seconds; a client that asks for more, or for none, gets this. 0: no bound
	MaxSubscriptions  int    // filters of one session
}

// Open starts the session that c asks for and says what to answer. assignedID is the client identifier for a client
// that has none. The will keeps c's slices: c must not be reused.
//
// Sessions end with their connection for now: the session expiry interval in force is 0, which the CONNACK says to a
// client that asked for another (section 3.2.2.3.2).
func Open(c *packet.Connect, limits *Limits, assignedID string) (*State, *Link, *packet.Connack) {
	ack := &packet.Connack{}
	s := &State{clientID: string(c.ClientID), expiry: c.Props.SessionExpiry, limits: limits}
	if s.clientID == "" {
		s.clientID = assignedID
		ack.Props.SetAssignedClientID([]byte(assignedID)) // [MQTT-3.2.2-16]
	}
	if w := c.Will; w != nil {
		s.will = &packet.Publish{Topic: w.Topic, Payload: w.Payload, Props: w.Props, QoS: w.QoS, Retain: w.Retain}
		s.will.Props.Remove(packet.PropWillDelay)
	}
	l := newLink(c, limits)
	s.Out.window = l.window
	if l.keepAlive != c.KeepAlive {
		ack.Props.SetServerKeepAlive(l.keepAlive) // [MQTT-3.2.2-21]
	}
	if c.Version == packet.V5 {
		announce(c, limits, &ack.Props)
	} else {
		ack.Props = packet.Properties{}
	}
	return s, l, ack
}

// announce states in the CONNACK where we do less than the defaults of the specification.
func announce(c *packet.Connect, limits *Limits, props *packet.Properties) {
	if c.Props.SessionExpiry > 0 {
		props.SetSessionExpiry(0)
	}
	if limits.ReceiveMaximum < 0xffff {
		props.SetReceiveMaximum(limits.ReceiveMaximum)
	}
	if MaxQoS < 2 {
		props.SetMaximumQoS(MaxQoS)
	}
	if limits.MaxPacketBytes < packet.MaxSize {
		props.SetMaximumPacketSize(uint32(limits.MaxPacketBytes))
	}
	if limits.TopicAliasMaximum > 0 {
		props.SetTopicAliasMaximum(limits.TopicAliasMaximum)
	}
	props.SetSharedAvailable(0)
}
