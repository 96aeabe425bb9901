package segment

import (
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

func disk(b *testing.B) vfs.FS {
	fs, err := vfs.NewDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	return fs
}

// BenchmarkOpen opens a file on the real disk; its pages are in memory.
func BenchmarkOpen(b *testing.B) {
	for _, runs := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("runs=%d", runs), func(b *testing.B) {
			fs := disk(b)
			manyRuns(b, fs, runs)
			b.ReportAllocs()
			for b.Loop() {
				s, err := Open(fs, "x")
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}

// BenchmarkRead reads one extent from the real disk; its pages are in memory.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{200, 1 << 20} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			var bs []record.Batch
			for i := range record.Offset(100) {
				bs = append(bs, batch(i, 1, size))
			}
			s := fill(b, disk(b), "x", map[uint32][]record.Batch{1: bs})
			es, err := s.Extents(1)
			if err != nil {
				b.Fatal(err)
			}
			var into []record.Batch
			b.SetBytes(int64(es[0].Len))
			b.ReportAllocs()
			for b.Loop() {
				if into, err = s.Read(es[0], into[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkExtents reads the table of a run of 1,000 extents.
func BenchmarkExtents(b *testing.B) {
	var bs []record.Batch
	for i := range record.Offset(1000) {
		bs = append(bs, batch(i, 1, extentTarget))
	}
	s := fill(b, disk(b), "x", map[uint32][]record.Batch{1: bs})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Extents(1); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRollUp writes small batches of many partitions, 200 bytes each, into a file.
func BenchmarkRollUp(b *testing.B) {
	fs := disk(b)
	one := batch(0, 1, 200)
	b.SetBytes(int64(100 * 100 * len(one)))
	b.ReportAllocs()
	for b.Loop() {
		w, err := Create(fs, "x")
		if err != nil {
			b.Fatal(err)
		}
		for p := range uint32(100) {
			for i := range record.Offset(100) {
				one.SetBaseOffset(i)
				if err := w.Append(p, one, oneTopic("a/b/c")); err != nil {
					b.Fatal(err)
				}
			}
		}
		s, err := w.Finish()
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
