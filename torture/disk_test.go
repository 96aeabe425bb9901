package torture

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/node"
)

var disksFlag = flag.Int("disks", 8, "how many failing disks TestDiskFails tries")

// TestDiskFails is the promise of the log on a disk that fails twice in a row, under the load of both doors: the node
// goes on by itself when the disk does, a power cut later all that was acknowledged is there, where it was, and the log
// that is left has no finding. The node runs in this process, on a disk in memory.
func TestDiskFails(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d disks, seed %d (again: -args -disks %d -seed %d)", *disksFlag, seed, *disksFlag, seed)
	for n := range *disksFlag {
		t.Run(fmt.Sprint("disk ", n), func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, uint64(n)))
			failing := &failingDisk{t: t, dice: dice, h: newHistory(), disk: vfs.NewMemory()}
			failing.suffer()
		})
	}
}

// failingDisk is one node on one disk.
type failingDisk struct {
	t    *testing.T
	dice *rand.Rand
	h    *history
	disk *vfs.Memory
}

// inProcess starts a node on a disk. What it logs as an error fails the test, but for the expected.
func inProcess(t *testing.T, disk vfs.FS, expected ...string) *node.Node {
	t.Helper()
	c := node.Default()
	c.FS, c.Logger, c.Limits.JournalFile = disk, logtest.New(t, expected...), 1<<20
	c.Listen = node.Listen{MQTT: "127.0.0.1:0", Kafka: "127.0.0.1:0"}
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (f *failingDisk) suffer() {
	faulty := vfs.NewFaulty(f.disk)
	n := inProcess(f.t, faulty, "commit failed", "housekeeping of the log failed", "closed log")
	stop := f.work(n.Addresses())
	<-time.After(time.Duration(50+f.dice.IntN(200)) * time.Millisecond)
	f.fail(faulty)
	f.await("acknowledgements after the faults", 200)
	faulty.Heal()
	f.await("acknowledgements on a disk that is well again", 200)

	// What was acknowledged by now is in whatever a power cut leaves; what comes later may be.
	acked, seen, promised := f.acknowledged()
	left := f.disk.CrashClone(f.dice)
	stop()
	if err := n.Close(); err != nil {
		f.t.Errorf("closing on a disk that is well again: %v", err)
	}
	for _, m := range f.h.messages {
		m.acked.Store(acked[m])
	}
	f.judge(left, finds{seen: seen, promised: promised})
	all, _ := f.h.counts()
	f.t.Logf("%d messages, %d acknowledged before the power cut", all, len(acked))
}

// fail lets the disk fail, and a little later once more: one to four operations of a kind each.
func (f *failingDisk) fail(disk *vfs.Faulty) {
	kinds := []vfs.OpKind{vfs.OpWrite, vfs.OpSync, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir, vfs.OpPreallocate, vfs.OpRead}
	for i := range 2 {
		one := vfs.Fault{On: kinds[f.dice.IntN(len(kinds))], Kind: []fault.Kind{fault.IO, fault.Full}[f.dice.IntN(2)],
			Skip: i * f.dice.IntN(4), Times: 1 + f.dice.IntN(4), Short: f.dice.IntN(2) == 0}
		f.t.Logf("fault %d: %d times %s at %s, after %d", i+1, one.Times, one.Kind, one.On, one.Skip)
		disk.Inject(one)
	}
}

// work makes the topics and starts devices, producers and a consumer group. stop ends them.
func (f *failingDisk) work(a node.Addresses) (stop func()) {
	t := f.t
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := dialKafka(a.Kafka)
	must(err)
	defer c.Close()
	for topic, parts := range map[string]int32{"alpha": 4, ledger: ledgerParts} {
		answer, err := kadm.NewClient(c).CreateTopic(t.Context(), parts, 1, nil, topic)
		must(err)
		f.h.created(topic, answer.ID)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	some := func() words { return words{rand.New(rand.NewPCG(f.dice.Uint64(), f.dice.Uint64()))} }
	for i := range 5 {
		name := fmt.Sprintf("device%02d", i)
		p := &publisher{name: name, topics: []string{"alpha/" + name, "gamma/" + name}, words: some(), h: f.h,
			refusable: true}
		if i == 0 {
			p.retain, p.topics = true, []string{retainedTopic + "/d0", retainedTopic + "/d1"}
		}
		all.Go(func() {
			for ctx.Err() == nil {
				if err := p.run(ctx, a.MQTT); err != nil {
					t.Errorf("%s: %v", p.name, err)
					return
				}
				p.settle()
			}
		})
	}
	for i := range producers {
		p, err := newProducer(fmt.Sprintf("producer%d", i), some(), f.h, a.Kafka)
		must(err)
		all.Go(func() {
			p.run(ctx)
			limit, cancel := context.WithTimeout(context.Background(), startLimit)
			defer cancel()
			if err := p.c.Flush(limit); err != nil {
				t.Errorf("%s has %d records left: %v", p.name, p.c.BufferedProduceRecords(), err)
			}
			p.c.Close()
		})
	}
	all.Go(func() {
		if err := follow(ctx, f.h, a.Kafka, []string{"alpha", ledger}); err != nil {
			t.Error(err)
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// await waits until so many more messages are acknowledged.
func (f *failingDisk) await(what string, more int) {
	f.t.Helper()
	_, before := f.h.counts()
	for deadline := time.Now().Add(startLimit); ; <-time.After(pace) {
		_, acked := f.h.counts()
		if acked >= before+more {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("no %s: %d in %v", what, acked-before, startLimit)
		}
	}
}

// acknowledged is what clients were told by now.
func (f *failingDisk) acknowledged() (map[*message]bool, []sighting, map[place]int64) {
	seen, promised := f.h.consumed()
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	acked := map[*message]bool{}
	for _, m := range f.h.messages {
		if m.acked.Load() {
			acked[m] = true
		}
	}
	return acked, seen, promised
}

// judge looks for damage in what a power cut left, opens it and holds it against the history.
func (f *failingDisk) judge(left *vfs.Memory, now finds) {
	t := f.t
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	offline, err := store.OpenOffline(ctx, left.Clone(), nil)
	if err != nil {
		t.Fatal(err)
	}
	blame := func(found store.Finding) { t.Errorf("%s: %s", found.File, found.What) }
	if _, err := offline.Check(ctx, blame, nil); err != nil {
		t.Error(err)
	}
	if err := offline.Close(); err != nil {
		t.Error(err)
	}
	n := inProcess(t, left)
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	a := n.Addresses()
	if err = readAll(ctx, a.Kafka, &now); err != nil {
		t.Fatal(err)
	}
	if now.committed, err = commits(ctx, a.Kafka); err != nil {
		t.Fatal(err)
	}
	if now.retained, err = readRetained(ctx, a.MQTT, len(lastByKey(now.log, retainedTopic))); err != nil {
		t.Fatal(err)
	}
	for at := range now.log {
		if at.topic[:2] == "__" {
			delete(now.log, at)
		}
	}
	if v := check(f.h, nil, now); len(v.lines) > 0 {
		t.Error(v)
	}
}
