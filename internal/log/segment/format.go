package segment

import (
	"encoding/binary"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// The format, byte for byte, is docs/format/segment.md. All numbers but those inside batches are
// little-endian. Every checksum is CRC32C.
const (
	// Version is the format version of segment files that are written; oldest is the first that is still read. A
	// newer one is refused.
	Version = 3
	oldest  = 1

	// HeaderBytes is what the header of a rolled-up file takes.
	HeaderBytes = 64

	headerMagic   = "FIRTHSG1"
	headerVersion = 8
	headerNonce   = 16
	headerCRC     = 60

	markMagic     = 0x4e555246 // "FRUN"
	markBytes     = 56
	markPartition = 4
	markNonce     = 8
	markPos       = 16
	markBase      = 24
	markGaps      = 32
	markClean     = 40

	// markBytes1 is the mark of version 1, which knows nothing of compaction.
	markBytes1 = 32

	extentBytes   = 40
	extentLast    = 8
	extentPos     = 16
	extentMaxTime = 24
	extentLen     = 32
	extentHeads   = 36

	rowBytes   = 72
	rowBytes1  = 56 // version 1: without what follows
	rowExtents = 4
	rowBase    = 8
	rowLast    = 16
	rowMaxTime = 24
	rowSize    = 32
	rowPos     = 40
	rowTopics  = 48
	rowAborts  = 52
	rowGaps    = 56
	rowClean   = 64

	trailerMagic   = "FIRTHFT1"
	trailerBytes   = 64
	trailerVersion = 8
	trailerFlags   = 12
	trailerPos     = 16
	trailerRuns    = 24
	trailerTable   = 28 // checksum of the run table
	trailerHead    = 32 // checksum of the first headBytes of the file, if flagInPlace
	trailerEnd     = 40 // where the data ends and the tables begin
	trailerCRC     = 60

	flagInPlace = 1

	// headBytes of a journal say which life of the file it is: its number and nonce are in them.
	headBytes = 64

	crcBytes = 4

	// What the names of a run are: not known, a list (version 1 only), chapters.
	topicsPartial  = 0
	topicsChapters = 2

	// headLength is what a batch's own checksum does not cover, and that checksum.
	headLength = 21
)

var le = binary.LittleEndian

func sum(b []byte) uint32 { return record.Checksum(0, b) }

// appendSum puts the checksum of dst[from:] behind it.
func appendSum(dst []byte, from int) []byte { return le.AppendUint32(dst, sum(dst[from:])) }

// sumMatches tells whether the last four bytes of b are the checksum of the others.
func sumMatches(b []byte) bool {
	n := len(b) - crcBytes
	return le.Uint32(b[n:]) == sum(b[:n])
}

// addHead goes on with the checksum over the heads of an extent's batches: base offset, length, epoch,
// magic and checksum. With it every bit of an extent is covered. It begins with 0 and is never 0 again:
// that means "not known".
func addHead(heads uint32, b record.Batch) uint32 {
	return max(record.Checksum(heads, b[:headLength]), 1)
}

func (e *Extent) append(dst []byte) []byte {
	dst = le.AppendUint64(dst, uint64(e.Base))
	dst = le.AppendUint64(dst, uint64(e.Last))
	dst = le.AppendUint64(dst, uint64(e.Pos))
	dst = le.AppendUint64(dst, uint64(e.MaxTime))
	dst = le.AppendUint32(dst, uint32(e.Len))
	return le.AppendUint32(dst, e.heads)
}

func (e *Extent) decode(b []byte) {
	e.Base = record.Offset(le.Uint64(b))
	e.Last = record.Offset(le.Uint64(b[extentLast:]))
	e.Pos = int64(le.Uint64(b[extentPos:]))
	e.MaxTime = int64(le.Uint64(b[extentMaxTime:]))
	e.Len = int32(le.Uint32(b[extentLen:]))
	e.heads = le.Uint32(b[extentHeads:])
}

func appendRow(dst []byte, s *Summary, p *place) []byte {
	dst = le.AppendUint32(dst, s.Partition)
	dst = le.AppendUint32(dst, p.extents)
	dst = le.AppendUint64(dst, uint64(s.Base))
	dst = le.AppendUint64(dst, uint64(s.Last))
	dst = le.AppendUint64(dst, uint64(s.MaxTime))
	dst = le.AppendUint64(dst, uint64(s.Bytes))
	dst = le.AppendUint64(dst, uint64(p.pos))
	dst = le.AppendUint32(dst, p.topics)
	dst = le.AppendUint32(dst, uint32(s.Aborts))
	gaps, clean := s.Base, s.Base
	if c := s.Compacted; c != nil {
		gaps, clean = c.Gaps, c.Clean
	}
	dst = le.AppendUint64(dst, uint64(gaps))
	return le.AppendUint64(dst, uint64(clean))
}

// decodeRow decodes a row of a version.
func decodeRow(b []byte, version uint32) (Summary, place) {
	s := Summary{
		Partition: le.Uint32(b), Aborts: AbortsUnknown,
		Base:    record.Offset(le.Uint64(b[rowBase:])),
		Last:    record.Offset(le.Uint64(b[rowLast:])),
		MaxTime: int64(le.Uint64(b[rowMaxTime:])),
		Bytes:   int64(le.Uint64(b[rowSize:])),
	}
	if version >= 3 {
		s.Aborts = int32(le.Uint32(b[rowAborts:]))
	}
	if version >= 2 {
		gaps, clean := record.Offset(le.Uint64(b[rowGaps:])), record.Offset(le.Uint64(b[rowClean:]))
		if gaps != s.Base || clean != s.Base {
			s.Compacted = &Compacted{Base: s.Base, Gaps: gaps, Clean: clean}
		}
	}
	return s, place{
		pos:     int64(le.Uint64(b[rowPos:])),
		extents: le.Uint32(b[rowExtents:]),
		topics:  le.Uint32(b[rowTopics:]),
	}
}

// trailer is the last trailerBytes of a file.
type trailer struct {
	version uint32
	inPlace bool
	pos     int64 // of the run table
	end     int64 // of the data
	runs    uint32
	table   uint32
	head    uint32
}

func (t *trailer) append(dst []byte) []byte {
	var b [trailerBytes]byte
	copy(b[:], trailerMagic)
	le.PutUint32(b[trailerVersion:], Version)
	if t.inPlace {
		le.PutUint32(b[trailerFlags:], flagInPlace)
	}
	le.PutUint64(b[trailerPos:], uint64(t.pos))
	le.PutUint32(b[trailerRuns:], t.runs)
	le.PutUint32(b[trailerTable:], t.table)
	le.PutUint32(b[trailerHead:], t.head)
	le.PutUint64(b[trailerEnd:], uint64(t.end))
	le.PutUint32(b[trailerCRC:], sum(b[:trailerCRC]))
	return append(dst, b[:]...)
}

// readTrailer reads the trailer of a file of the given size.
func readTrailer(f vfs.File, name string, size int64) (trailer, error) {
	const op = "segment.Open"
	if size < trailerBytes {
		return trailer{}, fault.New(fault.Corrupt, op, "%s: %d bytes are no segment", name, size)
	}
	b := make([]byte, trailerBytes)
	if err := readFull(f, b, size-trailerBytes); err != nil {
		return trailer{}, err
	}
	if string(b[:len(trailerMagic)]) != trailerMagic || !sumMatches(b) {
		return trailer{}, fault.New(fault.Corrupt, op, "%s: no valid trailer at its end", name)
	}
	version := le.Uint32(b[trailerVersion:])
	if err := checkVersion(op, name, version); err != nil {
		return trailer{}, err
	}
	t := trailer{
		version: version,
		inPlace: le.Uint32(b[trailerFlags:])&flagInPlace != 0,
		pos:     int64(le.Uint64(b[trailerPos:])),
		runs:    le.Uint32(b[trailerRuns:]),
		table:   le.Uint32(b[trailerTable:]),
		head:    le.Uint32(b[trailerHead:]),
		end:     int64(le.Uint64(b[trailerEnd:])),
	}
	if t.end < 0 || t.pos < t.end || t.pos != size-trailerBytes-int64(t.runs)*t.rowBytes() {
		return trailer{}, fault.New(fault.Corrupt, op, "%s: trailer does not fit the file of %d bytes", name, size)
	}
	return t, nil
}

// checkVersion refuses what this firth does not know.
func checkVersion(op, name string, v uint32) error {
	if v >= oldest && v <= Version {
		return nil
	}
	return fault.New(fault.Unsupported, op, "%s: segment format %d; this firth writes %d and reads %d to %d",
		name, v, Version, oldest, Version).WithHint("open it with the firth that wrote it, or a newer one")
}

// rowBytes is the size of a row of the run table.
func (t *trailer) rowBytes() int64 {
	if t.version == 1 {
		return rowBytes1
	}
	return rowBytes
}

// load reads the footer of an open file.
func load(f vfs.File, name string) (*Segment, error) {
	const op = "segment.Open"
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	t, err := readTrailer(f, name, size)
	if err != nil {
		return nil, err
	}
	if t.inPlace {
		if head, err := headSum(f); err != nil {
			return nil, err
		} else if head != t.head {
			return nil, fault.New(fault.Corrupt, op, "%s: its footer belongs to another life of the file", name)
		}
	}
	row := int(t.rowBytes())
	table := make([]byte, int(t.runs)*row)
	if err := readFull(f, table, t.pos); err != nil {
		return nil, err
	}
	if sum(table) != t.table {
		return nil, fault.New(fault.Corrupt, op, "%s: run table at byte %d fails its checksum", name, t.pos)
	}
	s := &Segment{
		name: name, file: f, size: size, end: t.end, inPlace: t.inPlace, tables: f,
		summaries: make([]Summary, t.runs), places: make([]place, t.runs),
	}
	for i := range s.summaries {
		s.summaries[i], s.places[i] = decodeRow(table[i*row:(i+1)*row], t.version)
		if !s.sane(i, t.pos) {
			return nil, fault.New(fault.Corrupt, op, "%s: row %d of the run table cannot be", name, i)
		}
	}
	return s, nil
}

// sane tells whether row i can be: partitions ascend, its tables lie between data and run table, and what was
// compacted lies in it.
func (s *Segment) sane(i int, limit int64) bool {
	sum, p := &s.summaries[i], &s.places[i]
	if i > 0 && s.summaries[i-1].Partition >= sum.Partition {
		return false
	}
	need := p.aborts() - p.pos + int64(max(sum.Aborts, 0))
	return p.extents > 0 && sum.Aborts >= AbortsUnknown && p.pos >= s.end && p.pos <= limit-need &&
		sum.Base <= sum.Last && (sum.Compacted == nil || sum.Compacted.sane(sum.Last))
}

// sane tells whether it can be of a run that ends with the offset last.
func (c *Compacted) sane(last record.Offset) bool {
	return c.Base < c.Gaps && c.Base <= c.Clean && c.Clean <= c.Gaps && c.Gaps <= last+1
}

// headSum is the checksum of the first bytes of a journal file.
func headSum(f vfs.File) (uint32, error) {
	var b [headBytes]byte
	if err := readFull(f, b[:], 0); err != nil {
		return 0, err
	}
	return sum(b[:]), nil
}
