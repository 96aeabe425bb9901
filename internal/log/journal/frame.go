package journal

import (
	"encoding/binary"
	"slices"

	"github.com/firthmq/firth/internal/kit/atrest"
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

// Size is what the frame takes in a plain file, in bytes.
func (f *Frame) Size() int64 {
	return align(frameHeadBytes + int64(len(f.Entries))*entryBytes + f.bodies)
}

// Most is the most that the frame takes in a file: as it does in an encrypted one.
func (f *Frame) Most() int64 {
	return align(frameHeadBytes + int64(len(f.Entries))*(entryBytes+tag) + tag + f.bodies)
}

const tag = atrest.TagBytes

// sealedSize is what the frame takes in an encrypted file.
func (f *Frame) sealedSize() int64 {
	n := frameHeadBytes + int64(len(f.Entries))*entryBytes + tag + f.bodies
	for i := range f.Entries {
		if f.Entries[i].Kind == KindBatch {
			n += tag
		}
	}
	return align(n)
}

var padding [alignment]byte

// head is what the first bytes of a frame say.
type head struct {
	nonce       uint64 // of the file
	pos, synced int64
	seq         uint64
	size        int64
}

func (h *head) put(b []byte, entries int) {
	binary.LittleEndian.PutUint32(b, frameMagic)
	binary.LittleEndian.PutUint64(b[frameNonce:], h.nonce)
	binary.LittleEndian.PutUint64(b[framePos:], uint64(h.pos))
	binary.LittleEndian.PutUint64(b[frameSynced:], uint64(h.synced))
	binary.LittleEndian.PutUint64(b[frameSeq:], h.seq)
	binary.LittleEndian.PutUint32(b[frameEntries:], uint32(entries))
	binary.LittleEndian.PutUint32(b[frameLength:], uint32(h.size))
}

// listPlace is where the entries of the frame at pos are sealed.
func listPlace(pos int64) atrest.Place {
	return atrest.Place{Pos: pos + frameHeadBytes, What: atrest.PieceList}
}

// seal is layout for an encrypted file: it puts the whole frame into b, whose memory is used again.
func (f *Frame) seal(b []byte, key *atrest.Key, h head) []byte {
	entries := frameHeadBytes + len(f.Entries)*entryBytes
	at := h.pos + int64(entries) + tag
	f.head = append(f.head[:0], make([]byte, frameHeadBytes)...)
	for i := range f.Entries {
		e := &f.Entries[i]
		if e.Kind == KindBatch {
			e.Pos = at
			at += int64(e.Len) + tag
		}
		f.head = e.append(f.head)
	}
	h.put(f.head, len(f.Entries))
	b = append(slices.Grow(b[:0], int(h.size)), f.head[:frameHeadBytes]...)
	b = key.Seal(b, f.head[frameHeadBytes:], listPlace(h.pos), f.head[frameNonce:frameHeadBytes])
	binary.LittleEndian.PutUint32(b[frameCRC:], record.Checksum(0, b[frameNonce:]))
	next := 1 // the first piece is the head's place
	for i := range f.Entries {
		if e := &f.Entries[i]; e.Kind == KindBatch {
			b = key.Seal(b, f.pieces[next], e.place(), nil)
			next++
		}
	}
	return append(b, padding[:h.size-int64(len(b))]...)
}

// layout places the bodies, writes the head and returns the pieces to write at pos. The frame takes no more
// entries afterwards, until Reset.
func (f *Frame) layout(h head) [][]byte {
	at := h.pos + frameHeadBytes + int64(len(f.Entries))*entryBytes
	f.head = append(f.head[:0], make([]byte, frameHeadBytes)...)
	for i := range f.Entries {
		e := &f.Entries[i]
		if e.Kind == KindBatch {
			e.Pos = at
			at += int64(e.Len)
		}
		f.head = e.append(f.head)
	}
	h.put(f.head, len(f.Entries))
	binary.LittleEndian.PutUint32(f.head[frameCRC:], record.Checksum(0, f.head[frameNonce:]))

	if len(f.pieces) == 0 {
		f.pieces = append(f.pieces, nil)
	}
	f.pieces[0] = f.head
	f.pieces = slices.Grow(f.pieces, 2) // for padding and zeros; kept: only the first frame of its length allocates
	if pad := h.pos + h.size - at; pad > 0 {
		return append(f.pieces, padding[:pad])
	}
	return f.pieces
}
