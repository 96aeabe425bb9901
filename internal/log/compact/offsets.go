package compact

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/firthmq/firth/internal/log/record"
)

// Offsets knows for each key the last offset that counts, in bounded memory: an open table of digests, as the
// offset map of Kafka's cleaner. Two keys with the same digest would cost a record. A digest has 128 bits, and nobody
// can look for two keys that agree in them: the seeds are secret, and new with each table. It belongs to one goroutine.
type Offsets struct {
	slots   []slot // a power of two
	used    int
	most    int // slots
	seeds   [2]maphash.Seed
	input   []byte // of a digest
	scratch *record.Scratch
}

// slot is a key, and the offset of its last record plus one; 0: free.
type slot struct {
	high, low uint64
	behind    record.Offset
}

const (
	slotBytes  = 24
	leastSlots = 1 << 10
)

// NewOffsets makes a table of at most maxBytes, which grows with what is put in; it takes 24 KiB in any case.
// Compressed batches are unpacked with the help of s.
func NewOffsets(maxBytes int64, s *record.Scratch) *Offsets {
	most := leastSlots
	for int64(2*most*slotBytes) <= maxBytes {
		most *= 2
	}
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	return &Offsets{slots: make([]slot, leastSlots), most: most, seeds: seeds, scratch: s}
}

// Reset forgets everything, and gives back the memory of a large table.
func (o *Offsets) Reset() {
	o.used, o.input = 0, o.input[:0]
	if len(o.slots) > leastSlots {
		o.slots = make([]slot, leastSlots)
		return
	}
	clear(o.slots)
}

// Len is the number of keys.
func (o *Offsets) Len() int { return o.used }

// Add notes the keys of a batch of a partition. It returns the offset behind the last record that was noted: when
// the table is full, that lies within the batch, and nothing more may be added. Records without a key and those of
// control batches do not count. Errors: Corrupt, TooLarge (decompressed).
func (o *Offsets) Add(partition uint32, b record.Batch) (end record.Offset, full bool, err error) {
	end = b.LastOffset() + 1
	if b.Attributes().Control() || b.Count() == 0 {
		return end, false, nil
	}
	var it record.Iter
	if err := it.Reset(b, o.scratch); err != nil {
		return end, false, err
	}
	for v := (record.View{}); it.Next(&v); {
		if v.Key != nil && !o.put(partition, v.Key, v.Offset) {
			return v.Offset, true, nil
		}
	}
	return end, false, it.Err()
}

// Last is the offset of the last record with a key, if one was noted.
func (o *Offsets) Last(partition uint32, key []byte) (record.Offset, bool) {
	s := o.find(o.sum(partition, key))
	return s.behind - 1, s.behind != 0
}

// put is false if there is no room for another key.
func (o *Offsets) put(partition uint32, key []byte, at record.Offset) bool {
	high, low := o.sum(partition, key)
	s := o.find(high, low)
	if s.behind == 0 {
		if o.used >= len(o.slots)/4*3 {
			if len(o.slots) >= o.most {
				return false
			}
			o.grow()
			s = o.find(high, low)
		}
		o.used++
	}
	*s = slot{high: high, low: low, behind: max(s.behind, at+1)}
	return true
}

// sum is the digest of a key.
func (o *Offsets) sum(partition uint32, key []byte) (high, low uint64) {
	o.input = append(binary.LittleEndian.AppendUint32(o.input[:0], partition), key...)
	return maphash.Bytes(o.seeds[0], o.input), maphash.Bytes(o.seeds[1], o.input)
}

// find is the slot of a key, or the free one where it belongs.
func (o *Offsets) find(high, low uint64) *slot {
	mask := uint64(len(o.slots) - 1)
	for i := low & mask; ; i = (i + 1) & mask {
		if s := &o.slots[i]; s.behind == 0 || s.low == low && s.high == high {
			return s
		}
	}
}

func (o *Offsets) grow() {
	old := o.slots
	o.slots = make([]slot, 2*len(old))
	for i := range old {
		if old[i].behind != 0 {
			*o.find(old[i].high, old[i].low) = old[i]
		}
	}
}
