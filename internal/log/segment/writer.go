package segment

import (
	"math"
	"math/rand/v2"
	"path"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

const (
	// writeSize is how many bytes go to the file at a time.
	writeSize = 1 << 20
	tmpSuffix = ".tmp"
)

// Writer makes a rolled-up file. It belongs to one goroutine. It ends with Finish or Abort.
type Writer struct {
	fs    vfs.FS
	name  string
	file  vfs.File
	nonce uint64
	buf   []byte // not written yet
	pos   int64  // in the file, where buf goes
	ix    Index
	names NamesBuilder // of the last run
	known *Names       // of the last run, if Known told them
	err   error        // the first failure: the file is lost

	every  int64 // bytes after which what was written is synced; 0: at the end
	synced int64 // bytes that were
}

// Create begins the file name+".tmp", which Finish gives its name. Errors: Full, IO.
func Create(fs vfs.FS, name string) (*Writer, error) {
	f, err := fs.Create(name + tmpSuffix)
	if err != nil {
		return nil, err
	}
	w := &Writer{fs: fs, name: name, file: f, nonce: rand.Uint64(), buf: make([]byte, 0, writeSize)}
	w.buf = appendHeader(w.buf, w.nonce)
	return w, nil
}

// ByMapping says by which mapping the names are given that come from now on.
func (w *Writer) ByMapping(mapping uint64) { w.names.Mapping = mapping }

// SyncEvery has what was written synced each time it has grown by so many bytes: one large sync at the end would hold
// up everybody who writes to the disk.
func (w *Writer) SyncEvery(bytes int64) { w.every = bytes }

// Size is how long the file is so far in bytes, without the footer.
func (w *Writer) Size() int64 { return w.pos + int64(len(w.buf)) }

func appendHeader(dst []byte, nonce uint64) []byte {
	var b [HeaderBytes]byte
	copy(b[:], headerMagic)
	le.PutUint32(b[headerVersion:], Version)
	le.PutUint64(b[headerNonce:], nonce)
	le.PutUint32(b[headerCRC:], sum(b[:headerCRC]))
	return append(dst, b[:]...)
}

// appendMark writes the mark at the head of a run, at pos. Only Salvage reads it.
func appendMark(dst []byte, nonce uint64, pos int64, r *Run) []byte {
	var b [markBytes]byte
	le.PutUint32(b[:], markMagic)
	le.PutUint32(b[markPartition:], r.Partition)
	le.PutUint64(b[markNonce:], nonce)
	le.PutUint64(b[markPos:], uint64(pos))
	if c := r.Compacted; c != nil {
		le.PutUint64(b[markBase:], uint64(c.Base))
		le.PutUint64(b[markGaps:], uint64(c.Gaps))
		le.PutUint64(b[markClean:], uint64(c.Clean))
	}
	const body = markBytes - crcBytes
	le.PutUint32(b[body:], sum(b[:body]))
	return append(dst, b[:]...)
}

// Append adds a sealed batch. Partitions must come in ascending order, and the batches of each in
// ascending order of their offsets; a compacted run begins with Compact. topics gives the MQTT topic names
// of the batch's records, again and again if it likes; nil means that they are not known. The batch is copied.
// Errors: Invalid (out of order), Corrupt (a bad batch is not passed on), Full, IO. After one of the
// last two, only Abort is left.
func (w *Writer) Append(partition uint32, b record.Batch, topics func(yield func([]byte) bool)) error {
	if w.err != nil {
		return w.err
	}
	if err := b.Check(); err != nil {
		return err
	}
	if err := w.order(partition, b); err != nil {
		return err
	}
	if n := len(w.ix); n == 0 || w.ix[n-1].Partition != partition {
		w.beginRun(Run{Partition: partition})
	}
	w.ix[len(w.ix)-1].add(Of(b, w.pos+int64(len(w.buf))), b)
	w.names.Add(b.LastOffset(), len(b), topics)
	w.buf = append(w.buf, b...)
	if len(w.buf) >= writeSize {
		return w.flush()
	}
	return nil
}

// Compact begins the run of a partition that was compacted. At least one batch has to follow.
// Errors: Invalid (out of order, or not compacted).
func (w *Writer) Compact(partition uint32, c Compacted) error {
	if n := len(w.ix); n > 0 && w.ix[n-1].Partition >= partition || !c.sane(math.MaxInt64-1) {
		return fault.New(fault.Invalid, "segment.Compact", "partition %d: %+v", partition, c)
	}
	w.beginRun(Run{Partition: partition, Compacted: &c})
	return nil
}

// Known tells the names of the records of the last run, where Append was told none.
func (w *Writer) Known(names *Names) { w.known = names }

// Aborted adds a transaction to the last run of which the marker is in it. Markers must come in ascending order.
func (w *Writer) Aborted(a Aborted) { w.ix[len(w.ix)-1].Aborts.Add(a) }

func (w *Writer) beginRun(r Run) {
	w.endRun()
	w.ix = append(w.ix, r)
	w.buf = appendMark(w.buf, w.nonce, w.pos+int64(len(w.buf)), &r)
}

// order refuses a batch that does not come behind the last one.
func (w *Writer) order(partition uint32, b record.Batch) error {
	const op = "segment.Append"
	if b.LastOffset() < b.BaseOffset() {
		return fault.New(fault.Invalid, op, "batch without offsets at %d", b.BaseOffset())
	}
	if len(w.ix) == 0 {
		return nil
	}
	run := &w.ix[len(w.ix)-1]
	last := record.Offset(-1)
	if run.Compacted != nil {
		last = run.Compacted.Base - 1
	}
	if n := len(run.Extents); n > 0 {
		last = run.Extents[n-1].Last
	}
	if partition < run.Partition || partition == run.Partition && b.BaseOffset() <= last {
		return fault.New(fault.Invalid, op, "partition %d offset %d behind partition %d offset %d",
			partition, b.BaseOffset(), run.Partition, last)
	}
	return nil
}

// endRun closes the last run of the index.
func (w *Writer) endRun() {
	if len(w.ix) == 0 {
		return
	}
	run := &w.ix[len(w.ix)-1]
	if run.Names = w.names.Names(); w.known != nil {
		run.Names, w.known = w.known, nil
	}
}

func (w *Writer) flush() error {
	if _, err := w.file.WriteAt(w.buf, w.pos); err != nil {
		w.err = err
		return err
	}
	w.pos += int64(len(w.buf))
	w.buf = w.buf[:0]
	if w.every == 0 || w.pos-w.synced < w.every {
		return nil
	}
	w.synced = w.pos
	if err := w.file.Sync(); err != nil {
		w.err = err
		return err
	}
	return nil
}

// Finish writes the footer, syncs the file, gives it its name and syncs the folder: when it returns,
// the segment is on stable storage. After an error nothing of that name was left behind, unless it
// was the folder's sync that failed, or opening it again. Errors: Full, IO.
func (w *Writer) Finish() (*Segment, error) {
	s, err := w.finish()
	if err != nil {
		w.Abort()
		return nil, err
	}
	return s, nil
}

func (w *Writer) finish() (*Segment, error) {
	if w.err != nil {
		return nil, w.err
	}
	w.endRun()
	if err := w.ix.check(w.Size()); err != nil {
		return nil, err
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	if _, err := writeFooter(w.file, w.pos, w.ix, trailer{}); err != nil {
		return nil, err
	}
	if err := w.file.Sync(); err != nil {
		return nil, err
	}
	s, err := load(w.file, w.name) // before it has its name: what cannot be read back is not kept
	if err != nil {
		return nil, err
	}
	if err := w.fs.Rename(w.name+tmpSuffix, w.name); err != nil {
		return nil, err
	}
	if err := w.fs.SyncDir(path.Dir(w.name)); err != nil {
		return nil, err
	}
	if err := s.reopen(w.fs); err != nil {
		return nil, err
	}
	w.buf, w.ix = nil, nil
	return s, nil
}

// Abort gives up and removes what was written.
func (w *Writer) Abort() {
	_ = w.file.Close()                  // nothing of it is wanted
	_ = w.fs.Remove(w.name + tmpSuffix) // left behind, it is overwritten or swept at the next start
	w.buf, w.ix = nil, nil
	w.err = fault.New(fault.Closed, "segment.Append", "the file was given up")
}
