package journal

import (
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// stageBytes is how much of a frame is laid out, and written, at once.
const stageBytes = 1 << 20

// Stage is memory in which large frames are laid out in whole blocks, to be written past the system's cache: for
// them the copy into the cache, and the pages it takes, would cost more than anything else a commit does
// (docs/design/0002-commit.md). It serves the writers of one goroutine, one after the other.
type Stage struct {
	from  int64 // bytes from which on a frame is large
	bytes []byte
	off   bool // the file system writes through its cache only

	sealed []byte // where frames of encrypted files are laid out

	// Where the last frame that was written from here ended, and in which file. What of its last block is taken is
	// at the head of the bytes: the next frame begins in that block.
	writer *Writer
	end    int64
}

// NewStage is a stage for frames of from bytes or more. It takes memory when it is used first.
func NewStage(from int64) *Stage { return &Stage{from: from} }

// direct writes a frame past the system's cache, and tells false if this frame shall not go that way
// or none can; what is behind the end is nothing then.
func (w *Writer) direct(l *laid, size int64) (through bool, err error) {
	s := w.stage
	if s == nil || s.off || size < s.from || blocks(w.end+size) > w.limit {
		return false, nil
	}
	at, used, err := s.begin(w)
	if err != nil {
		return false, err
	}
	for i := range l.pieces {
		for p := l.next(i); len(p) > 0; {
			n := copy(s.bytes[used:], p)
			p, used = p[n:], used+n
			if used < len(s.bytes) {
				continue
			}
			if err := s.write(w.file, used, at); err != nil || s.off {
				return false, err
			}
			at, used = at+int64(used), 0
		}
	}
	whole := int(blocks(int64(used)))
	clear(s.bytes[used:whole])
	if err := s.write(w.file, whole, at); err != nil || s.off {
		return false, err
	}
	s.writer, s.end = w, at+int64(used)
	copy(s.bytes, s.bytes[used&^(blockBytes-1):used])
	w.filled = max(w.filled, at+int64(whole))
	return true, nil
}

// begin puts what is taken of the block in which the file ends at the head of the bytes, and tells where that block
// begins and how much of it is taken.
func (s *Stage) begin(w *Writer) (at int64, used int, err error) {
	if s.bytes == nil {
		s.bytes = vfs.DirectBytes(stageBytes)
	}
	used = int(w.end & (blockBytes - 1))
	at = w.end - int64(used)
	if s.writer != w || s.end != w.end {
		_, err = w.file.ReadAt(s.bytes[:used], at)
	}
	s.writer = nil
	return at, used, err
}

// tail is what is taken of the block in which the file ends, if the frame before went past the system's cache. A
// write that begins with it need not wait until the system has read the block.
func (s *Stage) tail(w *Writer) []byte {
	if s == nil || s.writer != w || s.end != w.end {
		return nil
	}
	return s.bytes[:s.end&(blockBytes-1)]
}

// write writes the first n bytes at a place in a file.
func (s *Stage) write(f vfs.File, n int, at int64) error {
	if n == 0 {
		return nil
	}
	err := f.WriteDirect(s.bytes[:n], at)
	if err != nil && fault.Is(err, fault.Unsupported) {
		s.off = true
		return nil
	}
	return err
}
