package session

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
)

// TestMarks: what Set, At and Record say of a partition that moves now and then.
func TestMarks(t *testing.T) {
	var m Marks
	if _, ok := m.At(1, 0); ok || m.Last() != 0 || len(m.Record(1)) != 0 {
		t.Fatal("something of nothing")
	}
	for i, c := range []struct {
		next    bool
		offset  int64
		changed bool
	}{
		{false, 10, true}, {false, 10, false}, {false, 12, true}, {true, 12, false}, {true, 12, false}, {true, 15, true},
		{false, 16, true}, {true, 16, false},
	} {
		if c.next {
			m.Next()
		}
		if got := m.Set(1, c.offset); got != c.changed {
			t.Fatalf("step %d: changed %v", i, got)
		}
	}
	if m.Last() != 5 {
		t.Fatalf("last mark %d", m.Last())
	}
	want := []int64{1: 12, 2: 12, 3: 12, 4: 16, 5: 16, 6: 16}
	for mark := uint64(1); mark <= 6; mark++ {
		if offset, ok := m.At(1, mark); !ok || offset != want[mark] {
			t.Errorf("at mark %d: %d %v, want %d", mark, offset, ok, want[mark])
		}
	}
	if offset, ok := m.At(1, 0); !ok || offset != 16 {
		t.Errorf("at the last mark: %d %v", offset, ok)
	}
	m.Set(2, 0)
	if _, ok := m.At(2, 4); ok {
		t.Error("a partition has an offset at a mark before its first")
	}
	var restored Marks
	restored.Restore(1, m.Record(1))
	restored.Restore(3, nil)
	if offset, ok := restored.At(1, 3); !ok || offset != 12 || restored.Last() != 4 {
		t.Errorf("restored: %d %v, last %d", offset, ok, restored.Last())
	}
	if restored.Raise(9); restored.Next() != 10 {
		t.Errorf("last mark %d", restored.Last())
	}
	m.Forget(1)
	if _, ok := m.At(1, 0); ok {
		t.Error("a partition that is gone has an offset")
	}
}

// TestMarksThinned: of a partition that moves at every mark few offsets stay, one of them never newer than what is
// asked for, and closer together the newer they are; the first and the last are exact.
func TestMarksThinned(t *testing.T) {
	var m Marks
	offset := func(mark uint64) int64 { return int64(1000 + 3*mark) }
	const many = 1 << 20
	worst := 0.0
	for range many {
		mark := m.Next()
		m.Set(1, offset(mark))
		if mark > 1000 && mark%4096 != 0 {
			continue
		}
		record := m.Record(1)
		if n := len(record); n > keptMarks || record[0].Mark != 1 || record[n-1].Mark != mark {
			t.Fatalf("mark %d: %v", mark, record)
		}
		for i := range record[1:] {
			age, apart := mark-record[i].Mark, record[i+1].Mark-record[i].Mark
			worst = max(worst, float64(apart-1)/float64(age))
		}
	}
	if t.Logf("marks are up to %.2f of their age apart: %v", worst, m.Record(1)); worst > 0.75 {
		t.Errorf("marks are %.2f of their age apart", worst)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		mark := 1 + rng.Uint64N(many)
		if at, ok := m.At(1, mark); !ok || at > offset(mark) || at < offset(1) {
			t.Fatalf("at mark %d: %d %v, which is %d", mark, at, ok, offset(mark))
		}
	}
	var restored Marks
	long := make(MarkRecord, 1000)
	for i := range long {
		long[i] = MarkAt{Mark: uint64(i + 1), Offset: int64(i)}
	}
	restored.Restore(1, long)
	if record := restored.Record(1); len(record) != keptMarks || record[0] != long[0] || record[31] != long[999] {
		t.Errorf("%d marks of a longer record: %v", len(record), record)
	}
}

// TestMarksMemory: marks of 100,000 partitions, most of which moved once or twice, are small.
func TestMarksMemory(t *testing.T) {
	const parts = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var m Marks
	for range 2 {
		mark := m.Next()
		for p := range uint32(parts) {
			m.Set(p, int64(mark))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / parts
	if t.Logf("%d bytes a partition", each); each > 128 {
		t.Errorf("%d bytes a partition", each)
	}
	runtime.KeepAlive(&m)
}

// TestMarksAllocateNothing: a checkpoint of partitions that have many marks costs no memory.
func TestMarksAllocateNothing(t *testing.T) {
	var m Marks
	checkpoint := func() {
		mark := m.Next()
		for p := range uint32(10) {
			m.Set(p, int64(mark))
			m.At(p, mark/2)
		}
	}
	for range 100 {
		checkpoint()
	}
	if allocs := alloctest.PerRun(100, 0, checkpoint); allocs > 0 {
		t.Errorf("%.1f allocations", allocs)
	}
}
