package store

import (
	"bytes"
	"slices"

	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// Naming gives records their MQTT topic names, by one mapping. It belongs to one goroutine.
type Naming interface {
	// TopicName is the name of a record of a log topic, until the next call; ok is false for a record that
	// is no MQTT message.
	TopicName(logTopic string, v *record.View) (name []byte, ok bool)
	// Fingerprint tells mappings apart. It is not 0.
	Fingerprint() uint64
}

// useNaming has the names of the next files given by the mapping in force.
func (k *housekeeper) useNaming() {
	k.naming = nil
	if k.s.opt.Naming != nil {
		k.naming = k.s.opt.Naming()
	}
}

// fingerprint is that of the naming in use; 0 without one.
func (k *housekeeper) fingerprint() uint64 {
	if k.naming == nil {
		return 0
	}
	return k.naming.Fingerprint()
}

// names yields the MQTT topic names in a batch, for the index of its file. nil: they are not known.
func (k *housekeeper) names(place stream.Place, b record.Batch) func(yield func([]byte) bool) {
	return topicNames(k.naming, place, b, &k.scratch)
}

func topicNames(naming Naming, place stream.Place, b record.Batch, s *record.Scratch) func(yield func([]byte) bool) {
	if naming == nil || place.Topic == nil || place.Topic.Internal() {
		return nil
	}
	return func(yield func([]byte) bool) {
		var it record.Iter
		if b.Count() == 0 || it.Reset(b, s) != nil {
			return // a batch that cannot be unpacked has no MQTT messages in it
		}
		var last struct{ key, headers []byte }
		for v := new(record.View); it.Next(v); {
			if last.key != nil && bytes.Equal(v.Key, last.key) && bytes.Equal(v.EncodedHeaders(), last.headers) {
				continue // of the same name: a device sends some in a row
			}
			last.key, last.headers = v.Key, v.EncodedHeaders()
			if name, ok := naming.TopicName(place.Topic.Name, v); ok && !yield(name) {
				return
			}
		}
	}
}

// nameRun finds the names of what a journal that is kept in place has of a partition. If those who appended it did
// not tell them it is read, as far as it was built here: what Kafka's producers send compressed or numbered is bulk, is
// seldom looked through by name, and reading it again would take of the disk what they need. While files wait, none is
// read.
func (k *housekeeper) nameRun(f *file, pt part) *segment.Names {
	place := k.s.Topics().Place(pt.p.ID)
	if k.naming == nil || place.Topic == nil || place.Topic.Internal() {
		return nil
	}
	if names := k.told(f, pt); names != nil {
		return names
	}
	nb := segment.NamesBuilder{Mapping: k.fingerprint()}
	var buf []byte // what is read goes into the same memory, one after the other
	for i := range pt.extents {
		e := &pt.extents[i]
		if !e.Built() || k.behind() {
			nb.Add(e.Last, int(e.Len), nil)
			continue
		}
		b := pt.p.Cached(e.Base) // most of a file that was just filled is still in memory
		if b == nil {
			buf = slices.Grow(buf[:0], int(e.Len))[:e.Len]
			if b = buf; f.Fill(pt.p.ID, pt.extents[i:i+1], buf) != nil { // who reads what is damaged is told
				nb.Add(e.Last, int(e.Len), nil)
				continue
			}
		}
		nb.Add(e.Last, int(e.Len), k.names(place, b))
	}
	return nb.Names()
}

// told gives the names that were told by those who appended what a file has of a partition, once; nil: not all were.
func (k *housekeeper) told(f *file, pt part) *segment.Names {
	if k.naming == nil {
		return nil
	}
	return f.names.take(pt, k.fingerprint())
}

// behind tells whether other files wait for the housekeeper.
func (k *housekeeper) behind() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.mu.sealed, func(f *file) bool { return f.later.tries == 0 })
}

// skip passes over what has no record of a wanted name.
func (s *Store) skip(p *partition.Partition, from, end record.Offset, names *stream.Names) record.Offset {
	if names == nil || names.Mapping == 0 {
		return from
	}
	return p.Skip(from, end, names.Mapping, &segment.Wanted{Match: names.Match, Stems: names.Stems})
}
