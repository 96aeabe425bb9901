package segment

import (
	"bytes"
	"io"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// windowBytes is how much of a file Salvage reads at a time.
const windowBytes = 1 << 20

// Salvage opens a rolled-up file whose footer is lost: it reads all the data and makes the index anew,
// in memory. The file is not changed. A run is given up from its first bad byte on; what could not be
// read is reported, the footer too. Topic names are not made anew, nor aborted transactions.
// Errors: NotFound; Corrupt, when it is no rolled-up file at all; Unsupported, when a newer firth
// wrote it; IO.
func Salvage(fs vfs.FS, name string) (*Segment, []vfs.Damage, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, nil, err
	}
	s, damage, err := salvage(f, name)
	if err != nil {
		_ = f.Close() // the first error tells
		return nil, nil, err
	}
	return s, damage, nil
}

func salvage(f vfs.File, name string) (*Segment, []vfs.Damage, error) {
	size, err := f.Size()
	if err != nil {
		return nil, nil, err
	}
	sc := &scanner{file: atrest.Lenient(f), size: size}
	if err := sc.begin(name); err != nil {
		return nil, nil, err
	}
	ix, err := sc.scan()
	if err != nil {
		return nil, nil, err
	}
	t := trailer{end: sc.end}
	footer := ix.append(nil, &t)
	s := &Segment{name: name, file: f, size: size, end: t.end, tables: memory{at: t.end, r: bytes.NewReader(footer)}}
	for rows := footer[t.pos-t.end:]; len(rows) > 0; rows = rows[rowBytes:] {
		sum, p := decodeRow(rows[:rowBytes], Version)
		sum.Aborts = AbortsUnknown
		s.summaries, s.places = append(s.summaries, sum), append(s.places, p)
	}
	return s, sc.damage, nil
}

// memory is a footer that is not in the file.
type memory struct {
	at int64 // where it would begin
	r  *bytes.Reader
}

func (m memory) ReadAt(b []byte, pos int64) (int, error) { return m.r.ReadAt(b, pos-m.at) }

// scanner goes through the data of a rolled-up file.
type scanner struct {
	file   vfs.File
	size   int64
	mark1  bool // the marks are those of version 1
	nonce  uint64
	end    int64 // behind the last good batch
	ix     Index
	damage []vfs.Damage

	window []byte
	from   int64 // where the window begins
}

// at returns n bytes at pos, fewer at the end of the file. They hold until the next call.
func (sc *scanner) at(pos int64, n int) ([]byte, error) {
	n = int(min(int64(n), sc.size-pos))
	if pos < sc.from || pos+int64(n) > sc.from+int64(len(sc.window)) {
		want := int(min(int64(max(n, windowBytes)), sc.size-pos))
		if cap(sc.window) < want {
			sc.window = make([]byte, want)
		}
		sc.window, sc.from = sc.window[:want], pos
		if err := readFull(sc.file, sc.window, pos); err != nil {
			sc.window = sc.window[:0]
			return nil, err
		}
	}
	at := int(pos - sc.from)
	return sc.window[at : at+n], nil
}

// begin finds the nonce: in the header or, if that is damaged, in the first mark.
func (sc *scanner) begin(name string) error {
	const op = "segment.Salvage"
	b, err := sc.at(0, HeaderBytes+markBytes)
	if err != nil {
		return err
	}
	if len(b) >= HeaderBytes && string(b[:len(headerMagic)]) == headerMagic && sumMatches(b[:HeaderBytes]) {
		v := le.Uint32(b[headerVersion:])
		if err := checkVersion(op, name, v); err != nil {
			return err
		}
		sc.nonce, sc.mark1 = le.Uint64(b[headerNonce:]), v == 1
		return nil
	}
	for _, sc.mark1 = range []bool{false, true} {
		if n := HeaderBytes + sc.markBytes(); len(b) >= n {
			sc.nonce = le.Uint64(b[HeaderBytes+markNonce:])
			if _, ok := sc.mark(b[HeaderBytes:n], HeaderBytes); ok {
				sc.damage = append(sc.damage, vfs.Damage{From: 0, To: HeaderBytes, What: "header"})
				return nil
			}
		}
	}
	return fault.New(fault.Corrupt, op, "%s: no rolled-up file", name)
}

