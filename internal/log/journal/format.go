package journal

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// The format, byte for byte, is docs/format/journal.md. All numbers are little-endian. Writer and
// scanner share this one table of places.
const (
	// Version is the format version of journal files: it writes 1, and 2 where they are encrypted, and reads 1 to 2. A
	// newer one is refused.
	Version = 2

	// HeaderBytes is what a file's header takes; frames begin behind it.
	HeaderBytes = 4096

	headerMagic = "FIRTHJN1"
	headerUsed  = 80

	headerVersion  = 8
	headerNumber   = 16
	headerPrevious = 24
	headerPrevEnd  = 32
	headerNonce    = 40
	headerCRC      = 60
	headerTag      = 64 // version 2: over all before it

	frameMagic     = 0x4d524601 // "\x01FRM"
	frameHeadBytes = 48

	frameCRC     = 4
	frameNonce   = 8
	framePos     = 16
	frameSynced  = 24
	frameSeq     = 32
	frameEntries = 40
	frameLength  = 44

	entryBytes = 40

	entryPartition = 4
	entryLength    = 8
	entryCRC       = 12
	entryBase      = 16
	entryEpoch     = 24
	entryDelta     = 28
	entryTime      = 32

	alignment = 8
)

// Kind tells what an entry of a frame is.
type Kind uint8

// The kinds of entries.
const (
	// KindBatch carries one record batch.
	KindBatch Kind = 1
	// KindTrim moves the log start offset of a partition to Base. It has no body.
	KindTrim Kind = 2
	// KindReserve says that all producer ids below Base may have been given out. It has no body.
	KindReserve Kind = 3
)

// Name is the file name of a journal.
func Name(number uint64) string { return fmt.Sprintf("%016x.journal", number) }

// ParseName is the number in a journal's file name.
func ParseName(name string) (number uint64, ok bool) {
	digits, found := strings.CutSuffix(name, ".journal")
	if !found || len(digits) != 16 {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	return number, err == nil
}

// Header is the head of a journal file.
type Header struct {
	Number   uint64 // the file's own number
	Previous uint64 // number of the journal before it, 0 for the first
	PrevEnd  int64  // where that one ended: frames behind it are void
	Nonce    uint64 // random; in every frame of this life of the file, so that no other bytes pass for one
	// Key seals what is in this life of the file; nil: it is plain.
	Key *atrest.Key
}

func (h Header) encode() []byte {
	b := make([]byte, HeaderBytes)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[headerVersion:], h.version())
	binary.LittleEndian.PutUint64(b[headerNumber:], h.Number)
	binary.LittleEndian.PutUint64(b[headerPrevious:], h.Previous)
	binary.LittleEndian.PutUint64(b[headerPrevEnd:], uint64(h.PrevEnd))
	binary.LittleEndian.PutUint64(b[headerNonce:], h.Nonce)
	binary.LittleEndian.PutUint32(b[headerCRC:], record.Checksum(0, b[:headerCRC]))
	if h.Key != nil {
		h.Key.Seal(b[headerTag:headerTag], nil, headerPlace, b[:headerTag])
		h.Key.Head(b)
	}
	return b
}

var headerPlace = atrest.Place{What: atrest.PieceHeader}

func (h Header) version() uint32 {
	if h.Key != nil {
		return Version
	}
	return 1
}

func decodeHeader(name string, f vfs.File, b []byte) (Header, error) {
	const op = "journal.Header"
	if len(b) < headerUsed || string(b[:8]) != headerMagic ||
		binary.LittleEndian.Uint32(b[headerCRC:]) != record.Checksum(0, b[:headerCRC]) {
		return Header{}, fault.New(fault.Corrupt, op, "%s: no valid header", name)
	}
	if v := binary.LittleEndian.Uint32(b[headerVersion:]); v < 1 || v > Version {
		return Header{}, fault.New(fault.Unsupported, op, "%s: format version %d, this firth reads 1 to %d",
			name, v, Version).WithHint("open it with the firth that wrote it, or a newer one")
	}
	h := Header{
		Number:   binary.LittleEndian.Uint64(b[headerNumber:]),
		Previous: binary.LittleEndian.Uint64(b[headerPrevious:]),
		PrevEnd:  int64(binary.LittleEndian.Uint64(b[headerPrevEnd:])),
		Nonce:    binary.LittleEndian.Uint64(b[headerNonce:]),
	}
	if binary.LittleEndian.Uint32(b[headerVersion:]) < 2 {
		return h, nil
	}
	return h, h.authentic(name, f, b)
}

