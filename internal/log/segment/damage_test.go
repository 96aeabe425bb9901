package segment

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// content is all bytes of a file.
func content(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if err := readFull(f, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// put makes a file of the given bytes.
func put(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// journal writes what a journal kept in place looks like: a head, the batches of all partitions mixed
// and with gaps between them, and a footer in front of what was preallocated.
func journal(t testing.TB, fs vfs.FS, name string, data map[uint32][]record.Batch) {
	t.Helper()
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Preallocate(1 << 20); err != nil {
		t.Fatal(err)
	}
	head := bytes.Repeat([]byte("nonce"), 4096/5)
	if _, err := f.WriteAt(head, 0); err != nil {
		t.Fatal(err)
	}
	runs, pos := map[uint32]*Run{}, int64(4096)
	for i, more := 0, true; more; i++ {
		more = false
		for p, batches := range data {
			if i >= len(batches) {
				continue
			}
			more = true
			b := batches[i]
			pos += 48 // the head of a frame
			if _, err := f.WriteAt(b, pos); err != nil {
				t.Fatal(err)
			}
			if runs[p] == nil {
				runs[p] = &Run{Partition: p, Names: listed("a", fmt.Sprint(p))}
			}
			e := Of(b, pos)
			if i%2 == 0 {
				e.heads = 0 // as if it came from a checkpoint
			}
			runs[p].Extents = append(runs[p].Extents, e)
			pos += int64(len(b))
		}
	}
	var ix Index
	for p, r := range runs {
		for _, a := range abortedIn(data[p]) {
			r.Aborts.Add(a)
		}
		ix = append(ix, *r)
	}
	slices.SortFunc(ix, func(a, b Run) int { return int(int64(a.Partition) - int64(b.Partition)) })
	end, err := WriteFooter(f, pos, ix)
	if err != nil {
		t.Fatal(err)
	}
	if size, err := f.Size(); err != nil || size != end {
		t.Fatalf("size %d %v, end %d", size, err, end)
	}
}

func TestInPlace(t *testing.T) {
	fs, data := vfs.NewMemory(), small()
	journal(t, fs, "1.journal", data)
	s, err := Open(fs, "1.journal")
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, s, data)
	if names, err := s.Names(7); err != nil || !reflect.DeepEqual(names, listed("a", "7")) {
		t.Fatalf("%+v %v", names, err)
	}
	es, err := s.Extents(7)
	if err != nil || len(es) != len(data[7]) {
		t.Fatalf("%d extents %v, want one for each of %d batches", len(es), err, len(data[7]))
	}
}

// TestAnotherLife writes a new head over a file: the footer that is still at its end must not count.
func TestAnotherLife(t *testing.T) {
	fs := vfs.NewMemory()
	journal(t, fs, "1.journal", small())
	f, err := fs.OpenWrite("1.journal")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("another head"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fs, "1.journal"); !fault.Is(err, fault.Corrupt) {
		t.Fatalf("%v, want Corrupt", err)
	}
}

// TestEveryFlip damages each byte of a file, both kinds: whatever is still given out is right, and
// damage in the data or the tables of one partition leaves the others whole.
func TestEveryFlip(t *testing.T) {
	data := small()
	for _, kind := range []string{"rolled up", "in place"} {
		t.Run(kind, func(t *testing.T) { flipEvery(t, kind == "in place", data) })
	}
}

func flipEvery(t *testing.T, inPlace bool, data map[uint32][]record.Batch) {
	t.Helper()
	fs := vfs.NewMemory()
	if inPlace {
		journal(t, fs, "x", data)
	} else {
		fill(t, fs, "x", data)
	}
	whole := content(t, fs, "x")
	s, err := Open(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	tables, rows := s.end, int64(len(whole))-trailerBytes-int64(len(s.summaries))*rowBytes
	topics := map[uint32]*Names{}
	for p := range data {
		if topics[p], err = s.Names(p); err != nil {
			t.Fatal(err)
		}
	}
	inBatch := bytesOfBatches(t, s, len(whole), data)
	rng := rand.New(rand.NewPCG(1, 2))
	opened := 0
	for at := range int64(len(whole)) {
		if inPlace && at >= headBytes && at < 4096 {
			continue // the rest of the journal's head: nobody reads it here
		}
		bit := at*8 + rng.Int64N(8)
		if err := fs.Flip("x", bit); err != nil {
			t.Fatal(err)
		}
		bad, err := survey(t, fs, data, topics)
		switch {
		case err != nil && at >= HeaderBytes && at < rows:
			t.Fatalf("byte %d: %v, though the run table is whole", at, err)
		case err == nil && at >= rows:
			t.Fatalf("byte %d of the run table or trailer: no error", at)
		case bad > 1:
			t.Fatalf("byte %d: %d partitions are damaged", at, bad)
		case err == nil && bad == 0 && (at >= tables || inBatch[at]):
			t.Fatalf("byte %d of batches or tables: nobody noticed", at)
		}
		if err == nil {
			opened++
		}
		if err := fs.Flip("x", bit); err != nil {
			t.Fatal(err)
		}
	}
	if opened == 0 {
		t.Fatal("never opened: the test shows nothing")
	}
}

// bytesOfBatches says of each byte of a segment's file whether it belongs to a batch.
func bytesOfBatches(t *testing.T, s *Segment, size int, data map[uint32][]record.Batch) []bool {
	t.Helper()
	inBatch := make([]bool, size)
	for p := range data {
		es, err := s.Extents(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			for i := range e.Len {
				inBatch[e.Pos+int64(i)] = true
			}
		}
	}
	return inBatch
}

// survey reads all that can be read and fails if any of it is wrong. It counts the partitions of which
// something is missing.
func survey(t *testing.T, fs vfs.FS, data map[uint32][]record.Batch, topics map[uint32]*Names) (bad int, err error) {
	t.Helper()
	s, err := Open(fs, "x")
	if err != nil {
		if !fault.Is(err, fault.Corrupt) {
			t.Fatalf("%v, want Corrupt", err)
		}
		return 0, err
	}
	defer s.Close()
	for p, want := range data {
		got, err := readAll(s, p)
		names, terr := s.Names(p)
		aborted, aerr := aborts(s, p, 0)
		for _, err := range []error{err, terr, aerr} {
			if err != nil && !fault.Is(err, fault.Corrupt) {
				t.Fatalf("%v, want Corrupt", err)
			}
		}
		if len(got) > len(want) || !same(got, want[:len(got)]) {
			t.Fatalf("partition %d: wrong batches", p)
		}
		if terr == nil && !reflect.DeepEqual(names, topics[p]) {
			t.Fatalf("partition %d: wrong names %+v", p, names)
		}
		if aerr == nil && !slices.Equal(aborted, abortedIn(want)) {
			t.Fatalf("partition %d: wrong aborted transactions %+v", p, aborted)
		}
		if err == nil && len(got) != len(want) {
			t.Fatalf("partition %d: %d batches of %d and no error", p, len(got), len(want))
		}
		if err != nil || terr != nil || aerr != nil {
			bad++
		}
	}
	return bad, nil
}

// TestEveryCut cuts a file at each byte: it does not open, but Salvage gives what is whole.
func TestEveryCut(t *testing.T) {
	data := small()
	fs := vfs.NewMemory()
	s := fill(t, fs, "whole", data)
	whole, dataEnd := content(t, fs, "whole"), s.end
	last := 0
	for n := range int64(len(whole)) {
		put(t, fs, "x", whole[:n])
		if _, err := Open(fs, "x"); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("%d bytes: %v, want Corrupt", n, err)
		}
		s, _, err := Salvage(fs, "x")
		if err != nil {
			if !fault.Is(err, fault.Corrupt) || n >= HeaderBytes {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		found := 0
		for _, sum := range s.Summaries() {
			got, err := readAll(s, sum.Partition)
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if !same(got, data[sum.Partition][:len(got)]) {
				t.Fatalf("%d bytes, partition %d: wrong batches", n, sum.Partition)
			}
			found += len(got)
		}
		if found < last || n >= dataEnd && found != 3*smallBatches {
			t.Fatalf("%d bytes: %d batches, %d with one byte less", n, found, last)
		}
		last = found
	}
}

// TestSalvage loses the run table and a byte in the middle: all but the rest of that run comes back.
func TestSalvage(t *testing.T) {
	data := small()
	const all, third = smallBatches, 4_000_000_000
	tests := []struct {
		name string
		at   func(s *Segment) int64 // the byte to damage besides the run table; -1: none
		want map[uint32]int         // batches
	}{
		{"footer", func(*Segment) int64 { return -1 }, map[uint32]int{0: all, 7: all, third: all}},
		{"header", func(*Segment) int64 { return 3 }, map[uint32]int{0: all, 7: all, third: all}},
		{"first mark", func(*Segment) int64 { return HeaderBytes + 5 }, map[uint32]int{7: all, third: all}},
		{"byte", func(s *Segment) int64 { return s.at(t, 7, data[7][:3]) + 70 }, map[uint32]int{0: all, 7: 3, third: all}},
		{"a length", func(s *Segment) int64 { return s.at(t, 7, data[7][:1]) + 9 }, map[uint32]int{0: all, 7: 1, third: all}},
		{"second mark", func(s *Segment) int64 { return s.at(t, 7, nil) - 8 }, map[uint32]int{0: all, third: all}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := vfs.NewMemory()
			s := fill(t, fs, "x", data)
			if at := tt.at(s); at >= 0 {
				if err := fs.Flip("x", at*8); err != nil {
					t.Fatal(err)
				}
			}
			if err := fs.Flip("x", (s.Size()-trailerBytes-3)*8); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(fs, "x"); !fault.Is(err, fault.Corrupt) {
				t.Fatalf("%v, want Corrupt", err)
			}
			s, damage, err := Salvage(fs, "x")
			if err != nil {
				t.Fatal(err)
			}
			if len(damage) == 0 || damage[len(damage)-1].To != s.Size() {
				t.Fatalf("damage %+v does not name the footer", damage)
			}
			if len(s.Summaries()) != len(tt.want) {
				t.Fatalf("%d runs, want %d", len(s.Summaries()), len(tt.want))
			}
			for p, n := range tt.want {
				got, err := readAll(s, p)
				if err != nil || !same(got, data[p][:n]) {
					t.Fatalf("partition %d: %d batches %v, want %d", p, len(got), err, n)
				}
				if names, err := s.Names(p); err != nil || names != nil {
					t.Fatalf("names: %v %v", names, err)
				}
				if sum, _ := s.Summary(p); sum.Aborts != AbortsUnknown {
					t.Fatalf("the aborted transactions seem to be known: %+v", sum)
				}
			}
		})
	}
}

// at is where the batch behind the given ones of a partition begins.
func (s *Segment) at(t *testing.T, p uint32, behind []record.Batch) int64 {
	t.Helper()
	es, err := s.Extents(p)
	if err != nil {
		t.Fatal(err)
	}
	return es[0].Pos + int64(len(slices.Concat(behind...)))
}

// TestForgedMark has a record that looks like the mark of a run. Only a mark with the file's own nonce
// and its own place counts.
func TestForgedMark(t *testing.T) {
	fs := vfs.NewMemory()
	var bu record.Builder
	bu.Reset(nil, 0)
	forged := appendMark(nil, 12345, 200, &Run{Partition: 99})
	bu.Append(&record.Record{Value: append(forged, batch(0, 3, 10)...)})
	s := fill(t, fs, "x", map[uint32][]record.Batch{5: {batch(0, 1, 10), bu.Seal(1, 0)}})
	for _, at := range []int64{HeaderBytes + markBytes + 70, s.Size() - 1} { // the first batch, the trailer
		if err := fs.Flip("x", at*8); err != nil {
			t.Fatal(err)
		}
	}
	s, _, err := Salvage(fs, "x")
	if err != nil || len(s.Summaries()) != 0 {
		t.Fatalf("%v %v, want nothing", s.Summaries(), err)
	}
}

func TestNewerVersion(t *testing.T) {
	fs := vfs.NewMemory()
	fill(t, fs, "x", small())
	b := content(t, fs, "x")
	trailer := b[len(b)-trailerBytes:]
	le.PutUint32(trailer[trailerVersion:], Version+1)
	le.PutUint32(trailer[trailerCRC:], sum(trailer[:trailerCRC]))
	le.PutUint32(b[headerVersion:], Version+1)
	le.PutUint32(b[headerCRC:], sum(b[:headerCRC]))
	put(t, fs, "x", b)
	_, err := Open(fs, "x")
	if !fault.Is(err, fault.Unsupported) || fault.HintOf(err) == "" {
		t.Fatalf("%v, hint %q, want Unsupported", err, fault.HintOf(err))
	}
	if _, _, err := Salvage(fs, "x"); !fault.Is(err, fault.Unsupported) {
		t.Fatalf("%v, want Unsupported", err)
	}
}

// FuzzOpen opens any bytes and reads all that is offered. The checksums of trailer and run table are
// made right, so that what is behind them is reached.
func FuzzOpen(f *testing.F) {
	fs := vfs.NewMemory()
	fill(f, fs, "x", small())
	f.Add(content(f, fs, "x"), true)
	journal(f, fs, "y", small())
	f.Add(content(f, fs, "y")[4000:], true)
	f.Add([]byte(nil), false)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		b = bytes.Clone(b)
		if n := len(b); mend && n >= trailerBytes {
			tr := b[n-trailerBytes:]
			copy(tr, trailerMagic)
			le.PutUint32(tr[trailerVersion:], Version)
			if size := int64(le.Uint32(tr[trailerRuns:])) * rowBytes; size <= int64(n)-trailerBytes {
				le.PutUint64(tr[trailerPos:], uint64(int64(n)-trailerBytes-size))
				le.PutUint32(tr[trailerTable:], sum(b[int64(n)-trailerBytes-size:n-trailerBytes]))
			}
			le.PutUint32(tr[trailerHead:], sum(b[:headBytes]))
			le.PutUint32(tr[trailerCRC:], sum(tr[:trailerCRC]))
		}
		fs := vfs.NewMemory()
		put(t, fs, "x", b)
		if s, err := Open(fs, "x"); err == nil {
			drain(t, s)
		} else if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Fatal(err)
		}
		if s, _, err := Salvage(fs, "x"); err == nil {
			drain(t, s)
		} else if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Fatal(err)
		}
	})
}

func drain(t *testing.T, s *Segment) {
	for _, sum := range s.Summaries() {
		batches, err := readAll(s, sum.Partition)
		if err != nil && !fault.Is(err, fault.Corrupt) {
			t.Fatal(err)
		}
		for _, b := range batches {
			if err := b.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Names(sum.Partition); err != nil && !fault.Is(err, fault.Corrupt) {
			t.Fatal(err)
		}
		if _, err := aborts(s, sum.Partition, 0); err != nil && !fault.Is(err, fault.Corrupt) {
			t.Fatal(err)
		}
	}
}
