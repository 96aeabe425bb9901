package journal

import (
	"encoding/binary"
	"slices"

	"github.com/firthmq/firth/internal/log/record"
)

// Frame gathers what one commit group writes. It is used again after Reset.
type Frame struct {
	Entries []Entry // Pos of a batch is valid after Write
	pieces  [][]byte
	head    []byte
	bodies  int64
}

// Reset empties the frame.
func (f *Frame) Reset() {
	clear(f.pieces)
	f.Entries, f.pieces, f.head, f.bodies = f.Entries[:0], f.pieces[:0], f.head[:0], 0
}

// AddBatch adds a sealed batch: base offset and leader epoch are written.
func (f *Frame) AddBatch(partition uint32, b record.Batch) {
	if len(f.pieces) == 0 {
		f.pieces = append(f.pieces, nil) // the head's place
	}
	f.Entries = append(f.Entries, Entry{
		Kind: KindBatch, Partition: partition, Base: b.BaseOffset(), Last: b.LastOffset(),
		Epoch: b.LeaderEpoch(), MaxTime: b.MaxTimestamp(), Len: int32(len(b)), crc: b.CRC(),
	})
	f.pieces = append(f.pieces, b)
	f.bodies += int64(len(b))
}

// AddTrim adds a move of a log start offset.
func (f *Frame) AddTrim(partition uint32, start record.Offset) {
	f.Entries = append(f.Entries, Entry{Kind: KindTrim, Partition: partition, Base: start, Last: start})
}

// AddReserve adds a reservation of all producer ids below bound.
func (f *Frame) AddReserve(bound int64) {
	f.Entries = append(f.Entries, Entry{Kind: KindReserve, Base: record.Offset(bound), Last: record.Offset(bound)})
}

// Empty tells whether there is nothing in it.
func (f *Frame) Empty() bool { return len(f.Entries) == 0 }

// Size is what the frame takes in a file, in bytes.
func (f *Frame) Size() int64 {
	return align(frameHeadBytes + int64(len(f.Entries))*entryBytes + f.bodies)
}

var padding [alignment]byte

// layout places the bodies, writes the head and returns the pieces to write at pos. The frame takes no more
// entries afterwards, until Reset.
func (f *Frame) layout(nonce uint64, pos, synced int64, seq uint64) [][]byte {
	at := pos + frameHeadBytes + int64(len(f.Entries))*entryBytes
	f.head = append(f.head[:0], make([]byte, frameHeadBytes)...)
	for i := range f.Entries {
		e := &f.Entries[i]
		if e.Kind == KindBatch {
			e.Pos = at
			at += int64(e.Len)
		}
		f.head = e.append(f.head)
	}
	h := f.head
	binary.LittleEndian.PutUint32(h, frameMagic)
	binary.LittleEndian.PutUint64(h[frameNonce:], nonce)
	binary.LittleEndian.PutUint64(h[framePos:], uint64(pos))
	binary.LittleEndian.PutUint64(h[frameSynced:], uint64(synced))
	binary.LittleEndian.PutUint64(h[frameSeq:], seq)
	binary.LittleEndian.PutUint32(h[frameEntries:], uint32(len(f.Entries)))
	binary.LittleEndian.PutUint32(h[frameLength:], uint32(f.Size()))
	binary.LittleEndian.PutUint32(h[frameCRC:], record.Checksum(0, h[frameNonce:]))

	if len(f.pieces) == 0 {
		f.pieces = append(f.pieces, nil)
	}
	f.pieces[0] = h
	f.pieces = slices.Grow(f.pieces, 2) // for padding and zeros; kept: only the first frame of its length allocates
	if pad := pos + f.Size() - at; pad > 0 {
		return append(f.pieces, padding[:pad])
	}
	return f.pieces
}
