package fanout

import (
	"strconv"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Message is a message on its way to sessions. The zero value needs a Set; it is used again and again.
type Message struct {
	pub packet.Publish

	// Where it is, for those who ask: its log topic, the number of the partition there, and its stamp.
	topic string
	index int32
	stamp int64
	where packet.UserProperties // memory
	text  []byte                // memory
}

// In says in which partition of which log topic the messages are that are set from here on.
func (m *Message) In(topic string, index int32) { m.topic, m.index = topic, index }

// Set makes m the message of a record as it is at a time: its expiry is what is left of it
// [MQTT-3.3.2-6]. It is false for a message that has expired [MQTT-3.3.2-5]. DUP is 0, whatever it was when it was
// published [MQTT-3.3.1-3] [MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2]. m points into from.
func (m *Message) Set(from *hinge.Message, now time.Time) bool {
	left, ok := from.Remaining(now.UnixMilli())
	if ok {
		m.set(from, left)
	}
	return ok
}

// SetSent is Set for a message that was sent before: that does not expire [MQTT-4.3.3-7], at the end nothing is left.
func (m *Message) SetSent(from *hinge.Message, now time.Time) {
	left, _ := from.Remaining(now.UnixMilli())
	m.set(from, left)
}

func (m *Message) set(from *hinge.Message, left uint32) {
	m.stamp = from.Timestamp
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
		props.SetPayloadFormat(from.PayloadFormat) // [MQTT-3.3.2-4]
	}
	if from.ContentType != nil {
		props.SetContentType(from.ContentType) // [MQTT-3.3.2-20]
	}
	if from.ResponseTopic != nil {
		props.SetResponseTopic(from.ResponseTopic) // [MQTT-3.3.2-15]
	}
	if from.Correlation != nil {
		props.SetCorrelationData(from.Correlation) // [MQTT-3.3.2-16]
	}
	if len(from.UserProperties) > 0 {
		props.SetUser(from.UserProperties) // [MQTT-3.3.2-17] [MQTT-3.3.2-18]
	}
}

// Topic is the topic name.
func (m *Message) Topic() []byte { return m.pub.Topic }

// QoS is the QoS with which it was published, at most session.MaxQoS.
func (m *Message) QoS() byte { return min(m.pub.QoS, session.MaxQoS) }

// Retain tells whether it was published with RETAIN.
func (m *Message) Retain() bool { return m.pub.Retain }

// Form is how a session gets a message.
type Form struct {
	Version packet.Version
	QoS     byte     // 0 to session.MaxQoS: the smaller of the message's and the highest one granted
	Retain  bool     // the RETAIN flag to send [MQTT-3.3.1-12] [MQTT-3.3.1-13]
	IDs     []uint32 // subscription identifiers of all that match, for MQTT 5 [MQTT-3.3.4-3]
	Where   bool     // the message says where it is in the log, to MQTT 5
}

// Delivery is a message as it goes to sessions.
type Delivery struct {
	Frame   []byte        // the whole PUBLISH, its packet id 0; not to be changed
	Topic   []byte        // the topic name in it
	ID      int           // where the packet id lies in it; 0 for QoS 0
	Payload int           // bytes of payload in it
	QoS     byte          // 0 to session.MaxQoS
	CatchUp bool          // it comes from a cursor, or is retained, and can wait: it need not be dropped
	Answer  bool          // it is a retained message that answers a SUBSCRIBE
	From    session.Place // where it can be read again
}

// Deliver makes d the delivery of the message in a form; where that asks for it, d.From is set before. Its frame is
// appended to memory, which is returned.
func (m *Message) Deliver(d *Delivery, f Form, memory []byte) []byte {
	from := len(memory)
	if f.Where && f.Version == packet.V5 {
		memory = m.located(memory, f, d.From.Offset)
	} else {
		memory = m.appendTo(memory, f)
	}
	d.Frame, d.Payload, d.QoS, d.ID = memory[from:], len(m.pub.Payload), f.QoS, 0
	at := 1 // behind the fixed header is the topic name, and then the packet id
	for d.Frame[at]&0x80 != 0 {
		at++
	}
	at += 3
	end := at + len(m.pub.Topic)
	d.Topic = d.Frame[at:end]
	if f.QoS > 0 {
		d.ID = end
	}
	return memory
}

func (m *Message) appendTo(memory []byte, f Form) []byte {
	qos, retain := m.pub.QoS, m.pub.Retain
	m.pub.QoS, m.pub.Retain = f.QoS, f.Retain
	if f.Version == packet.V5 && len(f.IDs) > 0 {
		memory = m.identified(memory, f.IDs)
	} else {
		memory = m.pub.AppendTo(memory, f.Version)
	}
	m.pub.QoS, m.pub.Retain = qos, retain
	return memory
}

func (m *Message) identified(memory []byte, ids []uint32) []byte {
	props := &m.pub.Props
	for _, id := range ids {
		props.AddSubscriptionID(id)
	}
	memory = m.pub.AppendTo(memory, packet.V5)
	kept := props.SubscriptionIDs[:0]
	props.Remove(packet.PropSubscriptionID)
	props.SubscriptionIDs = kept
	return memory
}

// The user properties that say where a message is in the log.
const (
	propertyTopic     = "firth-topic"
	propertyPartition = "firth-partition"
	propertyOffset    = "firth-offset"
	propertyTime      = "firth-time"
)

// located is appendTo with where the message is, before its own user properties.
func (m *Message) located(memory []byte, f Form, offset int64) []byte {
	props := &m.pub.Props
	own := props.User
	u := m.where[:0].Append([]byte(propertyTopic), []byte(m.topic))
	m.text = strconv.AppendInt(m.text[:0], int64(m.index), 10)
	u = u.Append([]byte(propertyPartition), m.text)
	m.text = strconv.AppendInt(m.text[:0], offset, 10)
	u = u.Append([]byte(propertyOffset), m.text)
	m.text = time.UnixMilli(m.stamp).UTC().AppendFormat(m.text[:0], "2006-01-02T15:04:05.000Z07:00")
	u = u.Append([]byte(propertyTime), m.text)
	m.where = append(u, own...)
	props.SetUser(m.where)
	memory = m.appendTo(memory, f)
	if props.Remove(packet.PropUser); len(own) > 0 {
		props.SetUser(own)
	}
	return memory
}
