package store_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/race"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// countdown counts how often one of many appends is told of.
type countdown chan error

func (c countdown) Appended(_ uint64, _ stream.Placed, err error) { c <- err }

// many opens a log with a topic of that many partitions, with so many small records in each.
func many(t *testing.T, opt store.Options, partitions, records int) (*store.Store, []stream.PartitionID) {
	t.Helper()
	s := open(t, opt)
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "t", Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	done := make(countdown, 1)
	for range records {
		u := &stream.Unit{}
		for _, p := range topic.Partitions {
			r := &record.Record{Timestamp: 1000, Value: []byte("a small record")}
			u.Writes = append(u.Writes, stream.Write{Partition: p, Record: r})
			if len(u.Writes) < 100 {
				continue
			}
			if err := s.Append(u, done, 0); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			u = &stream.Unit{}
		}
	}
	return s, topic.Partitions
}

// TestIdlePartitionsCostNoIO lets a log of many partitions with a small record in each be idle: what it looks at from
// time to time is in memory, and no file is written again and again because its index is larger than its records.
func TestIdlePartitionsCostNoIO(t *testing.T) {
	var looks atomic.Int64
	faulty := vfs.NewFaulty(vfs.NewMemory())
	opt := small(faulty)
	opt.JournalBytes, opt.RetentionInterval = 1<<20, time.Millisecond
	opt.Clock = func() time.Time { // retention asks for the time
		looks.Add(1)
		return time.UnixMilli(2000)
	}
	s, _ := many(t, opt, 2000, 5)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opt)
	defer s.Close()
	ios := func() (n int) {
		for _, kind := range vfs.OpKinds() {
			if kind != vfs.OpSpace {
				n += faulty.Count(kind)
			}
		}
		return n
	}
	settled, from := -1, int64(0)
	eventually(t, "the log is idle", func() bool { // the journals of before are rolled up, and merged
		if now := ios(); now != settled {
			settled, from = now, looks.Load()
		}
		return s.SealedFiles() == 0 && looks.Load() > from+100
	})
}

// TestTenThousandPartitions opens a log of 10,000 partitions, after a clean stop and after a crash, with work that does
// not grow with them: few reads of files, and little memory for each. docs/operating.md has what it takes in time.
func TestTenThousandPartitions(t *testing.T) {
	const partitions = 10_000
	if race.Detector {
		t.Skip("memory is another under the race detector")
	}
	disk := vfs.NewMemory()
	opt := small(disk)
	opt.JournalBytes, opt.CacheBytes = 4<<20, 64<<10
	s, ps := many(t, opt, partitions, 3)
	eventually(t, "full journals are sealed", func() bool { return s.SealedFiles() == 0 })
	crashed := disk.CrashClone(rand.New(rand.NewPCG(1, 5)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for how, disk := range map[string]*vfs.Memory{"a clean stop": disk, "a crash": crashed} {
		faulty := vfs.NewFaulty(disk)
		opt.FS = faulty
		before := heap()
		s := open(t, opt)
		reads, goroutines := faulty.Count(vfs.OpRead), runtime.NumGoroutine()
		eventually(t, "full journals are sealed", func() bool { return s.SealedFiles() == 0 })
		grown := heap() - before
		t.Logf("after %s: %d reads, %d bytes of memory for each partition", how, reads, grown/partitions)
		if reads > 200 {
			t.Errorf("after %s: %d reads to open it", how, reads)
		}
		if grown > partitions*1800 {
			t.Errorf("after %s: %d bytes of memory for each partition", how, grown/partitions)
		}
		if goroutines > 30 {
			t.Errorf("after %s: %d goroutines", how, goroutines)
		}
		for _, i := range []int{0, 1, partitions / 2, partitions - 1} {
			wantBounds(t, s, ps[i], stream.Bounds{Start: 0, Stable: 3, High: 3})
			wantValues(t, s, ps[i], "a small record", "a small record", "a small record")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// heap is how much memory is in use, in bytes, after what is not was collected.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
