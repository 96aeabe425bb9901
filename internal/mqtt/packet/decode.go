package packet

// Decoder decodes the packets of one connection. It belongs to one goroutine. The packet that Decode
// returns, and all slices in it, are valid until the next Decode; they point into the frame. Except
// for CONNECT and lists of filters, nothing is allocated once a packet of its kind has been seen.
//
// The zero value is the decoder of a server that waits for a CONNECT.
type Decoder struct {
	// Version is the version of the connection. CONNECT sets it as soon as its protocol level is
	// known, even if the rest of it is then refused; the decoder of a client is told.
	Version Version
	// Client says that the decoder belongs to a client and reads what a server sends.
	Client bool
	// ClientMaximum is the Maximum Packet Size of a CONNECT in bytes, as soon as it was read and even if the
	// CONNECT is then refused: its answer keeps to it [MQTT-3.1.2-24]. 0: none was given.
	ClientMaximum uint32

	publish    *Publish // made at first use, as all of these: an idle connection holds none of them
	ack        *Puback
	subscribe  *Subscribe
	suback     *Suback
	disconnect *Disconnect
	users      []byte // user properties that did not lie together
}

// Decode decodes one whole packet, as Frame measured it. An error is an *Error: the connection cannot
// go on after it [MQTT-4.13.1-1].
func (d *Decoder) Decode(frame []byte) (Packet, error) {
	if len(frame) > 1 && frame[0]>>4 == byte(PUBLISH) && d.Version != 0 {
		return d.decodePublish(frame)
	}
	if len(frame) == BareAckBytes && frame[1] == 2 && d.Version != 0 && isAck(frame[0]) {
		return d.decodeAck(Type(frame[0]>>4), frame[2:])
	}
	first, body, err := d.open(frame)
	if err != nil {
		return nil, err
	}
	t := Type(first >> 4)
	if err := d.expects(t); err != nil {
		return nil, err
	}
	if t == CONNECT {
		return d.decodeConnect(first, body)
	}
	return d.decode(t, body)
}

// isAck tells whether a first byte is that of an acknowledgement of a PUBLISH.
func isAck(first byte) bool {
	return first == firstPuback || first == firstPubrec || first == firstPubrel || first == firstPubcomp
}

// BareAckBytes is the length of an acknowledgement that has neither a reason code nor properties.
const BareAckBytes = 4

// BareAck is the PUBACK, PUBREC or PUBCOMP at the front of buf, if it is there whole and is bare: most of what a
// subscriber sends is. What Decode would refuse is not ok.
func BareAck(buf []byte) (t Type, id uint16, ok bool) {
	if len(buf) < BareAckBytes || buf[1] != 2 {
		return 0, 0, false
	}
	id = uint16(buf[2])<<8 | uint16(buf[3])
	switch buf[0] {
	case firstPuback:
		return PUBACK, id, id != 0
	case firstPubrec:
		return PUBREC, id, id != 0
	case firstPubcomp:
		return PUBCOMP, id, id != 0
	}
	return 0, 0, false
}

// open takes the fixed header off a frame.
func (d *Decoder) open(frame []byte) (first byte, body []byte, err error) {
	n, err := length(frame, len(frame), d.Version)
	switch {
	case err != nil && ReasonOf(err) == Malformed:
		return 0, nil, err
	case n == 0 || n != len(frame):
		return 0, nil, malformed("the remaining length is not that of the packet")
	}
	_, width, _ := varint(frame[1:])
	return frame[0], frame[1+width:], nil
}

// expects judges whether the other side may send a packet of type t in this version.
func (d *Decoder) expects(t Type) error {
	const (
		fromClient = 1<<CONNECT | 1<<SUBSCRIBE | 1<<UNSUBSCRIBE | 1<<PINGREQ
		fromServer = 1<<CONNACK | 1<<SUBACK | 1<<UNSUBACK | 1<<PINGRESP
	)
	wrong := uint16(fromServer)
	if d.Client {
		wrong = fromClient
	}
	switch {
	case wrong>>t&1 != 0:
		return protocolError("%s from the wrong side", t)
	case d.Version == 0 && t != CONNECT: // [MQTT-3.1.0-1]
		return protocolError("%s before CONNECT", t)
	case t == AUTH && d.Version != V5:
		return malformed("AUTH in MQTT %s", d.Version)
	case t == DISCONNECT && d.Client && d.Version != V5:
		return malformed("DISCONNECT from a server in MQTT %s", d.Version)
	}
	return nil
}

func (d *Decoder) decode(t Type, body []byte) (Packet, error) {
	switch t {
	case CONNACK:
		return d.decodeConnack(body)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return d.decodeAck(t, body)
	case SUBSCRIBE:
		return d.decodeSubscribe(body)
	case SUBACK:
		return d.decodeSuback(body)
	case UNSUBSCRIBE:
		return d.decodeUnsubscribe(body)
	case UNSUBACK:
		return d.decodeUnsuback(body)
	case PINGREQ, PINGRESP:
		return decodePing(t, body)
	case DISCONNECT:
		return d.decodeDisconnect(body)
	case AUTH:
		return d.decodeAuth(body)
	default: // PUBLISH and CONNECT are decoded before
		return nil, protocolError("%s before CONNECT", t)
	}
}
