package segment

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

func TestAppendOrder(t *testing.T) {
	tests := []struct {
		name      string
		partition uint32
		base      record.Offset
		want      fault.Kind
	}{
		{"same offset", 5, 10, fault.Invalid},
		{"inside the last batch", 5, 12, fault.Invalid},
		{"offset before", 5, 0, fault.Invalid},
		{"partition before", 4, 100, fault.Invalid},
		{"damaged", 6, -1, fault.Corrupt},
	}
	fs := vfs.NewMemory()
	w, err := Create(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(5, batch(10, 3, 1), nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		b := batch(max(tt.base, 0), 3, 1)
		if tt.base < 0 {
			b[len(b)-1] ^= 1
		}
		if err := w.Append(tt.partition, b, nil); !fault.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if err := w.Append(5, batch(13, 3, 1), nil); err != nil { // a refusal spoils nothing
		t.Fatal(err)
	}
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, s, map[uint32][]record.Batch{5: {batch(10, 3, 1), batch(13, 3, 1)}})
	if names, err := s.Names(5); err != nil || names != nil {
		t.Fatalf("names nobody gave: %+v, %v", names, err)
	}
}

// TestExtents cuts runs at the borders of batches, at about 16 KiB.
func TestExtents(t *testing.T) {
	var bs []record.Batch
	next := record.Offset(0)
	for _, size := range []int{5000, 5000, 5000, 5000, 100_000, 10, 10, 16 << 10, 10} {
		bs = append(bs, batch(next, 1, size))
		next++
	}
	s := fill(t, vfs.NewMemory(), "x", map[uint32][]record.Batch{1: bs})
	es, err := s.Extents(1)
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]record.Offset
	for i, e := range es {
		got = append(got, [2]record.Offset{e.Base, e.Last})
		if i > 0 && es[i-1].End() != e.Pos {
			t.Fatalf("hole before extent %d", i)
		}
	}
	if want := [][2]record.Offset{{0, 2}, {3, 3}, {4, 4}, {5, 6}, {7, 7}, {8, 8}}; !slices.Equal(got, want) {
		t.Fatalf("extents %v, want %v", got, want)
	}
	// Each can be read alone, and nothing but what the index says.
	for _, e := range es {
		bs, err := s.Read(e, nil)
		if err != nil || bs[0].BaseOffset() != e.Base || bs[len(bs)-1].LastOffset() != e.Last {
			t.Fatalf("%+v: %v", e, err)
		}
	}
	for _, bad := range []Extent{
		{}, {Base: 0, Last: 2, Pos: -1, Len: 100}, {Base: 0, Last: 2, Pos: es[0].Pos, Len: 60},
		{Base: 0, Last: 2, Pos: s.Size() - 100, Len: 100}, {Base: 1, Last: 2, Pos: es[0].Pos, Len: es[0].Len},
		{Base: 0, Last: 3, Pos: es[0].Pos, Len: es[0].Len}, {Base: 0, Last: 2, Pos: es[0].Pos + 1, Len: es[0].Len},
		{Base: 0, Last: 2, Pos: 1 << 62, Len: 1<<31 - 1},
	} {
		if bs, err := s.Read(bad, nil); !fault.Is(err, fault.Corrupt) || len(bs) > 0 {
			t.Errorf("%+v: %d batches, %v", bad, len(bs), err)
		}
	}
}

// TestFinishFails lets each operation of making a segment fail in turn: there is an error, no file of
// the name, and no unfinished one.
func TestFinishFails(t *testing.T) {
	for _, on := range []vfs.OpKind{
		vfs.OpCreate, vfs.OpWrite, vfs.OpTruncate, vfs.OpSync, vfs.OpRead, vfs.OpRename, vfs.OpSyncDir,
	} {
		for _, kind := range []fault.Kind{fault.IO, fault.Full} {
			memory := vfs.NewMemory()
			fs := vfs.NewFaulty(memory)
			fs.Inject(vfs.Fault{On: on, Kind: kind, Times: 1, Short: on == vfs.OpWrite})
			s, err := tryFill(fs, "x")
			if !fault.Is(err, kind) || s != nil {
				t.Fatalf("%v: %v, want %v", on, err, kind)
			}
			left, err := memory.List(".")
			if err != nil {
				t.Fatal(err)
			}
			if on != vfs.OpSyncDir && len(left) > 0 {
				t.Fatalf("%v: %q is left", on, left)
			}
		}
	}
}

