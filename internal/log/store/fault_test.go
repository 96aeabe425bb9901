package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

// resumes publishes until the log takes it again.
func resumes(t *testing.T, l *load, p stream.PartitionID) {
	t.Helper()
	deadline := time.After(time.Minute)
	var err error
	for {
		if err = l.produce(p, -1, 0, 1, 50); err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("writing does not resume: %v, refused: %v", err, l.s.Refused())
		case <-time.After(10 * time.Millisecond): // how often, not whether
		}
	}
}

// TestEveryOperationFails lets one operation after another fail, once, and holds the log to the model: no
// acknowledged record is lost, reading goes on, writing resumes by itself, and a crash right after leaves
// what was acknowledged.
func TestEveryOperationFails(t *testing.T) {
	t.Run("one by one", func(t *testing.T) { everyOperationFails(t, small, vfs.OpKinds()) })
	t.Run("side by side", func(t *testing.T) {
		everyOperationFails(t, sideBySide, []vfs.OpKind{vfs.OpOpenWrite, vfs.OpWrite, vfs.OpSync})
	})
	t.Run("encrypted", func(t *testing.T) {
		everyOperationFails(t, encrypted(t, small), []vfs.OpKind{vfs.OpCreate, vfs.OpRead, vfs.OpWrite, vfs.OpTruncate})
	})
}

func everyOperationFails(t *testing.T, options func(vfs.FS) store.Options, kinds []vfs.OpKind) {
	counter := vfs.NewFaulty(vfs.NewMemory())
	s := open(t, options(counter))
	script(&load{t: t, s: s, m: newModel(), round: 1})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	points := *crashPoints
	for _, kind := range kinds {
		count := counter.Count(kind)
		for i := range min(points, count) {
			for _, fa := range []vfs.Fault{
				{On: kind, Skip: i * count / min(points, count), Kind: fault.IO},
				{On: kind, Skip: i * count / min(points, count), Kind: fault.Full, Short: kind == vfs.OpWrite, Times: 3},
			} {
				if kind == vfs.OpLock || kind == vfs.OpClose {
					continue // nothing is stored by them
				}
				t.Run(fmt.Sprintf("%s %d %s", kind, fa.Skip, fa.Kind), func(t *testing.T) { failsOnce(t, fa, options) })
			}
		}
	}
}

func failsOnce(t *testing.T, fa vfs.Fault, options func(vfs.FS) store.Options) {
	fails(t, options, fa)
}

// TestTwoOperationsFail lets operations of two kinds fail shortly one after the other: the second while the log is
// about to get over the first.
func TestTwoOperationsFail(t *testing.T) {
	counter := vfs.NewFaulty(vfs.NewMemory())
	s := open(t, small(counter))
	script(&load{t: t, s: s, m: newModel(), round: 1})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(*crashSeed, 5))
	kinds := []vfs.OpKind{
		vfs.OpCreate, vfs.OpRename, vfs.OpRemove, vfs.OpSyncDir, vfs.OpRead, vfs.OpWrite, vfs.OpSync, vfs.OpPreallocate,
	}
	for range 10 * *crashPoints {
		at := rng.Float64() // how far the script is
		fault := func() vfs.Fault {
			kind := kinds[rng.IntN(len(kinds))]
			return vfs.Fault{
				On: kind, Skip: int(at*float64(counter.Count(kind))) + rng.IntN(3), Kind: fault.IO, Times: 1 + rng.IntN(2),
				Short: kind == vfs.OpWrite && rng.IntN(2) == 0,
			}
		}
		a, b := fault(), fault()
		t.Run(fmt.Sprintf("%s %d, %s %d", a.On, a.Skip, b.On, b.Skip), func(t *testing.T) { fails(t, small, a, b) })
	}
}

