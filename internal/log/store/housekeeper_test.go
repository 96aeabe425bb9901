package store_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("it does not come true that %s", what)
		case <-time.After(time.Millisecond): // how often, not whether
		}
	}
}

// files counts the files of the log folder with a suffix.
func files(t *testing.T, fs vfs.FS, suffix string) (n int) {
	t.Helper()
	names, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			n++
		}
	}
	return n
}

// TestBulkIsWrittenOnce fills journals with large batches: they are kept in place, so that about as many bytes
// are written as were taken in; small batches are rolled up, which writes them twice. The first two files take
// zeros besides: later ones are written over the files of earlier ones.
func TestBulkIsWrittenOnce(t *testing.T) {
	for _, c := range []struct {
		name     string
		size     int
		at, most float64
	}{{"large batches", 60 << 10, 1, 1.1}, {"small batches", 1000, 1.8, 2.5}} {
		t.Run(c.name, func(t *testing.T) {
			disk := vfs.NewMemory()
			faulty := vfs.NewFaulty(disk)
			var written atomic.Int64
			faulty.OnOp(func(op vfs.Op) {
				if op.Kind == vfs.OpWrite {
					written.Add(op.Bytes)
				}
			})
			opt := small(faulty)
			opt.JournalBytes = 1 << 20
			s := open(t, opt)
			l := &load{t: t, s: s, m: newModel(), round: 1}
			topic := l.create("t", 1, nil)
			const total = 32 << 20
			before := written.Load()
			for range total / c.size {
				l.publish(c.size, topic.Partitions[0])
				l.wg.Wait() // one batch a commit
			}
			eventually(t, "all full journals are segments", func() bool { return files(t, disk, ".segment") >= total>>20-1 })
			if ratio := float64(written.Load()-before) / total; ratio < c.at || ratio > c.most {
				t.Errorf("%.2f bytes were written for each taken in", ratio)
			}
			verify(t, s, l.m)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, opt)
			defer s.Close()
			verify(t, s, l.m)
		})
	}
}

// clockwork is a clock that tests set.
type clockwork struct{ unixMillis atomic.Int64 }

func (c *clockwork) now() time.Time { return time.UnixMilli(c.unixMillis.Load()) }

func TestRetentionByTimeRemovesRecordsAndFiles(t *testing.T) {
	disk, clock := vfs.NewMemory(), &clockwork{}
	clock.unixMillis.Store(2000)
	opt := small(disk)
	opt.Clock, opt.RetentionInterval = clock.now, 5*time.Millisecond
	s := open(t, opt)
	l := &load{t: t, s: s, m: newModel(), round: 1}
	short := l.create("short", 1, map[string]string{"retention.ms": "5000"}).Partitions[0]
	long := l.create("long", 1, map[string]string{"retention.ms": "-1"}).Partitions[0]
	for range 500 {
		l.publish(500, short)
		l.publish(50, long)
		l.wg.Wait()
	}
	eventually(t, "journals are segments", func() bool { return files(t, disk, ".segment") > 1 })
	clock.unixMillis.Store(6001) // the records carry 1000
	eventually(t, "the old records are gone", func() bool {
		b, err := s.Bounds(short)
		return err == nil && b.Start == b.High
	})
	if _, err := s.Read(short, 0, 1000, nil); !fault.Is(err, fault.OutOfRange) {
		t.Errorf("a record that is gone: %v", err)
	}
	eventually(t, "the space is given back", func() bool {
		free, total, err := vfs.Space(disk)
		return err == nil && total-free < 400<<10
	})
	verify(t, s, l.m)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opt)
	defer s.Close()
	verify(t, s, l.m)
	if b, err := s.Bounds(short); err != nil || b.Start != 500 || b.High != 500 {
		t.Errorf("after opening again: %+v %v", b, err)
	}
}

func TestRetentionByBytesKeepsWhatIsAskedFor(t *testing.T) {
	opt := small(vfs.NewMemory())
	opt.RetentionInterval = 5 * time.Millisecond
	s := open(t, opt)
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	config := map[string]string{"retention.bytes": "100000", "segment.bytes": "16384"}
	p := l.create("t", 1, config).Partitions[0]
	for range 1000 {
		l.publish(500, p)
		l.wg.Wait()
	}
	eventually(t, "the oldest records are gone", func() bool {
		b, err := s.Bounds(p)
		return err == nil && b.High-b.Start < 300
	})
	b, err := s.Bounds(p)
	if kept := int64(b.High-b.Start) * 500; err != nil || kept < 80_000 {
		t.Errorf("only %d bytes are kept: %+v %v", kept, b, err)
	}
	verify(t, s, l.m)
}

func TestDeletedTopicsGiveTheirSpaceBack(t *testing.T) {
	disk := vfs.NewMemory()
	opt := small(disk)
	opt.RetentionInterval = 5 * time.Millisecond
	s := open(t, opt)
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	keep := l.create("keep", 1, nil).Partitions[0]
	gone := l.create("gone", 1, nil).Partitions[0]
	for range 500 {
		l.publish(1000, gone)
		l.publish(100, keep)
		l.wg.Wait()
	}
	eventually(t, "journals are segments", func() bool { return files(t, disk, ".segment") > 5 })
	if err := s.DeleteTopic(context.Background(), "gone"); err != nil {
		t.Fatal(err)
	}
	delete(l.m.topics, "gone")
	eventually(t, "the space is given back", func() bool {
		free, total, err := vfs.Space(disk)
		return err == nil && total-free < 400<<10
	})
	verify(t, s, l.m)
}

