package session

import (
	"encoding/binary"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
)

// The records of __firth_sessions; docs/format/sessions.md has them byte by byte. Each is the full value of its key,
// and no value is its removal.

// Kind is what a record is about: the first byte of its key.
type Kind byte

// The kinds, and which fields of the Key they have.
const (
	KindSession  Kind = 's' // SessionRecord: Client
	KindFilter   Kind = 'f' // FilterRecord: Client, Filter
	KindWill     Kind = 'w' // WillRecord: Client
	KindPlace    Kind = 'p' // PlaceRecord: Client, Topic, Index
	KindReceived Kind = 'r' // ReceivedRecord: Client, Chunk
	KindMark     Kind = 'm' // MarkRecord: Topic, Index
	KindReplay   Kind = 'h' // ReplayRecord: Client, Topic, Index, Filter
	KindGroup    Kind = 'g' // GroupRecord: Client is the share name, Filter what it shares
	KindShared   Kind = 'o' // share.Partition: Client, Filter as of a group, Topic, Index
)

// Key is the key of a record. The fields that its kind does not have are zero.
type Key struct {
	Kind   Kind
	Client string   // client identifier: 1 to 65,535 bytes
	Filter string   // not empty
	Topic  [16]byte // id of a log topic
	Index  int32    // of its partition, from 0
	Chunk  byte     // of packet ids, by their high byte
}

// AppendTo appends the key.
func (k *Key) AppendTo(b []byte) []byte {
	b = append(b, byte(k.Kind))
	if k.Kind != KindMark {
		b = binary.BigEndian.AppendUint16(b, uint16(len(k.Client)))
		b = append(b, k.Client...)
	}
	switch k.Kind {
	case KindFilter, KindGroup:
		b = append(b, k.Filter...)
	case KindPlace, KindMark:
		b = append(b, k.Topic[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(k.Index))
	case KindReceived:
		b = append(b, k.Chunk)
	case KindReplay, KindShared:
		b = append(b, k.Topic[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(k.Index))
		b = append(b, k.Filter...)
	}
	return b
}

// ParseKey decodes a key. Errors: Unsupported, a kind that is not known, whose record is to be left alone; Corrupt.
func ParseKey(b []byte) (Key, error) {
	const op = "session.ParseKey"
	r := reader{b: b}
	k := Key{Kind: Kind(r.byte())}
	switch k.Kind {
	case KindSession, KindFilter, KindWill, KindPlace, KindReceived, KindReplay, KindGroup, KindShared:
		k.Client = string(r.bytes(int(r.uint16())))
		r.want(k.Client != "")
	case KindMark:
	default:
		if r.bad {
			return Key{}, fault.New(fault.Corrupt, op, "an empty key")
		}
		return Key{}, fault.New(fault.Unsupported, op, "a record of kind %q", byte(k.Kind))
	}
	switch k.Kind {
	case KindFilter, KindGroup:
		k.Filter = string(r.bytes(len(r.b)))
		r.want(k.Filter != "")
	case KindPlace, KindMark:
		copy(k.Topic[:], r.bytes(len(k.Topic)))
		k.Index = int32(r.uint32())
		r.want(k.Index >= 0)
	case KindReceived:
		k.Chunk = r.byte()
	case KindReplay, KindShared:
		copy(k.Topic[:], r.bytes(len(k.Topic)))
		k.Index = int32(r.uint32())
		k.Filter = string(r.bytes(len(r.b)))
		r.want(k.Index >= 0 && k.Filter != "")
	}
	if r.bad || len(r.b) > 0 {
		return Key{}, fault.New(fault.Corrupt, op, "a key of kind %q and %d bytes", byte(k.Kind), len(b))
	}
	return k, nil
}

// valueVersion is the version of all values, their first byte. What a later version of Firth adds behind the fields of
// a value without raising it is skipped, and lost when the record is written again. What must not be lost raises it.
const valueVersion = 1

// openValue is a reader behind the version of a value. Errors: Unsupported, Corrupt.
// Also are versions that are read besides.
func openValue(op string, b []byte, also ...byte) (reader, error) {
	switch {
	case len(b) == 0:
		return reader{}, fault.New(fault.Corrupt, op, "an empty value")
	case b[0] != valueVersion && !slices.Contains(also, b[0]):
		return reader{}, fault.New(fault.Unsupported, op, "version %d", b[0])
	}
	return reader{b: b[1:]}, nil
}

// reader takes fields off the front of b. Once one is not there or not what it has to be, it is bad, and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

// want has the reader be bad if something does not hold.
func (r *reader) want(holds bool) {
	if !holds {
		r.b, r.bad = nil, true
	}
}

func (r *reader) bytes(n int) []byte {
	r.want(n <= len(r.b))
	if r.bad {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// uvarint is an unsigned varint that is at most most.
func (r *reader) uvarint(most uint64) uint64 {
	n, width := binary.Uvarint(r.b)
	r.want(width > 0 && n <= most)
	if r.bad {
		return 0
	}
	r.b = r.b[width:]
	return n
}

// varint is a signed varint.
func (r *reader) varint() int64 {
	n, width := binary.Varint(r.b)
	r.want(width > 0)
	if r.bad {
		return 0
	}
	r.b = r.b[width:]
	return n
}

// count is the number of things that follow, each of which has a number of bytes at least.
func (r *reader) count(bytesEach int) int { return int(r.uvarint(uint64(len(r.b) / bytesEach))) }

// done is the error of a value of which all fields were read.
func (r *reader) done(op string, b []byte) error {
	if r.bad {
		return fault.New(fault.Corrupt, op, "a value of %d bytes that is cut short or out of range", len(b))
	}
	return nil
}
