package journal

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// Found is what a scan found besides the frames.
type Found struct {
	End     int64        // behind the last good frame
	NextSeq uint64       // number behind the last good frame's
	Damage  []vfs.Damage // parts below the synced mark that cannot be read
}

// ReadHeader reads the header of a journal file. Errors: NotFound (none was ever written there), Corrupt (what was
// written there is no header any more), Unsupported (a newer format), Denied (it is encrypted, and there is no key),
// IO. Of an encrypted one whose key is lost the header is given with the error: it may be that of an earlier life.
func ReadHeader(f vfs.File, name string) (Header, error) {
	b := make([]byte, headerUsed)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if err != nil && !errors.Is(err, io.EOF) {
			return Header{}, err
		}
		return Header{}, fault.New(fault.Corrupt, "journal.Header", "%s: shorter than a header", name)
	}
	if !slices.ContainsFunc(b[:headerTag], func(c byte) bool { return c != 0 }) {
		return Header{}, fault.New(fault.NotFound, "journal.Header", "%s: no header was written", name)
	}
	return decodeHeader(name, f, b)
}

// FirstFrame gives the nonce and the number of the frame behind the header, for a file whose header is damaged.
// Errors: Corrupt (there is no good frame), IO.
func FirstFrame(f vfs.File) (nonce, seq uint64, err error) {
	size, err := atrest.Bare(f).Size()
	if err != nil {
		return 0, 0, err
	}
	s := &scanner{file: atrest.Bare(f), key: atrest.KeyOf(f), size: size}
	head := make([]byte, frameHeadBytes)
	if HeaderBytes+frameHeadBytes > size {
		return 0, 0, s.bad(HeaderBytes, "frame head cut short")
	}
	if err := s.readAt(head, HeaderBytes); err != nil {
		return 0, 0, err
	}
	s.limits.Nonce = binary.LittleEndian.Uint64(head[frameNonce:])
	if _, err := s.readHead(HeaderBytes); err != nil {
		return 0, 0, err
	}
	return s.limits.Nonce, binary.LittleEndian.Uint64(s.head[frameSeq:]), nil
}

// Limits bound a scan.
type Limits struct {
	End   int64  // frames at or behind it are void; 0: the end of the file
	Trust int64  // below it batches are not read: a checkpoint vouches for them
	Nonce uint64 // of the file's header
}

// Scan reads the frames of a journal file in order and gives each to visit: its entries and, where they
// were read, its batches (nil below Limits.Trust and where damaged). What it gives is valid until visit
// returns.
//
// A bad frame ends the scan when nothing behind it proves that it was once on stable storage; otherwise it
// is Damage: a bad batch under a good head is given as a damaged entry, so that its offsets stay taken, a
// bad head is passed over. Errors: IO, and what visit returns.
func Scan(f vfs.File, lim Limits, visit func(entries []Entry, batches []record.Batch) error) (Found, error) {
	key := atrest.KeyOf(f)
	f = atrest.Bare(f)
	size, err := f.Size()
	if err != nil {
		return Found{}, err
	}
	if lim.End > 0 {
		size = min(size, lim.End)
	}
	s := &scanner{file: f, key: key, limits: lim, size: size}
	found := Found{End: HeaderBytes}
	for pos := int64(HeaderBytes); pos < size; {
		length, err := s.frame(pos)
		if fault.Is(err, fault.Corrupt) {
			what, forged := s.what, s.forged
			next, err := s.resume(pos)
			if forged && next == 0 && err == nil {
				found.Damage = append(found.Damage, vfs.Damage{From: pos, To: size, What: what})
			}
			if err != nil || next == 0 {
				return found, err
			}
			found.Damage = append(found.Damage, vfs.Damage{From: pos, To: next, What: what})
			if length == 0 {
				pos = next
				continue
			}
			if _, err = s.frame(pos); err != nil && !fault.Is(err, fault.Corrupt) {
				return found, err
			}
		} else if err != nil {
			return found, err
		}
		if err := visit(s.entries, s.batches); err != nil {
			return found, err
		}
		pos += length
		found.End, found.NextSeq = pos, s.seq+1
	}
	return found, nil
}

type scanner struct {
	file    vfs.File
	key     *atrest.Key // nil: it is plain
	limits  Limits
	size    int64
	head    []byte
	body    []byte
	near    []byte // bytes of the file that were read ahead
	nearAt  int64  // and where they begin
	entries []Entry
	batches []record.Batch
	what    string // what was bad last
	forged  bool   // and no crash leaves it like that
	synced  int64  // the mark of the last good head
	seq     uint64 // and its number
}

func (s *scanner) bad(pos int64, what string) error {
	s.what, s.forged = what, false
	return fault.New(fault.Corrupt, "journal.Scan", "at byte %d: %s", pos, what)
}

// nearBytes is how much is read at once where frames are small: a file may hold hundreds of thousands of them.
const nearBytes = 64 << 10

// readAt fills p, which lies within the file, and reads ahead. Where that fails it reads p alone: a bad sector
// further on may be nobody's.
func (s *scanner) readAt(p []byte, off int64) error {
	if in := off - s.nearAt; in >= 0 && in+int64(len(p)) <= int64(len(s.near)) {
		copy(p, s.near[in:])
		return nil
	}
	if n := min(nearBytes, s.size-off); int64(len(p)) <= n {
		near := grow(&s.near, int(n))
		if _, err := s.file.ReadAt(near, off); err == nil {
			s.nearAt = off
			copy(p, near)
			return nil
		}
		s.near = s.near[:0]
	}
	_, err := s.file.ReadAt(p, off)
	return fault.Wrap(fault.IO, "journal.Scan", err)
}

