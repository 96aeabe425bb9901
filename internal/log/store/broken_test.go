package store_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// ops notes the file operations of a log.
type ops struct {
	mu  sync.Mutex
	all []vfs.Op
}

func watchOps(f *vfs.Faulty) *ops {
	o := &ops{}
	f.OnOp(func(op vfs.Op) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.all = append(o.all, op)
	})
	return o
}

// count tells how many operations of a kind there were on files with a name.
func (o *ops) count(kind vfs.OpKind, name string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range o.all {
		if op.Kind == kind && strings.Contains(op.Name, name) {
			n++
		}
	}
	return n
}

// breakNext has the first sync of the next journals fail, from when each gets its name on: a spare that waits for that
// is synced by the housekeeper, too. It counts the syncs that failed.
func breakNext(f *vfs.Faulty, journals int) *atomic.Int64 {
	var mu sync.Mutex
	var failed atomic.Int64
	doomed := map[string]bool{}
	f.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op.Kind == vfs.OpRename && strings.HasPrefix(op.Name, "log/spare") && len(doomed) < journals:
			doomed[op.Name] = true
			f.Inject(vfs.Fault{On: vfs.OpSync, Name: op.Name, Kind: fault.IO})
		case op.Kind == vfs.OpSync && doomed[op.Name]:
			failed.Add(1)
			doomed[op.Name] = false
		}
	})
	return &failed
}

// clean opens what is left of a log, which must not be damaged, and holds it to the model.
func clean(t *testing.T, disk *vfs.Memory, m *model) {
	t.Helper()
	if _, findings := check(t, disk.Clone()); len(findings) > 0 {
		t.Errorf("findings in a log that is not damaged: %v", findings)
	}
	s := open(t, small(disk))
	verify(t, s, m)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestBrokenJournalEndsWhereItBroke (E7) lets a sync fail and the roll-up of that file too, while files behind it fill
// up: what was refused never stands before what was acknowledged in its place.
func TestBrokenJournalEndsWhereItBroke(t *testing.T) {
	disk, m := vfs.NewMemory(), newModel()
	faulty := vfs.NewFaulty(disk)
	seen := watchOps(faulty)
	opt := with(t, small(faulty), ofFailure...)
	opt.CacheBytes, opt.RetentionInterval = 1, 5*time.Millisecond
	s := open(t, opt)
	l := &load{t: t, s: s, m: m, round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	if err := l.produce(p, -1, 0, 1, 50); err != nil {
		t.Fatal(err)
	}
	faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: "log/spare.0", Kind: fault.IO})
	if err := l.produce(p, -1, 0, 1, 50); !fault.Is(err, fault.IO) {
		t.Fatalf("a failed sync is told as %v", err)
	}
	faulty.Inject(vfs.Fault{On: vfs.OpRead, Name: "log/spare.0", Times: -1, Kind: fault.IO})
	resumes(t, l, p)
	for range 400 {
		l.publish(500, p)
	}
	l.wg.Wait()
	eventually(t, "the housekeeper tried twice", func() bool { return seen.count(vfs.OpRead, "log/spare.0") >= 2 })
	crashed := disk.CrashClone(nil)
	before := m.clone()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	clean(t, crashed, before)
	clean(t, disk, before)
}

// TestTwoFirstSyncsFail (E8) lets the first sync of two journals in a row fail: neither is damage.
func TestTwoFirstSyncsFail(t *testing.T) {
	disk, m := vfs.NewMemory(), newModel()
	faulty := vfs.NewFaulty(disk)
	s := open(t, with(t, small(faulty), ofFailure...))
	l := &load{t: t, s: s, m: m, round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	broken := breakNext(faulty, 2)
	faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: "log/spare.0", Kind: fault.IO})
	eventually(t, "the first syncs of two journals in a row fail", func() bool {
		_ = l.produce(p, -1, 0, 1, 50) // refused, or fails
		return broken.Load() == 2
	})
	resumes(t, l, p)
	crashed := disk.CrashClone(nil)
	before := m.clone()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	clean(t, crashed, before)
	clean(t, disk, before)
}