// TestFirstStartFails has the first start fail as it syncs the name of the identity, and cuts the power at every
// operation of the next one: whatever is left opens.
func TestFirstStartFails(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	faulty.Inject(vfs.Fault{On: vfs.OpSyncDir, Skip: 1, Kind: fault.IO}) // the first is that of the folder of the log
	if s, err := store.Open(context.Background(), with(t, small(faulty))); !fault.Is(err, fault.IO) {
		t.Fatalf("a start whose sync fails: %v, %v", s, err)
	}
	var mu sync.Mutex // the housekeeper has begun
	var left []*vfs.Memory
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		for seed := range uint64(20) {
			if op.Kind.Changes() {
				left = append(left, disk.CrashClone(rand.New(rand.NewPCG(*crashSeed, seed))))
			}
		}
	})
	s := open(t, small(faulty))
	faulty.OnOp(nil)
	mu.Lock()
	defer mu.Unlock()
	for _, d := range left {
		if err := open(t, small(d)).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// fails runs the script over faults. No acknowledged record is lost, reading goes on, writing resumes by itself, and
// whatever a power cut leaves at any time behind the faults holds what was acknowledged, and is not damaged.
func fails(t *testing.T, options func(vfs.FS) store.Options, faults ...vfs.Fault) {
	disk, m := vfs.NewMemory(), newModel()
	faulty := vfs.NewFaulty(disk)
	cuts := cutBehind(faulty, disk, m, faults[0])
	for _, fa := range faults {
		faulty.Inject(fa)
	}
	opt := with(t, options(faulty), append(ofFailure, "records of memory topics are lost")...)
	s, err := store.Open(context.Background(), opt)
	for tries := 0; err != nil && tries < 8; tries++ { // a fault at start is told, and the next start is fine
		s, err = store.Open(context.Background(), opt)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, s: s, m: m, round: 1}
	script(l)
	faulty.Heal()
	faulty.OnOp(nil)
	resumes(t, l, s.Topics().ByName("small").Partitions[0])
	l.wg.Wait()
	verify(t, s, m)
	acked := 0
	for _, records := range m.acked {
		acked += len(records)
	}
	if acked < 4*scriptTurns { // of about eight a turn
		t.Errorf("only %d records were acknowledged: the script ended early", acked)
	}
	before := m.clone()
	left := append(*cuts, crash{disk: disk.CrashClone(nil), m: before})
	for seed := range uint64(3) {
		left = append(left, crash{disk: disk.CrashClone(rand.New(rand.NewPCG(*crashSeed, seed))), m: before})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(left, crash{disk: disk, m: before}) {
		s := open(t, options(c.disk))
		verify(t, s, c.m)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// cutBehind cuts the power some times behind a fault, while the log gets over it.
func cutBehind(faulty *vfs.Faulty, disk *vfs.Memory, m *model, fa vfs.Fault) *[]crash {
	const most, every = 6, 7
	var mu sync.Mutex
	var cuts []crash
	seen, behind := 0, 0
	rng := rand.New(rand.NewPCG(*crashSeed, uint64(fa.Skip)))
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind == fa.On {
			seen++
		}
		if seen <= fa.Skip || !op.Kind.Changes() || len(cuts) == most {
			return
		}
		if behind++; behind%every != 1 {
			return
		}
		before := m.clone()
		from := rng
		if behind%2 == 0 {
			from = nil
		}
		left := disk.CrashClone(from)
		before.asked(m)
		cuts = append(cuts, crash{op: op, disk: left, m: before})
	})
	return &cuts
}

// TestFullDisk fills the disk: appends are refused as such, reads go on, and writing resumes when there is
// space again.
func TestFullDisk(t *testing.T) {
	disk, m := vfs.NewMemory(), newModel()
	disk.SetCapacity(1 << 20)
	opt := small(disk)
	opt.ReserveBytes = 128 << 10
	s := open(t, with(t, opt, ofFailure...))
	defer s.Close()
	l := &load{t: t, s: s, m: m, round: 1}
	topic := l.create("t", 1, map[string]string{"max.message.bytes": "100000"})
	p := topic.Partitions[0]
	var err error
	for range 1000 {
		if err = l.produce(p, -1, 0, 1, 10<<10); err != nil {
			break
		}
	}
	if !fault.Is(err, fault.Full) || fault.HintOf(err) == "" && fault.HintOf(s.Refused()) == "" {
		t.Fatalf("a full disk is told as %v, hint %q", err, fault.HintOf(err))
	}
	eventually(t, "roll-ups are through and a reserve is left", func() bool {
		free, _, err := vfs.Space(disk)
		return err == nil && free >= 64<<10
	})
	verifyPartition(t, s, m, p)
	disk.SetCapacity(2 << 20)
	resumes(t, l, p)
	verify(t, s, m)
}

// crammed is a log on a disk that it has filled with the topic filling, but for some records in kept.
type crammed struct {
	*load
	disk    *vfs.Memory
	opt     store.Options
	kept    stream.PartitionID
	filling *stream.Topic
}

func cram(t *testing.T) *crammed {
	t.Helper()
	c := &crammed{disk: vfs.NewMemory()}
	c.disk.SetCapacity(2 << 20)
	c.opt = with(t, small(c.disk), ofFailure...)
	c.opt.JournalBytes, c.opt.ReserveBytes, c.opt.RetentionInterval = 128<<10, 256<<10, 10*time.Millisecond
	c.load = &load{t: t, s: open(t, c.opt), m: newModel(), round: 1}
	c.kept = c.create("kept", 1, nil).Partitions[0]
	for range 5 {
		c.publish(100, c.kept)
	}
	c.wg.Wait()
	c.filling = c.create("filling", 2, nil)
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		err = c.produce(c.filling.Partitions[i%2], -1, 0, 1, 20<<10)
	}
	if !fault.Is(err, fault.Full) {
		t.Fatalf("the disk does not become full: %v", err)
	}
	return c
}

// reopen closes the log and opens it, or what a crash leaves of it.
func (c *crammed) reopen(crashed bool) {
	left := c.disk.CrashClone(nil)
	if err := c.s.Close(); err != nil {
		c.t.Fatal(err)
	}
	if crashed {
		left.SetCapacity(2 << 20)
		c.opt.FS = left
	}
	c.load = &load{t: c.t, s: open(c.t, c.opt), m: c.m, round: 2}
}

// fill writes until the disk is full again: an opening takes a small file from the reserve.
func (c *crammed) fill() {
	for {
		switch err := c.produce(c.kept, -1, 0, 1, 20<<10); {
		case fault.Is(err, fault.Full):
			return
		case err != nil:
			c.t.Fatal(err)
		}
	}
}

// verifyAll reads all that was acknowledged.
func (c *crammed) verifyAll() {
	c.t.Helper()
	for _, p := range append([]stream.PartitionID{c.kept}, c.filling.Partitions...) {
		verifyPartition(c.t, c.s, c.m, p)
	}
}

// TestFullDiskIsMadeRoomOn holds a log whose disk is full to taking what makes room, and only that: a change of a
// topic's retention, the deletion of records and of a topic. It opens on the full disk as well, and after a crash.
func TestFullDiskIsMadeRoomOn(t *testing.T) {
	for _, how := range []string{"running", "closed", "crashed"} {
		t.Run(how, func(t *testing.T) {
			c := cram(t)
			if how != "running" {
				c.reopen(how == "crashed")
			}
			c.verifyAll()
			c.fill()
			ctx := context.Background()
			if _, err := c.s.CreateTopic(ctx, stream.TopicSpec{Name: "more", Partitions: 1}); !fault.Is(err, fault.Full) {
				t.Errorf("a topic more: %v", err)
			}
			if _, err := c.s.AlterTopic(ctx, "filling", stream.TopicChange{Partitions: 3}); !fault.Is(err, fault.Full) {
				t.Errorf("a partition more: %v", err)
			}
			set := map[string]string{"retention.ms": "86400000"}
			if topic, err := c.s.AlterTopic(ctx, "filling", stream.TopicChange{Set: set}); err != nil ||
				topic.Settings.RetentionMs != 86400000 {
				t.Errorf("a setting: %v", err)
			}
			if _, err := c.s.TrimTo(ctx, c.filling.Partitions[1], 1); err != nil {
				t.Errorf("deletion of a record: %v", err)
			}
			c.m.starts[c.filling.Partitions[1]] = 1
			c.verifyAll()
			if err := c.s.DeleteTopic(ctx, "filling"); err != nil {
				t.Fatal(err)
			}
			c.m.gone[c.filling.ID] = true
			delete(c.m.topics, "filling")
			resumes(t, c.load, c.kept)
			verify(t, c.s, c.m)
			if err := c.s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFailedSyncIsNotTriedAgain holds the log to fsync's rule: after a failed sync the file takes no more
// frames, everybody who waited is told, and what was refused never comes back.
func TestFailedSyncIsNotTriedAgain(t *testing.T) {
	disk, m := vfs.NewMemory(), newModel()
	faulty := vfs.NewFaulty(disk)
	s := open(t, with(t, small(faulty), ofFailure...))
	l := &load{t: t, s: s, m: m, round: 1}
	topic := l.create("t", 2, nil)
	p := topic.Partitions[0]
	if err := l.produce(p, 7, 0, 2, 50); err != nil {
		t.Fatal(err)
	}
	// The first journal file was made under this name.
	faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: "log/spare.0", Kind: fault.IO})
	values := l.values(p, 2, 50)
	lost := batch(7, 2, values)
	err := l.send(p, lost, values)
	if !fault.Is(err, fault.IO) {
		t.Fatalf("a failed sync is told as %v", err)
	}
	resumes(t, l, topic.Partitions[1])
	if err := l.send(p, batch(7, 2, values), values); err != nil {
		t.Fatalf("the producer tries again: %v", err)
	}
	if err := l.send(p, batch(7, 2, values), values); err != nil {
		t.Fatalf("and once more, which is a duplicate: %v", err)
	}
	verify(t, s, m)
	crashed := disk.CrashClone(nil)
	if err := errors.Join(s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, small(crashed))
	defer s.Close()
	verify(t, s, m)
}

// slowReceipt is told that an append was durable.
type slowReceipt struct{ told chan record.Offset }

func (r *slowReceipt) Appended(_ uint64, at stream.Placed, _ error) { r.told <- at.Offset(0) }

// TestNothingIsAcknowledgedBeforeTheSync holds a sync up and looks.
func TestNothingIsAcknowledgedBeforeTheSync(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	s := open(t, small(faulty))
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	held, release := make(chan bool), make(chan bool)
	faulty.OnOp(func(op vfs.Op) {
		if op.Kind == vfs.OpSync && op.Name == "log/spare.0" { // the journal; the housekeeper syncs files of its own
			held <- true
			<-release
		}
	})
	r := &slowReceipt{told: make(chan record.Offset, 1)}
	if err := streamtest.Append(s, r, stream.Write{Partition: p, Record: &record.Record{Value: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	<-held
	if b, err := s.Bounds(p); err != nil || b.High != 0 || len(r.told) > 0 {
		t.Fatalf("before the sync: bounds %+v %v, %d receipts", b, err, len(r.told))
	}
	faulty.OnOp(nil)
	close(release)
	if base := <-r.told; base != 0 {
		t.Fatalf("offset %d", base)
	}
}
