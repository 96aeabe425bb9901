package txn

import (
	"encoding/binary"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
)

// version is the format version of a value: it writes 1, reads 1. The format is docs/format/internal-topics.md.
const version = 1

// Encode is the value as it stands in the log: its key is the transactional id.
func (t *Txn) Encode() []byte {
	b := []byte{version}
	b = binary.AppendVarint(b, t.ProducerID)
	b = binary.AppendVarint(b, int64(t.Epoch))
	b = binary.AppendVarint(b, int64(t.LastEpoch))
	b = binary.AppendVarint(b, t.LastID)
	b = binary.AppendVarint(b, int64(t.TimeoutMillis))
	b = append(b, byte(t.State))
	b = binary.AppendVarint(b, t.Updated)
	b = binary.AppendVarint(b, t.Announced.Began)
	b = binary.AppendUvarint(b, uint64(len(t.Announced.Partitions)))
	for _, p := range t.Announced.Partitions {
		b = appendString(b, p.Topic)
		b = binary.AppendVarint(b, int64(p.Index))
	}
	b = binary.AppendUvarint(b, uint64(len(t.Announced.Groups)))
	for _, g := range t.Announced.Groups {
		b = appendString(b, g)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Announced.Offsets)))
	for i := range t.Announced.Offsets {
		b = t.Announced.Offsets[i].append(b)
	}
	return b
}

func (o *Offset) append(b []byte) []byte {
	b = appendString(b, o.Group)
	b = appendString(b, o.Topic)
	b = append(b, o.TopicID[:]...)
	b = binary.AppendVarint(b, int64(o.Index))
	b = binary.AppendVarint(b, o.At)
	b = binary.AppendVarint(b, int64(o.LeaderEpoch))
	return appendString(b, o.Metadata)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Decode reads a value. Errors: Unsupported (a newer format), Corrupt.
func Decode(value []byte) (Txn, error) {
	const op = "txn.Decode"
	if len(value) == 0 {
		return Txn{}, fault.New(fault.Corrupt, op, "an empty value")
	}
	if value[0] != version {
		return Txn{}, fault.New(fault.Unsupported, op, "format %d, this firth reads %d", value[0], version)
	}
	d := decoder{b: value[1:]}
	t := Txn{
		ProducerID: d.varint(), Epoch: int16(d.varint()), LastEpoch: int16(d.varint()), LastID: d.varint(),
		TimeoutMillis: int32(d.varint()), State: State(d.byte()), Updated: d.varint(),
	}
	a := &t.Announced
	a.Began = d.varint()
	for n := d.count(); n > 0; n-- {
		a.Partitions = append(a.Partitions, Partition{Topic: d.string(), Index: int32(d.varint())})
	}
	for n := d.count(); n > 0; n-- {
		a.Groups = append(a.Groups, d.string())
	}
	for n := d.count(); n > 0; n-- {
		a.Offsets = append(a.Offsets, d.offset())
	}
	if d.bad || len(d.b) > 0 || t.State > Aborted {
		return Txn{}, fault.New(fault.Corrupt, op, "%d bytes that are no transactional id", len(value))
	}
	return t, nil
}

// decoder reads the fields of a value; after the first bad one everything is zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); len(v) == 1 {
		return v[0]
	}
	return 0
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if d.take(max(n, 0)); n <= 0 || d.bad {
		d.bad = true
		return 0
	}
	return v
}

// count reads a number of items, each of which takes at least a byte.
func (d *decoder) count() int {
	v, n := binary.Uvarint(d.b)
	if d.take(max(n, 0)); n <= 0 || d.bad || v > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(v)
}

func (d *decoder) string() string { return string(d.take(d.count())) }

func (d *decoder) offset() Offset {
	o := Offset{Group: d.string(), Topic: d.string()}
	copy(o.TopicID[:], d.take(len(o.TopicID)))
	o.Index, o.At, o.LeaderEpoch = int32(d.varint()), d.varint(), int32(d.varint())
	o.Metadata = d.string()
	return o
}

// Bytes is about what the value takes in memory.
func (t *Txn) Bytes() int64 {
	n := int64(128)
	for _, p := range t.Announced.Partitions {
		n += int64(len(p.Topic)) + 24
	}
	for _, g := range t.Announced.Groups {
		n += int64(len(g)) + 16
	}
	for i := range t.Announced.Offsets {
		o := &t.Announced.Offsets[i]
		n += int64(len(o.Group)+len(o.Topic)+len(o.Metadata)) + 96
	}
	return n
}

// GroupsOf lists the groups that have offsets in the transaction, each once.
func (a *Announced) GroupsOf() []string {
	var all []string
	for i := range a.Offsets {
		if g := a.Offsets[i].Group; !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	return all
}
