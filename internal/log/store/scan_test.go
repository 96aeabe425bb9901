package store_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/race"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// scanning gives one pass over 10,000 records that lie in memory, in batches of so many.
func scanning(tb testing.TB, inBatch int) (pass func()) {
	const records = 10_000
	s := open(tb, store.Options{FS: vfs.NewMemory()})
	tb.Cleanup(func() { _ = s.Close() })
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "scanned"})
	if err != nil {
		tb.Fatal(err)
	}
	p := topic.Partitions[0]
	to := make(told, 1)
	for range records / inBatch {
		unit := stream.Unit{Writes: make([]stream.Write, inBatch)}
		for i := range unit.Writes {
			r := &record.Record{Key: []byte("sensors/room1/temp"), Value: make([]byte, 100)}
			unit.Writes[i] = stream.Write{Partition: p, Record: r}
		}
		if err := s.Append(&unit, to, 0); err != nil {
			tb.Fatal(err)
		}
		if err := <-to; err != nil {
			tb.Fatal(err)
		}
	}
	var seen int
	visit := func(*record.View) bool { seen++; return true }
	return func() {
		seen = 0
		for from := record.Offset(0); from < records; {
			next, err := s.Scan(p, from, stream.ScanOptions{}, visit)
			if err != nil {
				tb.Fatal(err)
			}
			from = next
		}
		if seen != records {
			tb.Fatalf("%d records", seen)
		}
	}
}

// BenchmarkScan reads 10,000 records of 100 bytes from memory, as a session does that is a little behind.
func BenchmarkScan(b *testing.B) {
	for _, inBatch := range []int{1, 10, 1000} {
		b.Run(strconv.Itoa(inBatch), func(b *testing.B) {
			pass := scanning(b, inBatch)
			b.ReportAllocs()
			for b.Loop() {
				pass()
			}
		})
	}
}

// TestScanAllocs holds a pass over records in memory to no allocation: what a Scan needs is lent to it.
func TestScanAllocs(t *testing.T) {
	if race.Detector {
		t.Skip("pools forget under the race detector: make guards runs this")
	}
	pass := scanning(t, 10)
	if n := alloctest.PerRun(20, 1, pass); n > 1 {
		t.Errorf("%.1f allocations", n)
	}
}
