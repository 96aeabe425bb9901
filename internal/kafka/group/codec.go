package group

import "encoding/binary"

// The primitives of the records of consumer groups: flexible, that is with compact lengths and tagged fields.

func appendVersion(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) }

func appendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }

// appendPlain appends a string of a key: its length takes two bytes.
func appendPlain(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendCount(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)+1) }

func appendCompact[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(appendCount(b, len(s)), s...)
}

// appendOptional appends a nullable string; the empty one is null.
func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, 0)
	}
	return appendCompact(b, s)
}

func appendStrings(b []byte, all []string) []byte {
	b = appendCount(b, len(all))
	for _, s := range all {
		b = appendCompact(b, s)
	}
	return b
}

// appendPartitions appends a set; where since is given, with the epoch of each partition.
func appendPartitions(b []byte, s Partitions, since map[Partition]int32) []byte {
	topics := 0
	s.ByTopic(func(TopicID, []int32) { topics++ })
	b = appendCount(b, topics)
	s.ByTopic(func(id TopicID, indexes []int32) {
		b = append(b, id[:]...)
		b = appendInts(b, indexes)
		if since == nil {
			b = append(b, 0)
			return
		}
		epochs := make([]int32, len(indexes))
		for i, index := range indexes {
			epochs[i] = since[Partition{id, index}]
		}
		b = appendTagged(b, appendInts(nil, epochs))
	})
	return b
}

// appendTagged appends tagged fields, of which there is the first.
func appendTagged(b, field []byte) []byte {
	b = append(b, 1, 0)
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

func appendInts(b []byte, all []int32) []byte {
	b = appendCount(b, len(all))
	for _, n := range all {
		b = appendInt32(b, n)
	}
	return b
}

// reader reads these primitives. After the first fault it is bad for good and gives zeros. No length and no count is
// believed beyond the bytes left.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) span(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) int8() int8 {
	if s := r.span(1); s != nil {
		return int8(s[0])
	}
	return 0
}

func (r *reader) int16() int16 {
	if s := r.span(2); s != nil {
		return int16(binary.BigEndian.Uint16(s))
	}
	return 0
}

func (r *reader) int32() int32 {
	if s := r.span(4); s != nil {
		return int32(binary.BigEndian.Uint32(s))
	}
	return 0
}

func (r *reader) int64() int64 {
	if s := r.span(8); s != nil {
		return int64(binary.BigEndian.Uint64(s))
	}
	return 0
}

func (r *reader) plain() string { return string(r.span(int(r.int16()))) }

// length is that of what follows, in elements of at least so many bytes; -1: null.
func (r *reader) length(least int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b))+1 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	if count := int(v) - 1; count <= len(r.b)/least {
		return count
	}
	r.b, r.bad = nil, true
	return 0
}

// compact is bytes or a string in place; null is empty.
func (r *reader) compact() []byte { return r.span(max(r.length(1), 0)) }

func (r *reader) strings() (all []string) {
	for n := r.length(1); n > 0 && !r.bad; n-- {
		all = append(all, string(r.compact()))
	}
	return all
}

func (r *reader) ints() (all []int32) {
	for n := r.length(4); n > 0 && !r.bad; n-- {
		all = append(all, r.int32())
	}
	return all
}

// partitions reads a set, and the epochs of its partitions into since.
func (r *reader) partitions(since map[Partition]int32) Partitions {
	var all []Partition
	for n := r.length(18); n > 0 && !r.bad; n-- {
		var id TopicID
		copy(id[:], r.span(len(id)))
		indexes := r.ints()
		for _, index := range indexes {
			all = append(all, Partition{id, index})
		}
		r.tags(func(tag uint64, field *reader) {
			if tag != 0 || since == nil {
				return
			}
			for i, epoch := range field.ints() {
				if i < len(indexes) {
					since[Partition{id, indexes[i]}] = epoch
				}
			}
		})
	}
	return NewPartitions(all)
}

// tags reads tagged fields and shows each to known, if there is that.
func (r *reader) tags(known func(tag uint64, field *reader)) {
	count, n := binary.Uvarint(r.b)
	if n <= 0 || count > uint64(len(r.b)/2) {
		r.b, r.bad = nil, true
		return
	}
	r.b = r.b[n:]
	for ; count > 0 && !r.bad; count-- {
		tag, n := binary.Uvarint(r.b)
		if n <= 0 {
			r.b, r.bad = nil, true
			return
		}
		r.b = r.b[n:]
		size, n := binary.Uvarint(r.b)
		if n <= 0 || size > uint64(len(r.b)-n) {
			r.b, r.bad = nil, true
			return
		}
		r.b = r.b[n:]
		field := &reader{b: r.span(int(size))}
		if known != nil {
			known(tag, field)
			r.bad = r.bad || field.bad
		}
	}
}
