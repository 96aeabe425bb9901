package segment

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// manyAborts makes n aborted transactions as short as they may be, of one producer after another.
func manyAborts(n int) []Aborted {
	all := make([]Aborted, n)
	rng := rand.New(rand.NewPCG(1, 3))
	for i, next := 0, record.Offset(100); i < n; i++ {
		a := Aborted{ProducerID: 5000 + rng.Int64N(4), First: next, Last: next + 1 + record.Offset(rng.IntN(200))}
		a.Stable = a.Last + 1 - record.Offset(rng.IntN(2)*rng.IntN(int(a.Last-a.First)+1))
		all[i], next = a, a.Last+1
	}
	return all
}

// withAborts writes a segment of a partition without, one with so many aborted transactions, and one with a single one.
func withAborts(t testing.TB, fs vfs.FS, all []Aborted) *Segment {
	t.Helper()
	w, err := Create(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	for p := range uint32(3) {
		if err := w.Append(p, batch(100, 1, 10), nil); err != nil {
			t.Fatal(err)
		}
		switch p {
		case 1:
			for _, a := range all {
				w.Aborted(a)
			}
		case 2:
			w.Aborted(all[0])
		}
	}
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAborts finds aborted transactions by their markers, however many there are, and takes no room where there are
// none.
func TestAborts(t *testing.T) {
	const n = 10_000
	all := manyAborts(n)
	s := withAborts(t, vfs.NewMemory(), all)
	sizes := [3]int32{}
	for p := range sizes {
		sum, _ := s.Summary(uint32(p))
		sizes[p] = sum.Aborts
	}
	if sizes[0] != 0 || sizes[1] > 6*n || sizes[2] > 16 {
		t.Errorf("they take %v bytes: of none 0, of %d at most %d, of one at most 16", sizes, n, 6*n)
	}
	for p, want := range [][]Aborted{nil, all, all[:1]} {
		if got, err := aborts(s, uint32(p), 0); err != nil || !slices.Equal(got, want) {
			t.Fatalf("partition %d: %d aborted, %v; want %d", p, len(got), err, len(want))
		}
	}
	for i := 0; i < n; i += 97 {
		for _, from := range []record.Offset{all[i].Last, all[i].Last + 1} {
			want := all[i:]
			if from > all[i].Last {
				want = all[i+1:]
			}
			if got, err := aborts(s, 1, from); err != nil || !slices.Equal(got, want) {
				t.Fatalf("from %d: %d aborted, %v; want %d", from, len(got), err, len(want))
			}
		}
	}
	seen := 0
	err := s.Aborts(1, 0, func(Aborted) bool { seen++; return seen < 5 })
	if err != nil || seen != 5 {
		t.Errorf("%d visited, %v, when the fifth was enough", seen, err)
	}
	if err := s.Aborts(9, 0, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("a partition that is not there: %v", err)
	}
}

// TestAbortsAreFoundWithFewReads bounds what a fetch reads of a footer, and what it holds.
func TestAbortsAreFoundWithFewReads(t *testing.T) {
	const n = 100_000
	all := manyAborts(n)
	faulty := vfs.NewFaulty(vfs.NewMemory())
	s := withAborts(t, faulty, all)
	for range 20 {
		i, before := rand.IntN(n), faulty.Count(vfs.OpRead)
		got := Aborted{}
		if err := s.Aborts(1, all[i].Last, func(a Aborted) bool { got = a; return false }); err != nil || got != all[i] {
			t.Fatalf("%v, %v; want %v", got, err, all[i])
		}
		if reads := faulty.Count(vfs.OpRead) - before; reads > 9 { // of 128 blocks
			t.Errorf("%d reads", reads)
		}
	}
}

// TestDamagedAborts flips each bit of a block: it is noticed, and what lies in other blocks and partitions is as good
// as ever.
func TestDamagedAborts(t *testing.T) {
	all := manyAborts(2000)
	fs := vfs.NewMemory()
	s := withAborts(t, fs, all)
	i, _ := s.find(1)
	pos := s.places[i].aborts()
	for bit := pos * 8; bit < (pos+blockBytes)*8; bit += 7 {
		if err := fs.Flip("x", bit); err != nil {
			t.Fatal(err)
		}
		if _, err := aborts(s, 1, 0); !fault.Is(err, fault.Corrupt) || fault.HintOf(err) == "" {
			t.Fatalf("bit %d: %v, want Corrupt", bit, err)
		}
		if err := fs.Flip("x", bit); err != nil {
			t.Fatal(err)
		}
	}
	if err := fs.Flip("x", pos*8); err != nil {
		t.Fatal(err)
	}
	last := all[len(all)-1]
	if got, err := aborts(s, 1, last.Last); err != nil || !slices.Equal(got, []Aborted{last}) {
		t.Errorf("in another block: %v, %v", got, err)
	}
	if got, err := aborts(s, 2, 0); err != nil || !slices.Equal(got, all[:1]) {
		t.Errorf("of another partition: %v, %v", got, err)
	}
}

func FuzzDecodeAborts(f *testing.F) {
	var as Aborts
	for _, a := range manyAborts(1500) {
		as.Add(a)
	}
	f.Add(as.append(nil)[:blockBytes], true)
	f.Add([]byte{5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, true)
	f.Add([]byte(nil), false)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if b = slices.Clone(b); mend && len(b) >= crcBytes {
			b = appendSum(b[:len(b)-crcBytes], 0)
		}
		all, ok := decodeAborts(b, nil)
		if !ok {
			if len(all) > 0 {
				t.Fatal("entries of a bad block")
			}
			return
		}
		last := record.Offset(-1)
		for _, a := range all {
			if a.First < 0 || a.First > a.Last || a.Last <= last || a.Stable < 0 || a.Stable > a.Last+1 {
				t.Fatalf("it cannot be: %+v behind a marker at %d", a, last)
			}
			last = a.Last
		}
	})
}
