// Package journal holds the shared journal of all partitions: preallocated files of frames.
//
// A frame is what one commit group writes, and is valid only as a whole: its head (with a checksum)
// lists its entries, and each batch behind the head has its own checksum. The head also tells up to
// where the file was on stable storage when the frame was written: what is bad below that mark is
// corruption, what is bad above it is just the end. Frames carry their place and the random
// nonce of their file, so that neither what an earlier life of a reused file left behind nor a payload
// that looks like a frame is ever taken for one.
//
// The room writes one file (Writer) and reads one file (Scan). Which files there are, who reads them
// and when they go is log/store's business.
package journal

import (
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// Writer appends frames to one journal file. It belongs to one goroutine.
type Writer struct {
	file   vfs.File
	header Header
	limit  int64 // bytes preallocated
	end    int64 // where the next frame goes
	synced int64 // everything below is on stable storage
	filled int64 // space below was written before, by frames, zeros or an earlier life of the file
	seq    uint64
	stage  *Stage // nil: all goes through the system's cache
	sealed []byte // where frames of an encrypted file are sealed, unless there is a stage
}

// A small frame that reaches space never written before takes zeros for what comes behind it along: a sync of
// space that is only reserved writes the file system's metadata too, and takes half as long again.
const (
	smallFrame = 16 << 10
	aheadBytes = 32 << 10
	blockBytes = vfs.DirectBlock // of the file system, commonly; another costs time, nothing else
)

var zeros [aheadBytes]byte

// Prepare makes a file of size bytes ready to become a journal: allocated, and its entry in the folder
// on stable storage. It is no journal before Start.
func Prepare(fs vfs.FS, dir, name string, size int64) (vfs.File, error) {
	f, err := fs.Create(dir + "/" + name)
	if err != nil {
		return nil, err
	}
	if err = f.Preallocate(size); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fs.SyncDir(dir)
	}
	if err != nil {
		_ = f.Close()                   // the first error tells
		_ = fs.Remove(dir + "/" + name) // an empty spare is no loss either way
		return nil, err
	}
	return f, nil
}

// Space is what a prepared file offers.
type Space struct {
	Size   int64 // bytes reserved
	Filled int64 // bytes from the start on that an earlier life of the file has written
}

// Start writes the header into a prepared file. The header is on stable storage with the first Sync, together
// with the first frame, whose number is seq. Without a stage no frame goes past the system's cache.
func Start(f vfs.File, h Header, space Space, seq uint64, stage *Stage) (*Writer, error) {
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		return nil, err
	}
	filled := max(space.Filled, HeaderBytes)
	return &Writer{
		file: f, header: h, limit: space.Size, end: HeaderBytes, filled: filled, seq: seq, stage: stage,
	}, nil
}

// Room is the largest frame that still fits, in bytes.
func (w *Writer) Room() int64 { return w.limit - w.end }

// Fits tells whether there is room for a frame.
func (w *Writer) Fits(f *Frame) bool { return w.size(f) <= w.Room() }

// size is what a frame takes in this file, in bytes.
func (w *Writer) size(f *Frame) int64 {
	if w.header.Key != nil {
		return f.sealedSize()
	}
	return f.Size()
}

// lay lays a frame out, to be written at the end of the file.
func (w *Writer) lay(f *Frame, size int64) laid {
	l := laid{key: w.header.Key, frame: f, memory: &w.sealed}
	if w.stage != nil {
		l.memory = &w.stage.sealed
	}
	l.head = head{nonce: w.header.Nonce, pos: w.end, synced: w.synced, seq: w.seq, size: size}
	if l.key == nil {
		l.pieces = f.layout(l.head)
	} else {
		l.pieces = f.place(l.head)
	}
	return l
}

// Empty tells whether no frame was written yet.
func (w *Writer) Empty() bool { return w.end == HeaderBytes }

// Header is the head of the file.
func (w *Writer) Header() Header { return w.header }

// Number is the number of the file.
func (w *Writer) Number() uint64 { return w.header.Number }

// End is where the next frame goes; Synced is the end of what is on stable storage.
func (w *Writer) End() int64 { return w.end }

// Synced is the end of what is on stable storage.
func (w *Writer) Synced() int64 { return max(w.synced, HeaderBytes) }

// Seq is the number of the next frame.
func (w *Writer) Seq() uint64 { return w.seq }

// Write appends a frame. After an error the file must take no more frames.
func (w *Writer) Write(f *Frame) error {
	size := w.size(f)
	if size > w.Room() {
		return fault.New(fault.Internal, "journal.Write", "frame of %d bytes into %d", size, w.Room())
	}
	l := w.lay(f, size)
	through, err := w.direct(&l, size)
	if !through && err == nil {
		err = w.buffered(l.gathered(), size)
	}
	if err != nil {
		return err
	}
	w.end += size
	w.seq++
	return nil
}

// buffered writes the pieces of a frame through the system's cache. Behind a frame that went past it, whole blocks
// are written, which the system need not read first.
func (w *Writer) buffered(pieces [][]byte, size int64) error {
	at, ahead := w.end, w.ahead(size)
	if tail := w.stage.tail(w); len(tail) > 0 {
		pieces = slices.Insert(slices.Clone(pieces), 0, tail)
		at -= int64(len(tail))
		ahead = max(ahead, min(blocks(w.end+size), w.limit)-w.end-size)
	}
	if ahead > 0 {
		pieces = append(pieces, zeros[:ahead])
	}
	if _, err := w.file.WriteVecAt(pieces, at); err != nil {
		return err
	}
	w.filled = max(w.filled, w.end+size+ahead)
	return nil
}

// ahead is how many zeros to write behind a small frame of size bytes.
func (w *Writer) ahead(size int64) int64 {
	end := w.end + size
	if size > smallFrame || end <= w.filled {
		return 0
	}
	to := (end + aheadBytes) &^ (blockBytes - 1)
	return min(to, w.limit) - end
}

// blocks is n in whole blocks.
func blocks(n int64) int64 { return (n + blockBytes - 1) &^ (blockBytes - 1) }

// Sync puts all frames on stable storage. After an error it must not be tried again on this file: the
// kernel may have dropped the pages and would report success.
func (w *Writer) Sync() error {
	if err := w.file.Sync(); err != nil {
		return err
	}
	w.synced = w.end
	return nil
}

// Stable tells that everything below a place is on stable storage: another open file of the journal was synced. It
// never goes back.
func (w *Writer) Stable(end int64) { w.synced = max(w.synced, end) }