func (sc *scanner) markBytes() int {
	if sc.mark1 {
		return markBytes1
	}
	return markBytes
}

// mark tells whether b, at pos, begins with the mark of a run, and of which one.
func (sc *scanner) mark(b []byte, pos int64) (r Run, ok bool) {
	n := sc.markBytes()
	if len(b) < n || le.Uint32(b) != markMagic {
		return Run{}, false
	}
	b = b[:n]
	ok = sumMatches(b) && le.Uint64(b[markNonce:]) == sc.nonce && int64(le.Uint64(b[markPos:])) == pos
	if r.Partition = le.Uint32(b[markPartition:]); !sc.mark1 {
		c := Compacted{
			Base:  record.Offset(le.Uint64(b[markBase:])),
			Gaps:  record.Offset(le.Uint64(b[markGaps:])),
			Clean: record.Offset(le.Uint64(b[markClean:])),
		}
		if c != (Compacted{}) {
			r.Compacted = &c
		}
	}
	return r, ok
}

// scan reads runs until nothing more looks like one.
func (sc *scanner) scan() (Index, error) {
	pos, err := sc.seek(HeaderBytes)
	for err == nil && pos < sc.size {
		b, fail := sc.at(pos, sc.markBytes())
		if fail != nil {
			return nil, fail
		}
		run, _ := sc.mark(b, pos)
		if n := len(sc.ix); n == 0 || sc.ix[n-1].Partition < run.Partition {
			sc.ix = append(sc.ix, run)
			if pos, err = sc.run(pos + int64(sc.markBytes())); err != nil {
				return nil, err
			}
			if r := &sc.ix[n]; len(r.Extents) == 0 {
				sc.ix = sc.ix[:n]
			}
		} else {
			pos++ // out of order: no mark of ours
		}
		pos, err = sc.seek(pos)
	}
	return sc.ix, err
}

// seek finds the next mark at or behind pos; what it skips is damage.
func (sc *scanner) seek(from int64) (int64, error) {
	magic := le.AppendUint32(nil, markMagic)
	pos := from
	for pos < sc.size {
		b, err := sc.at(pos, windowBytes)
		if err != nil {
			return 0, err
		}
		i := bytes.Index(b, magic)
		if i < 0 {
			pos += int64(max(1, len(b)-len(magic)+1))
			continue
		}
		pos += int64(i)
		if b, err = sc.at(pos, sc.markBytes()); err != nil {
			return 0, err
		}
		if _, ok := sc.mark(b, pos); ok {
			break
		}
		pos++
	}
	pos = min(pos, sc.size)
	if pos > from {
		what := "data"
		if pos == sc.size {
			what = "footer, or data before it"
		}
		sc.damage = append(sc.damage, vfs.Damage{From: from, To: pos, What: what})
	}
	return pos, nil
}

// run reads the batches of the last run of the index, from pos to the first bytes that are none.
func (sc *scanner) run(pos int64) (int64, error) {
	run := &sc.ix[len(sc.ix)-1]
	next := record.Offset(0)
	if run.Compacted != nil {
		next = run.Compacted.Base
	}
	for {
		b, err := sc.batch(pos)
		if err != nil {
			return pos, err
		}
		if b == nil || b.BaseOffset() < next || b.LastOffset() < b.BaseOffset() {
			return pos, nil
		}
		run.add(Of(b, pos), b)
		pos += int64(len(b))
		next, sc.end = b.LastOffset()+1, pos
	}
}

// batch reads the batch at pos, or nil if there is no good one.
func (sc *scanner) batch(pos int64) (record.Batch, error) {
	head, err := sc.at(pos, record.BatchOverhead)
	if err != nil || len(head) < record.BatchOverhead {
		return nil, err
	}
	size := int64(record.Batch(head).Size())
	if size < record.BatchOverhead || size > sc.size-pos {
		return nil, nil
	}
	b, err := sc.at(pos, int(size))
	if err != nil || record.Batch(b).Check() != nil {
		return nil, err
	}
	return b, nil
}

var _ io.ReaderAt = memory{}
