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
//	opening := session.Open(connect, limits, "auto-1")
//	state := session.New(opening)                        // or state.Connect(opening), for one that was there
//	topic, err := opening.Link.Publish(p)                // alias resolved, rules applied
//	err = link.Acks.Expect(packet.PUBACK, p.PacketID)    // a QoS 1 PUBLISH waits for the log
//	out = link.Acks.Settle(1, packet.Success, out)       // the log has it: PUBACK
package session

import (
	"bytes"
	"math"
	"strings"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// MaxQoS is the highest quality of service that is granted and announced [MQTT-3.2.2-9].
const MaxQoS = 2

// QoSLevels is how many levels MQTT knows: the size of a table by QoS.
const QoSLevels = 3

// Never is the session expiry interval of a session that does not expire (MQTT 5.0, section 3.1.2.11.2).
const Never = 0xffff_ffff

// Limits are what the server allows every session.
type Limits struct {
	ReceiveMaximum    uint16 // messages above QoS 0 that a client may have unacknowledged; not 0
	MaxInflight       uint16 // messages above QoS 0 that we send without an acknowledgement; not 0
	TopicAliasMaximum uint16 // topic aliases that a client may set; 0: none
	MaxPacketBytes    int    // largest packet that we take
	MaxKeepAlive      uint16 // seconds; a client that asks for more, or for none, gets this. 0: no bound
	MaxSubscriptions  int    // filters of one session
	ResponsePrefix    string // response information begins with it; empty: there is none
	MaxExpiry         uint32 // seconds that a session lasts at most without a connection; Never: no bound
}

// Opening is what a CONNECT asks for. It keeps nothing of the memory of the packet.
type Opening struct {
	ClientID string // given, or assigned
	User     string // name of who connects, kept with the will; empty: none given. It is the caller's
	From     string // how who connects is here, kept with the will; empty: not known. It is the caller's
	Owner    string // who connects, if that was proven: nobody else has the session from then on. It is the caller's
	Clean    bool   // a session that is there ends first [MQTT-3.1.2-4]
	Expiry   uint32 // seconds, in force: the session lasts so long without a connection
	Link     *Link
	Connack  *packet.Connack // but for Session Present

	version   packet.Version
	limits    *Limits
	will      *packet.Publish
	willDelay uint32
}

// Open judges what c asks for. assignedID is the client identifier for a client that has none.
func Open(c *packet.Connect, limits *Limits, assignedID string) *Opening {
	ack := &packet.Connack{}
	o := &Opening{ClientID: string(c.ClientID), Clean: c.CleanStart, Expiry: expiry(c, limits), Link: newLink(c, limits),
		Connack: ack, version: c.Version, limits: limits}
	if o.ClientID == "" {
		o.ClientID = assignedID
		ack.Props.SetAssignedClientID([]byte(assignedID)) // [MQTT-3.2.2-16]
	}
	if w := c.Will; w != nil {
		// [MQTT-3.1.2-14] [MQTT-3.1.2-15]
		o.will = &packet.Publish{Topic: bytes.Clone(w.Topic), Payload: bytes.Clone(w.Payload),
			Props: ownProperties(w.Props), QoS: w.QoS, Retain: w.Retain}
		o.willDelay = w.Props.WillDelay
		o.will.Props.Remove(packet.PropWillDelay)
	}
	if o.Link.keepAlive != c.KeepAlive {
		ack.Props.SetServerKeepAlive(o.Link.keepAlive) // [MQTT-3.2.2-21]
	}
	if c.Version == packet.V5 {
		announce(limits, &ack.Props)
		if o.Expiry != c.Props.SessionExpiry {
			ack.Props.SetSessionExpiry(o.Expiry) // section 3.2.2.3.2
		}
		if c.Props.RequestResponseInfo == 1 && limits.ResponsePrefix != "" { // [MQTT-3.1.2-28]
			ack.Props.SetResponseInfo([]byte(limits.ResponsePrefix + topicLevel(o.ClientID)))
		}
	} else {
		ack.Props = packet.Properties{}
	}
	return o
}

// Fit leaves out of the CONNACK what the client can do without, if it is larger than the client takes.
func (o *Opening) Fit() {
	if len(o.Connack.Props.ResponseInfo) > math.MaxUint16 || o.Connack.Size(o.version) > o.Link.MaxPacket() {
		o.Connack.Props.Remove(packet.PropResponseInfo)
	}
}

// topicLevel is a client identifier as a level of a topic name, with %XX for what has a meaning there.
func topicLevel(id string) string {
	return strings.NewReplacer("%", "%25", "/", "%2F", "+", "%2B", "#", "%23", "$", "%24").Replace(id)
}

// expiry is the session expiry interval in force. A session of MQTT 3 that is not clean does not expire.
func expiry(c *packet.Connect, limits *Limits) uint32 {
	asked := c.Props.SessionExpiry
	if c.Version != packet.V5 {
		asked = Never
		if c.CleanStart {
			asked = 0
		}
	}
	return min(asked, limits.MaxExpiry)
}

// announce states in the CONNACK where we do less than the defaults of the specification, and that there are shared
// subscriptions, which clients like to be told. Retained messages are available to wills, too [MQTT-3.2.2-13].
func announce(limits *Limits, props *packet.Properties) {
	if limits.ReceiveMaximum < 0xffff {
		props.SetReceiveMaximum(limits.ReceiveMaximum)
	}
	if limits.MaxPacketBytes < packet.MaxSize {
		props.SetMaximumPacketSize(uint32(limits.MaxPacketBytes))
	}
	if limits.TopicAliasMaximum > 0 {
		props.SetTopicAliasMaximum(limits.TopicAliasMaximum)
	}
	props.SetSharedAvailable(1)
}