func TestTimes(t *testing.T) {
	s := open(t, small(vfs.NewMemory()))
	defer s.Close()
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "t"})
	if err != nil {
		t.Fatal(err)
	}
	p := topic.Partitions[0]
	if o, at, err := s.MaxTime(context.Background(), p); o != -1 || at != -1 || err != nil {
		t.Errorf("of an empty partition: %d %d %v", o, at, err)
	}
	done := make(receipt, 1)
	times := []int64{100, 200, 150, 400, 300, 400, 50}
	for _, at := range times {
		w := stream.Write{Partition: p, Record: &record.Record{Timestamp: at, Value: []byte("x")}}
		if err := s.Append(&stream.Unit{Writes: []stream.Write{w}}, done, 0); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ asked, offset, at int64 }{
		{0, 0, 100}, {100, 0, 100}, {101, 1, 200}, {160, 1, 200}, {201, 3, 400}, {400, 3, 400}, {401, -1, -1},
	} {
		if o, at, err := s.OffsetForTime(context.Background(), p, c.asked); int64(o) != c.offset || at != c.at || err != nil {
			t.Errorf("at %d: offset %d time %d, want %d %d: %v", c.asked, o, at, c.offset, c.at, err)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := s.OffsetForTime(ended, p, 0); !fault.Is(err, fault.Timeout) {
		t.Errorf("after the end of its context: %v", err)
	}
	if o, at, err := s.MaxTime(context.Background(), p); o != 3 || at != 400 || err != nil {
		t.Errorf("the largest time: %d %d %v", o, at, err)
	}
}

func TestTheLogsClockStampsWhereAsked(t *testing.T) {
	clock := &clockwork{}
	clock.unixMillis.Store(777)
	opt := small(vfs.NewMemory())
	opt.Clock = clock.now
	s := open(t, opt)
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, map[string]string{"message.timestamp.type": "LogAppendTime"}).Partitions[0]
	l.publish(50, p)
	if err := l.produce(p, -1, 0, 2, 50); err != nil {
		t.Fatal(err)
	}
	l.wg.Wait()
	if o, at, err := s.OffsetForTime(context.Background(), p, 777); o != 0 || at != 777 || err != nil {
		t.Errorf("offset %d time %d %v", o, at, err)
	}
	verify(t, s, l.m)
}

// TestEpochsTellOpenings appends over several openings: each has its own leader epoch.
func TestEpochsTellOpenings(t *testing.T) {
	disk := vfs.NewMemory()
	l := &load{t: t, m: newModel(), round: 1}
	var p stream.PartitionID
	for opening := range int32(3) {
		s := open(t, small(disk))
		l.s = s
		if opening == 0 {
			p = l.create("t", 1, nil).Partitions[0]
		}
		if s.Epoch() != opening+1 {
			t.Errorf("opening %d has epoch %d", opening, s.Epoch())
		}
		for range 10 {
			l.publish(50, p)
		}
		l.wg.Wait()
		if opening == 2 {
			for _, c := range [][3]int64{{0, 0, 0}, {1, 1, 10}, {2, 2, 20}, {3, 3, 30}, {9, 3, 30}} {
				epoch, end, err := s.EndOfEpoch(p, int32(c[0]))
				if int64(epoch) != c[1] || int64(end) != c[2] || err != nil {
					t.Errorf("epoch %d: %d ends at %d, want %v: %v", c[0], epoch, end, c[1:], err)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMemoryTopicsDoNotWaitForTheDisk acknowledges while every sync hangs.
func TestMemoryTopicsDoNotWaitForTheDisk(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMemory())
	s := open(t, small(faulty))
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, map[string]string{"firth.durability": "memory"}).Partitions[0]
	hold := make(chan struct{})
	faulty.OnOp(func(op vfs.Op) {
		if op.Kind == vfs.OpSync {
			<-hold
		}
	})
	for range 10 {
		if err := l.produce(p, -1, 0, 1, 50); err != nil {
			t.Fatal(err)
		}
	}
	faulty.OnOp(nil)
	close(hold)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, small(faulty))
	defer s.Close()
	verify(t, s, l.m) // a clean end brings them to the disk
}

func TestWhatAnotherVersionWroteIsRefused(t *testing.T) {
	disk, _ := written(t)
	f, err := disk.Create("FIRTH")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(`{"format":4,"cluster":"x"}`), 0); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(context.Background(), small(disk))
	if !fault.Is(err, fault.Unsupported) || fault.HintOf(err) == "" {
		t.Errorf("format 4: %v", err)
	}
}

func TestAFolderOfOthersIsRefused(t *testing.T) {
	disk := vfs.NewMemory()
	if _, err := disk.Create("diary.txt"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(context.Background(), small(disk)); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
		t.Errorf("a folder with other files: %v", err)
	}
}

func TestOneAtATime(t *testing.T) {
	disk := vfs.NewMemory()
	s := open(t, small(disk))
	defer s.Close()
	if _, err := store.Open(context.Background(), small(disk)); !fault.Is(err, fault.Exists) {
		t.Errorf("a second firth: %v", err)
	}
}

// TestCloseUnderLoad closes while journals are rolled up and checkpoints are taken: it comes to an end, and
// what was acknowledged is there.
func TestCloseUnderLoad(t *testing.T) {
	for range 30 {
		disk := vfs.NewMemory()
		s := open(t, small(disk))
		l := &load{t: t, s: s, m: newModel(), round: 1}
		p := l.create("t", 1, nil).Partitions[0]
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for s.Refused() == nil {
				l.publish(2000, p)
			}
		}()
		eventually(t, "journals are sealed", func() bool { return files(t, disk, ".segment") > 2 })
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		<-ended
		l.wg.Wait()
		s = open(t, small(disk))
		verify(t, s, l.m)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
