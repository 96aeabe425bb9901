package store

import (
	"errors"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// file is one file of the log folder: a journal, or a segment. It is counted: it is closed, and given to
// the housekeeper to remove or use again, when the last reader is through with it.
type file struct {
	store *Store
	fileID
	name    string
	journal vfs.File         // nil for a segment
	names   journalNames     // journal: of what was put into it; the announcer's, once sealed the housekeeper's
	segment *segment.Segment // nil for a journal
	end     int64            // journal: behind the last frame, once sealed
	plain   weighed          // journal: of topics that are not compacted; the announcer's
	key     *atrest.Key      // of an encrypted journal, which may be a segment by now; nil: there is nothing to open
	sealed  bool             // it is encrypted
	broken  bool             // journal: a sync failed, there is none any more; set before it is sealed
	size    int64            // segment: bytes of the file
	content int64            // segment: of these, those that are not index; of one kept in place all
	renamed bool             // journal: kept in place and named a segment by now; the housekeeper's
	remove  bool             // once nobody reads it; set before the last Release
	gone    bool             // let go of; the housekeeper's
	busy    bool             // a merge reads it: it stays as it is; the housekeeper's
	apart   bool             // it cannot be merged with its neighbours; the housekeeper's
	later   later            // what became of it failed: its roll-up, merging or rewriting; the housekeeper's
	// replaced: a journal in which nothing was ever synced, whose name the next one got.
	replaced bool
	refs     atomic.Int32 // 1 for being in use, 1 for each reader
	began    time.Time    // journal: when this life of it began
	promised atomic.Int64 // when its bytes were promised last, unix nanoseconds of the node's clock; 0: never
}

var _ partition.File = (*file)(nil)

func newJournalFile(s *Store, number uint64, handle vfs.File) *file {
	f := &file{store: s, fileID: fileID{number: number}, name: journalName(number), journal: handle, began: time.Now()}
	f.key, f.sealed = atrest.KeyOf(handle), atrest.Sealed(handle)
	f.refs.Store(1)
	return f
}

func newSegmentFile(s *Store, id fileID, seg *segment.Segment) *file {
	f := &file{store: s, fileID: id, name: seg.Name(), segment: seg, size: seg.Size(), content: seg.Size()}
	f.key, f.sealed = atrest.KeyOf(seg.File()), atrest.Sealed(seg.File())
	if !seg.InPlace() {
		f.content = 0
		for _, sum := range seg.Summaries() {
			f.content += sum.Bytes
		}
	}
	f.refs.Store(1)
	return f
}

// Acquire implements partition.File.
func (f *file) Acquire() bool {
	for {
		n := f.refs.Load()
		if n == 0 {
			return false
		}
		if f.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release implements partition.File.
func (f *file) Release() {
	switch n := f.refs.Add(-1); {
	case n == 0:
		f.store.housekeeper.idle(f)
	case n < 0:
		f.store.opt.Logger.Error("a file was let go of once too often", "file", f.name)
	}
}

// Promise implements partition.File.
func (f *file) Promise() { f.promised.Store(time.Now().UnixNano()) }

// Extents implements partition.File.
func (f *file) Extents(p stream.PartitionID) ([]segment.Extent, error) {
	if f.segment == nil {
		return nil, fault.New(fault.Internal, "log.Read", "%s keeps no extents", f.name)
	}
	return f.segment.Extents(uint32(p))
}

// Names implements partition.File.
func (f *file) Names(p stream.PartitionID) (*segment.Names, error) {
	if f.segment == nil {
		return nil, nil
	}
	return f.segment.Names(uint32(p))
}

// Aborts implements partition.File.
func (f *file) Aborts(p stream.PartitionID, from record.Offset, visit func(segment.Aborted) bool) error {
	if f.segment == nil {
		return fault.New(fault.Internal, "log.Read", "%s does not tell of aborted transactions", f.name)
	}
	return f.segment.Aborts(uint32(p), from, visit)
}

// Read implements partition.File.
func (f *file) Read(
	p stream.PartitionID, extents []segment.Extent, maxBytes int, into []record.Batch,
) ([]record.Batch, error) {
	for left := maxBytes; len(extents) > 0 && (left == maxBytes || int(extents[0].Len) <= left); {
		n, size := near(extents, left)
		var err error
		buf := make([]byte, spread(extents[:n]), spread(extents[:n])+f.tag())
		if into, err = f.readNear(p, buf, extents[:n], into); err != nil {
			return into, err
		}
		left, extents = left-size, extents[n:]
	}
	return into, nil
}

// near is how many of the first extents lie close together and have no more than maxBytes, but one at least, and how
// many bytes they have.
func near(extents []segment.Extent, maxBytes int) (n, size int) {
	n, size = 1, int(extents[0].Len)
	for n < len(extents) && size+int(extents[n].Len) <= maxBytes && extents[n-1].Near(&extents[n]) {
		size += int(extents[n].Len)
		n++
	}
	return n, size
}

// spread is how many bytes extents take in their file, with what lies between them.
func spread(extents []segment.Extent) int64 { return extents[len(extents)-1].End() - extents[0].Pos }

// readNear reads extents that lie close together at once into buf, and checks them: nothing unchecked leaves the log.
func (f *file) readNear(
	p stream.PartitionID, buf []byte, extents []segment.Extent, into []record.Batch,
) ([]record.Batch, error) {
	first := extents[0]
	err := f.open(p, extents, buf)
	if len(extents) > 1 && fault.Is(err, fault.Corrupt) { // those before what is damaged are good
		for i := range extents {
			at := extents[i].Pos - first.Pos
			end := at + int64(extents[i].Len)
			if into, err = f.readNear(p, buf[at:end:end], extents[i:i+1], into); err != nil {
				break
			}
		}
		return into, err
	}
	if err != nil {
		return into, err
	}
	for _, e := range extents {
		at := e.Pos - first.Pos
		if f.sealed {
			e = e.Opened()
		}
		if into, err = e.Split(f.name, buf[at:at+int64(e.Len):at+int64(e.Len)], into); err != nil {
			return into, err
		}
	}
	return into, nil
}

// Fill implements partition.File.
func (f *file) Fill(p stream.PartitionID, extents []segment.Extent, b []byte) error {
	if err := f.open(p, extents, b); err != nil {
		return err
	}
	for _, e := range extents {
		at := e.Pos - extents[0].Pos
		if f.sealed {
			e = e.Opened()
		}
		if err := e.Check(f.name, b[at:at+int64(e.Len)]); err != nil {
			return err
		}
	}
	return nil
}

// handle is the open file.
func (f *file) handle() vfs.File {
	if f.segment != nil {
		return f.segment.File()
	}
	return f.journal
}

func (f *file) readAt(buf []byte, pos int64) error {
	if f.segment != nil {
		return f.segment.ReadAt(buf, pos)
	}
	n, err := f.journal.ReadAt(buf, pos)
	if n < len(buf) && errors.Is(err, io.EOF) {
		return fault.New(fault.Corrupt, "log.Read", "%s ends at byte %d, %d are wanted at %d",
			f.name, pos+int64(n), len(buf), pos)
	}
	return err
}

// Written implements partition.File.
func (f *file) Written() int64 {
	at, err := f.handle().ModTime()
	if err != nil {
		return math.MaxInt64 // nobody knows: what is in it stays
	}
	return at.UnixMilli()
}

// path is where the file is now. Only the housekeeper asks; name is what readers' errors say.
func (f *file) path() string {
	if f.renamed {
		return segmentName(f.fileID)
	}
	return f.name
}

// close closes the handle.
func (f *file) close() error {
	if f.segment != nil {
		return f.segment.Close()
	}
	return f.journal.Close()
}
