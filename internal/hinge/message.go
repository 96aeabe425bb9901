package hinge

import (
	"encoding/hex"
	"hash/crc32"
	"slices"
	"unicode/utf8"
)

// The headers of a record that carry what MQTT says of a message. Any other header is a user
// property.
const (
	HeaderContentType   = "content-type"        // the content type, text
	HeaderResponseTopic = "response-topic"      // the response topic, a topic name
	HeaderCorrelation   = "correlation-data"    // the correlation data, any bytes
	HeaderTopic         = "mqtt.topic"          // the MQTT topic, where log topic and key do not tell it
	HeaderFlags         = "mqtt.flags"          // one digit: the QoS, and 4 more for a retained message
	HeaderExpiry        = "mqtt.expiry"         // seconds from the record's timestamp, decimal
	HeaderPayloadFormat = "mqtt.payload-format" // 0: bytes, 1: UTF-8
	HeaderPublisher     = "mqtt.publisher"      // who published it, where that matters: see Message.SetPublisher
	HeaderShredded      = "firth-shredded"      // stands where a record was that MQTT does not see any more
	HeaderUserPrefix    = "mqtt.user."          // goes in front of a user property whose name is taken
	reservedPrefix      = "mqtt."               // all names that begin so are taken
)

// Message is an MQTT application message without its packet. It belongs to one goroutine; use it
// again and again, because it holds memory for what has to be put together.
//
// What Table.Message gives is valid until its next use and points into the record.
type Message struct {
	Topic   []byte // topic name
	Payload []byte
	QoS     byte // 0 to 2
	Retain  bool // the publisher set RETAIN

	HasExpiry        bool
	HasPayloadFormat bool
	PayloadFormat    byte   // 0 or 1
	Expiry           uint32 // message expiry interval in seconds, as the publisher gave it
	Timestamp        int64  // of the record, milliseconds since 1970; Expiry counts from it

	ContentType   []byte // nil: none
	ResponseTopic []byte // nil: none
	Correlation   []byte // nil: none
	// UserProperties is the user properties in the form they have in a packet of MQTT 5: for each the
	// byte 0x26, name and value, both with a length of two bytes. packet.UserProperties is the same.
	UserProperties []byte

	// Publisher is the value of mqtt.publisher, nil: none. SetPublisher sets it, PublishedBy reads it.
	Publisher []byte

	told   bool              // see ToldByKey
	gone   bool              // it was shredded
	topic  []byte            // memory for Topic
	user   []byte            // memory for UserProperties
	by     []byte            // memory for Publisher
	log    []byte            // the log topic as bytes
	digits [10]byte          // memory for the value of mqtt.expiry
	names  map[string]string // names of user properties as strings
}

// Remaining is the message expiry interval to send at a time (milliseconds since 1970): what the
// publisher gave less the time that the message has waited [MQTT-3.3.2-6]. ok is false once it has
// expired; a message without an expiry never does.
func (m *Message) Remaining(nowMillis int64) (seconds uint32, ok bool) {
	if !m.HasExpiry {
		return 0, true
	}
	left := int64(m.Expiry)
	if waited := (nowMillis - m.Timestamp) / 1000; waited > 0 {
		left -= waited
	}
	return uint32(max(left, 0)), left > 0
}

// maxPublisherKept is how many bytes are kept for the next Publisher: client identifiers are seldom long.
const maxPublisherKept = 1024

// publisherSum is the length of the checksum in mqtt.publisher, with the space behind it.
const publisherSum = 2*crc32.Size + 1

// SetPublisher has the record say which client publishes the message, whose topic name is set; empty: nobody that is
// known. Beside the client identifier stands a checksum of the topic name: who copies a record with its headers to
// another one, as Kafka Streams does, makes a message of his own of it.
func (m *Message) SetPublisher(client string) {
	if m.Publisher = nil; client == "" {
		return
	}
	m.by = append(m.appendSum(m.by[:0]), client...)
	m.Publisher = m.by
	if cap(m.by) > maxPublisherKept {
		m.by = nil
	}
}

// PublishedBy tells whether the record says that a client published the message. What does not say so may be its own
// all the same.
func (m *Message) PublishedBy(client string) bool {
	if len(m.Publisher) <= publisherSum || string(m.Publisher[publisherSum:]) != client {
		return false
	}
	var sum [publisherSum]byte
	return string(m.appendSum(sum[:0])) == string(m.Publisher[:publisherSum])
}

// PublisherSum is a checksum of Publisher, for who does not keep it; 0: the record does not say who published it.
func (m *Message) PublisherSum() uint32 {
	if len(m.Publisher) == 0 {
		return 0
	}
	return crc32.ChecksumIEEE(m.Publisher)
}

func (m *Message) appendSum(b []byte) []byte {
	sum := crc32.ChecksumIEEE(m.Topic)
	b = hex.AppendEncode(b, []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	return append(b, ' ')
}

// flagDigits are the values of mqtt.flags.
const flagDigits = "0123456"

const flagRetain = 4

// flags is the value of mqtt.flags.
func (m *Message) flags() byte {
	f := min(m.QoS, 2)
	if m.Retain {
		f |= flagRetain
	}
	return f
}

const userProperty = 0x26 // section 2.2.2.2

// cutUser takes the first user property off the front. ok is false at the end.
func cutUser(u []byte) (name, value, rest []byte, ok bool) {
	if len(u) == 0 || u[0] != userProperty {
		return nil, nil, nil, false
	}
	if name, rest, ok = cutString(u[1:]); !ok {
		return nil, nil, nil, false
	}
	value, rest, ok = cutString(rest)
	return name, value, rest, ok
}

func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(b[0])<<8 | int(b[1])
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n : 2+n], b[2+n:], true
}

func appendUser(dst, name, value []byte) []byte {
	dst = append(dst, userProperty, byte(len(name)>>8), byte(len(name)))
	dst = append(dst, name...)
	dst = append(dst, byte(len(value)>>8), byte(len(value)))
	return append(dst, value...)
}

// reserved tells whether a header of this name is not a user property.
func reserved(name []byte) bool {
	switch string(name) {
	case HeaderContentType, HeaderResponseTopic, HeaderCorrelation, HeaderShredded:
		return true
	}
	return len(name) >= len(reservedPrefix) && string(name[:len(reservedPrefix)]) == reservedPrefix
}

const maxString = 65535

// validString tells whether MQTT can carry b as a string (section 1.5.4).
func validString(b []byte) bool {
	if len(b) > maxString || !utf8.Valid(b) {
		return false
	}
	return !slices.Contains(b, 0)
}
