package fanout

import (
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Message is a message on its way to sessions. It is encoded once for each form that sessions need and
// appended to many outboxes. The zero value needs a Set; it is used again and again.
type Message struct {
	pub    packet.Publish
	frames [2][2][2]frame // MQTT 5, QoS, RETAIN
	bytes  []byte         // memory for frames
	single []byte         // memory for a frame with identifiers
}

// frame is where an encoded PUBLISH lies in bytes.
type frame struct{ from, to int }

// Set makes m the message of a record as it is at a time: its expiry is what is left of it
// [MQTT-3.3.2-6]. It is false for a message that has expired. m points into from.
func (m *Message) Set(from *hinge.Message, now time.Time) bool {
	left, ok := from.Remaining(now.UnixMilli())
	if !ok {
		return false
	}
	m.bytes = m.bytes[:0]
	m.frames = [2][2][2]frame{}
	if cap(m.bytes) > keptFrame || cap(m.single) > keptFrame {
		m.bytes, m.single = nil, nil
	}
	p := &m.pub
	p.Topic, p.Payload, p.QoS, p.Retain = from.Topic, from.Payload, from.QoS, from.Retain
	props := &p.Props
	if !props.Empty() {
		*props = packet.Properties{SubscriptionIDs: props.SubscriptionIDs[:0]}
	}
	if from.HasExpiry {
		props.SetMessageExpiry(left)
	}
	if from.HasPayloadFormat {
		props.SetPayloadFormat(from.PayloadFormat)
	}
	if from.ContentType != nil {
		props.SetContentType(from.ContentType)
	}
	if from.ResponseTopic != nil {
		props.SetResponseTopic(from.ResponseTopic)
	}
	if from.Correlation != nil {
		props.SetCorrelationData(from.Correlation)
	}
	if len(from.UserProperties) > 0 {
		props.SetUser(from.UserProperties) // [MQTT-3.3.2-17] [MQTT-3.3.2-18]
	}
	return true
}

// keptFrame is the largest memory that a Message keeps between messages.
const keptFrame = 256 << 10

// Topic is the topic name.
func (m *Message) Topic() []byte { return m.pub.Topic }

// QoS is the QoS with which it was published, at most 1 for now.
func (m *Message) QoS() byte { return min(m.pub.QoS, 1) }

// Retain tells whether it was published with RETAIN.
func (m *Message) Retain() bool { return m.pub.Retain }

// Frame is the whole PUBLISH for a session and where its packet id lies in it, which is 0 so far; at is
// 0 for QoS 0. The bytes are valid until the next call and must not be changed.
func (m *Message) Frame(v packet.Version, d *Delivery) (encoded []byte, at int) {
	if v == packet.V5 && len(d.IDs) > 0 {
		return m.identified(d)
	}
	f := &m.frames[bit(v == packet.V5)][d.QoS&1][bit(d.Retain)]
	if f.to == 0 {
		f.from = len(m.bytes)
		m.bytes = m.encode(m.bytes, v, d)
		f.to = len(m.bytes)
	}
	encoded = m.bytes[f.from:f.to]
	return encoded, m.idAt(encoded, d)
}

func (m *Message) identified(d *Delivery) (encoded []byte, at int) {
	for _, id := range d.IDs {
		m.pub.Props.AddSubscriptionID(id) // [MQTT-3.3.4-3]
	}
	m.single = m.encode(m.single[:0], packet.V5, d)
	ids := m.pub.Props.SubscriptionIDs[:0]
	m.pub.Props.Remove(packet.PropSubscriptionID)
	m.pub.Props.SubscriptionIDs = ids
	return m.single, m.idAt(m.single, d)
}

func (m *Message) encode(dst []byte, v packet.Version, d *Delivery) []byte {
	qos, retain := m.pub.QoS, m.pub.Retain
	m.pub.QoS, m.pub.Retain = d.QoS, d.Retain
	dst = m.pub.AppendTo(dst, v)
	m.pub.QoS, m.pub.Retain = qos, retain
	return dst
}

// idAt finds the packet id: behind the fixed header and the topic name.
func (m *Message) idAt(encoded []byte, d *Delivery) int {
	if d.QoS == 0 {
		return 0
	}
	at := 1
	for encoded[at]&0x80 != 0 {
		at++
	}
	return at + 1 + 2 + len(m.pub.Topic)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
