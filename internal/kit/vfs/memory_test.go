package vfs

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestCrashKeepsOnlyWhatWasSynced(t *testing.T) {
	m := NewMemory()
	put(t, m, "no-entry", "synced, but the folder is not")
	wantList(t, m.CrashClone(nil), ".")

	put(t, m, "f", "old")
	must(t, m.SyncDir("."))
	f, err := m.OpenWrite("f")
	must(t, err)
	_, err = f.WriteAt([]byte("NEWER"), 0)
	must(t, err)
	if got := read(t, m.CrashClone(nil), "f"); got != "old" {
		t.Fatalf("unsynced write: %q", got)
	}
	must(t, f.Sync())
	if got := read(t, m.CrashClone(nil), "f"); got != "NEWER" {
		t.Fatalf("synced write: %q", got)
	}
	must(t, f.Truncate(2))
	if got := read(t, m.CrashClone(nil), "f"); got != "NEWER" {
		t.Fatalf("unsynced truncate: %q", got)
	}
	must(t, m.Rename("f", "g"))
	wantList(t, m.CrashClone(nil), ".", "f", "no-entry")
	must(t, m.SyncDir("."))
	wantList(t, m.CrashClone(nil), ".", "g", "no-entry")
	must(t, m.Remove("g"))
	wantList(t, m.CrashClone(nil), ".", "g", "no-entry")
	must(t, m.SyncDir("."))
	wantList(t, m.CrashClone(nil), ".", "no-entry")
}

func TestCrashLosesFoldersThatWereNotSynced(t *testing.T) {
	m := NewMemory()
	must(t, m.MkdirAll("a/b"))
	put(t, m, "a/b/f", "x")
	must(t, m.SyncDir("a/b"))
	must(t, m.SyncDir("a"))
	wantList(t, m.CrashClone(nil), ".")
	must(t, m.SyncDir("."))
	wantList(t, m.CrashClone(nil), "a/b", "f")
}

func TestCreateOverAFileIsNotSyncedEither(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "precious")
	must(t, m.SyncDir("."))
	f, err := m.Create("f")
	must(t, err)
	if got := read(t, m.CrashClone(nil), "f"); got != "precious" {
		t.Fatalf("got %q", got)
	}
	must(t, f.Sync())
	if got := read(t, m.CrashClone(nil), "f"); got != "" {
		t.Fatalf("got %q", got)
	}
}

// outcomes crashes many times and counts what is left.
func outcomes(m *Memory, see func(*Memory) string) map[string]int {
	rng := rand.New(rand.NewPCG(7, 7))
	seen := map[string]int{}
	for range 3000 {
		seen[see(m.CrashClone(rng))]++
	}
	return seen
}

func wantOutcomes(t *testing.T, seen map[string]int, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(seen))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("outcomes %q\nwant     %q", got, want)
	}
}

func TestCrashOutcomesOfOverwrites(t *testing.T) {
	m := NewMemory()
	must(t, m.SyncDir("."))
	put(t, m, "f", string(bytes.Repeat([]byte("a"), 3*sectorSize)))
	must(t, m.SyncDir("."))
	f, err := m.OpenWrite("f")
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("b"), 3*sectorSize), 0)
	must(t, err)
	seen := outcomes(m, func(c *Memory) string {
		data := read(t, c, "f")
		sectors := ""
		for i := 0; i < len(data); i += sectorSize {
			sectors += data[i : i+1]
			if data[i] != data[i+sectorSize-1] {
				t.Fatal("torn inside a sector")
			}
		}
		return sectors
	})
	wantOutcomes(t, seen, "aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb")
}

func TestCrashOutcomesOfTwoAppends(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "")
	must(t, m.SyncDir("."))
	f, err := m.OpenWrite("f")
	must(t, err)
	_, err = f.WriteAt([]byte("1"), 0)
	must(t, err)
	_, err = f.WriteAt([]byte("2"), 1)
	must(t, err)
	seen := outcomes(m, func(c *Memory) string { return read(t, c, "f") })
	wantOutcomes(t, seen, "", "1", "\x00", "12", "\x002", "1\x00", "\x00\x00")
}

func TestCrashOutcomesOfPreallocation(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "")
	must(t, m.SyncDir("."))
	f, err := m.OpenWrite("f")
	must(t, err)
	must(t, f.Preallocate(2))
	_, err = f.WriteAt([]byte("1"), 0)
	must(t, err)
	seen := outcomes(m, func(c *Memory) string { return read(t, c, "f") })
	wantOutcomes(t, seen, "", "1", "\x00", "1\x00", "\x00\x00")
}

