package delay

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Prefix begins the topic name of a PUBLISH that is to be delayed: $delayed/SECONDS/TOPIC.
const Prefix = "$delayed/"

// MaxSeconds is the longest delay.
const MaxSeconds = 4_294_967

// Delayed tells whether a topic name asks for a delay.
func Delayed(name []byte) bool { return bytes.HasPrefix(name, []byte(Prefix)) }

// Parse takes a name apart for which Delayed is true. The topic is not judged. Not ok: it has no delay of 0 to
// MaxSeconds.
func Parse(name []byte) (seconds uint32, topic []byte, ok bool) {
	text, topic, _ := bytes.Cut(name[len(Prefix):], []byte("/"))
	n, err := strconv.ParseUint(string(text), 10, 32) // takes no sign
	if err != nil || n > MaxSeconds {
		return 0, nil, false
	}
	return uint32(n), topic, true
}

// Key is the key of a message's record: when it is due, and a number that no other has.
type Key [16]byte

func newKey(due int64, number uint64) (k Key) {
	binary.BigEndian.PutUint64(k[:8], uint64(due))
	binary.BigEndian.PutUint64(k[8:], number)
	return k
}

// Due is when the message is due, in milliseconds since 1970.
func (k *Key) Due() int64 { return int64(binary.BigEndian.Uint64(k[:8])) }

// Message is a message that waits: as it is to be published, and who published it.
type Message struct {
	Client  string         // identifier
	User    string         // name; empty: none given
	From    string         // how it was here, as the guard has it; empty: not known
	Publish packet.Publish // without packet id and topic alias
}

// A value begins with its version: the first did not say how who published it was here.
const (
	firstVersion = 1
	valueVersion = 2
)

// packetID stands where a PUBLISH above QoS 0 needs an id.
const packetID = 1

// appendTo appends the value of the message's record: who published it and a PUBLISH of MQTT 5.
func (m *Message) appendTo(b []byte) []byte {
	b = append(b, valueVersion)
	for _, text := range [...]string{m.Client, m.User, m.From} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	p := m.Publish
	p.Dup, p.PacketID = false, 0
	if p.QoS > 0 {
		p.PacketID = packetID
	}
	p.Props.Remove(packet.PropTopicAlias)
	return p.AppendTo(b, packet.V5)
}

// Read reads the message of a record by its value, which it keeps. Errors: Corrupt.
func Read(value []byte) (Message, error) { return parse(value) }

// parse reads a value, which it keeps. Errors: Corrupt.
func parse(b []byte) (m Message, err error) {
	bad := func() (Message, error) {
		return Message{}, fault.New(fault.Corrupt, "delay", "%d bytes are no message", len(b))
	}
	if len(b) == 0 || b[0] < firstVersion || b[0] > valueVersion {
		return bad()
	}
	rest, texts := b[1:], []*string{&m.Client, &m.User, &m.From}
	for _, text := range texts[:1+b[0]] {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > uint64(len(rest)-used) {
			return bad()
		}
		rest = rest[used:]
		*text, rest = string(rest[:n]), rest[n:]
	}
	dec := packet.Decoder{Version: packet.V5}
	if size, err := packet.Frame(rest, packet.MaxSize); err != nil || size != len(rest) {
		return bad()
	}
	got, err := dec.Decode(rest)
	if err != nil {
		return Message{}, fault.Wrap(fault.Corrupt, "delay", err)
	}
	p, ok := got.(*packet.Publish)
	if !ok || p.Props.Has(packet.PropTopicAlias) {
		return bad()
	}
	m.Publish = *p
	m.Publish.PacketID, m.Publish.Dup = 0, false
	return m, nil
}
