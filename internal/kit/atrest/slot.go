package atrest

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// The wrapped key of a file is in its head twice, in sectors far from each other: one may be damaged, or cut off by a
// crash while the keys are wrapped anew. The first copy shares the first sector with what the file says of itself: both
// are of one life of the file, or the sector is not.
const (
	slotA     = 96
	slotB     = 3584
	slotBytes = 416

	slotMagic   = "FIRTHKEY"
	slotVersion = 1

	slotAtVersion = 8
	slotAtKind    = 12
	slotAtIDLen   = 13
	slotAtLen     = 14
	slotAtID      = 16
	slotAtKey     = 48
	slotAtCRC     = 412

	idBytes      = slotAtKey - slotAtID
	wrappedBytes = slotAtCRC - slotAtKey

	headMagic    = "FIRTHSB1"
	journalMagic = "FIRTHJN1" // of docs/format/journal.md
	headVersion  = 8
	version      = 1
)

var le = binary.LittleEndian

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// slot is a wrapped data key.
type slot struct {
	kind    Kind
	id      string // of the key that wraps it
	wrapped []byte
}

func (s *slot) encode() ([]byte, error) {
	if len(s.id) > idBytes || len(s.wrapped) > wrappedBytes {
		return nil, fault.New(fault.Invalid, "atrest.Key", "key %q: %d bytes of a wrapped key, at most %d are possible",
			s.id, len(s.wrapped), wrappedBytes)
	}
	b := make([]byte, slotBytes)
	copy(b, slotMagic)
	le.PutUint32(b[slotAtVersion:], slotVersion)
	b[slotAtKind], b[slotAtIDLen] = byte(s.kind), byte(len(s.id))
	le.PutUint16(b[slotAtLen:], uint16(len(s.wrapped)))
	copy(b[slotAtID:], s.id)
	copy(b[slotAtKey:], s.wrapped)
	le.PutUint32(b[slotAtCRC:], checksum(b[:slotAtCRC]))
	return b, nil
}

// decodeSlot reads a slot; ok is false where there is none, or a damaged one.
func decodeSlot(b []byte) (s slot, ok bool) {
	if len(b) < slotBytes || string(b[:len(slotMagic)]) != slotMagic ||
		le.Uint32(b[slotAtCRC:]) != checksum(b[:slotAtCRC]) || le.Uint32(b[slotAtVersion:]) != slotVersion {
		return slot{}, false
	}
	id, n := int(b[slotAtIDLen]), int(le.Uint16(b[slotAtLen:]))
	s.kind = Kind(b[slotAtKind])
	if id > idBytes || n > wrappedBytes || s.kind != Blocks && s.kind != Pieces {
		return slot{}, false
	}
	s.id, s.wrapped = string(b[slotAtID:slotAtID+id]), b[slotAtKey:slotAtKey+n:slotAtKey+n]
	return s, true
}

// decodeHead reads the keys in the head of a file. sealed tells whether the file is encrypted: its head says so, or
// both keys are there.
func decodeHead(head []byte) (slots []slot, sealed bool) {
	if len(head) < headVersion+4 {
		return nil, false
	}
	magic, v := string(head[:len(headMagic)]), le.Uint32(head[headVersion:])
	sealed = magic == headMagic || magic == journalMagic && v >= 2
	for _, at := range []int{slotA, slotB} {
		if len(head) >= at+slotBytes {
			if s, ok := decodeSlot(head[at : at+slotBytes]); ok {
				slots = append(slots, s)
			}
		}
	}
	return slots, sealed || len(slots) == 2
}

// readHead reads the head of a file.
func readHead(f vfs.File) (slots []slot, sealed bool, err error) {
	head := make([]byte, HeaderBytes)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	slots, sealed = decodeHead(head[:n])
	return slots, sealed, nil
}

// State is what the head of a file tells of it.
type State struct {
	Sealed bool
	Key    string // id of the key that its data key is wrapped by; "": it cannot be read
	Bytes  int64  // of the file
}

// Inspect looks at a file of the FS below, for which no key is needed. Errors: NotFound, IO.
func Inspect(fs vfs.FS, name string) (State, error) {
	f, err := fs.Open(name)
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	slots, sealed, err := readHead(f)
	if err != nil {
		return State{}, err
	}
	st := State{Sealed: sealed}
	if len(slots) > 0 {
		st.Key = slots[0].id
	}
	st.Bytes, err = f.Size()
	return st, err
}

// Rewrap has the first key of the ring wrap the data key of a file of the FS below, which may be in use. It tells
// whether that was to be done. One of its two copies is good at any time; the old one is written over. A file that was
// begun as .tmp is passed over. Errors: NotFound, Denied, Corrupt, IO, Full.
func (r *Ring) Rewrap(fs vfs.FS, name string) (done bool, err error) {
	if strings.HasSuffix(name, ".tmp") {
		return false, nil
	}
	f, err := fs.OpenWrite(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	slots, sealed, err := readHead(f)
	if err != nil || !sealed {
		return false, err
	}
	first := (*r.keys.Load())[0].ID()
	if len(slots) == 2 && slots[0].id == first && slots[1].id == first {
		return false, nil
	}
	old, err := r.unwrap(slots, name)
	if err != nil {
		return false, err
	}
	fresh, err := r.wrap(old.secret[:], old.kind, name)
	if err != nil {
		return false, err
	}
	order := []int64{slotB, slotA}
	if _, ok := readSlot(f, slotA); !ok {
		order = []int64{slotA, slotB} // the good one goes last
	}
	for _, at := range order {
		if _, err := f.WriteAt(fresh.slot, at); err != nil {
			return false, err
		}
		if err := f.Sync(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// readSlot reads one copy of the wrapped key.
func readSlot(f vfs.File, at int64) (slot, bool) {
	b := make([]byte, slotBytes)
	if n, _ := f.ReadAt(b, at); n < len(b) {
		return slot{}, false
	}
	return decodeSlot(b)
}
