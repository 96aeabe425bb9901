package packet

// Disconnect is a DISCONNECT packet (section 3.14). In MQTT 3 only a client sends it, and it says
// nothing more.
type Disconnect struct {
	Props  Properties
	Reason ReasonCode
}

// Auth is an AUTH packet (section 3.15), MQTT 5 only.
type Auth Disconnect

// Pingreq is a PINGREQ packet (section 3.12).
type Pingreq struct{}

// Pingresp is a PINGRESP packet (section 3.13).
type Pingresp struct{}

// Type is DISCONNECT.
func (*Disconnect) Type() Type { return DISCONNECT }

// Type is AUTH.
func (*Auth) Type() Type { return AUTH }

// Type is PINGREQ.
func (*Pingreq) Type() Type { return PINGREQ }

// Type is PINGRESP.
func (*Pingresp) Type() Type { return PINGRESP }

func decodePing(t Type, body []byte) (Packet, error) {
	if len(body) > 0 {
		return nil, malformed("%s with a body", t)
	}
	if t == PINGREQ {
		return &Pingreq{}, nil
	}
	return &Pingresp{}, nil
}

// reasoned decodes the common form of DISCONNECT and AUTH: a reason code and properties, of which
// the end may be left out.
func (d *Decoder) reasoned(body []byte, t Type, in uint16) (*Disconnect, error) {
	p := d.disconnect
	if p == nil {
		p = new(Disconnect)
		d.disconnect = p
	}
	p.Props.reset()
	p.Reason = Success
	s := scan{b: body}
	if d.Version == V5 {
		if len(body) > 0 {
			p.Reason = s.reason(in, t) // [MQTT-3.14.2-1] [MQTT-3.15.2-1]
		} else if !Success.allowed(in) {
			s.fail(protocolError("reason code 0x00 in %s", t))
		}
		if len(s.b) > 0 {
			d.properties(&s, &p.Props, t)
		}
	}
	return p, s.end()
}

func (d *Decoder) decodeDisconnect(body []byte) (Packet, error) {
	in := uint16(inDisconnectClient)
	if d.Client {
		in = inDisconnectServer
	}
	p, err := d.reasoned(body, DISCONNECT, in)
	switch {
	case err != nil:
		return nil, err
	case d.Client && p.Props.Has(PropSessionExpiry): // [MQTT-3.14.2-2]
		return nil, protocolError("session expiry interval in a DISCONNECT from a server")
	case !d.Client && p.Props.Has(PropServerReference): // section 3.14.2.2.5: a server sends it
		return nil, protocolError("server reference in a DISCONNECT from a client")
	}
	return p, nil
}

func (d *Decoder) decodeAuth(body []byte) (Packet, error) {
	in := uint16(inAuthClient)
	if d.Client {
		in = inAuthServer
	}
	p, err := d.reasoned(body, AUTH, in)
	switch {
	case err != nil:
		return nil, err
	case len(body) > 0 && !p.Props.Has(PropAuthMethod): // section 3.15.2.2.2
		return nil, protocolError("AUTH without an authentication method")
	}
	return (*Auth)(p), nil
}

func (p *Disconnect) appendAs(dst []byte, t Type, v Version) []byte {
	dst = appendHeader(dst, byte(t)<<4, reasonSize(p.Reason, &p.Props, v))
	return appendReason(dst, p.Reason, &p.Props, v)
}

// Size is the number of bytes that AppendTo appends.
func (p *Disconnect) Size(v Version) int { return sizeOf(reasonSize(p.Reason, &p.Props, v)) }

// AppendTo appends the packet.
func (p *Disconnect) AppendTo(dst []byte, v Version) []byte { return p.appendAs(dst, DISCONNECT, v) }

// Size is the number of bytes that AppendTo appends.
func (p *Auth) Size(v Version) int { return (*Disconnect)(p).Size(v) }

// AppendTo appends the packet.
func (p *Auth) AppendTo(dst []byte, v Version) []byte { return (*Disconnect)(p).appendAs(dst, AUTH, v) }

// Size is 2.
func (*Pingreq) Size(Version) int { return 2 }

// AppendTo appends the packet.
func (*Pingreq) AppendTo(dst []byte, _ Version) []byte { return append(dst, byte(PINGREQ)<<4, 0) }

// Size is 2.
func (*Pingresp) Size(Version) int { return 2 }

// AppendTo appends the packet.
func (*Pingresp) AppendTo(dst []byte, _ Version) []byte { return AppendPingresp(dst) }

// AppendPingresp appends a PINGRESP.
func AppendPingresp(dst []byte) []byte { return append(dst, byte(PINGRESP)<<4, 0) }
