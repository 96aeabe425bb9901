package fanout

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Message is a message on its way to sessions. The zero value needs a Set; it is used again and again.
type Message struct {
	pub packet.Publish
	key uint64 // see Delivery

	// Where it is, for those who ask: its log topic, the number of the partition there, and its stamp.
	topic string
	index int32
	stamp int64
	where packet.UserProperties // memory
	text  []byte                // memory
}

// setKey notes the key of the record, or the topic name where it has none.
func (m *Message) setKey(key []byte) {
	if len(key) == 0 {
		key = m.pub.Topic
	}
	h := fnv.New64a()
	h.Write(key) // never fails
	m.key = h.Sum64()
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
	Key     uint64        // stands for the key of its record, with Options.Keys; 0 otherwise
}

// Reform makes into the same message in a form of its own: d has the version 5, no identifiers, RETAIN as it was
// published and a QoS that is no lower. The frame is appended to memory, which is returned.
func (d *Delivery) Reform(into *Delivery, f Form, memory []byte) []byte {
	const lengthBytes, retain, qosShift = 2, 1, 1
	rest := d.Frame[d.topicEnd():]
	if d.QoS > 0 {
		rest = rest[packetIDBytes:]
	}
	size, width := binary.Uvarint(rest)
	props, payload := rest[width:width+int(size)], rest[width+int(size):]
	propsSize, ids := len(props), f.IDs
	if f.Version != packet.V5 {
		ids = nil
	}
	for _, id := range ids {
		propsSize += 1 + varintSize(id)
	}
	length := lengthBytes + len(d.Topic) + len(payload)
	if f.QoS > 0 {
		length += packetIDBytes
	}
	if f.Version == packet.V5 {
		length += varintSize(uint32(propsSize)) + propsSize
	}
	first := byte(packet.PUBLISH)<<4 | f.QoS<<qosShift
	if f.Retain {
		first |= retain
	}
	from := len(memory)
	memory = binary.AppendUvarint(append(memory, first), uint64(length))
	memory = binary.BigEndian.AppendUint16(memory, uint16(len(d.Topic)))
	memory = append(memory, d.Topic...)
	*into = *d
	into.QoS, into.ID = f.QoS, 0
	at := len(memory) - from
	if f.QoS > 0 {
		into.ID = at
		memory = append(memory, 0, 0)
	}
	if f.Version == packet.V5 {
		memory = append(binary.AppendUvarint(memory, uint64(propsSize)), props...)
		for _, id := range ids {
			memory = binary.AppendUvarint(append(memory, byte(packet.PropSubscriptionID)), uint64(id))
		}
	}
	memory = append(memory, payload...)
	into.Frame = memory[from:]
	into.Topic = into.Frame[at-len(d.Topic) : at]
	return memory
}

// Retain tells whether RETAIN is set in the frame.
func (d *Delivery) Retain() bool { return d.Frame[0]&1 != 0 }

// topicEnd is where in the frame the topic name ends.
func (d *Delivery) topicEnd() int {
	at := 1 // behind the fixed header are two bytes of its length, and then the name
	for d.Frame[at]&0x80 != 0 {
		at++
	}
	return at + 1 + 2 + len(d.Topic)
}

const packetIDBytes = 2

func varintSize(n uint32) (size int) {
	for size = 1; n >= 0x80; size++ {
		n >>= 7
	}
	return size
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
	d.QoS, d.Key = f.QoS, m.key
	d.SetFrame(memory[from:], &m.pub)
	return memory
}

// SetFrame has d be the PUBLISH in a frame, which is p but for its flags.
func (d *Delivery) SetFrame(frame []byte, p *packet.Publish) {
	d.Frame, d.Payload, d.ID = frame, len(p.Payload), 0
	at := 1 // behind the fixed header is the topic name, and then the packet id
	for frame[at]&0x80 != 0 {
		at++
	}
	at += 3
	end := at + len(p.Topic)
	if d.Topic = frame[at:end]; d.QoS > 0 {
		d.ID = end
	}
}

// SetBytes has d be the PUBLISH in a frame that another node has put together, with so many bytes of payload. Errors:
// Corrupt, for what is none.
func (d *Delivery) SetBytes(frame []byte, payload int) error {
	const lengthBytes = 2
	n, err := packet.Length(frame, packet.MaxSize)
	if err != nil || n != len(frame) || n == 0 || packet.Type(frame[0]>>4) != packet.PUBLISH {
		return noPublish(frame)
	}
	at := 1 // behind the fixed header is the topic name, and then the packet id
	for frame[at]&0x80 != 0 {
		at++
	}
	at += 1 + lengthBytes
	if at > n {
		return noPublish(frame)
	}
	end := at + int(binary.BigEndian.Uint16(frame[at-lengthBytes:]))
	qos, id, rest := frame[0]>>1&3, 0, end
	if qos > 0 {
		id, rest = end, end+packetIDBytes
	}
	if payload < 0 || rest+payload > n || qos > session.MaxQoS {
		return noPublish(frame)
	}
	d.Frame, d.Topic, d.Payload, d.QoS, d.ID = frame, frame[at:end], payload, qos, id
	return nil
}

func noPublish(frame []byte) error {
	return fault.New(fault.Corrupt, "fanout.SetBytes", "%d bytes that are no PUBLISH", len(frame))
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

// WhereProperties is how many they are: the first of a message that has them, with its time last.
const WhereProperties = 4

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
