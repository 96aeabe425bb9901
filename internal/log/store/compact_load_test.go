package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// compactFull has the load tests of compaction run in full size, and hold their times to what is promised: on a machine
// that does nothing else.
var compactFull = flag.Bool("compact.full", false, "run the load tests of compaction in full size")

// keyedLoad is a load of a compacted topic: record i has the key i*step modulo keys, and the value i.
type keyedLoad struct {
	records, keys int
	size          int           // bytes of a value, at least 8
	every         int           // records in a batch
	pace          time.Duration // between two batches; 0: as fast as it goes
	look          func()        // now and then; may be nil
}

func (l *keyedLoad) key(i int) int { return i * 7919 % l.keys }

// timed is a receipt that notes how long an append took.
type timed struct {
	mu   sync.Mutex
	took []time.Duration
	sent []time.Time
	wg   sync.WaitGroup
	err  error
}

func (r *timed) Appended(ticket uint64, _ stream.Placed, err error) {
	r.mu.Lock()
	if r.took[ticket] = time.Since(r.sent[ticket]); err != nil {
		r.err = err
	}
	r.mu.Unlock()
	r.wg.Done()
}

// run appends all records, and tells how long each batch took to be on the disk.
func (l *keyedLoad) run(t *testing.T, s *store.Store, p stream.PartitionID) []time.Duration {
	t.Helper()
	n := (l.records + l.every - 1) / l.every
	r := &timed{took: make([]time.Duration, n), sent: make([]time.Time, n)}
	value := make([]byte, l.size)
	began := time.Now()
	for b := range n {
		var bu record.Builder
		bu.Reset(nil, time.Now().UnixMilli())
		for i := b * l.every; i < min((b+1)*l.every, l.records); i++ {
			binary.BigEndian.PutUint64(value, uint64(i))
			bu.Append(&record.Record{Timestamp: time.Now().UnixMilli(), Key: fmt.Appendf(nil, "key %d", l.key(i)), Value: value})
		}
		if wait := time.Until(began.Add(time.Duration(b) * l.pace)); l.pace > 0 && wait > 0 {
			time.Sleep(wait) // the pace of a producer, not a condition
		}
		r.wg.Add(1)
		r.mu.Lock()
		r.sent[b] = time.Now()
		r.mu.Unlock()
		if err := s.AppendBatch(store.BatchWrite{Partition: p, Batch: bu.Seal(0, 0)}, r, uint64(b)); err != nil {
			t.Fatal(err)
		}
		if l.pace == 0 && b%64 == 63 {
			r.wg.Wait()
		}
		if l.look != nil && b%500 == 0 {
			l.look()
		}
	}
	r.wg.Wait()
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Logf("%d records in %v", l.records, time.Since(began).Round(time.Millisecond))
	return r.took
}

