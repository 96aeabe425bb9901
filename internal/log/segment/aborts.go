package segment

import (
	"encoding/binary"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// Aborted is a transaction that was aborted: what its producer wrote from First up to its marker at Last is seen by
// nobody who reads committed records.
type Aborted struct {
	ProducerID  int64
	First, Last record.Offset
	// Stable is the last stable offset behind its marker: whatever ends later began there or behind.
	Stable record.Offset
}

// blockBytes is the size of a block of aborted transactions, of which the last one may be shorter: who looks for one
// reads a few blocks, however many there are.
const blockBytes = 4 << 10

// Aborts is the aborted transactions whose markers are in a run, as the footer keeps them: about 5 bytes each. They are
// in the order of their markers, in blocks that can be read one without the other. The zero Aborts has none.
type Aborts struct {
	done  []byte // whole blocks
	block []byte // the last one, without its length and checksum
	last  Aborted
}

// Add adds a transaction behind those that are there: its marker is behind theirs.
func (as *Aborts) Add(a Aborted) {
	if abortsLenBytes+len(as.block)+abortBytes+crcBytes > blockBytes {
		as.done = appendBlock(as.done, as.block, blockBytes)
		as.block = as.block[:0]
	}
	if len(as.block) == 0 {
		as.last = Aborted{}
	}
	as.block = binary.AppendVarint(as.block, a.ProducerID-as.last.ProducerID)
	as.block = binary.AppendUvarint(as.block, uint64(a.Last-as.last.Last))
	as.block = binary.AppendUvarint(as.block, uint64(a.Last-a.First))
	as.block = binary.AppendUvarint(as.block, uint64(a.Last+1-a.Stable))
	as.last = a
}

// abortBytes is what one takes at most.
const abortBytes = 4 * binary.MaxVarintLen64

// abortsLenBytes is the size of the length at the head of a block.
const abortsLenBytes = 2

// bytes is how long append makes it.
func (as *Aborts) bytes() int {
	if len(as.block) == 0 {
		return 0
	}
	return len(as.done) + abortsLenBytes + len(as.block) + crcBytes
}

func (as *Aborts) append(dst []byte) []byte {
	if len(as.block) == 0 {
		return dst
	}
	return appendBlock(append(dst, as.done...), as.block, 0)
}

// appendBlock appends one block: the length of its entries, these, zeros up to so many bytes in all, and the checksum
// of it.
func appendBlock(dst, entries []byte, size int) []byte {
	from := len(dst)
	dst = append(le.AppendUint16(dst, uint16(len(entries))), entries...)
	dst = append(dst, make([]byte, max(0, size-crcBytes-(len(dst)-from)))...)
	return appendSum(dst, from)
}

// decodeAborts appends the transactions of a block to into; ok is false if it is damaged.
func decodeAborts(b []byte, into []Aborted) (_ []Aborted, ok bool) {
	if len(b) < abortsLenBytes+crcBytes || !sumMatches(b) {
		return into, false
	}
	n := abortsLenBytes + int(le.Uint16(b))
	if n+crcBytes > len(b) {
		return into, false
	}
	had, behind := len(into), record.Offset(0) // the marker before
	for last, rest := (Aborted{}), b[abortsLenBytes:n]; len(rest) > 0; into = append(into, last) {
		producer, p := binary.Varint(rest)
		marker, m := binary.Uvarint(rest[max(p, 0):])
		length, l := binary.Uvarint(rest[max(p, 0)+max(m, 0):])
		back, s := binary.Uvarint(rest[max(p, 0)+max(m, 0)+max(l, 0):])
		if p <= 0 || m <= 0 || l <= 0 || s <= 0 {
			return into[:had], false
		}
		rest = rest[p+m+l+s:]
		last.ProducerID += producer
		last.Last += record.Offset(marker)
		last.First, last.Stable = last.Last-record.Offset(length), last.Last+1-record.Offset(back)
		if last.Last <= behind || last.First < 0 || last.First > last.Last ||
			last.Stable < 0 || last.Stable > last.Last+1 {
			return into[:had], false
		}
		behind = last.Last
	}
	return into, len(into) > had
}

// Aborts visits the aborted transactions of a partition whose markers are in this file, at an offset or behind it, in
// the order of their markers, until visit returns false. It holds one block of them in memory.
// Errors: NotFound, Corrupt (this run's only), IO.
func (s *Segment) Aborts(partition uint32, from record.Offset, visit func(Aborted) bool) error {
	const op = "segment.Aborts"
	i, ok := s.find(partition)
	if !ok {
		return fault.New(fault.NotFound, op, "%s has nothing of partition %d", s.name, partition)
	}
	sum, at := &s.summaries[i], &s.places[i]
	if sum.Aborts <= 0 {
		return nil
	}
	r := abortReader{s: s, partition: partition, pos: at.aborts(), size: int64(sum.Aborts)}
	block, err := r.search(from)
	for blocks := r.blocks(); err == nil && block < blocks; block++ {
		if err = r.read(block); err != nil {
			break
		}
		for _, a := range r.entries {
			if a.Last >= from && !visit(a) {
				return nil
			}
		}
	}
	return err
}

// abortReader reads the blocks of a run.
type abortReader struct {
	s         *Segment
	partition uint32
	pos, size int64
	buf       []byte
	at        int64     // the block that entries are of, plus one; 0: none
	entries   []Aborted // of the block read last
}

func (r *abortReader) blocks() int64 { return (r.size + blockBytes - 1) / blockBytes }

// search finds the first block with a marker at an offset or behind it.
func (r *abortReader) search(from record.Offset) (int64, error) {
	low, high := int64(0), r.blocks()-1 // the last one may have none either
	for low < high {
		middle := (low + high) / 2
		if err := r.read(middle); err != nil {
			return 0, err
		}
		if r.entries[len(r.entries)-1].Last >= from {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

// read reads a block, unless it was the last one.
func (r *abortReader) read(block int64) error {
	const op = "segment.Aborts"
	if r.at == block+1 {
		return nil
	}
	pos := r.pos + block*blockBytes
	n := int(min(blockBytes, r.size-block*blockBytes))
	r.at, r.buf = 0, slices.Grow(r.buf[:0], n)[:n]
	if err := readFull(r.s.tables, r.buf, pos); err != nil {
		return fault.Wrap(fault.KindOf(err), op, err)
	}
	var ok bool
	if r.entries, ok = decodeAborts(r.buf, r.entries[:0]); !ok {
		return fault.New(fault.Corrupt, op, "%s: aborted transactions of partition %d at byte %d fail their checksum",
			r.s.name, r.partition, pos).WithHint("run firth log check on the stopped log; other data is not affected")
	}
	r.at = block + 1
	return nil
}
