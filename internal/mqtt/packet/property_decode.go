package packet

import (
	"bytes"
	"slices"
)

// properties reads the property section of a packet (section 2.2.2) into p, which is empty.
func (d *Decoder) properties(s *scan, p *Properties, t Type) {
	n := s.varint()
	if n == 0 {
		return
	}
	in := scan{b: s.take(n), err: s.err}
	var users userRun
	for len(in.b) > 0 {
		whole := in.b
		number := in.varint()
		id := Property(number)
		switch {
		case in.err != nil:
			continue
		case number >= properties || !id.Allowed(t): // section 2.2.2.2
			in.fail(malformed("property 0x%02x does not belong in %s", number, owner(t)))
			continue
		}
		switch {
		case id == PropUser: // [MQTT-1.5.7-1]
			in.string()
			in.string()
			if in.err == nil {
				users.add(whole[:len(whole)-len(in.b)], &d.users)
			}
		case id == PropSubscriptionID:
			p.subscriptionID(&in, d.Client || t == SUBSCRIBE, t)
		case p.Has(id):
			in.fail(protocolError("%s twice", id))
		default:
			p.value(&in, id)
		}
		p.add(id)
	}
	if in.err != nil {
		s.fail(in.err)
		return
	}
	p.User = slices.Clip(users.found)
}

func owner(t Type) string {
	if t == willProperties {
		return "the will"
	}
	return t.String()
}

// userRun gathers the user properties of one packet, in their order [MQTT-3.1.3-10]. As long as they follow each other
// they are one piece of the packet; otherwise they are copied together.
type userRun struct {
	found  UserProperties
	copied bool
}

func (u *userRun) add(raw []byte, spare *[]byte) {
	switch {
	case u.copied:
		u.found = append(u.found, raw...)
	case u.found == nil:
		u.found = raw
	case cap(u.found) > len(u.found) && &u.found[:len(u.found)+1][len(u.found)] == &raw[0]:
		u.found = u.found[:len(u.found)+len(raw)]
	default:
		u.copied = true
		u.found = append(append((*spare)[:0], u.found...), raw...)
	}
	if u.copied {
		*spare = u.found[:0]
		if cap(*spare) > 4096 {
			*spare = nil
		}
	}
}

// subscriptionID reads a subscription identifier: one in SUBSCRIBE, any number in a PUBLISH that a
// server sent. A client must not send one in PUBLISH [MQTT-3.3.4-6].
func (p *Properties) subscriptionID(in *scan, allowed bool, t Type) {
	n := in.varint()
	switch {
	case in.err != nil:
	case !allowed:
		in.fail(protocolError("subscription identifier in a PUBLISH from a client"))
	case n == 0: // section 3.8.2.1.2
		in.fail(protocolError("subscription identifier 0"))
	case t == SUBSCRIBE && len(p.SubscriptionIDs) > 0:
		in.fail(protocolError("subscription identifier twice"))
	default:
		p.SubscriptionIDs = append(p.SubscriptionIDs, uint32(n))
	}
}

// value reads the value of a property that comes once.
func (p *Properties) value(in *scan, id Property) {
	var n uint32
	switch propertyTable[id].shape {
	case shapeBool:
		v := in.uint8()
		if v > 1 {
			in.fail(protocolError("%s is %d, not 0 or 1", id, v))
		}
		*p.boolean(id) = v
		return
	case shapeInt16:
		v := in.uint16()
		*p.int16(id) = v
		n = uint32(v)
	case shapeInt32:
		n = in.uint32()
		*p.int32(id) = n
	case shapeString:
		*p.bytes(id) = p.text(in, id)
		return
	default:
		*p.bytes(id) = in.binary()
		return
	}
	if n == 0 && propertyTable[id].nonzero && in.err == nil {
		reason := ProtocolError
		if id == PropTopicAlias {
			reason = TopicAliasInvalid // [MQTT-3.3.2-8]
		}
		in.fail(&Error{Reason: reason, Detail: id.String() + " is 0"})
	}
}

// text reads a property that is a string.
func (p *Properties) text(in *scan, id Property) []byte {
	if id != PropResponseTopic { // [MQTT-3.3.2-19]
		return in.string()
	}
	v := in.binary()
	if err := checkString(v); err != nil { // [MQTT-3.3.2-13]
		in.fail(err)
	} else if bytes.ContainsAny(v, "+#") { // [MQTT-3.3.2-14]
		in.fail(protocolError("the response topic holds a wildcard"))
	} else if len(v) == 0 && in.err == nil { // [MQTT-4.7.3-1]
		in.fail(protocolError("the response topic is empty"))
	}
	return v
}

func (p *Properties) boolean(id Property) *byte {
	switch id {
	case PropPayloadFormat:
		return &p.PayloadFormat
	case PropRequestProblemInfo:
		return &p.RequestProblemInfo
	case PropRequestResponseInfo:
		return &p.RequestResponseInfo
	case PropMaximumQoS:
		return &p.MaximumQoS
	case PropRetainAvailable:
		return &p.RetainAvailable
	case PropWildcardAvailable:
		return &p.WildcardAvailable
	case PropSubscriptionIDAllowed:
		return &p.SubscriptionIDAllowed
	}
	return &p.SharedAvailable
}

func (p *Properties) int16(id Property) *uint16 {
	switch id {
	case PropServerKeepAlive:
		return &p.ServerKeepAlive
	case PropReceiveMaximum:
		return &p.ReceiveMaximum
	case PropTopicAliasMaximum:
		return &p.TopicAliasMaximum
	}
	return &p.TopicAlias
}

func (p *Properties) int32(id Property) *uint32 {
	switch id {
	case PropMessageExpiry:
		return &p.MessageExpiry
	case PropSessionExpiry:
		return &p.SessionExpiry
	case PropWillDelay:
		return &p.WillDelay
	}
	return &p.MaximumPacketSize
}

func (p *Properties) bytes(id Property) *[]byte {
	switch id {
	case PropContentType:
		return &p.ContentType
	case PropResponseTopic:
		return &p.ResponseTopic
	case PropCorrelationData:
		return &p.CorrelationData
	case PropAssignedClientID:
		return &p.AssignedClientID
	case PropAuthMethod:
		return &p.AuthMethod
	case PropAuthData:
		return &p.AuthData
	case PropResponseInfo:
		return &p.ResponseInfo
	case PropServerReference:
		return &p.ServerReference
	}
	return &p.ReasonString
}
