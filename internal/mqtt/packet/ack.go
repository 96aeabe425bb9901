package packet

// Puback is a PUBACK packet (section 3.4).
type Puback struct {
	Props    Properties
	PacketID uint16
	Reason   ReasonCode // always Success in MQTT 3
}

// Pubrec is a PUBREC packet (section 3.5).
type Pubrec Puback

// Pubrel is a PUBREL packet (section 3.6).
type Pubrel Puback

// Pubcomp is a PUBCOMP packet (section 3.7).
type Pubcomp Puback

// Type is PUBACK.
func (*Puback) Type() Type { return PUBACK }

// Type is PUBREC.
func (*Pubrec) Type() Type { return PUBREC }

// Type is PUBREL.
func (*Pubrel) Type() Type { return PUBREL }

// Type is PUBCOMP.
func (*Pubcomp) Type() Type { return PUBCOMP }

func (d *Decoder) decodeAck(t Type, body []byte) (Packet, error) {
	p := d.ack
	if p == nil {
		p = new(Puback)
		d.ack = p
	}
	p.Props.reset()
	p.Reason = Success
	s := scan{b: body}
	p.PacketID = s.packetID()
	if d.Version == V5 && len(s.b) > 0 {
		in := uint16(inPuback)
		if t == PUBREL || t == PUBCOMP {
			in = inPubrel
		}
		p.Reason = s.reason(in, t) // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
		if len(s.b) > 0 {          // section 3.4.2.2.1: no property length when nothing follows
			d.properties(&s, &p.Props, t)
		}
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	switch t {
	case PUBREC:
		return (*Pubrec)(p), nil
	case PUBREL:
		return (*Pubrel)(p), nil
	case PUBCOMP:
		return (*Pubcomp)(p), nil
	default:
		return p, nil
	}
}

// reason reads a reason code that a packet of type t may carry.
func (s *scan) reason(in uint16, t Type) ReasonCode {
	r := ReasonCode(s.uint8())
	if !r.allowed(in) && s.err == nil {
		s.fail(protocolError("reason code 0x%02x in %s", uint8(r), t))
	}
	return r
}

// reasonSize is the length of a reason code and the properties behind it in a version 5 packet that
// may leave them out.
func reasonSize(r ReasonCode, p *Properties, v Version) int {
	switch {
	case v != V5 || r == Success && p.Empty():
		return 0
	case p.Empty():
		return 1
	}
	return 1 + p.sectionSize(v)
}

func appendReason(dst []byte, r ReasonCode, p *Properties, v Version) []byte {
	n := reasonSize(r, p, v)
	if n > 0 {
		dst = append(dst, byte(r))
	}
	if n > 1 {
		dst = p.appendSection(dst, v)
	}
	return dst
}

func (p *Puback) size(v Version) int { return sizeOf(2 + reasonSize(p.Reason, &p.Props, v)) }

func (p *Puback) appendAs(dst []byte, first byte, v Version) []byte {
	dst = appendHeader(dst, first, 2+reasonSize(p.Reason, &p.Props, v))
	return appendReason(appendUint16(dst, p.PacketID), p.Reason, &p.Props, v)
}

// Size is the number of bytes that AppendTo appends.
func (p *Puback) Size(v Version) int { return p.size(v) }

// Size is the number of bytes that AppendTo appends.
func (p *Pubrec) Size(v Version) int { return (*Puback)(p).size(v) }

// Size is the number of bytes that AppendTo appends.
func (p *Pubrel) Size(v Version) int { return (*Puback)(p).size(v) }

// Size is the number of bytes that AppendTo appends.
func (p *Pubcomp) Size(v Version) int { return (*Puback)(p).size(v) }

const (
	firstPuback  = byte(PUBACK) << 4
	firstPubrec  = byte(PUBREC) << 4
	firstPubrel  = byte(PUBREL)<<4 | 2
	firstPubcomp = byte(PUBCOMP) << 4
)

// AppendTo appends the packet.
func (p *Puback) AppendTo(dst []byte, v Version) []byte { return p.appendAs(dst, firstPuback, v) }

// AppendTo appends the packet.
func (p *Pubrec) AppendTo(dst []byte, v Version) []byte {
	return (*Puback)(p).appendAs(dst, firstPubrec, v)
}

// AppendTo appends the packet.
func (p *Pubrel) AppendTo(dst []byte, v Version) []byte {
	return (*Puback)(p).appendAs(dst, firstPubrel, v)
}

// AppendTo appends the packet.
func (p *Pubcomp) AppendTo(dst []byte, v Version) []byte {
	return (*Puback)(p).appendAs(dst, firstPubcomp, v)
}

// appendAck appends an acknowledgement without properties, as the server sends them, so that none is too large
// [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2]
// [MQTT-3.7.2-3]: four bytes on success and in MQTT 3, where a failure cannot be told.
func appendAck(dst []byte, first byte, v Version, id uint16, reason ReasonCode) []byte {
	if v != V5 || reason == Success {
		return append(dst, first, 2, byte(id>>8), byte(id))
	}
	return append(dst, first, 3, byte(id>>8), byte(id), byte(reason))
}

// AppendPuback appends a PUBACK without properties.
func AppendPuback(dst []byte, v Version, id uint16, reason ReasonCode) []byte {
	return appendAck(dst, firstPuback, v, id, reason)
}

// AppendPubrec appends a PUBREC without properties.
func AppendPubrec(dst []byte, v Version, id uint16, reason ReasonCode) []byte {
	return appendAck(dst, firstPubrec, v, id, reason)
}

// AppendPubrel appends a PUBREL without properties.
func AppendPubrel(dst []byte, v Version, id uint16, reason ReasonCode) []byte {
	return appendAck(dst, firstPubrel, v, id, reason)
}

// AppendPubcomp appends a PUBCOMP without properties.
func AppendPubcomp(dst []byte, v Version, id uint16, reason ReasonCode) []byte {
	return appendAck(dst, firstPubcomp, v, id, reason)
}
