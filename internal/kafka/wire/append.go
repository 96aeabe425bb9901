package wire

import "encoding/binary"

// The counterparts of reader: each appends one primitive.

func appendI16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }
func appendI32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }
func appendI64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendUvarint(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }

// appendCount appends the length of an array, or of bytes.
func appendCount(dst []byte, n int, flexible bool) []byte {
	if flexible {
		return appendUvarint(dst, uint32(n)+1)
	}
	return appendI32(dst, int32(n))
}

func appendString[S ~string | ~[]byte](dst []byte, s S, flexible bool) []byte {
	if flexible {
		dst = appendUvarint(dst, uint32(len(s))+1)
	} else {
		dst = appendI16(dst, int16(len(s)))
	}
	return append(dst, s...)
}

func appendNull(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return appendI16(dst, -1)
}

// appendOptional appends a nullable string; the empty one is null.
func appendOptional(dst []byte, s string, flexible bool) []byte {
	if s == "" {
		return appendNull(dst, flexible)
	}
	return appendString(dst, s, flexible)
}

// appendNoTags ends a structure that has no tagged fields to say.
func appendNoTags(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return dst
}
