package packet

// Will is the will message of a CONNECT (section 3.1.2.5).
type Will struct {
	Topic   []byte // not empty, no wildcards
	Payload []byte
	Props   Properties // MQTT 5: will delay and the properties of the message
	QoS     byte       // 0 to 2
	Retain  bool
}

// Connect is a CONNECT packet (section 3.1). Unlike other packets it is made anew by each Decode;
// its slices point into the frame all the same.
type Connect struct {
	Version    Version
	Bridge     bool   // of a Mosquitto: MQTT 3 with 0x80 in the protocol level
	CleanStart bool   // clean session in MQTT 3
	KeepAlive  uint16 // seconds; 0: none
	ClientID   []byte // empty: the server chooses one
	Props      Properties
	Will       *Will // nil: none

	HasUserName bool
	HasPassword bool
	UserName    []byte // a string
	Password    []byte
}

const (
	connectReserved   = 1 << 0
	connectClean      = 1 << 1
	connectWill       = 1 << 2
	connectWillRetain = 1 << 5
	connectPassword   = 1 << 6
	connectUserName   = 1 << 7
)

// bridgeLevel is what the bridges of Mosquitto set in the protocol level of MQTT 3, unless try_private is false. It is
// in no standard; a server that does not know it refuses the level, and is then spoken to without it.
const bridgeLevel = 0x80

// Type is CONNECT.
func (*Connect) Type() Type { return CONNECT }

