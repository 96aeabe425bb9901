package store_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// stampedBatch is a batch of records of such times.
func stampedBatch(times ...int64) record.Batch {
	var b record.Builder
	b.Reset(nil, times[0])
	for _, at := range times {
		b.Append(&record.Record{Timestamp: at, Value: []byte("v")})
	}
	return b.Seal(0, 0)
}

// K4, F01: records without a timestamp are as old as their file: they go when that is older than retention.ms, and not
// before, also after they moved into a segment and after a restart.
func TestRecordsWithoutTimestampExpireWithTheirFile(t *testing.T) {
	fs, clock := vfs.NewMemory(), &clockwork{}
	begin := time.Now().UnixMilli()
	clock.unixMillis.Store(begin)
	opt := small(fs)
	opt.Clock, opt.RetentionInterval = clock.now, 5*time.Millisecond
	opt.StepWait = time.Nanosecond // the clock is set by half an hour at a time
	s := open(t, opt)
	const hour = 3600_000
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{
		Name: "t", Config: map[string]string{"retention.ms": strconv.Itoa(hour)},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, done := topic.Partitions[0], make(receipt, 1)
	fill := func() {
		for range 300 {
			b := store.BatchWrite{Partition: p, Batch: stampedBatch(-1, -1, -1, -1, -1, -1)}
			if err := s.AppendBatch(b, done, 0); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	bounds := func() stream.Bounds {
		b, err := s.Bounds(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	clock.unixMillis.Store(begin + hour/2)
	fill()
	if b := bounds(); b.Start != 0 || b.High != 3600 {
		t.Fatalf("before its time: %+v", b)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opt)
	defer s.Close()
	if b := bounds(); b.Start != 0 {
		t.Fatalf("after a restart: %+v", b)
	}
	clock.unixMillis.Store(time.Now().UnixMilli() + hour + 1000)
	eventually(t, "the records are gone", func() bool { b := bounds(); return b.Start == b.High })
}

// F10: whatever DeleteRecords cuts off, in the middle of a batch too, lookups by time and the newest record are those
// of looking at every record that is left, before and after a restart.
func TestTimesAfterDeleteRecords(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 10))
		fs := vfs.NewMemory()
		s := open(t, small(fs))
		topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "t"})
		if err != nil {
			t.Fatal(err)
		}
		p := topic.Partitions[0]
		var times []int64
		for range 1 + rng.IntN(20) {
			var one []int64
			for range 1 + rng.IntN(4) {
				one = append(one, rng.Int64N(40))
			}
			times = append(times, one...)
			done := make(receipt, 1)
			if err := s.AppendBatch(store.BatchWrite{Partition: p, Batch: stampedBatch(one...)}, done, 0); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		for start := 0; start < len(times); start += 1 + rng.IntN(3) {
			if _, err := s.TrimTo(context.Background(), p, record.Offset(start)); err != nil {
				t.Fatal(err)
			}
			if start%5 == 4 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, small(fs))
			}
			checkTimes(t, s, p, times, start)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkTimes holds lookups by time to looking at all records from the log start on.
func checkTimes(t *testing.T, s *store.Store, p stream.PartitionID, times []int64, start int) {
	t.Helper()
	newest := start
	for i := start; i < len(times); i++ {
		if times[i] > times[newest] {
			newest = i
		}
	}
	off, at, err := s.MaxTime(context.Background(), p)
	if err != nil || off != record.Offset(newest) || at != times[newest] {
		t.Fatalf("from %d of %v: newest is %d at %d, %v; want %d at %d", start, times, off, at, err, newest, times[newest])
	}
	for ms := int64(0); ms <= 40; ms += 3 {
		want := record.Offset(-1)
		for i := start; i < len(times) && want < 0; i++ {
			if times[i] >= ms {
				want = record.Offset(i)
			}
		}
		if off, _, err := s.OffsetForTime(context.Background(), p, ms); err != nil || off != want {
			t.Fatalf("from %d of %v: time %d is at %d, %v; want %d", start, times, ms, off, err, want)
		}
	}
}
