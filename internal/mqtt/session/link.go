package session

import (
	"bytes"
	"fmt"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Link is what a session and one connection have agreed on, and what ends with the connection. Open makes it. It is
// not safe for concurrent use: what CONNECT and CONNACK said never changes, the aliases belong to who reads from the
// client, Acks to who writes to it.
type Link struct {
	// Acks are the acknowledgements that we owe the client.
	Acks Acks

	limits    *Limits
	aliases   [][]byte // topic by alias-1, made when the first is set [MQTT-3.3.2-7]
	held      int32    // bytes of aliases
	maxPacket uint32   // largest packet that the client takes
	keepAlive uint16
	window    uint16 // messages above QoS 0 that may be in flight to the client
	aliasMax  uint16 // topic aliases that the client takes
	reasons   bool   // the client wants reason strings
	silence   bool   // it takes none [MQTT-3.1.2-29]
	version   packet.Version
}

// bridgeWindow is how many messages above QoS 0 are in flight to a bridge of MQTT 3 at most: max_inflight_messages of
// Mosquitto, as it is unless set. It ends a connection that has more with QoS 2, and MQTT 3 has no word to tell before.
const bridgeWindow = 20

func newLink(c *packet.Connect, limits *Limits) *Link {
	l := &Link{version: c.Version, keepAlive: c.KeepAlive, maxPacket: packet.MaxSize, window: limits.MaxInflight,
		aliasMax: c.Props.TopicAliasMaximum, reasons: c.WantsReasons(), limits: limits}
	l.silence = c.Version != packet.V5 || c.Props.Has(packet.PropRequestProblemInfo) && c.Props.RequestProblemInfo == 0
	if c.Props.Has(packet.PropReceiveMaximum) {
		l.window = min(l.window, c.Props.ReceiveMaximum) // [MQTT-3.3.4-9] [MQTT-4.9.0-1]
	}
	if c.Bridge {
		l.window = min(l.window, bridgeWindow)
	}
	if c.Props.Has(packet.PropMaximumPacketSize) {
		l.maxPacket = min(c.Props.MaximumPacketSize, packet.MaxSize)
	}
	// [MQTT-3.2.2-22]
	if most := limits.MaxKeepAlive; c.Version == packet.V5 && most > 0 && (l.keepAlive == 0 || l.keepAlive > most) {
		l.keepAlive = most
	}
	// MQTT 3 knows no receive maximum: its clients may use all packet ids.
	l.Acks = Acks{version: c.Version, most: 0xffff}
	if c.Version == packet.V5 {
		l.Acks.most = limits.ReceiveMaximum
	}
	return l
}

// Version is the protocol version of the client.
func (l *Link) Version() packet.Version { return l.version }

// KeepAlive is the keep alive in force, in seconds; 0: none.
func (l *Link) KeepAlive() uint16 { return l.keepAlive }

// MaxPacket is the largest packet in bytes that the client takes [MQTT-3.1.2-24].
func (l *Link) MaxPacket() int { return int(l.maxPacket) }

// TakesAliases is the highest topic alias that the client takes [MQTT-3.1.2-26]; 0: none.
func (l *Link) TakesAliases() uint16 { return l.aliasMax }

// WantsReasons tells whether the client wants reason strings [MQTT-3.1.2-29].
func (l *Link) WantsReasons() bool { return l.reasons }

// TakesReasons tells whether the client may be sent a reason string where it needs one.
func (l *Link) TakesReasons() bool { return !l.silence }

// Held is how many bytes the topic aliases make us hold.
func (l *Link) Held() int { return int(l.held) }

// Publish judges a PUBLISH from the client and resolves its topic alias. The topic points into p or into the link, and
// holds until the next call. An error ends the connection: *packet.Error.
func (l *Link) Publish(p *packet.Publish) (topic []byte, err error) {
	if len(p.Props.SubscriptionIDs) > 0 { // [MQTT-3.3.4-6]
		return nil, &packet.Error{Reason: packet.ProtocolError, Detail: "subscription identifier in a PUBLISH from a client"}
	}
	if !p.Props.Has(packet.PropTopicAlias) {
		return p.Topic, nil
	}
	return l.alias(p)
}

// Redefines tells whether a PUBLISH gives a topic alias that is set another topic.
func (l *Link) Redefines(p *packet.Publish) bool {
	n := int(p.Props.TopicAlias)
	return p.Props.Has(packet.PropTopicAlias) && len(p.Topic) > 0 && n > 0 && n <= len(l.aliases) &&
		len(l.aliases[n-1]) > 0 && string(l.aliases[n-1]) != string(p.Topic)
}

// maxAliasBytes is how many bytes the topics of one connection's aliases may have.
const maxAliasBytes = 256 << 10

func (l *Link) alias(p *packet.Publish) ([]byte, error) {
	n := p.Props.TopicAlias
	if n == 0 || n > l.limits.TopicAliasMaximum { // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
		return nil, &packet.Error{Reason: packet.TopicAliasInvalid,
			Detail: fmt.Sprintf("topic alias %d, the maximum is %d", n, l.limits.TopicAliasMaximum)}
	}
	if len(p.Topic) > 0 {
		if l.aliases == nil {
			l.aliases = make([][]byte, l.limits.TopicAliasMaximum) // [MQTT-3.3.2-12]
		}
		if l.held += int32(len(p.Topic) - len(l.aliases[n-1])); l.held > maxAliasBytes {
			return nil, &packet.Error{Reason: packet.QuotaExceeded,
				Detail: fmt.Sprintf("topic aliases of more than %d bytes", maxAliasBytes)}
		}
		l.aliases[n-1] = bytes.Clone(p.Topic)
		return p.Topic, nil
	}
	if l.aliases == nil || len(l.aliases[n-1]) == 0 {
		// Section 3.3.4: a protocol error, not an alias that is invalid.
		return nil, &packet.Error{Reason: packet.ProtocolError, Detail: fmt.Sprintf("topic alias %d is not set", n)}
	}
	return l.aliases[n-1], nil
}
