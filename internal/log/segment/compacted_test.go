package segment

import (
	"os"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// TestOlderVersions reads what was written before segments knew of compaction (1) and of aborted transactions (2): by
// its footer and, rolled up, without.
func TestOlderVersions(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) { olderVersion(t, version) })
	}
}

func olderVersion(t *testing.T, version string) {
	t.Helper()
	for _, kind := range []string{"rolled-up", "in-place"} {
		name := version + "-" + kind + ".segment"
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		fs := vfs.NewMemory()
		put(t, fs, name, b)
		s, err := Open(fs, name)
		if err != nil {
			t.Fatal(err)
		}
		wantAll(t, s, small())
		for _, sum := range s.Summaries() {
			if sum.Compacted != nil || sum.Aborts != AbortsUnknown {
				t.Errorf("%s: partition %d was never compacted, and nobody knows what was aborted: %+v", name, sum.Partition, sum)
			}
			if all, err := aborts(s, sum.Partition, 0); err != nil || all != nil {
				t.Errorf("%s: aborted are %v, %v", name, all, err)
			}
		}
		if names, err := s.Names(7); err != nil || (names == nil) != (version == "v1") {
			t.Errorf("%s: names %+v %v: version 1 does not say by which mapping", name, names, err)
		}
	}
	fs := vfs.NewMemory()
	b, err := os.ReadFile("testdata/" + version + "-rolled-up.segment")
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{20, -1} { // with its header, and without
		lost := append([]byte(nil), b...)
		lost[len(b)-20] ^= 1
		if at >= 0 {
			lost[at] ^= 1
		}
		put(t, fs, "lost", lost)
		s, _, err := Salvage(fs, "lost")
		if err != nil {
			t.Fatal(err)
		}
		wantAll(t, s, small())
	}
}

// TestCompactedRun has a run say what it stands for, also when it was salvaged from the marks in the file.
func TestCompactedRun(t *testing.T) {
	fs := vfs.NewMemory()
	w, err := Create(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	write := func(p uint32, b record.Batch) {
		t.Helper()
		if err := w.Append(p, b, nil); err != nil {
			t.Fatal(err)
		}
	}
	write(1, batch(0, 3, 10))
	if err := w.Compact(2, Compacted{Base: 100, Gaps: 172, Clean: 150}); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(2, batch(99, 1, 10), nil); !fault.Is(err, fault.Invalid) {
		t.Fatalf("a batch before the base of its run: %v", err)
	}
	write(2, batch(120, 1, 10))
	write(2, batch(170, 5, 10))
	for _, p := range []uint32{1, 2} {
		if err := w.Compact(p, Compacted{Gaps: 10}); !fault.Is(err, fault.Invalid) {
			t.Fatalf("partition %d again: %v", p, err)
		}
	}
	write(3, batch(7, 1, 10))
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	check := func(s *Segment) {
		t.Helper()
		want := map[uint32][2]record.Offset{1: {0, 2}, 2: {100, 174}, 3: {7, 7}}
		for p, w := range want {
			sum, ok := s.Summary(p)
			if got := [2]record.Offset{sum.Base, sum.Last}; !ok || got != w || (sum.Compacted != nil) != (p == 2) {
				t.Errorf("partition %d: base, last are %v, want %v", p, got, w)
			}
		}
		if sum, _ := s.Summary(2); *sum.Compacted != (Compacted{Base: 100, Gaps: 172, Clean: 150}) {
			t.Errorf("compacted: %+v", *sum.Compacted)
		}
		batches, err := readAll(s, 2)
		if err != nil || len(batches) != 2 || batches[0].BaseOffset() != 120 {
			t.Fatalf("%d batches: %v", len(batches), err)
		}
	}
	check(s)
	if err := fs.Flip("x", (s.Size()-1)*8); err != nil {
		t.Fatal(err)
	}
	if s, _, err = Salvage(fs, "x"); err != nil {
		t.Fatal(err)
	}
	check(s)
}

// TestCompactedRunEmpty refuses a run without a batch: readers would not learn where to go on.
func TestCompactedRunEmpty(t *testing.T) {
	fs := vfs.NewMemory()
	w, err := Create(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Compact(2, Compacted{Base: 100, Gaps: 172, Clean: 150}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); !fault.Is(err, fault.Invalid) {
		t.Fatalf("%v, want Invalid", err)
	}
}
