package packet

import "unicode/utf8"

// Publish is a PUBLISH packet (section 3.3).
type Publish struct {
	Topic    []byte // the topic name; may be empty when a topic alias is given
	Payload  []byte
	Props    Properties
	PacketID uint16 // not 0 when QoS is above 0
	QoS      byte   // 0 to 2
	Retain   bool
	Dup      bool // never with QoS 0
}

const (
	flagRetain = 1
	flagDup    = 8

	// goodPublishFlags has a bit for each value of the flags that checkPublishFlags takes.
	goodPublishFlags = 0b0011_1100_0011_1111
)

// Type is PUBLISH.
func (*Publish) Type() Type { return PUBLISH }

// decodePublish decodes a whole PUBLISH, fixed header included. It is the hot path of a door and goes
// without a scan until there are properties.
func (d *Decoder) decodePublish(frame []byte) (Packet, error) {
	first, width := frame[0], 1
	if goodPublishFlags>>(first&0x0f)&1 == 0 {
		if err := checkFirst(first, d.Version); err != nil {
			return nil, err
		}
	}
	if remaining := int(frame[1]); remaining > 0x7f || remaining != len(frame)-2 {
		var state int
		remaining, width, state = varint(frame[1:])
		if state != varintOK || remaining != len(frame)-1-width {
			return nil, malformed("the remaining length is not that of the packet")
		}
	}
	p := d.publish
	if p == nil {
		p = new(Publish)
		d.publish = p
	}
	if d.Version == V5 || p.Props.present != 0 {
		p.Props.reset()
	}
	p.QoS, p.Retain, p.Dup, p.PacketID = first>>1&3, first&flagRetain != 0, first&flagDup != 0 && first&(3<<1) != 0, 0
	rest, err := p.head(frame[1+width:])
	if err != nil {
		return nil, err
	}
	if d.Version == V5 {
		if rest, err = d.publishProperties(rest, p); err != nil {
			return nil, err
		}
	}
	if len(p.Topic) == 0 && !p.Props.Has(PropTopicAlias) {
		return nil, protocolError("neither topic name nor topic alias") // [MQTT-4.7.3-1], section 3.3.2.1
	}
	p.Payload = rest
	return p, nil
}

// head reads the topic name and the packet identifier and returns what follows.
func (p *Publish) head(b []byte) (rest []byte, err error) {
	if len(b) < 2 {
		return nil, errShort()
	}
	end := 2 + (int(b[0])<<8 | int(b[1]))
	if len(b) < end {
		return nil, errShort()
	}
	p.Topic = b[2:end:end] // [MQTT-3.3.2-1]
	if err := checkTopicName(p.Topic); err != nil {
		return nil, err
	}
	if p.QoS == 0 { // [MQTT-2.2.1-2]
		return b[end:], nil
	}
	if len(b) < end+2 {
		return nil, errShort()
	}
	if p.PacketID = uint16(b[end])<<8 | uint16(b[end+1]); p.PacketID == 0 { // [MQTT-2.2.1-3]
		return nil, protocolError("packet identifier 0")
	}
	return b[end+2:], nil
}

func (d *Decoder) publishProperties(b []byte, p *Publish) (rest []byte, err error) {
	if len(b) > 0 && b[0] == 0 { // no properties
		return b[1:], nil
	}
	s := scan{b: b}
	d.properties(&s, &p.Props, PUBLISH)
	return s.b, s.err
}

// CheckPayload judges the payload of a message by its payload format indicator: 1 says that it is UTF-8
// (section 3.3.2.3.2). Errors: PayloadFormatInvalid.
func CheckPayload(props *Properties, payload []byte) error {
	if props.PayloadFormat == 1 && props.Has(PropPayloadFormat) && !utf8.Valid(payload) {
		return &Error{Reason: PayloadFormatInvalid, Detail: "the payload is said to be UTF-8, and is not"}
	}
	return nil
}

// Size is the number of bytes that AppendTo appends.
func (p *Publish) Size(v Version) int { return sizeOf(p.bodySize(v)) }

func (p *Publish) bodySize(v Version) int {
	n := stringSize(p.Topic) + p.Props.sectionSize(v) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	return n
}

// AppendTo appends the packet.
func (p *Publish) AppendTo(dst []byte, v Version) []byte {
	return append(p.AppendHead(dst, v), p.Payload...)
}

// AppendHead appends all of the packet but its payload, so that the payload can be written from
// where it lies.
func (p *Publish) AppendHead(dst []byte, v Version) []byte {
	first := byte(PUBLISH)<<4 | p.QoS<<1
	if p.Retain {
		first |= flagRetain
	}
	if p.Dup && p.QoS > 0 { // [MQTT-3.3.1-2]
		first |= flagDup
	}
	dst = appendHeader(dst, first, p.bodySize(v))
	dst = appendString(dst, p.Topic)
	if p.QoS > 0 { // [MQTT-2.2.1-2]
		dst = appendUint16(dst, p.PacketID)
	}
	return p.Props.appendSection(dst, v)
}
