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

// place is layout for an encrypted file. Of the pieces only the last is as it is written: the first one stands for head
// and entries, the others are sealed by laid.
func (f *Frame) place(h head) [][]byte {
	at := h.pos + frameHeadBytes + int64(len(f.Entries))*entryBytes + tag
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
	if len(f.pieces) == 0 {
		f.pieces = append(f.pieces, nil)
	}
	f.pieces = slices.Grow(f.pieces, 2)
	return append(f.pieces, padding[:h.pos+h.size-at])
}

// laid is a frame that was laid out, to be written piece by piece.
type laid struct {
	frame  *Frame
	pieces [][]byte
	head   head
	key    *atrest.Key // nil: the pieces are what is written
	memory *[]byte     // where they are sealed otherwise
	entry  int         // of the next piece
}

// next gives a piece as it is written, in order, until the piece behind it is asked for.
func (l *laid) next(i int) []byte {
	if l.key == nil {
		return l.pieces[i]
	}
	*l.memory = l.seal((*l.memory)[:0], i)
	return *l.memory
}

// gathered gives the pieces as they are written, all at once.
func (l *laid) gathered() [][]byte {
	if l.key == nil {
		return l.pieces
	}
	b := slices.Grow((*l.memory)[:0], int(l.head.size))
	for i := range l.pieces {
		b = l.seal(b, i)
	}
	*l.memory = b
	return [][]byte{b}
}

// seal appends a piece to b, sealed.
func (l *laid) seal(b []byte, i int) []byte {
	switch i {
	case 0:
		l.entry = 0
		h, at := l.frame.head, len(b)
		b = append(b, h[:frameHeadBytes]...)
		b = l.key.Seal(b, h[frameHeadBytes:], listPlace(l.head.pos), h[frameNonce:frameHeadBytes])
		binary.LittleEndian.PutUint32(b[at+frameCRC:], record.Checksum(0, b[at+frameNonce:]))
		return b
	case len(l.pieces) - 1:
		return append(b, l.pieces[i]...)
	}
	for l.frame.Entries[l.entry].Kind != KindBatch {
		l.entry++
	}
	e := &l.frame.Entries[l.entry]
	l.entry++
	return l.key.Seal(b, l.pieces[i], e.place(), nil)
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