// readHead reads and checks the head of the frame at pos.
func (s *scanner) readHead(pos int64) (length int64, err error) {
	fixed := grow(&s.head, frameHeadBytes)
	if pos+frameHeadBytes > s.size {
		return 0, s.bad(pos, "frame head cut short")
	}
	if err := s.readAt(fixed, pos); err != nil {
		return 0, err
	}
	entries := int64(binary.LittleEndian.Uint32(fixed[frameEntries:]))
	length = int64(binary.LittleEndian.Uint32(fixed[frameLength:]))
	if binary.LittleEndian.Uint32(fixed) != frameMagic ||
		binary.LittleEndian.Uint64(fixed[frameNonce:]) != s.limits.Nonce ||
		binary.LittleEndian.Uint64(fixed[framePos:]) != uint64(pos) ||
		length < frameHeadBytes+entries*entryBytes+s.tag() || pos+length > s.size {
		return 0, s.bad(pos, "no frame")
	}
	head := grow(&s.head, int(frameHeadBytes+entries*entryBytes+s.tag()))
	if err := s.readAt(head, pos); err != nil {
		return 0, err
	}
	if binary.LittleEndian.Uint32(head[frameCRC:]) != record.Checksum(0, head[frameNonce:]) {
		return 0, s.bad(pos, "frame head fails its checksum")
	}
	if s.key != nil {
		at := head[frameHeadBytes:]
		if _, err := s.key.Open(at, listPlace(pos), head[frameNonce:frameHeadBytes]); err != nil {
			err = s.bad(pos, "frame head was changed")
			s.forged = true
			return 0, err
		}
	}
	s.synced = int64(binary.LittleEndian.Uint64(head[frameSynced:]))
	return length, nil
}

// frame reads the frame at pos into s.entries and s.batches. Corrupt with a length means that the head is
// good and a batch is bad.
func (s *scanner) frame(pos int64) (length int64, err error) {
	length, err = s.readHead(pos)
	if err != nil {
		return 0, err
	}
	s.seq = binary.LittleEndian.Uint64(s.head[frameSeq:])
	n := int(binary.LittleEndian.Uint32(s.head[frameEntries:]))
	at := pos + frameHeadBytes + int64(n)*entryBytes + s.tag()
	s.entries = s.entries[:0]
	for i := range n {
		var e Entry
		e.decode(s.head[frameHeadBytes+i*entryBytes:])
		if e.Kind == KindBatch {
			e.Pos = at
			at += int64(e.Len) + s.tag()
		}
		s.entries = append(s.entries, e)
	}
	if align(at) != pos+length {
		return 0, s.bad(pos, "frame length does not fit its entries")
	}
	s.batches = s.batches[:0]
	if pos < s.limits.Trust {
		for range n {
			s.batches = append(s.batches, nil)
		}
		return length, nil
	}
	return length, s.readBatches(pos, at)
}

func (s *scanner) readBatches(pos, end int64) error {
	from := pos + frameHeadBytes + int64(len(s.entries))*entryBytes + s.tag()
	body := grow(&s.body, int(end-from))
	if len(body) > 0 {
		if err := s.readAt(body, from); err != nil {
			return err
		}
	}
	var bad error
	for i := range s.entries {
		e := &s.entries[i]
		var b record.Batch
		if e.Kind == KindBatch {
			b = s.open(e, body[e.Pos-from:e.Pos-from+int64(e.Len)+s.tag()])
			if !e.matches(b) {
				e.Damaged, b = true, nil
				bad = s.bad(pos, "a batch fails its checksum")
			}
		}
		s.batches = append(s.batches, b)
	}
	return bad
}

// tag is what sealing adds to a piece.
func (s *scanner) tag() int64 {
	if s.key == nil {
		return 0
	}
	return atrest.TagBytes
}

// open gives the batch that lies in b; nil if it was changed.
func (s *scanner) open(e *Entry, b []byte) record.Batch {
	if s.key == nil {
		return b
	}
	batch, err := s.key.Open(b, e.place(), nil)
	if err != nil {
		return nil
	}
	return batch
}

// resume looks behind a bad frame at bad for a good one whose synced mark lies behind bad: the proof that
// bad was once on stable storage. It returns 0 if there is none.
func (s *scanner) resume(bad int64) (int64, error) {
	const chunk = 1 << 20
	buf := make([]byte, min(chunk, max(0, s.size-bad)))
	for at := bad + alignment; at < s.size; {
		n := min(int64(chunk), s.size-at)
		if _, err := s.file.ReadAt(buf[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, fault.Wrap(fault.IO, "journal.Scan", err)
		}
		for i := int64(0); i+4 <= n; i += alignment {
			if binary.LittleEndian.Uint32(buf[i:]) != frameMagic {
				continue
			}
			_, err := s.readHead(at + i)
			if err == nil && s.synced > bad {
				return at + i, nil
			}
			if err != nil && !fault.Is(err, fault.Corrupt) {
				return 0, err
			}
		}
		at += align(n)
	}
	return 0, nil
}

func grow(buf *[]byte, n int) []byte {
	if cap(*buf) < n {
		b := make([]byte, n)
		copy(b, *buf)
		*buf = b
	}
	*buf = (*buf)[:n]
	return *buf
}
