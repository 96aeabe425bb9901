package packet

// Subscription is one topic filter of a SUBSCRIBE with its options (section 3.8.3.1).
type Subscription struct {
	Filter []byte
	// Reason is Success when it was decoded; whoever refuses the filter says why here.
	Reason            ReasonCode
	QoS               byte // the most that the client wants, 0 to 2
	NoLocal           bool // MQTT 5 only, as what follows
	RetainAsPublished bool
	RetainHandling    byte // 0: send retained, 1: only for a new subscription, 2: never
}

// Subscribe is a SUBSCRIBE packet (section 3.8).
type Subscribe struct {
	Props         Properties
	Subscriptions []Subscription // at least one
	PacketID      uint16
}

// Unsubscribe is an UNSUBSCRIBE packet (section 3.10).
type Unsubscribe struct {
	Props    Properties
	Filters  [][]byte // at least one
	PacketID uint16
}

// Suback is a SUBACK packet (section 3.9).
type Suback struct {
	Props    Properties
	Reasons  []ReasonCode // one for each filter, in order; MQTT 3 turns every failure into 0x80
	PacketID uint16
}

// Unsuback is an UNSUBACK packet (section 3.11).
type Unsuback struct {
	Props    Properties
	Reasons  []ReasonCode // one for each filter, in order; MQTT 3 sends none
	PacketID uint16
}

// Type is SUBSCRIBE.
func (*Subscribe) Type() Type { return SUBSCRIBE }

// Type is UNSUBSCRIBE.
func (*Unsubscribe) Type() Type { return UNSUBSCRIBE }

// Type is SUBACK.
func (*Suback) Type() Type { return SUBACK }

// Type is UNSUBACK.
func (*Unsuback) Type() Type { return UNSUBACK }

// keep is the largest number of list elements whose memory a decoder keeps for the next packet.
const keep = 64

