// Package segment holds sealed files: batches of many partitions and, at the end, an index of them.
//
// A file becomes a segment in one of two ways. A Writer rolls journals up: the batches of each
// partition lie together, partitions in order. Or a journal file of large batches is kept where it is
// and WriteFooter puts an index behind its last frame, so that bulk data is written once. Reading is
// the same for both, because a Segment trusts nothing but the footer and the checksums.
//
// A Segment is immutable and takes no lock: any number of goroutines may read it at once. Which
// segments there are, and when they go, is log/store's business. The format, byte for byte, is
// docs/format/segment.md.
package segment

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// Extent is some whole batches of one partition that lie one behind the other in a file.
type Extent struct {
	Base    record.Offset // of the first record
	Last    record.Offset // of the last record
	Pos     int64         // where the bytes begin in the file
	Len     int32         // how many bytes
	MaxTime int64         // largest timestamp, milliseconds since 1970

	built bool   // by this log, record by record; not in the file
	known bool   // its bytes are those that were written; not in the file
	heads uint32 // checksum of what the batches' own checksums leave out; 0: not known
}

// Run is all that a file has of one partition.
type Run struct {
	Partition uint32
	Compacted *Compacted // nil: it never was
	Extents   []Extent   // in the order of their offsets, at least one
	Names     *Names     // the MQTT topic names of the records; nil: they are not known
	Aborts    Aborts     // the aborted transactions whose markers are among the records
}

// Compacted says what compaction made of a run.
type Compacted struct {
	Base  record.Offset // the first offset that the run stands for: it may be missing
	Gaps  record.Offset // below it offsets may be missing
	Clean record.Offset // below it no record is left that a newer one below it supersedes, in whatever file; at most Gaps
}

// Index is the runs of a file by partition, ascending, one run for each.
type Index []Run

// Summary is what is known of a run without reading its table.
type Summary struct {
	Partition uint32
	Aborts    int32         // bytes of the aborted transactions whose markers are in it, or AbortsUnknown
	Base      record.Offset // of the first record; of a compacted run the first offset it stands for
	Last      record.Offset // of the last record
	MaxTime   int64         // largest timestamp, milliseconds since 1970
	Bytes     int64         // of all batches
	Compacted *Compacted    // nil: it never was
}

// AbortsUnknown is in place of the size of a run's aborted transactions where the file does not tell which there are:
// its version is older than 3, or it was salvaged.
const AbortsUnknown = -1

// place is where the table of a run lies.
type place struct {
	pos     int64
	extents uint32
	topics  uint32 // bytes
}

// names is where the topic names lie, and aborts where the aborted transactions do.
func (p *place) names() int64  { return p.pos + int64(p.extents)*extentBytes + crcBytes }
func (p *place) aborts() int64 { return p.names() + int64(p.topics) + crcBytes }

// Segment is an open file. All methods but Close may be called from any goroutine at the same time.
type Segment struct {
	name      string
	file      vfs.File
	size      int64
	end       int64 // behind the data: where the tables begin
	inPlace   bool
	summaries []Summary
	places    []place     // beside summaries
	tables    io.ReaderAt // where the tables of the runs are: the file or, after Salvage, memory
}

// Open opens a file and reads its trailer and run table, nothing else.
// Errors: NotFound; Corrupt, when the footer is not there or damaged: then Salvage a rolled-up file and
// scan a journal; Unsupported, when a newer firth wrote it; IO.
func Open(fs vfs.FS, name string) (*Segment, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	s, err := load(f, name)
	if err != nil {
		_ = f.Close() // the first error tells
		return nil, err
	}
	return s, nil
}

// reopen closes the file that was written and opens it by its name, for reading only.
func (s *Segment) reopen(fs vfs.FS) error {
	f, err := fs.Open(s.name)
	if err != nil {
		return err
	}
	_ = s.file.Close() // all of it is on stable storage
	s.file, s.tables = f, f
	return nil
}

// Name is the name of the file.
func (s *Segment) Name() string { return s.name }

// File is the open file, to tell the system what will be read of it.
func (s *Segment) File() vfs.File { return s.file }

// InPlace tells whether the file is a journal that was kept where it was.
func (s *Segment) InPlace() bool { return s.inPlace }

// Size is the length of the file in bytes.
func (s *Segment) Size() int64 { return s.size }

// Close closes the file. Nothing may be reading it.
func (s *Segment) Close() error { return s.file.Close() }

// Summaries lists the runs by partition. The slice is shared and must not be changed.
func (s *Segment) Summaries() []Summary { return s.summaries }

// Summary is the summary of one partition, if the file has anything of it.
func (s *Segment) Summary(partition uint32) (Summary, bool) {
	i, ok := s.find(partition)
	if !ok {
		return Summary{}, false
	}
	return s.summaries[i], true
}

func (s *Segment) find(partition uint32) (int, bool) {
	return slices.BinarySearchFunc(s.summaries, partition, func(sum Summary, p uint32) int {
		switch {
		case sum.Partition < p:
			return -1
		case sum.Partition > p:
			return 1
		}
		return 0
	})
}

