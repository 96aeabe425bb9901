// Package packet is the codec of MQTT 3.1, 3.1.1 and 5.0: a type for every control packet, decoding
// that is strict and copies nothing, and encoding that appends to the caller's buffer.
//
// It knows one packet at a time. What depends on more than that (packet ids in flight, topic aliases,
// who may send what when) is the business of mqtt/session and of the door.
//
//	n, err := packet.Frame(buf, max)      // 0: read more
//	p, err := dec.Decode(buf[:n])         // valid until the next Decode, points into buf
//	switch p := p.(type) {
//	case *packet.Publish: ...
//
// Section numbers and tags such as [MQTT-3.3.1-4] are those of MQTT 5.0 where it has them, and of
// 3.1.1 where a comment says so. The package is pure.
package packet

import "fmt"

// Version is the protocol level of a CONNECT. The zero Version means not known yet.
type Version uint8

// The versions.
const (
	V31  Version = 3 // MQTT 3.1, protocol name "MQIsdp"
	V311 Version = 4 // MQTT 3.1.1
	V5   Version = 5 // MQTT 5.0
)

// String is the version as people write it.
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return fmt.Sprintf("level %d", uint8(v))
}

// Type is the type of a control packet (section 2.1.2).
type Type uint8

// The control packets.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15
)

const typeNames = "reserved   CONNECT    CONNACK    PUBLISH    PUBACK     PUBREC     PUBREL     PUBCOMP    " +
	"SUBSCRIBE  SUBACK     UNSUBSCRIBEUNSUBACK   PINGREQ    PINGRESP   DISCONNECT AUTH       "

// String is the name of the packet in the specification.
func (t Type) String() string {
	const width = len("UNSUBSCRIBE")
	if t > AUTH {
		return fmt.Sprintf("type %d", uint8(t))
	}
	name := typeNames[int(t)*width : int(t+1)*width]
	for name[len(name)-1] == ' ' {
		name = name[:len(name)-1]
	}
	return name
}

// Packet is one control packet: a pointer to one of the structs of this package.
type Packet interface {
	// Type is the type of the packet.
	Type() Type
	// Size is the number of bytes that AppendTo appends, fixed header included. A receiver's Maximum
	// Packet Size is compared with it [MQTT-3.1.2-24].
	Size(v Version) int
	// AppendTo appends the packet in the form of version v and returns the longer slice. Strings and
	// binary data longer than 65,535 bytes are cut there: whoever fills the packet keeps the bounds.
	AppendTo(dst []byte, v Version) []byte
}

// MaxSize is the largest packet that MQTT can express, fixed header included, in bytes.
const MaxSize = maxRemaining + 5

// maxRemaining is the largest Remaining Length (section 2.1.4).
const maxRemaining = 1<<28 - 1

// maxString is the largest length of a string or of binary data (section 1.5.4).
const maxString = 1<<16 - 1

// Frame looks at the start of buf and returns the length in bytes of the first packet, fixed header
// included, once all of it is there; 0 when more bytes are needed. It judges the fixed header as soon
// as it can: Malformed for a type or flags that do not exist and for a length of five bytes or with
// needless zeros, PacketTooLarge when the packet is larger than max bytes. It never looks at the body.
func Frame(buf []byte, maxBytes int) (n int, err error) { return whole(buf, maxBytes, V311) }

// Frame is like the function of this name, by the rules of the decoder's version: MQTT 3.1 gives most flags of
// the fixed header no meaning (3.1, section 2.1). Before CONNECT the version is not known; Decode judges then.
func (d *Decoder) Frame(buf []byte, maxBytes int) (n int, err error) {
	return whole(buf, maxBytes, d.Version)
}

func whole(buf []byte, maxBytes int, v Version) (n int, err error) {
	n, err = length(buf, maxBytes, v)
	if n > len(buf) {
		return 0, nil
	}
	return n, err
}

// Length is like Frame, but gives the length as soon as the fixed header tells it, so that a reader
// can make room for the rest. 0: the fixed header is not complete.
func Length(buf []byte, maxBytes int) (n int, err error) { return length(buf, maxBytes, V311) }

func length(buf []byte, maxBytes int, v Version) (n int, err error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if first := buf[0]; first>>4 != byte(PUBLISH) || goodPublishFlags>>(first&0x0f)&1 == 0 {
		if err := checkFirst(first, v); err != nil {
			return 0, err
		}
	}
	remaining, width, state := varint(buf[1:])
	switch state {
	case varintShort:
		return 0, nil
	case varintBad:
		return 0, malformed("remaining length is not a minimal number of at most four bytes")
	}
	n = 1 + width + remaining
	if n > maxBytes {
		detail := fmt.Sprintf("a packet of %d bytes, at most %d are allowed", n, maxBytes)
		return 0, &Error{Reason: PacketTooLarge, Detail: detail}
	}
	return n, nil
}

// checkFirst judges the first byte by the rules of a version: the type and its flags. The version of a CONNECT
// stands behind it: with none, its flags are not judged yet.
func checkFirst(first byte, v Version) error {
	t, flags := Type(first>>4), first&0x0f
	switch {
	case t == 0:
		return malformed("packet type 0") // section 2.1.2
	case v == 0 && t == CONNECT:
		return nil
	case t == PUBLISH:
		return checkPublishFlags(flags, v)
	case v == V31:
		return nil
	case t == PUBREL, t == SUBSCRIBE, t == UNSUBSCRIBE:
		if flags != 2 { // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
			return malformed("flags %d in the fixed header of %s, not 2", flags, t)
		}
	case flags != 0: // [MQTT-2.1.3-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
		return malformed("flags %d in the fixed header of %s, not 0", flags, t)
	}
	return nil
}

func checkPublishFlags(flags byte, v Version) error {
	switch qos := flags >> 1 & 3; {
	case qos == 3:
		return malformed("PUBLISH with QoS 3") // [MQTT-3.3.1-4]; 3.1, section 2.1: reserved
	case v != V31 && qos == 0 && flags&flagDup != 0:
		return malformed("PUBLISH with DUP and QoS 0") // [MQTT-3.3.1-2]
	}
	return nil
}

const (
	varintOK = iota
	varintShort
	varintBad
)

// varint reads a variable byte integer (section 1.5.5): its value and how many bytes it took.
func varint(b []byte) (value, width, state int) {
	for i := range 4 {
		if i == len(b) {
			return 0, 0, varintShort
		}
		value |= int(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			if i > 0 && b[i] == 0 {
				return 0, 0, varintBad // [MQTT-1.5.5-1] the minimum number of bytes
			}
			return value, i + 1, varintOK
		}
	}
	return 0, 0, varintBad
}

func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func varintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// sizeOf is the size of a packet with a body of n bytes.
func sizeOf(n int) int { return 1 + varintSize(n) + n }

func appendHeader(dst []byte, first byte, remaining int) []byte {
	return appendVarint(append(dst, first), remaining)
}

func appendString(dst, s []byte) []byte {
	s = s[:min(len(s), maxString)]
	dst = append(dst, byte(len(s)>>8), byte(len(s)))
	return append(dst, s...)
}

func stringSize(s []byte) int { return 2 + min(len(s), maxString) }

func appendUint16(dst []byte, n uint16) []byte { return append(dst, byte(n>>8), byte(n)) }
