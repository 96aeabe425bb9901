package wire

import "encoding/binary"

// reader reads protocol primitives. After the first fault it is bad for good and gives zeros, so that
// a decoder may ask once, at the end. No count and no length is believed beyond the bytes left.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.b = nil
	r.bad = true
}

// span is the next n bytes, in place.
func (r *reader) span(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) i8() int8 {
	if len(r.b) < 1 {
		r.fail()
		return 0
	}
	v := int8(r.b[0])
	r.b = r.b[1:]
	return v
}

func (r *reader) boolean() bool { return r.i8() != 0 }

func (r *reader) i16() int16 {
	if len(r.b) < 2 {
		r.fail()
		return 0
	}
	v := int16(binary.BigEndian.Uint16(r.b))
	r.b = r.b[2:]
	return v
}

func (r *reader) i32() int32 {
	if len(r.b) < 4 {
		r.fail()
		return 0
	}
	v := int32(binary.BigEndian.Uint32(r.b))
	r.b = r.b[4:]
	return v
}

func (r *reader) i64() int64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := int64(binary.BigEndian.Uint64(r.b))
	r.b = r.b[8:]
	return v
}

func (r *reader) uuid() (u UUID) {
	copy(u[:], r.span(len(u)))
	return u
}

// uvarint reads at most 5 bytes, as Kafka's unsigned varint.
func (r *reader) uvarint() uint32 {
	var v uint32
	for i := 0; i < 5 && i < len(r.b); i++ {
		c := r.b[i]
		if i == 4 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.b = r.b[i+1:]
			return v
		}
	}
	r.fail()
	return 0
}

// length reads a compact (n+1) or plain length; -1 is null.
func (r *reader) length(flexible bool) int {
	if flexible {
		return int(r.uvarint()) - 1
	}
	return int(r.i32())
}

// nullableString is nil for null, in place otherwise.
func (r *reader) nullableString(flexible bool) []byte {
	var n int
	if flexible {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.i16())
	}
	if n == -1 {
		return nil
	}
	return r.span(n)
}

// str is a string that may not be null.
func (r *reader) str(flexible bool) []byte {
	s := r.nullableString(flexible)
	if s == nil {
		r.fail()
	}
	return s
}

// nullableBytes is nil for null, in place otherwise.
func (r *reader) nullableBytes(flexible bool) []byte {
	n := r.length(flexible)
	if n == -1 {
		return nil
	}
	return r.span(n)
}

// count reads the length of an array whose elements take at least least bytes each; -1 is null.
func (r *reader) count(flexible bool, least int) int {
	n := r.length(flexible)
	if n < -1 || (n > 0 && n > len(r.b)/max(least, 1)) {
		r.fail()
		return 0
	}
	return n
}

// tags begins a section of tagged fields and returns how many there are. Each takes two bytes or more.
func (r *reader) tags() int {
	n := r.uvarint()
	if uint64(n) > uint64(len(r.b)/2) {
		r.fail()
		return 0
	}
	return int(n)
}

// tag reads one tagged field.
func (r *reader) tag() (id uint32, value []byte) {
	id = r.uvarint()
	return id, r.span(int(r.uvarint()))
}

// skipTags passes over a section of tagged fields, which only flexible versions have.
func (r *reader) skipTags(flexible bool) {
	if !flexible {
		return
	}
	for n := r.tags(); n > 0 && !r.bad; n-- {
		r.tag()
	}
}
