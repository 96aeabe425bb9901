package packet

import "math/bits"

// size is the length of the property section without the length in front of it.
func (p *Properties) size() int {
	n := len(p.User)
	for left := p.present; left != 0; left &= left - 1 {
		n += p.valueSize(Property(bits.TrailingZeros64(left)))
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + varintSize(int(id))
	}
	return n
}

func (p *Properties) valueSize(id Property) int {
	switch propertyTable[id].shape {
	case shapeBool:
		return 2
	case shapeInt16:
		return 3
	case shapeInt32:
		return 5
	case shapeString, shapeBinary:
		return 1 + stringSize(*p.bytes(id))
	}
	return 0 // user properties and subscription identifiers are counted apart
}

// sectionSize is the length of the whole property section of a packet of version v: 0 for MQTT 3.
func (p *Properties) sectionSize(v Version) int {
	if v != V5 {
		return 0
	}
	n := p.size()
	return varintSize(n) + n
}

// appendSection appends the property section of a packet of version v: nothing for MQTT 3.
func (p *Properties) appendSection(dst []byte, v Version) []byte {
	if v != V5 {
		return dst
	}
	dst = appendVarint(dst, p.size()) // [MQTT-2.2.2-1]
	for left := p.present; left != 0; left &= left - 1 {
		dst = p.appendValue(dst, Property(bits.TrailingZeros64(left)))
	}
	for _, id := range p.SubscriptionIDs {
		dst = appendVarint(append(dst, byte(PropSubscriptionID)), int(id))
	}
	return append(dst, p.User...)
}

func (p *Properties) appendValue(dst []byte, id Property) []byte {
	switch propertyTable[id].shape {
	case shapeBool:
		return append(dst, byte(id), *p.boolean(id))
	case shapeInt16:
		return appendUint16(append(dst, byte(id)), *p.int16(id))
	case shapeInt32:
		n := *p.int32(id)
		return append(dst, byte(id), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	case shapeString, shapeBinary:
		return appendString(append(dst, byte(id)), *p.bytes(id))
	}
	return dst
}