func TestCrashOutcomesOfTruncation(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "abcd")
	must(t, m.SyncDir("."))
	f, err := m.OpenWrite("f")
	must(t, err)
	must(t, f.Truncate(2))
	must(t, f.Truncate(4))
	seen := outcomes(m, func(c *Memory) string { return read(t, c, "f") })
	wantOutcomes(t, seen, "abcd", "ab", "ab\x00\x00")
}

func TestCrashOutcomesOfRename(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "old")
	must(t, m.SyncDir("."))
	put(t, m, "f.tmp", "new")
	must(t, m.Rename("f.tmp", "f"))
	all := func(c *Memory) string {
		names, err := c.List(".")
		must(t, err)
		out := ""
		for _, name := range names {
			out += name + "=" + read(t, c, name) + " "
		}
		return out
	}
	wantOutcomes(t, outcomes(m, all), "f=old ", "f=old f.tmp=new ", "f=new ")
	must(t, m.SyncDir("."))
	wantOutcomes(t, outcomes(m, all), "f=new ")

	// The name a synced file was renamed from is taken again: the file keeps one of its two names.
	put(t, m, "x", "1")
	must(t, m.SyncDir("."))
	must(t, m.Rename("x", "y"))
	put(t, m, "x", "2")
	must(t, m.Remove("f"))
	wantOutcomes(t, outcomes(m, all), "f=new x=1 ", "x=1 ", "f=new y=1 ", "y=1 ", "f=new x=2 y=1 ", "x=2 y=1 ")
}

func TestCrashIsTheSameForTheSameSeed(t *testing.T) {
	m := NewMemory()
	for i := range 20 {
		put(t, m, fmt.Sprint(i), "x")
	}
	for seed := range uint64(50) {
		a, err := m.CrashClone(rand.New(rand.NewPCG(seed, 0))).List(".")
		must(t, err)
		b, err := m.CrashClone(rand.New(rand.NewPCG(seed, 0))).List(".")
		must(t, err)
		if !slices.Equal(a, b) {
			t.Fatalf("seed %d: %q and %q", seed, a, b)
		}
	}
}

func TestFailedSyncIsNeverMadeGood(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "0000")
	must(t, m.SyncDir("."))
	file, err := m.OpenWrite("f")
	must(t, err)
	f, ok := file.(*memoryFile)
	if !ok {
		t.Fatalf("%T", file)
	}
	_, err = f.WriteAt([]byte("1"), 0)
	must(t, err)
	must(t, f.failSync())
	_, err = f.WriteAt([]byte("2"), 1)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Sync())
	if got := read(t, m, "f"); got != "1200" {
		t.Fatalf("before the crash: %q", got)
	}
	seen := outcomes(m, func(c *Memory) string { return read(t, c, "f") })
	wantOutcomes(t, seen, "0200", "1200")
	if got := read(t, m.CrashClone(nil), "f"); got != "0200" {
		t.Fatalf("nothing kept: %q", got)
	}
}

func TestClonesAreApart(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "one")
	must(t, m.SyncDir("."))
	f, err := m.OpenWrite("f")
	must(t, err)
	_, err = f.WriteAt([]byte("TWO"), 0)
	must(t, err)
	lock, err := m.Lock("LOCK")
	must(t, err)

	full, cut := m.Clone(), m.CrashClone(nil)
	for _, c := range []*Memory{full, cut} {
		other, err := c.Lock("LOCK")
		must(t, err)
		must(t, other.Close())
	}
	_, err = f.WriteAt([]byte("x"), 0)
	must(t, err)
	g, err := full.OpenWrite("f")
	must(t, err)
	_, err = g.WriteAt([]byte("yz"), 1)
	must(t, err)
	h, err := cut.OpenWrite("f")
	must(t, err)
	_, err = h.WriteAt([]byte("_"), 2)
	must(t, err)
	for _, c := range []struct {
		fs   *Memory
		want string
	}{{m, "xWO"}, {full, "Tyz"}, {cut, "on_"}, {m.CrashClone(nil), "one"}, {full.CrashClone(nil), "one"}} {
		if got := read(t, c.fs, "f"); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	must(t, lock.Close())
}

func TestCloneKeepsRemovedFilesThatACrashBringsBack(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "x")
	must(t, m.SyncDir("."))
	must(t, m.Remove("f"))
	c := m.Clone()
	wantList(t, c, ".")
	wantList(t, c.CrashClone(nil), ".", "f")
}