func percentile(took []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// check folds the partition and holds it to the last value of each key, at its offset, in order. It tells how long the
// fold took.
func (l *keyedLoad) check(t *testing.T, s *store.Store, p stream.PartitionID) time.Duration {
	t.Helper()
	last := make([]int, l.keys)
	for i := range l.records {
		last[l.key(i)] = i
	}
	got, before, began := make(map[string]int, l.keys), record.Offset(-1), time.Now()
	folded, err := stream.Fold(context.Background(), s, p, 0, func(v *record.View) error {
		i := int(binary.BigEndian.Uint64(v.Value))
		if v.Offset <= before || int(v.Offset) != i || string(v.Key) != fmt.Sprintf("key %d", l.key(i)) {
			t.Errorf("offset %d behind %d: value %d, key %s", v.Offset, before, i, v.Key)
		}
		before, got[string(v.Key)] = v.Offset, i
		return nil
	})
	took := time.Since(began)
	if err != nil || !folded.Complete() {
		t.Fatalf("%+v, %v", folded, err)
	}
	for key, want := range last {
		if i, ok := got[fmt.Sprintf("key %d", key)]; !ok || i != want {
			t.Fatalf("key %d: %d %v, want %d", key, i, ok, want)
		}
	}
	t.Logf("%d records of %d are left of %d keys, folded in %v", folded.Records, l.records, l.keys, took)
	return took
}

// sizeOf is how many bytes the segments in a folder have, and all files with what is reserved in them.
func sizeOf(t *testing.T, dir string) (segments, all int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was here
		}
		if err == nil {
			all += info.Size()
			if filepath.Ext(path) == ".segment" {
				segments += info.Size()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return segments, all
}

// TestCompactionLoad writes many records over few keys at a steady pace, first without compaction and then with it:
// what is left is what is live and the dirty share, the rules hold, also after a restart, and who produces hardly
// notices.
func TestCompactionLoad(t *testing.T) {
	l := keyedLoad{records: 400_000, keys: 4000, size: 100, every: 100}
	opt := store.Options{JournalBytes: 4 << 20, RetentionInterval: 200 * time.Millisecond}
	if *compactFull {
		l = keyedLoad{records: 10_000_000, keys: 100_000, size: 100, every: 100, pace: time.Millisecond}
		opt = store.Options{}
	}
	var quiet, busy []time.Duration
	for _, on := range []bool{false, true} {
		dir := t.TempDir()
		disk, err := vfs.NewDisk(dir)
		if err != nil {
			t.Fatal(err)
		}
		opt.FS, opt.Logger = disk, logtest.New(t)
		s := open(t, opt)
		config := map[string]string{"cleanup.policy": "compact"}
		if !on {
			config["min.compaction.lag.ms"] = "1000000000"
		}
		topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "c", Partitions: 1, Config: config})
		if err != nil {
			t.Fatal(err)
		}
		p := topic.Partitions[0]
		took := l.run(t, s, p)
		segments, _ := sizeOf(t, dir)
		t.Logf("compaction %v: p50 %v, p99 %v, p99.9 %v; %d bytes in segments", on,
			percentile(took, 0.5), percentile(took, 0.99), percentile(took, 0.999), segments)
		if !on {
			quiet = took
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		busy = took
		live := int64(l.keys) * int64(l.size+40)
		eventually(t, "the disk has shrunk", func() bool {
			segments, _ := sizeOf(t, dir)
			return segments < 3*live+opt.JournalBytes
		})
		l.check(t, s, p)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s = open(t, opt)
		t.Logf("opened again in %v", time.Since(began).Round(time.Millisecond))
		l.check(t, s, p)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := percentile(quiet, 0.99), percentile(busy, 0.99); *compactFull && b > 2*a {
		t.Errorf("p99 is %v with compaction, %v without", b, a)
	}
}

// TestOffsetCommitsStaySmall writes what groups write when they commit, for long: a few keys again and again. The log
// stays small, and a start quick.
func TestOffsetCommitsStaySmall(t *testing.T) {
	l := keyedLoad{records: 1_000_000, keys: 1000, size: 24, every: 500}
	opt := store.Options{JournalBytes: 4 << 20, RetentionInterval: 200 * time.Millisecond}
	if *compactFull {
		l.records, opt = 50_000_000, store.Options{}
	}
	dir := t.TempDir()
	disk, err := vfs.NewDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	opt.FS, opt.Logger = disk, logtest.New(t)
	s := open(t, opt)
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{
		Name: "__offsets", Partitions: 1, Config: map[string]string{"cleanup.policy": "compact"},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := topic.Partitions[0]
	var most int64
	l.look = func() {
		_, all := sizeOf(t, dir)
		most = max(most, all)
	}
	took := l.run(t, s, p)
	t.Logf("p50 %v, p99 %v; at most %d bytes of the disk", percentile(took, 0.5), percentile(took, 0.99), most)
	if *compactFull && most > 100_000_000 {
		t.Errorf("the log took %d bytes of the disk", most)
	}
	var bytes int64
	eventually(t, "the topic is compacted", func() bool {
		bytes, err = s.PartitionBytes(p)
		return err == nil && bytes < 100<<20
	})
	segments, _ := sizeOf(t, dir)
	t.Logf("%d bytes of the topic, %d in segments", bytes, segments)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s = open(t, opt)
	defer s.Close()
	opened := time.Since(began)
	folded := l.check(t, s, p)
	t.Logf("opened in %v, folded in %v", opened, folded)
	if *compactFull && opened+folded > 300*time.Millisecond {
		t.Errorf("a start takes %v", opened+folded)
	}
}