// TestFailedStartOfAJournalLeavesNothing (E9) lets the renaming, or the first write, of a journal fail again and
// again: the log holds no more of the disk than it did before.
func TestFailedStartOfAJournalLeavesNothing(t *testing.T) {
	for _, on := range []vfs.OpKind{vfs.OpRename, vfs.OpWrite, vfs.OpSyncDir} {
		t.Run(on.String(), func(t *testing.T) {
			disk := vfs.NewMemory()
			faulty := vfs.NewFaulty(disk)
			s := open(t, with(t, small(faulty), ofFailure...))
			l := &load{t: t, s: s, m: newModel(), round: 1}
			p := l.create("t", 1, nil).Partitions[0]
			// The first journal was made under the name spare.0, and must break for the next one to begin.
			faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: "log/spare.0", Kind: fault.IO})
			eventually(t, "a sync fails", func() bool { return fault.Is(l.produce(p, -1, 0, 1, 50), fault.IO) })
			name := "log/spare."
			if on == vfs.OpSyncDir {
				name = "log"
			}
			seen := watchOps(faulty)
			const tries = 20
			faulty.Inject(vfs.Fault{On: on, Name: name, Kind: fault.IO, Times: tries})
			eventually(t, "it was tried often", func() bool {
				_ = l.produce(p, -1, 0, 1, 50) // refused, or fails
				return seen.count(on, name) >= tries
			})
			resumes(t, l, p)
			eventually(t, "the space is given back", func() bool {
				free, total, err := vfs.Space(disk)
				return err == nil && total-free < 5*64<<10
			})
			verify(t, s, l.m)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			clean(t, disk, l.m)
		})
	}
}

// TestIdempotenceOutlivesACrash (E10) sends a batch of old records, crashes, waits for the expiry of producers to have
// been looked at, and sends it again: it is still a duplicate. The records' time is not the producer's.
func TestIdempotenceOutlivesACrash(t *testing.T) {
	for _, end := range []string{"crash", "close", "crash after close"} {
		t.Run(end, func(t *testing.T) {
			disk := vfs.NewMemory()
			opt := small(disk)
			const now = int64(50 * 365 * 24 * 3600 * 1000)
			var asked, step atomic.Int64
			opt.Clock = func() time.Time {
				asked.Add(1)
				return time.UnixMilli(now + step.Load())
			}
			s := open(t, opt)
			l := &load{t: t, s: s, m: newModel(), round: 1}
			p := l.create("t", 1, map[string]string{"retention.ms": "-1"}).Partitions[0]
			values := l.values(p, 2, 50)
			if err := l.send(p, batch(7, 0, values), values); err != nil {
				t.Fatal(err)
			}
			left := disk.CrashClone(nil)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if end != "crash" {
				left = disk
			}
			opt.FS, opt.RetentionInterval = left, time.Millisecond
			step.Store((30 * 24 * time.Hour).Milliseconds()) // the node was off for a month: nobody was idle meanwhile
			if end == "crash after close" {
				defer open(t, opt).Close()
				opt.FS = left.CrashClone(nil)
			}
			l.s = open(t, opt)
			defer l.s.Close()
			before := asked.Load()
			eventually(t, "expiry was looked at", func() bool { return asked.Load() > before+6 })
			if err := l.send(p, batch(7, 0, values), values); err != nil {
				t.Fatal(err)
			}
			if b, err := l.s.Bounds(p); err != nil || b.High != 2 {
				t.Errorf("after the batch was sent again: %+v %v", b, err)
			}
		})
	}
}

// TestMemoryTopicLosesOnlyWhatASyncLost (E11) breaks a journal that holds announced records of a memory topic which
// were never synced: they are gone, which is said, and everything else is read as ever, also after the next start.
func TestMemoryTopicLosesOnlyWhatASyncLost(t *testing.T) {
	for _, size := range []int{50, 15 << 10} { // rolled up; kept in place
		disk := vfs.NewMemory()
		faulty := vfs.NewFaulty(disk)
		opt := with(t, small(faulty), "commit failed", "records of memory topics are lost")
		opt.RetentionInterval = 5 * time.Millisecond
		s := open(t, opt)
		l := &load{t: t, s: s, m: newModel(), round: 1}
		memory := l.create("memory", 1, map[string]string{"firth.durability": "memory"}).Partitions[0]
		synced := l.create("disk", 1, nil).Partitions[0]
		send := func(p stream.PartitionID) error { return l.produce(p, -1, 0, 1, size) }
		for _, p := range []stream.PartitionID{memory, synced, memory} {
			if err := send(p); err != nil {
				t.Fatal(err)
			}
		}
		faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: "log/spare.0", Kind: fault.IO})
		if err := send(synced); !fault.Is(err, fault.IO) {
			t.Fatalf("a failed sync is told as %v", err)
		}
		eventually(t, "writing resumes", func() bool { return send(synced) == nil })
		for range 64 << 10 * 3 / size {
			if err := send(memory); err != nil {
				t.Fatal(err)
			}
		}
		if err := send(synced); err != nil {
			t.Fatal(err)
		}
		m := l.m.clone()
		delete(m.acked[memory], 1) // the one that was lost
		crashed := disk.CrashClone(nil)
		eventually(t, "the broken journal is a segment", func() bool {
			names, err := disk.List("log")
			return err == nil && len(names) > 0 && names[0] != "0000000000000001.journal"
		})
		skips(t, s, memory, m)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, left := range []*vfs.Memory{crashed, disk} {
			if _, findings := check(t, left); len(findings) > 0 {
				t.Errorf("findings: %v", findings)
			}
			for range 2 { // and a start later, from a checkpoint
				s := open(t, small(left))
				skips(t, s, memory, m)
				verifyPartition(t, s, m, synced)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// atLine calls a function when a message is logged.
type atLine struct {
	slog.Handler
	message string
	do      func()
}

func (h atLine) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, h.message) {
		h.do()
	}
	return h.Handler.Handle(ctx, r)
}

