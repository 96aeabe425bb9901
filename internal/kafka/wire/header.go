package wire

import "encoding/binary"

// HeadLen is the fixed part of a request header: key, version, correlation id.
const HeadLen = 8

// Header is a request header, version 1 or 2 (KIP-482).
type Header struct {
	Key           int16
	Version       int16
	CorrelationID int32
	ClientID      []byte // in place; nil: null
}

// Head reads the fixed part of a header from the first bytes of a request.
func Head(b []byte) (Header, bool) {
	if len(b) < HeadLen {
		return Header{}, false
	}
	return Header{
		Key:           int16(binary.BigEndian.Uint16(b)),
		Version:       int16(binary.BigEndian.Uint16(b[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(b[4:])),
	}, true
}

// ParseHeader reads the header of a request of an API and version in the table, and gives its body.
func ParseHeader(api *API, frame []byte) (Header, []byte, error) {
	h, ok := Head(frame)
	if !ok {
		return h, nil, invalid("wire.ParseHeader", "a request of %d bytes has no header", len(frame))
	}
	r := reader{b: frame[HeadLen:]}
	h.ClientID = r.nullableString(false)
	r.skipTags(api.IsFlexible(h.Version))
	if r.bad {
		return h, nil, invalid("wire.ParseHeader", "the header of %s v%d is cut short", api.Name, h.Version)
	}
	return h, r.b, nil
}

// AppendResponseHeader appends room for the size and the response header. The header of ApiVersions is
// never flexible, so that a client of any age can read it (KIP-511).
func AppendResponseHeader(dst []byte, api *API, version int16, correlationID int32) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = appendI32(dst, correlationID)
	return appendNoTags(dst, api.Key != ApiVersions && api.IsFlexible(version))
}

// PutSize writes the size of a response, of which frame is the beginning and more the bytes that follow
// elsewhere, into the room that AppendResponseHeader left.
func PutSize(frame []byte, more int) {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-SizeLen+more))
}

// PutThrottle writes for how long a client is throttled, in milliseconds, into a framed response of Produce, Metadata
// or ApiVersions, where its version has a place for that.
func PutThrottle(frame []byte, api *API, version int16, millis int32) {
	flexible := api.IsFlexible(version)
	var at int
	switch {
	case api.Key == Metadata && version >= 3:
		if at = SizeLen + 4; flexible {
			at++ // the tags of the header
		}
	case api.Key == Produce && version >= 1, api.Key == ApiVersions && version >= 1:
		if at = len(frame) - 4; flexible {
			at-- // the tags at the end
		}
	default:
		return
	}
	binary.BigEndian.PutUint32(frame[at:], uint32(millis))
}
