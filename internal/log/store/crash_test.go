package store_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// How thorough the tests of crashes, faults and damage are. make crash runs them in full.
var (
	crashSeed   = flag.Uint64("crash.seed", 1, "seed of the crash tests")
	crashEvery  = flag.Int("crash.every", 5, "crash at one of so many file operations; 1: at each")
	crashPoints = flag.Int("crash.points", 6, "let so many operations of each kind fail")
	crashFlips  = flag.Int("crash.flips", 200, "flip so many bits")
)

// crash is what a power cut at one moment leaves, and what had been acknowledged by then.
type crash struct {
	op   vfs.Op
	disk *vfs.Memory
	m    *model
	opt  func(vfs.FS) store.Options
}

// scriptTurns is how often the script does everything.
const scriptTurns = 120

// script is a load that meets every kind of file operation: small and large batches, several topics, rolls,
// roll-ups, files kept in place, deletes, trims, retention, idempotent producers.
func script(l *load) {
	ctx := context.Background()
	small := l.mustCreate("small", 3, nil)
	large := l.mustCreate("large", 1, nil)
	brief := l.mustCreate("brief", 1, map[string]string{"retention.bytes": "20000", "segment.bytes": "16384"})
	loose := l.mustCreate("loose", 1, map[string]string{"firth.durability": "memory"})
	l.m.mu.Lock()
	l.m.loose[loose.Partitions[0]] = true
	l.m.mu.Unlock()
	pid, err := l.s.NewProducerID(ctx)
	if err == nil {
		l.m.mu.Lock()
		l.m.pids[pid] = true
		l.m.mu.Unlock()
	}
	var sequence int32
	for i := range scriptTurns {
		l.writable()
		for _, p := range small.Partitions {
			l.publish(40, p)
		}
		l.publish(300, small.Partitions[0], small.Partitions[2])
		l.publish(700, brief.Partitions[0])
		l.publish(60, loose.Partitions[0])
		if i%3 == 0 {
			if l.produce(small.Partitions[1], pid, sequence, 3, 100) == nil {
				sequence += 3
			}
		}
		if i > 60 {
			_ = l.produce(large.Partitions[0], -1, 0, 1, 20<<10) // the model knows whether it was acknowledged
		}
		if i == 70 {
			l.trim(small.Partitions[1])
		}
		if i%40 == 20 {
			l.comeAndGo()
		}
	}
	l.wg.Wait()
}

// mustCreate creates a topic, again if the disk fails meanwhile.
func (l *load) mustCreate(name string, partitions int, config map[string]string) *stream.Topic {
	for deadline := time.Now().Add(time.Minute); ; {
		if topic := l.create(name, partitions, config); topic != nil {
			return topic
		}
		if topic := l.s.Topics().ByName(name); topic != nil { // it was made, though somebody was told otherwise
			l.m.mu.Lock()
			l.m.topics[name] = topic.ID
			l.m.mu.Unlock()
			return topic
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("topic %s cannot be made: %v", name, l.s.Refused())
		}
		l.writable()
	}
}

// writable waits until appends are accepted.
func (l *load) writable() {
	for deadline := time.Now().Add(time.Minute); l.s.Refused() != nil; {
		if time.Now().After(deadline) {
			l.t.Fatalf("writing does not resume: %v", l.s.Refused())
		}
		<-time.After(time.Millisecond) // how often, not whether
	}
}

// trim deletes the first records of a partition.
func (l *load) trim(p stream.PartitionID) {
	if start, err := l.s.TrimTo(context.Background(), p, 50); err == nil {
		l.m.mu.Lock()
		l.m.starts[p] = start
		l.m.mu.Unlock()
	}
}

// comeAndGo creates a topic, writes to it and deletes it.
func (l *load) comeAndGo() {
	topic := l.create("fleeting", 2, nil)
	if topic == nil {
		return
	}
	l.publish(50, topic.Partitions[1])
	l.wg.Wait()
	l.m.mu.Lock()
	l.m.leave[topic.ID] = true
	l.m.mu.Unlock()
	if l.s.DeleteTopic(context.Background(), "fleeting") == nil {
		l.m.mu.Lock()
		l.m.gone[topic.ID] = true
		delete(l.m.topics, "fleeting")
		l.m.mu.Unlock()
	}
}

// rewrites says whether an operation is about a file of a later generation. How many there are depends on how
// housekeeper and load meet, so that none may be left out: a few are all there are.
func rewrites(op vfs.Op) bool { return strings.Count(op.Name, ".") == 3 }

// play runs the script and collects a crash at every operation that changes it, thinned to about
// one in every, but for those that rewrite files.
func play(t *testing.T, m *model, every int, rng *rand.Rand, opt func(vfs.FS) store.Options) []crash {
	n := 0
	return interrupt(t, m, every, opt, func(disk *vfs.Memory) *vfs.Memory {
		if n++; n%4 == 0 {
			return disk.CrashClone(nil) // strict: nothing that was not synced survives
		}
		return disk.CrashClone(rng)
	})
}

// kills runs the script and collects what a kill of the process leaves: all that was written, synced or not.
func kills(t *testing.T, every int, opt func(vfs.FS) store.Options) []crash {
	return interrupt(t, newModel(), every, opt, (*vfs.Memory).Clone)
}