func TestCapacity(t *testing.T) {
	m := NewMemory()
	m.SetCapacity(10_000)
	free := func(want int64) {
		t.Helper()
		got, total, err := m.Space()
		must(t, err)
		if got != want || total != 10_000 {
			t.Fatalf("free %d of %d, want %d", got, total, want)
		}
	}
	f, err := m.Create("f")
	must(t, err)
	must(t, f.Preallocate(8000))
	free(2000)
	wantKind(t, f.Preallocate(10_001), fault.Full, "f")
	wantKind(t, f.Truncate(10_001), fault.Full, "f")
	g, err := m.Create("g")
	must(t, err)
	n, err := g.WriteAt(make([]byte, 3000), 0)
	wantKind(t, err, fault.Full, "g")
	if n != 2000 {
		t.Fatalf("wrote %d, want the 2000 there is room for", n)
	}
	free(0)
	_, err = f.WriteAt(make([]byte, 8000), 0) // it has its room
	must(t, err)
	n, err = g.WriteAt([]byte("x"), 5000)
	wantKind(t, err, fault.Full, "g")
	if n != 0 {
		t.Fatalf("wrote %d beyond a hole there is no room for", n)
	}
	must(t, f.Truncate(1000))
	free(7000)
	must(t, m.Remove("g"))
	free(7000) // still open
	must(t, g.Close())
	free(9000)
	must(t, f.Close())
	put(t, m, "h", "12345")
	must(t, m.Rename("h", "f"))
	free(9995)
	must(t, m.SyncDir("."))
	c := m.CrashClone(nil)
	if got, _, _ := c.Space(); got != 9995 {
		t.Fatalf("the clone has %d free", got)
	}
	if got, _, _ := m.Clone().Space(); got != 9995 {
		t.Fatalf("the full clone has %d free", got)
	}
	m.SetCapacity(3)
	if got, _, _ := m.Space(); got != 0 {
		t.Fatalf("free %d", got)
	}
	m.SetCapacity(-1)
	if got, _, _ := m.Space(); got <= 0 {
		t.Fatalf("free %d", got)
	}
}

func TestPreallocationTakesNoMemory(t *testing.T) {
	m := NewMemory()
	f, err := m.Create("huge")
	must(t, err)
	must(t, f.Preallocate(1<<40))
	_, err = f.WriteAt([]byte("x"), 1<<39)
	must(t, err)
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	c := m.CrashClone(nil)
	if pages := len(c.find("huge").pages); pages != 1 {
		t.Fatalf("%d pages", pages)
	}
}

func TestFlipAndCut(t *testing.T) {
	m := NewMemory()
	put(t, m, "f", "\x00\x00\x00")
	must(t, m.SyncDir("."))
	c := m.Clone()
	must(t, m.Flip("f", 9))
	if got := read(t, m.CrashClone(nil), "f"); got != "\x00\x02\x00" {
		t.Fatalf("got %q", got)
	}
	must(t, m.Cut("f", 2))
	if got := read(t, m.CrashClone(nil), "f"); got != "\x00\x02" {
		t.Fatalf("got %q", got)
	}
	if got := read(t, c, "f"); got != "\x00\x00\x00" {
		t.Fatalf("the clone has %q", got)
	}
	wantKind(t, m.Flip("f", 16), fault.OutOfRange, "f")
	wantKind(t, m.Flip("f", -1), fault.OutOfRange, "f")
	wantKind(t, m.Flip("g", 0), fault.NotFound, "g")
	wantKind(t, m.Cut("f", 3), fault.OutOfRange, "f")
}

// model is a file as simple as can be: what it is, and every state it has had since the last sync.
type model struct {
	now  []byte
	past [][]byte // from the synced one to now
}

func (f *model) is(next []byte) {
	f.now = next
	f.past = append(f.past, next)
}

func resized(data []byte, size int) []byte {
	next := make([]byte, size)
	copy(next, data)
	return next
}

// TestMemoryAgainstModel does random things to a Memory, to clones of it and to a model. What is
// there must be the same; what a crash leaves must be the synced state where nothing is kept, and
// else in each byte what some state since the last sync had there.
func TestMemoryAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 99))
		m := NewMemory()
		names := []string{"a", "b", "c"}
		files, open := map[string]*model{}, map[string]File{}
		for _, name := range names {
			f, err := m.Create(name)
			must(t, err)
			files[name], open[name] = &model{past: [][]byte{nil}}, f
		}
		must(t, m.SyncDir("."))
		for range 200 {
			name := names[rng.IntN(len(names))]
			step(t, rng, open[name], files[name])
			if rng.IntN(20) == 0 {
				m = m.Clone()
				for _, name := range names {
					f, err := m.OpenWrite(name)
					must(t, err)
					open[name] = f
				}
			}
			if got := read(t, m, name); got != string(files[name].now) {
				t.Fatalf("seed %d: %s differs from the model", seed, name)
			}
		}
		strict := m.CrashClone(nil)
		for name, f := range files {
			if got := read(t, strict, name); got != string(f.past[0]) {
				t.Fatalf("seed %d: %s is not as last synced", seed, name)
			}
		}
		for range 10 {
			c := m.CrashClone(rng)
			for name, f := range files {
				checkCrashed(t, seed, name, []byte(read(t, c, name)), f)
			}
		}
	}
}