func (d *Decoder) decodeSubscribe(body []byte) (Packet, error) {
	p := d.subscribe
	if p == nil {
		p = new(Subscribe)
		d.subscribe = p
	}
	p.Props.reset()
	s := scan{b: body}
	p.PacketID = s.packetID()
	if d.Version == V5 {
		d.properties(&s, &p.Props, SUBSCRIBE)
	}
	if s.err == nil && len(s.b) == 0 {
		return nil, protocolError("SUBSCRIBE without a topic filter") // [MQTT-3.8.3-2]
	}
	if n := countFilters(s.b, 1); n > cap(p.Subscriptions) || cap(p.Subscriptions) > keep {
		p.Subscriptions = make([]Subscription, 0, n)
	}
	p.Subscriptions = p.Subscriptions[:0]
	for len(s.b) > 0 {
		one := d.subscription(&s)
		if s.err != nil {
			break
		}
		p.Subscriptions = append(p.Subscriptions, one)
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return p, nil
}

// countFilters counts the filters that b can hold, each followed by extra bytes: what is allocated
// for a list is bounded by what is there.
func countFilters(b []byte, extra int) (n int) {
	s := scan{b: b}
	for len(s.b) > 0 {
		s.binary()
		s.take(extra)
		n++
	}
	return n
}

func (d *Decoder) subscription(s *scan) Subscription {
	one := Subscription{Filter: s.filter()} // [MQTT-3.8.3-1]
	options := s.uint8()
	if s.err != nil {
		return one
	}
	one.QoS = options & 3
	reserved := byte(0xc0) // [MQTT-3.8.3-5]
	switch d.Version {
	case V311:
		reserved = 0xfc // [MQTT-3.8.3-4 of 3.1.1]
	case V31:
		reserved, options = 0, one.QoS // 3.1, section 3.8: not used
	}
	switch {
	case options&reserved != 0:
		s.fail(malformed("reserved bits in subscription options 0x%02x", options))
	case one.QoS == 3 && d.Version == V5: // section 3.8.3.1
		s.fail(protocolError("subscription with QoS 3"))
	case one.QoS == 3: // [MQTT-3.8.3-4 of 3.1.1]
		s.fail(malformed("subscription with QoS 3"))
	case options>>4&3 == 3: // section 3.8.3.1
		s.fail(protocolError("subscription with retain handling 3"))
	case options&4 != 0 && isShared(one.Filter): // [MQTT-3.8.3-4]
		s.fail(protocolError("no local on a shared subscription"))
	}
	one.NoLocal = options&4 != 0
	one.RetainAsPublished = options&8 != 0
	one.RetainHandling = options >> 4 & 3
	return one
}

func (d *Decoder) decodeUnsubscribe(body []byte) (Packet, error) {
	p := new(Unsubscribe)
	s := scan{b: body}
	p.PacketID = s.packetID()
	if d.Version == V5 {
		d.properties(&s, &p.Props, UNSUBSCRIBE)
	}
	if s.err == nil && len(s.b) == 0 {
		return nil, protocolError("UNSUBSCRIBE without a topic filter") // [MQTT-3.10.3-2]
	}
	p.Filters = make([][]byte, 0, countFilters(s.b, 0))
	for len(s.b) > 0 {
		p.Filters = append(p.Filters, s.filter()) // [MQTT-3.10.3-1]
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return p, nil
}

func (d *Decoder) decodeSuback(body []byte) (Packet, error) {
	p := d.suback
	if p == nil {
		p = new(Suback)
		d.suback = p
	}
	p.Props.reset()
	s := scan{b: body}
	p.PacketID = s.packetID()
	if d.Version == V5 {
		d.properties(&s, &p.Props, SUBACK)
	}
	p.Reasons = s.reasons(p.Reasons, d.Version, SUBACK)
	if err := s.end(); err != nil {
		return nil, err
	}
	return p, nil
}

func (d *Decoder) decodeUnsuback(body []byte) (Packet, error) {
	p := new(Unsuback)
	s := scan{b: body}
	p.PacketID = s.packetID()
	if d.Version == V5 {
		d.properties(&s, &p.Props, UNSUBACK)
		p.Reasons = s.reasons(nil, d.Version, UNSUBACK)
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return p, nil
}

// reasons reads the reason codes to the end of the packet: at least one.
func (s *scan) reasons(into []ReasonCode, v Version, t Type) []ReasonCode {
	in := uint16(inSuback)
	if t == UNSUBACK {
		in = inUnsuback
	}
	if cap(into) > 16*keep {
		into = nil
	}
	into = into[:0]
	if len(s.b) == 0 && s.err == nil {
		s.fail(protocolError("%s without a reason code", t))
	}
	for len(s.b) > 0 {
		r := s.reason(in, t)
		if v != V5 && r > GrantedQoS2 && r != UnspecifiedError && s.err == nil { // [MQTT-3.9.3-2 of 3.1.1]
			s.fail(malformed("return code 0x%02x in %s", uint8(r), t))
		}
		into = append(into, r)
	}
	return into
}

func (s *Subscription) options(v Version) byte {
	o := s.QoS
	if v != V5 {
		return o
	}
	if s.NoLocal {
		o |= 4
	}
	if s.RetainAsPublished {
		o |= 8
	}
	return o | s.RetainHandling<<4
}

func (p *Subscribe) bodySize(v Version) int {
	n := 2 + p.Props.sectionSize(v)
	for i := range p.Subscriptions {
		n += stringSize(p.Subscriptions[i].Filter) + 1
	}
	return n
}

// Size is the number of bytes that AppendTo appends.
func (p *Subscribe) Size(v Version) int { return sizeOf(p.bodySize(v)) }

// AppendTo appends the packet.
func (p *Subscribe) AppendTo(dst []byte, v Version) []byte {
	dst = appendHeader(dst, byte(SUBSCRIBE)<<4|2, p.bodySize(v))
	dst = p.Props.appendSection(appendUint16(dst, p.PacketID), v)
	for i := range p.Subscriptions {
		one := &p.Subscriptions[i]
		dst = append(appendString(dst, one.Filter), one.options(v))
	}
	return dst
}

func (p *Unsubscribe) bodySize(v Version) int {
	n := 2 + p.Props.sectionSize(v)
	for _, filter := range p.Filters {
		n += stringSize(filter)
	}
	return n
}

// Size is the number of bytes that AppendTo appends.
func (p *Unsubscribe) Size(v Version) int { return sizeOf(p.bodySize(v)) }

// AppendTo appends the packet.
func (p *Unsubscribe) AppendTo(dst []byte, v Version) []byte {
	dst = appendHeader(dst, byte(UNSUBSCRIBE)<<4|2, p.bodySize(v))
	dst = p.Props.appendSection(appendUint16(dst, p.PacketID), v)
	for _, filter := range p.Filters {
		dst = appendString(dst, filter)
	}
	return dst
}

func (p *Suback) bodySize(v Version) int { return 2 + p.Props.sectionSize(v) + len(p.Reasons) }

// Size is the number of bytes that AppendTo appends.
func (p *Suback) Size(v Version) int { return sizeOf(p.bodySize(v)) }

// AppendTo appends the packet.
func (p *Suback) AppendTo(dst []byte, v Version) []byte {
	dst = appendHeader(dst, byte(SUBACK)<<4, p.bodySize(v))
	dst = p.Props.appendSection(appendUint16(dst, p.PacketID), v)
	for _, r := range p.Reasons {
		if v != V5 && r.Failed() {
			r = UnspecifiedError // 0x80, the only failure of 3.1.1 [MQTT-3.9.3-2 of 3.1.1]
		}
		dst = append(dst, byte(r))
	}
	return dst
}

func (p *Unsuback) bodySize(v Version) int {
	if v != V5 {
		return 2
	}
	return 2 + p.Props.sectionSize(v) + len(p.Reasons)
}

// Size is the number of bytes that AppendTo appends.
func (p *Unsuback) Size(v Version) int { return sizeOf(p.bodySize(v)) }

// AppendTo appends the packet.
func (p *Unsuback) AppendTo(dst []byte, v Version) []byte {
	dst = appendHeader(dst, byte(UNSUBACK)<<4, p.bodySize(v))
	dst = appendUint16(dst, p.PacketID)
	if v != V5 {
		return dst
	}
	dst = p.Props.appendSection(dst, v)
	for _, r := range p.Reasons {
		dst = append(dst, byte(r))
	}
	return dst
}
