package journal_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/record"
)

const fileBytes = 256 << 10

func batch(base record.Offset, values ...string) record.Batch {
	var bu record.Builder
	bu.Reset(nil, 1000)
	for _, v := range values {
		bu.Append(&record.Record{Timestamp: 1000, Value: []byte(v)})
	}
	return bu.Seal(base, 3)
}

// file is a journal with some frames in it, synced after the frames that are in synced.
func file(t testing.TB, frames int, synced func(i int) bool) (*vfs.Memory, vfs.File, []int64) {
	t.Helper()
	fs := vfs.NewMemory()
	if err := fs.MkdirAll("log"); err != nil {
		t.Fatal(err)
	}
	f, err := journal.Prepare(fs, "log", "j", fileBytes)
	if err != nil {
		t.Fatal(err)
	}
	h := journal.Header{Number: 7, Previous: 6, PrevEnd: 99, Nonce: 42}
	w, err := journal.Start(f, h, journal.Space{Size: fileBytes}, 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	var frame journal.Frame
	var ends []int64
	for i := range frames {
		frame.Reset()
		frame.AddBatch(1, batch(record.Offset(i), fmt.Sprintf("one %d", i)))
		frame.AddBatch(2, batch(record.Offset(2*i), fmt.Sprintf("two %d", i), "and more"))
		frame.AddTrim(1, record.Offset(i))
		frame.AddReserve(int64(i))
		if err := w.Write(&frame); err != nil {
			t.Fatal(err)
		}
		if synced(i) {
			if err := w.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		ends = append(ends, w.End())
	}
	return fs, f, ends
}

func always(int) bool { return true }

// scan lists what a scan gives.
func scan(t testing.TB, f vfs.File, lim journal.Limits) (found journal.Found, seen []string) {
	t.Helper()
	found, err := journal.Scan(f, lim, func(entries []journal.Entry, batches []record.Batch) error {
		for i, e := range entries {
			s := fmt.Sprintf("%d %d %d-%d", e.Kind, e.Partition, e.Base, e.Last)
			if e.Damaged {
				s += " damaged"
			}
			if batches[i] != nil && (batches[i].Check() != nil || batches[i].BaseOffset() != e.Base) {
				t.Errorf("%s: a bad batch", s)
			}
			seen = append(seen, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, seen
}

func TestWhatIsWrittenIsScanned(t *testing.T) {
	_, f, ends := file(t, 3, always)
	h, err := journal.ReadHeader(f, "j")
	if err != nil || h != (journal.Header{Number: 7, Previous: 6, PrevEnd: 99, Nonce: 42}) {
		t.Fatalf("header %+v %v", h, err)
	}
	found, seen := scan(t, f, journal.Limits{Nonce: 42})
	if found.End != ends[2] || found.NextSeq != 103 || len(found.Damage) > 0 {
		t.Errorf("found %+v, the end is %d", found, ends[2])
	}
	want := "[1 1 0-0 1 2 0-1 2 1 0-0 3 0 0-0 1 1 1-1 1 2 2-3 2 1 1-1 3 0 1-1 1 1 2-2 1 2 4-5 2 1 2-2 3 0 2-2]"
	if got := fmt.Sprint(seen); got != want {
		t.Errorf("scanned %s\nwant    %s", got, want)
	}
	if found, seen = scan(t, f, journal.Limits{Nonce: 42, End: ends[1]}); found.End != ends[1] || len(seen) != 8 {
		t.Errorf("scan to the end that the next file names: %+v, %d entries", found, len(seen))
	}
	if found, seen = scan(t, f, journal.Limits{Nonce: 43}); found.End != journal.HeaderBytes || len(seen) != 0 {
		t.Errorf("frames of another life were taken: %+v %v", found, seen)
	}
	if found, _ = scan(t, f, journal.Limits{Nonce: 42, Trust: 1 << 40}); found.End != ends[2] {
		t.Errorf("scan of trusted frames: %+v", found)
	}
}

func TestBadFrames(t *testing.T) {
	for _, c := range []struct {
		name   string
		synced func(int) bool
		at     func(ends []int64) int64 // the byte to harm
		end    int                      // index of the last frame that is left
		damage int
		count  int // entries scanned
	}{
		{"the last frame is torn", always, func(e []int64) int64 { return e[1] + 100 }, 1, 0, 8},
		{"the last frame's batch is torn", always, func(e []int64) int64 { return e[2] - 30 }, 1, 0, 8},
		{"a head below the mark", always, func(e []int64) int64 { return e[0] + 60 }, 2, 1, 8},
		{"a batch below the mark", always, func(e []int64) int64 { return e[1] - 30 }, 2, 1, 12},
		{"above the mark, though a later frame is whole", func(i int) bool { return i == 0 },
			func(e []int64) int64 { return e[0] + 60 }, 0, 0, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, f, ends := file(t, 3, c.synced)
			if err := fs.Flip("log/j", c.at(ends)*8); err != nil {
				t.Fatal(err)
			}
			found, seen := scan(t, f, journal.Limits{Nonce: 42})
			if found.End != ends[c.end] || len(found.Damage) != c.damage || len(seen) != c.count {
				t.Errorf("found %+v and %d entries %v; want end %d, damage %d, %d entries",
					found, len(seen), seen, ends[c.end], c.damage, c.count)
			}
		})
	}
}

// TestAPayloadIsNoFrame hides a whole valid frame in a payload of a torn frame: without the nonce of the file
// nobody can make one that counts.
func TestAPayloadIsNoFrame(t *testing.T) {
	_, donor, ends := file(t, 1, always)
	forged := make([]byte, ends[0]-journal.HeaderBytes)
	if _, err := donor.ReadAt(forged, journal.HeaderBytes); err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewMemory()
	if err := fs.MkdirAll("log"); err != nil {
		t.Fatal(err)
	}
	f, err := journal.Prepare(fs, "log", "j", fileBytes)
	if err != nil {
		t.Fatal(err)
	}
	w, err := journal.Start(f, journal.Header{Number: 7, Nonce: 43}, journal.Space{Size: fileBytes}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var frame journal.Frame
	frame.AddBatch(1, batch(0, string(bytes.Repeat(forged, 50))))
	if err := w.Write(&frame); err != nil {
		t.Fatal(err)
	}
	if err := fs.Flip("log/j", (journal.HeaderBytes+20)*8); err != nil {
		t.Fatal(err)
	}
	if found, seen := scan(t, f, journal.Limits{Nonce: 43}); len(seen) > 0 || len(found.Damage) > 0 {
		t.Errorf("took %v %+v", seen, found)
	}
}

func TestHeaders(t *testing.T) {
	fs, f, _ := file(t, 1, always)
	if err := fs.Flip("log/j", 8*8); err != nil { // the version, and with it the checksum
		t.Fatal(err)
	}
	if _, err := journal.ReadHeader(f, "j"); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a flipped header: %v", err)
	}
	if err := fs.Cut("log/j", 10); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.ReadHeader(f, "j"); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a cut header: %v", err)
	}
}

// FuzzScan gives a scan any bytes: it must end, and take nothing that is not whole.
func FuzzScan(f *testing.F) {
	_, good, ends := file(f, 3, always)
	b := make([]byte, ends[2])
	if _, err := good.ReadAt(b, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(b[journal.HeaderBytes:])
	f.Add(b[journal.HeaderBytes : len(b)-50])
	f.Fuzz(func(t *testing.T, frames []byte) {
		fs := vfs.NewMemory()
		file, err := fs.Create("j")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(frames, journal.HeaderBytes); err != nil {
			t.Fatal(err)
		}
		found, _ := scan(t, file, journal.Limits{Nonce: 42})
		if size := int64(journal.HeaderBytes + len(frames)); found.End > size {
			t.Errorf("end %d of %d bytes", found.End, size)
		}
	})
}

// tape is a file that notes how much each write of a frame took.
type tape struct {
	vfs.File
	writes []int64
}

func (f *tape) WriteVecAt(pieces [][]byte, off int64) (int, error) {
	n, err := f.File.WriteVecAt(pieces, off)
	f.writes = append(f.writes, int64(n))
	return n, err
}

// TestWriteAhead writes small frames and some large ones: zeros go ahead of small ones where the space was never
// written, a block is begun with all of its bytes, nothing goes behind the end of the file, and a scan does not
// see the zeros.
func TestWriteAhead(t *testing.T) {
	const block = 4 << 10
	for _, filled := range []int64{0, 100 << 10, fileBytes} {
		fs := vfs.NewMemory()
		f, err := journal.Prepare(fs, ".", "j", fileBytes)
		if err != nil {
			t.Fatal(err)
		}
		noted := &tape{File: f}
		space := journal.Space{Size: fileBytes, Filled: filled}
		w, err := journal.Start(noted, journal.Header{Number: 1, Nonce: 1}, space, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		var frame journal.Frame
		var small, ahead, aheads, frames int64
		for base := record.Offset(0); ; base++ {
			frame.Reset()
			value := strings.Repeat("v", 1000)
			if base > 0 && base%20 == 0 {
				value = strings.Repeat("v", 20<<10)
			}
			frame.AddBatch(1, batch(base, value))
			if frame.Size() > w.Room() {
				break
			}
			end := w.End() + frame.Size()
			if err := w.Write(&frame); err != nil {
				t.Fatal(err)
			}
			frames++
			more := noted.writes[len(noted.writes)-1] - frame.Size()
			if end+more > fileBytes || more > 0 && (end+more)%block != 0 {
				t.Errorf("filled %d: %d zeros behind a frame of %d at %d", filled, more, frame.Size(), end)
			}
			if (len(value) > 1000 || end <= filled) && more > 0 {
				t.Errorf("filled %d: %d zeros behind a frame of %d at %d", filled, more, frame.Size(), end)
			}
			if len(value) == 1000 {
				small += frame.Size()
			}
			if more > 0 {
				aheads++
				ahead += more
			}
		}
		if want := (fileBytes - filled) / (16 << 10); aheads > want || filled == 0 && ahead < small/2 {
			t.Errorf("filled %d: %d bytes of zeros in %d writes for %d bytes of small frames", filled, ahead, aheads, small)
		}
		found, seen := scan(t, f, journal.Limits{Nonce: 1})
		if found.End != w.End() || int64(len(seen)) != frames || len(found.Damage) > 0 {
			t.Errorf("filled %d: found %d frames up to %d, want %d up to %d", filled, len(seen), found.End, frames, w.End())
		}
	}
}

// TestWriteAllocs holds writing a frame, small or past the cache, to no allocation of its own.
func TestWriteAllocs(t *testing.T) {
	for name, c := range map[string]struct {
		stage *journal.Stage
		value int
	}{
		"small": {nil, 5},
		"large": {journal.NewStage(1), 3 << 20},
	} {
		f, err := journal.Prepare(vfs.NewMemory(), ".", "j", 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		w, err := journal.Start(&blank{f}, journal.Header{Number: 1}, journal.Space{Size: 1 << 40}, 0, c.stage)
		if err != nil {
			t.Fatal(err)
		}
		var frame journal.Frame
		b := batch(0, string(make([]byte, c.value)))
		if n := alloctest.PerRun(100, 0, func() {
			frame.Reset()
			frame.AddBatch(1, b)
			if err := w.Write(&frame); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations a frame", name, n)
		}
	}
}

// blank is a file that takes everything and keeps nothing.
type blank struct{ vfs.File }

func (*blank) WriteVecAt(pieces [][]byte, _ int64) (n int, err error) {
	for _, p := range pieces {
		n += len(p)
	}
	return n, nil
}

func (*blank) WriteDirect([]byte, int64) error { return nil }

// counted is a file that counts reads, and fails those that reach a bad place.
type counted struct {
	vfs.File
	reads int
	bad   int64 // 0: none
}

func (f *counted) ReadAt(p []byte, off int64) (int, error) {
	f.reads++
	if f.bad > 0 && off <= f.bad && f.bad < off+int64(len(p)) {
		return 0, fault.New(fault.IO, "test", "a bad sector")
	}
	return f.File.ReadAt(p, off)
}

// TestScanReadsAhead scans many small frames with few reads, and is not stopped by a bad sector that it need not
// read.
func TestScanReadsAhead(t *testing.T) {
	const frames = 500
	_, f, ends := file(t, frames, always)
	c := &counted{File: f}
	if _, seen := scan(t, c, journal.Limits{Nonce: 42}); len(seen) != 4*frames || c.reads > 20 {
		t.Errorf("%d entries in %d reads", len(seen), c.reads)
	}
	c = &counted{File: f, bad: ends[frames-1] + 100}
	lim := journal.Limits{Nonce: 42, End: ends[frames-1]}
	if found, seen := scan(t, c, lim); len(seen) != 4*frames || found.End != lim.End {
		t.Errorf("%d entries up to %d, want %d up to %d", len(seen), found.End, 4*frames, lim.End)
	}
	c = &counted{File: f, bad: ends[200] - 1} // in a body that a checkpoint vouches for
	lim.Trust = lim.End
	if found, seen := scan(t, c, lim); len(seen) != 4*frames || found.End != lim.End {
		t.Errorf("%d entries up to %d, want %d up to %d", len(seen), found.End, 4*frames, lim.End)
	}
}
