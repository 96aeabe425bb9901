package segment

import (
	"math"
	"slices"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// WriteFooter makes a journal file that is kept in place a segment: it writes the index at the place
// at, behind the last frame, and cuts the file off behind it. Of extents that were not made by Of it
// reads the heads of the batches; one whose bytes are not what it says is kept as it is, so that
// whoever reads it is told. It does not sync: until the caller has synced, the file may still turn
// out to be a journal without a footer. The file must not be a segment yet.
// Errors: Invalid (an index out of order), Full, IO.
func WriteFooter(f vfs.File, at int64, ix Index) (end int64, err error) {
	if err := ix.check(at); err != nil {
		return 0, err
	}
	sealed := make(Index, len(ix))
	for i, run := range ix {
		sealed[i] = run
		sealed[i].Extents = slices.Clone(run.Extents)
		for j := range run.Extents {
			if err := sealed[i].Extents[j].seal(f, run.Partition); err != nil {
				return 0, err
			}
		}
	}
	head, err := headSum(f)
	if err != nil {
		return 0, err
	}
	behind, err := atrest.Footer(f, at)
	if err != nil {
		return 0, err
	}
	return writeFooter(behind, at, sealed, trailer{inPlace: true, head: head})
}

// writeFooter writes the footer of a checked and sealed index.
func writeFooter(f vfs.File, at int64, ix Index, t trailer) (end int64, err error) {
	t.end = at
	b := t.append(ix.append(nil, &t))
	if _, err := f.WriteAt(b, at); err != nil {
		return 0, err
	}
	end = at + int64(len(b))
	return end, f.Truncate(end)
}

// append writes the tables of all runs and the run table, and notes in t where they are.
func (ix Index) append(dst []byte, t *trailer) []byte {
	rows := make([]byte, 0, len(ix)*rowBytes)
	for i := range ix {
		r := &ix[i]
		p := place{pos: t.end + int64(len(dst)), extents: uint32(len(r.Extents))}
		from := len(dst)
		for j := range r.Extents {
			dst = r.Extents[j].append(dst)
		}
		dst = appendSum(dst, from)
		from = len(dst)
		dst = r.Names.append(dst)
		p.topics = uint32(len(dst) - from)
		dst = r.Aborts.append(appendSum(dst, from))
		sum := r.summary()
		rows = appendRow(rows, &sum, &p)
	}
	t.pos, t.runs, t.table = t.end+int64(len(dst)), uint32(len(ix)), sum(rows)
	return append(dst, rows...)
}

func (r *Run) summary() Summary {
	s := Summary{
		Partition: r.Partition, Aborts: int32(r.Aborts.bytes()), Base: r.Extents[0].Base, MaxTime: math.MinInt64,
	}
	for i := range r.Extents {
		e := &r.Extents[i]
		s.Last = e.Last
		s.MaxTime = max(s.MaxTime, e.MaxTime)
		s.Bytes += int64(e.Len)
	}
	if r.Compacted != nil { // of a salvaged run the end may be missing
		c := *r.Compacted
		s.Base, c.Gaps = c.Base, min(c.Gaps, s.Last+1)
		c.Clean = min(c.Clean, c.Gaps)
		s.Compacted = &c
	}
	return s
}

// check holds an index to its order, for data that ends at the byte end.
func (ix Index) check(end int64) error {
	const op = "segment.WriteFooter"
	for i := range ix {
		r := &ix[i]
		if i > 0 && ix[i-1].Partition >= r.Partition {
			return fault.New(fault.Invalid, op, "partition %d behind %d", r.Partition, ix[i-1].Partition)
		}
		if len(r.Extents) == 0 {
			return fault.New(fault.Invalid, op, "partition %d has no extents", r.Partition)
		}
		if c := r.Compacted; c != nil && c.Base > r.Extents[0].Base {
			return fault.New(fault.Invalid, op, "partition %d begins at %d, before its base %d",
				r.Partition, r.Extents[0].Base, c.Base)
		}
		for j := range r.Extents {
			e := &r.Extents[j]
			if e.Base > e.Last || j > 0 && r.Extents[j-1].Last >= e.Base ||
				e.Pos < 0 || e.Len < record.BatchOverhead || e.Pos > end-int64(e.Len) {
				return fault.New(fault.Invalid, op, "extent %d of partition %d is out of order or not within the file",
					j, r.Partition)
			}
		}
	}
	return nil
}

// seal reads the heads of an extent's batches into its checksum, unless it has one.
func (e *Extent) seal(f vfs.File, partition uint32) error {
	if e.heads != 0 {
		return nil
	}
	if key := atrest.KeyOf(f); key != nil {
		return e.sealOpened(f, key, partition)
	}
	var head [record.BatchOverhead]byte
	b := record.Batch(head[:])
	heads, pos, end := uint32(0), e.Pos, e.Pos+int64(e.Len)
	for pos < end {
		if err := readFull(f, head[:], pos); err != nil {
			return err
		}
		size := int64(b.Size())
		if size < record.BatchOverhead || size > end-pos {
			return nil // no batch: reading it will say so
		}
		heads, pos = addHead(heads, b), pos+size
	}
	e.heads = heads
	return nil
}

// sealOpened is seal in an encrypted file, where the extent is one batch that has to be opened.
func (e *Extent) sealOpened(f vfs.File, key *atrest.Key, partition uint32) error {
	b := make([]byte, int(e.Len)+atrest.TagBytes)
	if err := readFull(f, b, e.Pos); err != nil {
		return err
	}
	if err := e.Open(key, "", partition, b); err == nil && e.Len >= record.BatchOverhead {
		e.heads = addHead(0, b)
	}
	return nil // what does not open is told to who reads it
}