// Extents reads the extents of one partition, in the order of their offsets.
// Errors: NotFound, Corrupt (this run's table only), IO.
func (s *Segment) Extents(partition uint32) ([]Extent, error) {
	const op = "segment.Extents"
	i, ok := s.find(partition)
	if !ok {
		return nil, fault.New(fault.NotFound, op, "%s has nothing of partition %d", s.name, partition)
	}
	at := s.places[i]
	table, err := s.table(op, partition, at.pos, int(at.extents)*extentBytes)
	if err != nil {
		return nil, err
	}
	es := make([]Extent, at.extents)
	for j := range es {
		es[j].decode(table[j*extentBytes:])
	}
	return es, nil
}

// Names reads what is known of the MQTT topic names of one partition's records; nil: nothing.
// Errors: NotFound, Corrupt (this run's table only), IO.
func (s *Segment) Names(partition uint32) (*Names, error) {
	const op = "segment.Names"
	i, ok := s.find(partition)
	if !ok {
		return nil, fault.New(fault.NotFound, op, "%s has nothing of partition %d", s.name, partition)
	}
	at := s.places[i]
	table, err := s.table(op, partition, at.names(), int(at.topics))
	if err != nil {
		return nil, err
	}
	n, ok := decodeNames(table)
	if !ok {
		return nil, fault.New(fault.Corrupt, op,
			"%s: topic names of partition %d at byte %d are malformed", s.name, partition, at.pos)
	}
	return n, nil
}

// table reads n bytes at pos and the checksum behind them.
func (s *Segment) table(op string, partition uint32, pos int64, n int) ([]byte, error) {
	b := make([]byte, n+crcBytes)
	if err := readFull(s.tables, b, pos); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), op, err)
	}
	if !sumMatches(b) {
		return nil, fault.New(fault.Corrupt, op,
			"%s: table of partition %d at byte %d fails its checksum", s.name, partition, pos)
	}
	return b[:n], nil
}

// Read reads the batches of an extent with one call to the disk and appends them to into. Every batch
// is checked, whole and in place, before any is returned. They share one new piece of memory.
// Errors: Corrupt, IO.
func (s *Segment) Read(e Extent, into []record.Batch) ([]record.Batch, error) {
	if e.Len < record.BatchOverhead || e.Pos < 0 || e.Pos > s.end-int64(e.Len) {
		return into, e.bad(s.name, e.Pos, errors.New("extent is not within the data"))
	}
	b := make([]byte, e.Len)
	if err := s.ReadAt(b, e.Pos); err != nil {
		return into, err
	}
	return e.Split(s.name, b, into)
}

// ReadAt fills b with the bytes at pos, unchecked: for a caller that reads several extents at once and
// then has each of them Split. Errors: Corrupt (the file ends before), IO.
func (s *Segment) ReadAt(b []byte, pos int64) error {
	if err := readFull(s.file, b, pos); err != nil {
		return fault.New(fault.KindOf(err), "segment.Read", "%s: %w", s.name, err)
	}
	return nil
}

// Split cuts b, the bytes of the extent, into its batches and appends them to into, after it has checked
// them all: their form, their checksums, their offsets and, where the index has a checksum of them,
// their heads. They are slices of b. The name of the file is for the error.
// Errors: Corrupt, with file, byte and offsets.
func (e Extent) Split(file string, b []byte, into []record.Batch) ([]record.Batch, error) {
	given := len(into)
	if err := e.walk(file, b, &into); err != nil {
		return into[:given], err
	}
	return into, nil
}

// Check is Split for a caller that wants the bytes as they are.
func (e Extent) Check(file string, b []byte) error { return e.walk(file, b, nil) }

// walk checks the batches in b and appends them to into, if that is wanted.
func (e Extent) walk(file string, b []byte, into *[]record.Batch) error {
	next, heads := e.Base, uint32(0)
	for rest := b; len(rest) > 0; {
		pos := e.Pos + int64(len(b)-len(rest))
		batch, behind, err := record.Next(rest)
		if err == nil && e.known {
			err = batch.CheckFrame()
		} else if err == nil {
			err = batch.Check()
		}
		if err == nil && (batch.BaseOffset() < next || batch.LastOffset() > e.Last ||
			batch.LastOffset() < batch.BaseOffset() || len(rest) == len(b) && batch.BaseOffset() != e.Base) {
			err = fmt.Errorf("batch has offsets %d to %d", batch.BaseOffset(), batch.LastOffset())
		}
		if err != nil {
			return e.bad(file, pos, err)
		}
		next, heads = batch.LastOffset()+1, addHead(heads, batch)
		if rest = behind; into != nil {
			*into = append(*into, batch)
		}
	}
	if len(b) == 0 || next != e.Last+1 || e.heads != 0 && e.heads != heads {
		return e.bad(file, e.Pos, errors.New("batch headers are not those of the index"))
	}
	return nil
}

func (e Extent) bad(file string, pos int64, err error) error {
	return fault.New(fault.Corrupt, "segment.Read", "%s at byte %d, offsets %d to %d: %w", file, pos, e.Base, e.Last, err).
		WithHint("run firth log check on the stopped log; other data is not affected")
}

// readFull reads all of b at pos. A file that ends before is Corrupt.
func readFull(f io.ReaderAt, b []byte, pos int64) error {
	n, err := f.ReadAt(b, pos)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fault.New(fault.Corrupt, "segment.read", "file ends at byte %d, %d are wanted at %d",
			pos+int64(n), len(b), pos)
	}
	return err
}