// interrupt runs the script and collects what end leaves of the disk before operations.
func interrupt(
	t *testing.T, m *model, every int, opt func(vfs.FS) store.Options, end func(*vfs.Memory) *vfs.Memory,
) []crash {
	var crashes []crash
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	n := 0
	var mu sync.Mutex // committer and housekeeper work side by side
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if n++; !op.Kind.Changes() || n%every != 0 && !rewrites(op) {
			return
		}
		before := m.clone() // first: what is acknowledged from here on only adds
		left := end(disk)
		before.asked(m)
		crashes = append(crashes, crash{op: op, disk: left, m: before, opt: opt})
	})
	if opt(nil).SlowSync < time.Second {
		faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: ".journal", Delay: 300 * time.Microsecond, Times: -1})
	}
	s := open(t, opt(faulty))
	script(&load{t: t, s: s, m: m, round: 1})
	merged := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(crashes, func(c crash) bool { return rewrites(c.op) })
	}
	// The housekeeper may have come to nothing else while the script ran.
	for deadline := time.Now().Add(time.Minute); opt(nil).MergeBytes > 0 && !merged() && time.Now().Before(deadline); {
		<-time.After(time.Millisecond) // how often, not whether
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	faulty.OnOp(nil)
	return crashes
}

// TestCrashAtEveryOperation cuts the power at every file operation of the script, opens what is left, holds
// it to the model, goes on writing, and opens it once more.
func TestCrashAtEveryOperation(t *testing.T) {
	t.Run("one by one", func(t *testing.T) { crashAtEveryOperation(t, small) })
	t.Run("side by side", func(t *testing.T) { crashAtEveryOperation(t, sideBySide) })
	t.Run("merged", func(t *testing.T) { crashAtEveryOperation(t, mergedOften) })
	t.Run("encrypted", func(t *testing.T) { crashAtEveryOperation(t, encrypted(t, mergedOften)) })
}

func crashAtEveryOperation(t *testing.T, opt func(vfs.FS) store.Options) {
	every := *crashEvery
	rng := rand.New(rand.NewPCG(*crashSeed, 2))
	m := newModel()
	crashes := play(t, m, every, rng, opt)
	later := 0 // crashes in the middle of writing a file of a later generation
	for _, c := range crashes {
		if rewrites(c.op) {
			later++
		}
	}
	t.Logf("%d crashes, %d while files are rewritten, seed %d (repeat with -crash.seed=%d)",
		len(crashes), later, *crashSeed, *crashSeed)
	if opt(nil).MergeBytes > 0 && later == 0 {
		t.Fatal("no crash while files are merged")
	}
	if len(crashes) < 100/every {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for i, c := range crashes {
		if !survives(t, c) {
			t.Fatalf("crash %d, before %s %s (number %d of its kind)", i, c.op.Kind, c.op.Name, c.op.N)
		}
	}
}

// survives opens a crashed disk and checks it; then writes, closes, opens and checks again.
func survives(t *testing.T, c crash) bool {
	return t.Run("", func(t *testing.T) {
		if names, err := c.disk.List("."); err != nil || slices.Contains(names, "FIRTH") {
			if _, findings := check(t, c.disk.Clone()); len(findings) > 0 {
				t.Errorf("a crash is no damage: %v", findings)
			}
		}
		s := open(t, c.opt(c.disk))
		verify(t, s, c.m)
		l := &load{t: t, s: s, m: c.m, round: 2}
		for name := range c.m.topics {
			if topic := s.Topics().ByName(name); topic != nil {
				for _, p := range topic.Partitions {
					l.publish(60, p)
				}
			}
		}
		l.wg.Wait()
		highs := bounds(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, c.opt(c.disk.CrashClone(nil)))
		defer s.Close()
		verify(t, s, c.m)
		for p, high := range highs {
			if b, err := s.Bounds(p); err != nil || b.High != high {
				t.Fatalf("partition %d: %+v %v after a clean end at %d", p, b, err, high)
			}
		}
	})
}

// TestPowerCutBehindAKill kills the process at operations of the script, which leaves what the system has not stored
// yet, and cuts the power while the log starts on that, at each operation: what was acknowledged is there. And once it
// has started nothing that is served goes with a power cut.
func TestPowerCutBehindAKill(t *testing.T) {
	t.Run("merged", func(t *testing.T) { powerCutBehindAKill(t, mergedOften) })
	t.Run("encrypted", func(t *testing.T) { powerCutBehindAKill(t, encrypted(t, mergedOften)) })
}

func powerCutBehindAKill(t *testing.T, opt func(vfs.FS) store.Options) {
	rng := rand.New(rand.NewPCG(*crashSeed, 12))
	for _, c := range kills(t, 12**crashEvery, opt) {
		faulty := vfs.NewFaulty(c.disk)
		var mu sync.Mutex // the housekeeper begins before the start is through
		var cuts []crash
		faulty.OnOp(func(op vfs.Op) {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind.Changes() {
				cuts = append(cuts, crash{op: op, disk: c.disk.CrashClone(rng), m: c.m, opt: opt})
			}
		})
		s := open(t, opt(faulty))
		faulty.OnOp(nil)
		served, left := bounds(t, s), c.disk.CrashClone(nil)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		for _, cut := range cuts {
			s := open(t, opt(cut.disk))
			verify(t, s, c.m)
			if err := s.Close(); err != nil || t.Failed() {
				t.Fatalf("killed before %s %s, cut before %s %s: %v", c.op.Kind, c.op.Name, cut.op.Kind, cut.op.Name, err)
			}
		}
		mu.Unlock()
		s = open(t, opt(left))
		for p, b := range bounds(t, s) {
			if b < served[p] {
				t.Errorf("killed before %s %s: partition %d ends at %d, %d was served", c.op.Kind, c.op.Name, p, b, served[p])
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func bounds(t *testing.T, s *store.Store) map[stream.PartitionID]record.Offset {
	highs := make(map[stream.PartitionID]record.Offset)
	for _, topic := range s.Topics().All() {
		for _, p := range topic.Partitions {
			b, err := s.Bounds(p)
			if err != nil {
				t.Fatal(err)
			}
			highs[p] = b.High
		}
	}
	return highs
}
