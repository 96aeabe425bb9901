package store_test

import (
	"context"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// window lets a publisher have a bounded number of appends in flight.
type window struct{ free chan struct{} }

func (w *window) Appended(uint64, stream.Placed, error) { w.free <- struct{}{} }

// groups counts the commit groups that touched a partition: the log tells of each once.
type groups struct{ n atomic.Int64 }

func (g *groups) Advanced(stream.PartitionID, record.Offset) { g.n.Add(1) }

// BenchmarkAppend is 16 publishers of messages of 100 bytes on the real disk, each with 64 in flight (bunches)
// or one (lonely). groups/s is how often the disk is synced.
func BenchmarkAppend(b *testing.B) {
	for _, load := range []struct {
		name                 string
		publishers, inFlight int
	}{{"bunches", 16, 64}, {"lonely", 16, 1}, {"single", 1, 1}} {
		b.Run(load.name, func(b *testing.B) { benchmarkAppend(b, load.publishers, load.inFlight) })
	}
}

func benchmarkAppend(b *testing.B, publishers, inFlight int) {
	b.ReportAllocs()
	b.SetBytes(100)
	appendLoad(b, b.N, publishers, inFlight, func(run func()) {
		b.ResetTimer()
		run()
		b.StopTimer()
	})
}

// appendLoad appends n messages on the real disk, inside measure.
func appendLoad(tb testing.TB, n, publishers, inFlight int, measure func(run func())) {
	fs, err := vfs.NewDisk(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := store.Open(context.Background(), store.Options{FS: fs})
	if err != nil {
		tb.Fatal(err)
	}
	defer s.Close()
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "sensors"})
	if err != nil {
		tb.Fatal(err)
	}
	var synced groups
	defer s.Watch(&synced, stream.AllPartitions).Stop()
	var left atomic.Int64
	left.Store(int64(n))
	publish := func() {
		w := &window{free: make(chan struct{}, inFlight)}
		for range inFlight {
			w.free <- struct{}{}
		}
		r := record.Record{Key: []byte("sensors/room1/temp"), Value: make([]byte, 100)}
		unit := stream.Unit{Writes: []stream.Write{{Partition: topic.Partitions[0], Record: &r}}}
		for left.Add(-1) >= 0 {
			<-w.free
			if err := stream.AppendWait(context.Background(), s, &unit, w, 0); err != nil {
				tb.Error(err)
				return
			}
		}
		for range inFlight {
			<-w.free
		}
	}
	measure(func() {
		var wg sync.WaitGroup
		for range publishers {
			wg.Go(publish)
		}
		wg.Wait()
	})
	if b, ok := tb.(*testing.B); ok {
		b.ReportMetric(float64(synced.n.Load())/b.Elapsed().Seconds(), "groups/s")
	}
}

// TestAppendAllocs holds the way of a record to the disk to no allocation of its own: only slabs and what grows
// with the number of batches, spread over many records.
func TestAppendAllocs(t *testing.T) {
	for _, load := range []struct {
		appends, publishers, inFlight int
		most                          float64
	}{{20_000, 16, 64, 0.5}, {300, 1, 1, 3}} {
		least := math.Inf(1)
		for range 5 { // what else runs in the process only adds
			var before, after runtime.MemStats
			appendLoad(t, load.appends, load.publishers, load.inFlight, func(run func()) {
				runtime.ReadMemStats(&before)
				run()
				runtime.ReadMemStats(&after)
			})
			if least = min(least, float64(after.Mallocs-before.Mallocs)/float64(load.appends)); least <= load.most {
				break
			}
		}
		if least > load.most {
			t.Errorf("%d publishers, %d in flight: %.2f allocations an append, at most %.1f are meant to be",
				load.publishers, load.inFlight, least, load.most)
		}
	}
}

// BenchmarkOpen opens a log of 1,600 files, as many as 100 GiB of bulk take, with 50 partitions in each.
func BenchmarkOpen(b *testing.B) {
	fs, err := vfs.NewDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	opt := store.Options{FS: fs, JournalBytes: 64 << 10, ReserveBytes: 1, BulkBatchBytes: 1, CacheBytes: 1, MergeBytes: -1}
	s := open(b, opt)
	l := &load{t: b, s: s, m: newModel(), round: 1}
	parts := l.create("t", 50, nil).Partitions
	for range 1600 {
		for _, p := range parts {
			l.publish(1000, p)
		}
		l.wg.Wait()
	}
	for b.Loop() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		s = open(b, opt)
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/open")
		if names, err := os.ReadDir("/proc/self/fd"); err == nil {
			b.ReportMetric(float64(len(names)), "files")
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