func step(t *testing.T, rng *rand.Rand, f File, model *model) {
	t.Helper()
	off := rng.IntN(3 * pageSize)
	switch rng.IntN(8) {
	case 0:
		must(t, f.Sync())
		model.past = [][]byte{model.now}
	case 1:
		must(t, f.Truncate(int64(off)))
		model.is(resized(model.now, off))
	case 2:
		must(t, f.Preallocate(int64(off)))
		if off > len(model.now) {
			model.is(resized(model.now, off))
		}
	default:
		data := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, rng.IntN(2*pageSize))
		half := len(data) / 2
		n, err := f.WriteVecAt([][]byte{data[:half], data[half:]}, int64(off))
		must(t, err)
		if n != len(data) {
			t.Fatalf("wrote %d of %d", n, len(data))
		}
		if n > 0 {
			next := resized(model.now, max(len(model.now), off+len(data)))
			copy(next[off:], data)
			model.is(next)
		}
	}
}

func checkCrashed(t *testing.T, seed uint64, name string, got []byte, f *model) {
	t.Helper()
	low, high := len(f.past[0]), len(f.past[0])
	for _, p := range f.past {
		low, high = min(low, len(p)), max(high, len(p))
	}
	if len(got) < low || len(got) > high {
		t.Fatalf("seed %d: %s has %d bytes, want %d to %d", seed, name, len(got), low, high)
	}
	for i, b := range got {
		had := slices.ContainsFunc(f.past, func(p []byte) bool {
			return i < len(p) && p[i] == b || i >= len(p) && b == 0
		})
		if !had {
			t.Fatalf("seed %d: %s has byte %d at %d, which was never there", seed, name, b, i)
		}
	}
}

func BenchmarkCrashClone(b *testing.B) {
	m := NewMemory()
	for i := range 10 {
		f, err := m.Create(fmt.Sprint(i))
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Preallocate(64 << 20); err != nil {
			b.Fatal(err)
		}
		for j := range 20 {
			if _, err := f.WriteAt(make([]byte, 1000), int64(j)*1000); err != nil {
				b.Fatal(err)
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		m.CrashClone(rng)
	}
}

func BenchmarkMemoryAppendSync(b *testing.B) {
	f, err := NewMemory().Create("f")
	if err != nil {
		b.Fatal(err)
	}
	data, off := make([]byte, 500), int64(0)
	for b.Loop() {
		if _, err := f.WriteAt(data, off%(64<<20)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		off += 500
	}
}

// TestSyncStoresWhatWasThereWhenItBegan writes while a sync is under way: a crash right after it may take that.
func TestSyncStoresWhatWasThereWhenItBegan(t *testing.T) {
	disk := NewMemory()
	fs := NewFaulty(disk)
	f, err := fs.Create("f")
	must(t, err)
	must(t, fs.SyncDir("."))
	_, err = f.WriteAt([]byte("one"), 0)
	must(t, err)
	below, err := disk.OpenWrite("f")
	must(t, err)
	fs.OnOp(func(op Op) {
		if op.Kind == OpSync {
			_, err := below.WriteAt([]byte("two"), 3)
			must(t, err)
		}
	})
	must(t, f.Sync())
	fs.OnOp(nil)
	if got := read(t, disk.CrashClone(nil), "f"); got != "one" {
		t.Errorf("after a crash: %q", got)
	}
	must(t, f.Sync())
	if got := read(t, disk.CrashClone(nil), "f"); got != "onetwo" {
		t.Errorf("after the next sync: %q", got)
	}
}

// TestFailedSyncIsToldToEachOpenFile holds a Memory to Linux's rule: each open file is told once.
func TestFailedSyncIsToldToEachOpenFile(t *testing.T) {
	fs := NewFaulty(NewMemory())
	f, err := fs.Create("f")
	must(t, err)
	other, err := fs.Open("f")
	must(t, err)
	_, err = f.WriteAt([]byte("one"), 0)
	must(t, err)
	fs.Inject(Fault{On: OpSync, Kind: fault.IO})
	for i, want := range []bool{false, true} {
		if err := f.Sync(); (err == nil) != want {
			t.Errorf("sync %d of the first: %v", i, err)
		}
	}
	for i, want := range []bool{false, true} {
		if err := other.Sync(); (err == nil) != want {
			t.Errorf("sync %d of the other: %v", i, err)
		}
	}
}