func (d *Decoder) decodeConnect(first byte, body []byte) (Packet, error) {
	s := scan{b: body}
	p := new(Connect)
	if p.Version, p.Bridge = s.protocol(); d.Version != 0 && (s.err == nil || ReasonOf(s.err) == UnsupportedVersion) {
		return nil, protocolError("a second CONNECT") // [MQTT-3.1.0-2]
	}
	if d.Version = p.Version; s.err != nil {
		return nil, s.err
	}
	if err := checkFirst(first, d.Version); err != nil {
		return nil, err
	}
	flags := s.uint8()
	p.KeepAlive = s.uint16()
	if s.err == nil {
		s.err = checkConnectFlags(flags, p.Version)
	}
	if s.err != nil {
		return nil, s.err
	}
	p.CleanStart = flags&connectClean != 0
	if p.Version == V5 {
		d.properties(&s, &p.Props, CONNECT)
		d.ClientMaximum = p.Props.MaximumPacketSize
	}
	d.connectPayload(&s, p, flags) // [MQTT-3.1.2-16] [MQTT-3.1.2-18]
	if err := s.end(); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

// protocol reads the protocol name and level. A version that we do not speak is UnsupportedVersion
// [MQTT-3.1.2-1] [MQTT-3.1.2-2], and the version returned is the one to say so in: that of MQTT 5 to a client
// of a later one, else that of 3.1.1, which is the first to say so.
func (s *scan) protocol() (v Version, bridge bool) {
	name := s.binary()
	level := Version(s.uint8())
	switch {
	case s.err != nil:
	case string(name) == "MQTT" && (level == V311 || level == V5):
		return level, false
	case string(name) == "MQIsdp" && level == V31:
		return level, false
	case string(name) == "MQTT" && level == V311|bridgeLevel:
		return V311, true
	case string(name) == "MQIsdp" && level == V31|bridgeLevel:
		return V31, true
	case string(name) == "MQTT" || string(name) == "MQIsdp":
		s.fail(&Error{Reason: UnsupportedVersion, Detail: "protocol " + string(name) + ", " + level.String()})
	default:
		s.fail(&Error{Reason: UnsupportedVersion, Detail: "the protocol name is not MQTT"})
	}
	switch {
	case ReasonOf(s.err) != UnsupportedVersion:
		return 0, false
	case level > V5 && string(name) != "MQIsdp":
		return V5, false
	}
	return V311, false
}

// checkConnectFlags judges the connect flags. MQTT 3.1 gives the reserved one no meaning, and those of the will only
// beside a will (3.1, section 3.1).
func checkConnectFlags(flags byte, v Version) error {
	qos := flags >> 3 & 3
	if v == V31 {
		if flags&connectWill == 0 {
			qos = 0
		}
		flags &^= connectReserved
		if flags&connectWill == 0 {
			flags &^= connectWillRetain
		}
	}
	switch {
	case flags&connectReserved != 0: // [MQTT-3.1.2-3]
		return malformed("the reserved flag of CONNECT is set")
	case qos == 3: // [MQTT-3.1.2-12] [MQTT-3.2.2-12]
		return malformed("will with QoS 3")
	case flags&connectWill == 0 && qos != 0: // [MQTT-3.1.2-11]
		return malformed("will QoS without a will")
	case flags&connectWill == 0 && flags&connectWillRetain != 0: // [MQTT-3.1.2-13]
		return malformed("will retain without a will")
	case v != V5 && flags&connectPassword != 0 && flags&connectUserName == 0: // [MQTT-3.1.2-22 of 3.1.1]
		return malformed("password without user name")
	}
	return nil
}

// connectPayload reads what follows the properties, in its fixed order [MQTT-3.1.3-1].
func (d *Decoder) connectPayload(s *scan, p *Connect, flags byte) {
	p.ClientID = s.string()     // [MQTT-3.1.3-4] [MQTT-3.1.3-3]
	if flags&connectWill != 0 { // [MQTT-3.1.2-9]
		w := &Will{QoS: flags >> 3 & 3, Retain: flags&connectWillRetain != 0}
		if p.Version == V5 {
			d.willProperties(s, w)
		}
		w.Topic = s.topicName() // [MQTT-3.1.3-11]
		w.Payload = s.binary()
		p.Will = w
	}
	// In MQTT 3.1 the remaining length takes precedence over the flags: what they announce may be missing.
	missing := func() bool { return p.Version == V31 && s.err == nil && len(s.b) == 0 }
	if flags&connectUserName != 0 && !missing() { // [MQTT-3.1.2-17]
		p.HasUserName, p.UserName = true, s.string() // [MQTT-3.1.3-12]
	}
	if flags&connectPassword != 0 && !missing() { // [MQTT-3.1.2-19]
		p.HasPassword, p.Password = true, s.binary()
	}
}

// willProperties reads the properties of the will. They may not share the spare memory for scattered
// user properties with those of the CONNECT.
func (d *Decoder) willProperties(s *scan, w *Will) {
	d.users = nil
	d.properties(s, &w.Props, willProperties)
	d.users = nil
}

// WantsReasons tells whether the client asks for reason strings, which say what went wrong: with Request Problem
// Information 1 in so many words. Without it they would be allowed (section 3.1.2.11.7), but most devices read none and
// a link that is paid by the byte is not the place for them.
func (p *Connect) WantsReasons() bool {
	return p.Version == V5 && p.Props.Has(PropRequestProblemInfo) && p.Props.RequestProblemInfo == 1
}

// TakesReasons tells whether a refusal may say why: unless Request Problem Information is 0. It is the last that the
// client hears, and somebody will look.
func (p *Connect) TakesReasons() bool {
	return p.Version == V5 && (!p.Props.Has(PropRequestProblemInfo) || p.Props.RequestProblemInfo == 1)
}

// check applies the rules that need the whole packet. No version refuses a client identifier of 1 to 23 characters
// [MQTT-3.1.3-5].
func (p *Connect) check() error {
	switch n := len(p.ClientID); {
	case p.Will != nil && len(p.Will.Topic) == 0: // [MQTT-4.7.3-1]
		return malformed("the topic name of the will is empty")
	case p.Props.Has(PropAuthData) && !p.Props.Has(PropAuthMethod): // section 3.1.2.11.10
		return protocolError("authentication data without a method")
	case p.Version == V31 && (n == 0 || n > 23): // 3.1, section 3.1
		return &Error{Reason: ClientIDNotValid, Detail: "a client identifier of MQTT 3.1 has 1 to 23 characters"}
	case p.Version == V311 && n == 0 && !p.CleanStart: // [MQTT-3.1.3-8 of 3.1.1]
		return &Error{Reason: ClientIDNotValid, Detail: "an empty client identifier needs a clean session"}
	}
	return nil
}

func (p *Connect) bodySize(v Version) int {
	n := stringSize(protocolName(v)) + 1 + 1 + 2 + p.Props.sectionSize(v) + stringSize(p.ClientID)
	if w := p.Will; w != nil {
		n += w.Props.sectionSize(v) + stringSize(w.Topic) + stringSize(w.Payload)
	}
	if p.HasUserName {
		n += stringSize(p.UserName)
	}
	if p.HasPassword {
		n += stringSize(p.Password)
	}
	return n
}

func protocolName(v Version) []byte {
	if v == V31 {
		return []byte("MQIsdp")
	}
	return []byte("MQTT")
}

func (p *Connect) flags() (flags byte) {
	if p.CleanStart {
		flags |= connectClean
	}
	if w := p.Will; w != nil {
		flags |= connectWill | w.QoS<<3
		if w.Retain {
			flags |= connectWillRetain
		}
	}
	if p.HasUserName {
		flags |= connectUserName
	}
	if p.HasPassword {
		flags |= connectPassword
	}
	return flags
}

// Size is the number of bytes that AppendTo appends.
func (p *Connect) Size(v Version) int { return sizeOf(p.bodySize(v)) }

// AppendTo appends the packet in the form of version v; p.Version is not looked at.
func (p *Connect) AppendTo(dst []byte, v Version) []byte {
	dst = appendHeader(dst, byte(CONNECT)<<4, p.bodySize(v))
	level := byte(v)
	if p.Bridge {
		level |= bridgeLevel
	}
	dst = append(appendString(dst, protocolName(v)), level, p.flags())
	dst = p.Props.appendSection(appendUint16(dst, p.KeepAlive), v)
	dst = appendString(dst, p.ClientID)
	if w := p.Will; w != nil {
		dst = appendString(appendString(w.Props.appendSection(dst, v), w.Topic), w.Payload)
	}
	if p.HasUserName {
		dst = appendString(dst, p.UserName)
	}
	if p.HasPassword {
		dst = appendString(dst, p.Password)
	}
	return dst
}

// Connack is a CONNACK packet (section 3.2).
type Connack struct {
	Props          Properties
	Reason         ReasonCode // in MQTT 3 sent as the return code that says most of it
	SessionPresent bool       // never with a failure; never in MQTT 3.1
}

// Type is CONNACK.
func (*Connack) Type() Type { return CONNACK }

func (d *Decoder) decodeConnack(body []byte) (Packet, error) {
	s := scan{b: body}
	p := new(Connack)
	flags, code := s.uint8(), s.uint8()
	if flags > 1 && s.err == nil { // [MQTT-3.2.2-1]
		s.fail(malformed("flags 0x%02x in CONNACK", flags))
	}
	p.SessionPresent = flags == 1
	p.Reason = ReasonCode(code)
	if d.Version == V5 {
		if !p.Reason.allowed(inConnack) && s.err == nil { // [MQTT-3.2.2-8]
			s.fail(protocolError("reason code 0x%02x in CONNACK", code))
		}
		d.properties(&s, &p.Props, CONNACK)
	} else {
		var ok bool
		if p.Reason, ok = fromReturnCode(code); !ok && s.err == nil {
			s.fail(malformed("return code %d in CONNACK", code))
		}
	}
	if p.SessionPresent && p.Reason != Success && s.err == nil { // [MQTT-3.2.2-6]
		s.fail(protocolError("session present in a CONNACK that refuses"))
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return p, nil
}

// Size is the number of bytes that AppendTo appends.
func (p *Connack) Size(v Version) int { return sizeOf(2 + p.Props.sectionSize(v)) }

// AppendTo appends the packet.
func (p *Connack) AppendTo(dst []byte, v Version) []byte {
	dst = appendHeader(dst, byte(CONNACK)<<4, 2+p.Props.sectionSize(v))
	var flags byte
	if p.SessionPresent && p.Reason == Success && v != V31 { // [MQTT-3.2.2-1] [MQTT-3.2.2-6]
		flags = 1
	}
	code := byte(p.Reason)
	if v != V5 {
		code = p.Reason.returnCode()
	}
	return p.Props.appendSection(append(dst, flags, code), v)
}