// TestCheckpointKnowsThatAJournalBroke takes a checkpoint while a journal is taken out of use that lost announced
// records of a memory topic: it must not vouch for frames behind the end of that journal.
func TestCheckpointKnowsThatAJournalBroke(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	opt := with(t, small(faulty), "commit failed", "records of memory topics are lost")
	opt.RetentionInterval = time.Hour // the clock is read by commits and checkpoints only
	var watch atomic.Bool
	taken, result := make(chan struct{}, 1), make(chan error, 1)
	clock := opt.Clock
	opt.Clock = func() time.Time {
		if watch.CompareAndSwap(true, false) { // the checkpoint has read its place
			taken <- struct{}{}
		}
		return clock()
	}
	var s *store.Store
	opt.Logger = slog.New(atLine{opt.Logger.Handler(), "records of memory topics are lost", func() {
		watch.Store(true)
		go func() { result <- s.TakeCheckpoint() }()
		<-taken
	}})
	s = open(t, opt)
	l := &load{t: t, s: s, m: newModel(), round: 1}
	memory := l.create("memory", 1, map[string]string{"firth.durability": "memory"}).Partitions[0]
	synced := l.create("disk", 1, nil).Partitions[0]
	for _, p := range []stream.PartitionID{memory, synced, memory} {
		if err := l.produce(p, -1, 0, 1, 50); err != nil {
			t.Fatal(err)
		}
	}
	faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: "log/spare.0", Kind: fault.IO})
	if err := l.produce(synced, -1, 0, 1, 50); !fault.Is(err, fault.IO) {
		t.Fatalf("a failed sync is told as %v", err)
	}
	resumes(t, l, synced)
	if err := <-result; err != nil {
		t.Errorf("checkpoint: %v", err)
	}
	crashed := disk.CrashClone(nil)
	m := l.m.clone()
	delete(m.acked[memory], 1) // the one that was lost
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, small(crashed)) // which logs no damage
	defer s.Close()
	skips(t, s, memory, m)
	verifyPartition(t, s, m, synced)
}

// skips reads a partition that lost its record 1: a read at the hole goes on behind it.
func skips(t *testing.T, s *store.Store, p stream.PartitionID, m *model) {
	t.Helper()
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[record.Offset]string)
	for _, read := range []reading{found, (*store.Store).Read} {
		for next := bounds.Start; next < bounds.High; {
			batches, err := read(s, p, next, 8<<10, nil)
			if err != nil || len(batches) == 0 {
				t.Fatalf("read at %d of %+v: %d batches, %v", next, bounds, len(batches), err)
			}
			for _, b := range batches {
				var it record.Iter
				if err := it.Reset(b, &record.Scratch{}); err != nil {
					t.Fatal(err)
				}
				for v := (record.View{}); it.Next(&v); {
					got[v.Offset] = string(v.Value)
				}
				next = b.LastOffset() + 1
			}
		}
		if _, ok := got[1]; ok {
			t.Error("the record that was lost is there")
		}
		for offset, want := range m.acked[p] {
			if have, ok := got[offset]; (!ok && offset < bounds.High) || ok && have != want {
				t.Fatalf("offset %d: %.20q, want %.20q", offset, have, want)
			}
		}
		clear(got)
	}
}