// authentic takes the key of an encrypted file and tells whether the header is the one that was sealed by it.
func (h *Header) authentic(name string, f vfs.File, b []byte) error {
	const op = "journal.Header"
	if err := atrest.Lost(f); err != nil {
		return err
	}
	if h.Key = atrest.KeyOf(f); h.Key == nil {
		return fault.New(fault.Denied, op, "%s is encrypted and no key is given", name).WithHint(keyHint)
	}
	if _, err := h.Key.Open(b[headerTag:headerUsed], headerPlace, b[:headerTag]); err != nil {
		return fault.New(fault.Corrupt, op, "%s: its header is not the one that was sealed", name)
	}
	return nil
}

const keyHint = "set encryption.key_file (or key_env) to the key it was written with"

// Entry is one entry of a frame, as its head describes it.
type Entry struct {
	Kind      Kind
	Partition uint32
	Base      record.Offset // batch: first offset; trim: the new log start; reserve: the bound
	Last      record.Offset // batch: last offset
	Epoch     int32         // batch: leader epoch
	MaxTime   int64         // batch: largest timestamp, unix milliseconds
	Pos       int64         // batch: where its bytes are in the file
	Len       int32         // batch: how many bytes
	Damaged   bool          // batch: was on stable storage and is bad now; only a scan sets it

	crc uint32
}

func (e *Entry) append(dst []byte) []byte {
	var b [entryBytes]byte
	b[0] = byte(e.Kind)
	binary.LittleEndian.PutUint32(b[entryPartition:], e.Partition)
	binary.LittleEndian.PutUint32(b[entryLength:], uint32(e.Len))
	binary.LittleEndian.PutUint32(b[entryCRC:], e.crc)
	binary.LittleEndian.PutUint64(b[entryBase:], uint64(e.Base))
	binary.LittleEndian.PutUint32(b[entryEpoch:], uint32(e.Epoch))
	binary.LittleEndian.PutUint32(b[entryDelta:], uint32(e.Last-e.Base))
	binary.LittleEndian.PutUint64(b[entryTime:], uint64(e.MaxTime))
	return append(dst, b[:]...)
}

func (e *Entry) decode(b []byte) {
	e.Kind = Kind(b[0])
	e.Partition = binary.LittleEndian.Uint32(b[entryPartition:])
	e.Len = int32(binary.LittleEndian.Uint32(b[entryLength:]))
	e.crc = binary.LittleEndian.Uint32(b[entryCRC:])
	e.Base = record.Offset(binary.LittleEndian.Uint64(b[entryBase:]))
	e.Epoch = int32(binary.LittleEndian.Uint32(b[entryEpoch:]))
	e.Last = e.Base + record.Offset(int32(binary.LittleEndian.Uint32(b[entryDelta:])))
	e.MaxTime = int64(binary.LittleEndian.Uint64(b[entryTime:]))
}

// matches tells whether body is the batch that the entry describes, whole and unharmed.
func (e *Entry) matches(body record.Batch) bool {
	return len(body) >= record.BatchOverhead && body.Check() == nil && len(body) == body.Size() &&
		body.BaseOffset() == e.Base && body.LeaderEpoch() == e.Epoch && body.CRC() == e.crc
}

// place is where a batch of an encrypted file is sealed.
func (e *Entry) place() atrest.Place {
	return atrest.Place{Pos: e.Pos, What: atrest.PieceBody, Of: e.Partition, First: int64(e.Base)}
}

func align(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }
