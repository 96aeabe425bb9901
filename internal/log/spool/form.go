package spool

import (
	"encoding/binary"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// The format is docs/format/spool.md: each write of a unit is a record of the shelf, with one header before its own.
const (
	headerKey   = "firth-spool"
	headerBytes = 8 + 16 + 4 + 1

	headerTopic = 8
	headerIndex = 24
	headerFlags = 28

	flagLast  = 1 << 0 // the last write of its unit
	flagOwned = 1 << 1 // it belongs to the shard of the unit's owner
)

// shelved is a unit as it lies on the disk.
func shelved(it *item, topics *stream.Topics, shelf stream.PartitionID) *stream.Unit {
	writes := it.unit.Writes[:len(it.unit.Writes)-1] // the last is its number
	u := &stream.Unit{Writes: make([]stream.Write, len(writes))}
	heads := make([]byte, headerBytes*len(writes))
	for i := range writes {
		h := heads[i*headerBytes : (i+1)*headerBytes : (i+1)*headerBytes]
		binary.BigEndian.PutUint64(h, it.number)
		if place := topics.Place(writes[i].Partition); place.Topic != nil { // else it is gone, and this is of no topic
			copy(h[headerTopic:], place.Topic.ID[:])
			binary.BigEndian.PutUint32(h[headerIndex:], uint32(place.Index))
		}
		if it.owned && writes[i].Partition == it.shard {
			h[headerFlags] |= flagOwned
		}
		if i == len(writes)-1 {
			h[headerFlags] |= flagLast
		}
		r := *writes[i].Record
		r.Headers = append([]record.Header{{Key: headerKey, Value: h}}, r.Headers...)
		u.Writes[i] = stream.Write{Partition: shelf, Record: &r}
	}
	return u
}

// shelvedUnit is a unit that was read from the disk.
type shelvedUnit struct {
	number uint64
	writes []shelvedWrite
	bytes  int64
}

type shelvedWrite struct {
	topic  record.UUID
	index  int32
	owned  bool
	record record.Record
}

// reader puts units together that are read from the disk. What is no unit is left out.
type reader struct {
	open shelvedUnit
	all  []shelvedUnit
}

// take gives the units that are whole.
func (r *reader) take() []shelvedUnit {
	all := r.all
	r.all = nil
	return all
}

func (r *reader) visit(v *record.View) bool {
	const memory = 256 // as measure has it
	var h []byte
	rec := record.Record{Timestamp: v.Timestamp, Key: cloned(v.Key), Value: cloned(v.Value)}
	for key, value := range v.Headers {
		if h == nil {
			if string(key) != headerKey || len(value) != headerBytes {
				return true
			}
			h = value
			continue
		}
		rec.Headers = append(rec.Headers, record.Header{Key: string(key), Value: cloned(value)})
	}
	if h == nil {
		return true
	}
	if number := binary.BigEndian.Uint64(h); number != r.open.number { // what was open is not whole
		r.open = shelvedUnit{number: number}
	}
	w := shelvedWrite{
		index: int32(binary.BigEndian.Uint32(h[headerIndex:])), owned: h[headerFlags]&flagOwned != 0, record: rec,
	}
	copy(w.topic[:], h[headerTopic:])
	r.open.writes = append(r.open.writes, w)
	r.open.bytes += int64(w.record.EncodedSize()) + memory
	if h[headerFlags]&flagLast != 0 {
		r.all = append(r.all, r.open)
		r.open = shelvedUnit{}
	}
	return true
}

// unit is what the log is to take of a unit; foreign: without what belongs to the shard of its owner, for another has
// had it since.
func (u *shelvedUnit) unit(topics *stream.Topics, foreign bool) (all []stream.Write) {
	for i := range u.writes {
		w := &u.writes[i]
		if foreign && w.owned {
			continue
		}
		t := topics.ByID(w.topic)
		if t == nil || int(w.index) >= len(t.Partitions) || w.index < 0 {
			continue
		}
		all = append(all, stream.Write{Partition: t.Partitions[w.index], Record: &w.record})
	}
	return all
}

// copyOf copies the writes of a unit. One more will follow.
func copyOf(u *stream.Unit) []stream.Write {
	content, headers := 0, 0
	for i := range u.Writes {
		r := u.Writes[i].Record
		content += len(r.Key) + len(r.Value)
		headers += len(r.Headers)
		for j := range r.Headers {
			content += len(r.Headers[j].Value)
		}
	}
	memory, heads := make([]byte, 0, content), make([]record.Header, 0, headers)
	keep := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		at := len(memory)
		memory = append(memory, b...)
		return memory[at:len(memory):len(memory)]
	}
	records := make([]record.Record, len(u.Writes))
	writes := make([]stream.Write, 0, len(u.Writes)+1)
	for i := range u.Writes {
		r, at := u.Writes[i].Record, len(heads)
		for _, h := range r.Headers {
			heads = append(heads, record.Header{Key: h.Key, Value: keep(h.Value)})
		}
		records[i] = record.Record{
			Timestamp: r.Timestamp, Key: keep(r.Key), Value: keep(r.Value), Headers: heads[at:len(heads):len(heads)],
		}
		writes = append(writes, stream.Write{Partition: u.Writes[i].Partition, Record: &records[i]})
	}
	return writes
}

func cloned(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}