// TestFileIsLetGoOnce (E20) lets roll-ups fail and deletes the topic meanwhile: the journals go once, and what is made
// of them is as good as any.
func TestFileIsLetGoOnce(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	opt := with(t, small(faulty), "housekeeping of the log failed", "retention failed")
	opt.RetentionInterval = 2 * time.Millisecond
	s := open(t, opt)
	l := &load{t: t, s: s, m: newModel(), round: 1}
	keep := l.create("keep", 1, nil).Partitions[0]
	for round := range 5 {
		gone := l.create("gone", 1, nil).Partitions[0]
		eventually(t, "full journals are rolled up", func() bool { return files(t, disk, ".journal") < 2 })
		faulty.Inject(vfs.Fault{On: vfs.OpCreate, Name: ".segment", Kind: fault.Full, Times: -1})
		for range 300 {
			l.publish(500, gone)
			l.wg.Wait()
		}
		if err := s.DeleteTopic(context.Background(), "gone"); err != nil {
			t.Fatal(err)
		}
		l.m.gone[l.m.topics["gone"]] = true
		delete(l.m.topics, "gone")
		eventually(t, "journals of the topic are gone", func() bool { return files(t, disk, ".journal") < 5 })
		faulty.Heal()
		for range 300 {
			l.publish(500, keep)
			l.wg.Wait()
		}
		eventually(t, "journals are segments", func() bool { return files(t, disk, ".journal") < 3 })
		if verify(t, s, l.m); t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	clean(t, disk, l.m)
}

// TestCommitsWaitForTheHousekeeper (E15) holds roll-ups up: no more than a few journals wait for them, and what waits
// to be committed is committed when they go on. Roll-ups that fail hold nothing up.
func TestCommitsWaitForTheHousekeeper(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	opt := with(t, small(faulty), "housekeeping of the log failed")
	opt.SealedFiles, opt.GroupBytes = 3, 8<<10
	s := open(t, opt)
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	hold := make(chan struct{})
	faulty.OnOp(func(op vfs.Op) {
		if op.Kind == vfs.OpCreate && strings.Contains(op.Name, ".segment") {
			<-hold
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			l.publish(1000, p)
		}
		l.wg.Wait()
	}()
	eventually(t, "appends wait", s.Crowded)
	if n := files(t, disk, ".journal"); n > opt.SealedFiles+1 {
		t.Errorf("%d journals are there", n)
	}
	select {
	case <-done:
		t.Error("nothing waits for the housekeeper")
	default:
	}
	faulty.OnOp(nil)
	close(hold)
	<-done
	verify(t, s, l.m)
	faulty.Inject(vfs.Fault{On: vfs.OpCreate, Name: ".segment", Kind: fault.IO, Times: -1})
	for range 1000 {
		l.publish(1000, p)
	}
	l.wg.Wait()
	faulty.Heal()
	verify(t, s, l.m)
}

// TestNothingIsRemovedAtOnceWhenTheClockIsSet (F32) sets the clock on by years: records are removed by their age only
// after a while, which is told.
func TestNothingIsRemovedAtOnceWhenTheClockIsSet(t *testing.T) {
	for _, wait := range []time.Duration{time.Hour, 300 * time.Millisecond} {
		t.Run(wait.String(), func(t *testing.T) { setTheClock(t, wait) })
	}
}

func setTheClock(t *testing.T, wait time.Duration) {
	var told lines
	var looks atomic.Int64
	clock := &clockwork{}
	clock.unixMillis.Store(2000)
	opt := small(vfs.NewMemory())
	opt.Logger = slog.New(slog.NewTextHandler(&told, nil))
	opt.RetentionInterval, opt.StepWait = time.Millisecond, wait
	opt.Clock = func() time.Time {
		looks.Add(1)
		return clock.now()
	}
	s := open(t, opt)
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, map[string]string{"retention.ms": "5000"}).Partitions[0]
	values := l.values(p, 1, 50)
	if err := l.send(p, batch(7, 0, values), values); err != nil {
		t.Fatal(err)
	}
	set := time.Now()
	clock.unixMillis.Store(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	eventually(t, "the step is told", func() bool { return strings.Contains(told.String(), "the clock was set") })
	if wait == time.Hour {
		from := looks.Load()
		eventually(t, "the housekeeper has looked again", func() bool { return looks.Load() > from+20 })
		if b, err := s.Bounds(p); err != nil || b.Start != 0 {
			t.Errorf("at once: %+v %v", b, err)
		}
		if err := l.send(p, batch(7, 0, values), values); err != nil {
			t.Errorf("the producer is forgotten: %v", err)
		}
	} else {
		eventually(t, "the record is removed", func() bool {
			b, err := s.Bounds(p)
			return err == nil && b.Start == 1
		})
		if took := time.Since(set); took < wait {
			t.Errorf("it was removed after %v", took)
		}
	}
	if n := strings.Count(told.String(), "the clock was set"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// lines is what was logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestBrokenFileIsNotSyncedAgain (E21) counts: neither the housekeeper nor the end syncs a file whose sync has failed.
func TestBrokenFileIsNotSyncedAgain(t *testing.T) {
	for _, end := range []string{"at once", "later"} {
		t.Run(end, func(t *testing.T) {
			disk := vfs.NewMemory()
			faulty := vfs.NewFaulty(disk)
			opt := with(t, small(faulty), ofFailure...)
			opt.RetentionInterval = 2 * time.Millisecond
			s := open(t, opt)
			l := &load{t: t, s: s, m: newModel(), round: 1}
			p := l.create("t", 1, nil).Partitions[0]
			if err := l.produce(p, -1, 0, 1, 20<<10); err != nil { // large: the file is kept in place
				t.Fatal(err)
			}
			if end == "at once" { // and no way to begin another
				faulty.Inject(vfs.Fault{On: vfs.OpRename, Name: "log/spare", Kind: fault.IO, Times: -1})
			}
			faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: "log/spare.0", Kind: fault.IO})
			if err := l.produce(p, -1, 0, 1, 20<<10); !fault.Is(err, fault.IO) {
				t.Fatalf("a failed sync is told as %v", err)
			}
			seen := watchOps(faulty)
			if end == "later" {
				resumes(t, l, p)
				for range 20 {
					l.publish(20<<10, p)
					l.wg.Wait()
				}
				eventually(t, "the broken journal is a segment", func() bool {
					names, err := disk.List("log")
					return err == nil && len(names) > 0 && names[0] != "0000000000000001.journal"
				})
				verify(t, s, l.m)
			}
			if err := s.Close(); err != nil && end == "later" {
				t.Error(err)
			}
			if n := seen.count(vfs.OpSync, "log/spare.0"); n > 0 {
				t.Errorf("the broken file was synced %d times more", n)
			}
			clean(t, disk.CrashClone(nil), l.m)
		})
	}
}

// TestReadErrorIsForgotten (E22) lets one read fail: once the records were read, they are found without reading again.
func TestReadErrorIsForgotten(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMemory())
	opt := small(faulty)
	opt.CacheBytes = 1
	s := open(t, opt)
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	for range 5 {
		l.publish(500, p)
		l.wg.Wait()
	}
	_, st, err := s.Find(p, 0, 1<<20, nil)
	if err != nil || st.Size() == 0 {
		t.Fatalf("%d bytes are found: %v", st.Size(), err)
	}
	faulty.Inject(vfs.Fault{On: vfs.OpRead, Kind: fault.IO})
	if _, _, err := st.Load(make([]byte, 0, 8<<10), nil); !fault.Is(err, fault.IO) {
		t.Fatalf("a failed read is told as %v", err)
	}
	for range 2 { // the first finds out
		if _, st, err = s.Find(p, 0, 1<<20, nil); err != nil {
			t.Fatal(err)
		}
	}
	if st.Size() == 0 {
		t.Error("the partition is read before anything is promised for ever")
	}
}

// TestDamagedNewestJournalIsKept (E25) damages all of the newest journal that could name it: the log opens, says so,
// and leaves the bytes where they are.
func TestDamagedNewestJournalIsKept(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	s := open(t, with(t, small(faulty), "housekeeping of the log failed"))
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	faulty.Inject(vfs.Fault{On: vfs.OpCreate, Name: "checkpoint", Kind: fault.IO, Times: -1}) // or one names the file
	for range 400 {
		l.publish(500, p)
		l.wg.Wait()
	}
	crashed := disk.CrashClone(nil)
	faulty.Heal()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := crashed.List("log")
	if err != nil {
		t.Fatal(err)
	}
	newest := ""
	for _, name := range names {
		if strings.HasSuffix(name, ".journal") {
			newest = "log/" + name
		}
	}
	for _, at := range []int64{8 * 30, 8 * (4096 + 2)} { // the header's, and the first frame's
		if err := crashed.Flip(newest, at); err != nil {
			t.Fatal(err)
		}
	}
	was := content(t, crashed, newest)
	if _, findings := check(t, crashed); len(findings) == 0 {
		t.Error("nothing was found")
	}
	opt := with(t, small(crashed), ofDamage...)
	for range 2 {
		s := open(t, opt)
		l.s = s
		resumes(t, l, p)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, crashed, newest), was) {
			t.Fatalf("%s is not what it was", newest)
		}
	}
}