// TestNamedStaysWhole lets what comes behind the name fail: the file has its name, and a start takes it for what it is.
func TestNamedStaysWhole(t *testing.T) {
	key, err := atrest.NewLocal(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := atrest.NewRing([]atrest.Wrapper{key})
	if err != nil {
		t.Fatal(err)
	}
	for _, on := range []vfs.OpKind{vfs.OpSyncDir, vfs.OpOpen} {
		memory := vfs.NewMemory()
		faulty := vfs.NewFaulty(memory)
		faulty.Inject(vfs.Fault{On: on, Kind: fault.IO})
		if s, err := tryFill(atrest.New(faulty, ring, false), "x"); !fault.Is(err, fault.IO) {
			t.Fatalf("%v: %v, %v", on, s, err)
		}
		s, err := Open(atrest.New(memory, ring, false), "x")
		if err != nil {
			t.Fatalf("%v: %v", on, err)
		}
		if sums := s.Summaries(); len(sums) != 1 || sums[0].Last != 2 {
			t.Errorf("%v: %+v", on, sums)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func tryFill(fs vfs.FS, name string) (*Segment, error) {
	w, err := Create(fs, name)
	if err != nil {
		return nil, err
	}
	for i := range record.Offset(3) {
		if err := w.Append(1, batch(i, 1, 700<<10), nil); err != nil {
			w.Abort()
			if again := w.Append(1, batch(9, 1, 1), nil); again == nil {
				return nil, errors.New("append after abort")
			}
			return nil, err
		}
	}
	return w.Finish()
}

// TestCrash cuts the power at each operation of making a segment: either there is none or it is whole.
func TestCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	memory := vfs.NewMemory()
	fs := vfs.NewFaulty(memory)
	var disks []*vfs.Memory
	fs.OnOp(func(op vfs.Op) {
		for range 5 {
			disks = append(disks, memory.CrashClone(rng))
		}
	})
	data := small()
	fill(t, fs, "x", data)
	fs.OnOp(nil)
	seen := 0
	for _, disk := range disks {
		s, err := Open(disk, "x")
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		wantAll(t, s, data)
		seen++
	}
	if seen == 0 {
		t.Fatal("no crash left a segment: the test shows nothing")
	}
	s, err := Open(memory.CrashClone(nil), "x")
	if err != nil {
		t.Fatalf("finished, and gone after a crash: %v", err)
	}
	wantAll(t, s, data)
}

// TestManyRuns opens a file of 10,000 partitions: two reads, a fixed number of allocations, little memory.
// BenchmarkOpen tells the time.
func TestManyRuns(t *testing.T) {
	if size := unsafe.Sizeof(Summary{}) + unsafe.Sizeof(place{}); size > 64 {
		t.Errorf("a run takes %d bytes of memory, at most 64 are allowed", size)
	}
	fs := vfs.NewFaulty(vfs.NewMemory())
	manyRuns(t, fs, 10_000)
	before := fs.Count(vfs.OpRead)
	s, err := Open(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	if reads := fs.Count(vfs.OpRead) - before; reads != 2 {
		t.Errorf("opening took %d reads, want trailer and run table", reads)
	}
	if sum, ok := s.Summary(7777); !ok || sum.Base != 7777 {
		t.Fatalf("%+v %v", sum, ok)
	}
	opening := func() {
		s, err := Open(fs, "x")
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	if n := alloctest.PerRun(10, 30, opening); n > 30 {
		t.Errorf("opening took %.0f allocations", n)
	}
}

func manyRuns(t testing.TB, fs vfs.FS, n int) {
	w, err := Create(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	for p := range n {
		if err := w.Append(uint32(p), batch(record.Offset(p), 1, 20), oneTopic("a/b")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// TestConcurrentReads reads from several goroutines at once; the race detector watches.
func TestConcurrentReads(t *testing.T) {
	data := small()
	s := fill(t, vfs.NewMemory(), "x", data)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for p, want := range data {
				got, err := readAll(s, p)
				if err != nil || len(got) != len(want) {
					t.Errorf("partition %d: %d batches, %v", p, len(got), err)
				}
				if _, err := s.Names(p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestFooterOrder(t *testing.T) {
	b := batch(0, 1, 10)
	e := Of(b, 4096)
	n := int64(len(b))
	late := e
	late.Base, late.Last = 5, 4
	tests := []struct {
		name string
		ix   Index
	}{
		{"partitions", Index{{Partition: 2, Extents: []Extent{e}}, {Partition: 1, Extents: []Extent{e}}}},
		{"partition twice", Index{{Partition: 2, Extents: []Extent{e}}, {Partition: 2, Extents: []Extent{e}}}},
		{"no extents", Index{{Partition: 2}}},
		{"offsets", Index{{Partition: 2, Extents: []Extent{e, e}}}},
		{"base above last", Index{{Partition: 2, Extents: []Extent{late}}}},
		{"beyond the end", Index{{Partition: 2, Extents: []Extent{Of(b, 4097)}}}},
	}
	fs := vfs.NewMemory()
	f, err := fs.Create("x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 4096); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		if _, err := WriteFooter(f, 4096+n, tt.ix); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want Invalid", tt.name, err)
		}
	}
	if size, err := f.Size(); err != nil || size != 4096+n {
		t.Errorf("a refused footer changed the file: %d bytes, %v", size, err)
	}
	if _, err := WriteFooter(f, 4096+n, nil); err != nil {
		t.Fatal(err)
	}
	s, err := Open(fs, "x")
	if err != nil || len(s.Summaries()) != 0 {
		t.Fatalf("empty index: %v", err)
	}
}

// TestFooterOverDamage keeps a damaged batch in the index: whoever reads it is told.
func TestFooterOverDamage(t *testing.T) {
	fs := vfs.NewMemory()
	f, err := fs.Create("x")
	if err != nil {
		t.Fatal(err)
	}
	good, bad := batch(0, 1, 10), batch(1, 1, 10)
	places := []Extent{Of(good, 4096), Of(bad, 4096+int64(len(good)))}
	for i := range places {
		places[i].heads = 0
	}
	bad[8] = 0x7f // its length
	if _, err := f.WriteAt(slices.Concat(good, bad), 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteFooter(f, places[1].End(), Index{{Partition: 3, Extents: places}}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	got, err := readAll(s, 3)
	if !fault.Is(err, fault.Corrupt) || len(got) != 1 {
		t.Fatalf("%d batches, %v, want one and Corrupt", len(got), err)
	}
}
