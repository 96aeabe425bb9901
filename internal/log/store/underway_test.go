package store_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// sideBySide are the options of a log whose commits do not wait for each other's syncs.
func sideBySide(fs vfs.FS) store.Options {
	opt := small(fs)
	opt.SlowSync = 1
	return opt
}

// heldSyncs is a log of which each sync that goes beside others waits until it is let go.
type heldSyncs struct {
	*load
	disk   *vfs.Memory
	faulty *vfs.Faulty
	p      stream.PartitionID
	held   chan chan<- bool // of each sync under way, in order
	off    atomic.Bool
}

func holdSyncs(t *testing.T, expected ...string) *heldSyncs {
	t.Helper()
	h := &heldSyncs{disk: vfs.NewMemory(), held: make(chan chan<- bool, 16)}
	h.faulty = vfs.NewFaulty(h.disk)
	h.load = &load{t: t, s: open(t, with(t, sideBySide(h.faulty), expected...)), m: newModel(), round: 1}
	h.p = h.create("t", 1, nil).Partitions[0]
	for range 8 { // by now the log knows that its disk is slow
		if err := h.produce(h.p, 7, int32(h.n), 1, 50); err != nil {
			t.Fatal(err)
		}
	}
	h.faulty.OnOp(func(op vfs.Op) {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".journal") && !h.off.Load() {
			release := make(chan bool)
			h.held <- release
			<-release
		}
	})
	return h
}

// begin appends a batch of a producer whose sync is held, and gives where its fate will be told.
func (h *heldSyncs) begin() (fate <-chan error, release chan<- bool) {
	h.t.Helper()
	told := make(chan error, 1)
	sequence := int32(h.n)
	values := h.values(h.p, 1, 300)
	h.wg.Add(1)
	a := &ack{l: h.load, p: h.p, values: values, done: func(err error) { told <- err }}
	if err := h.s.AppendBatch(store.BatchWrite{Partition: h.p, Batch: batch(7, sequence, values)}, a, 0); err != nil {
		h.t.Fatal(err)
	}
	select {
	case release = <-h.held:
	case <-time.After(time.Minute):
		h.t.Fatal("no sync begins beside another")
	}
	return told, release
}

// end lets all further syncs go.
func (h *heldSyncs) end() { h.off.Store(true) }

// journalHas tells of values whether they are in a journal of the disk, as frames or as what is left of them.
func journalHas(t *testing.T, disk *vfs.Memory, values ...string) []bool {
	t.Helper()
	var all []byte
	names, err := disk.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := disk.Open("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Size()
		b := make([]byte, size)
		_, _ = f.ReadAt(b, 0)
		all = append(all, b...)
		_ = f.Close()
	}
	has := make([]bool, len(values))
	for i, v := range values {
		has[i] = bytes.Contains(all, []byte(v))
	}
	return has
}

// TestSecondCommitSurvivesAlone cuts the power while three commits are under way, in every way that they may have
// reached the disk. A hole is the end of the log and no damage; what is behind it never comes back.
func TestSecondCommitSurvivesAlone(t *testing.T) {
	seesBytes(t)
	h := holdSyncs(t)
	var values []string
	var fates []<-chan error
	var releases []chan<- bool
	for range 3 {
		fate, release := h.begin()
		fates, releases = append(fates, fate), append(releases, release)
	}
	for v := range h.m.sent {
		if len(v) == 300 {
			values = append(values, v)
		}
	}
	slices.Sort(values) // they are numbered
	before := h.m.clone()
	rng := rand.New(rand.NewPCG(*crashSeed, 7))
	holes := 0
	for i := range 200 {
		left := h.disk.CrashClone(rng)
		has := journalHas(t, left, values...)
		if !has[0] && (has[1] || has[2]) || !has[1] && has[2] {
			holes++
		}
		if findings := checked(t, left); len(findings) > 0 {
			t.Fatalf("crash %d left %v: %v", i, has, findings)
		}
		if !survives(t, crash{disk: left, m: before.clone(), opt: sideBySide}) {
			t.Fatalf("crash %d left %v", i, has)
		}
	}
	if holes < 10 {
		t.Errorf("only %d of the crashes left a hole", holes)
	}
	h.end()
	for i := range fates {
		close(releases[i])
		if err := <-fates[i]; err != nil {
			t.Error(err)
		}
	}
	verify(t, h.s, h.m)
	if err := h.s.Close(); err != nil {
		t.Error(err)
	}
}

// checked lists what a check of a stopped log finds.
func checked(t *testing.T, disk vfs.FS) (findings []store.Finding) {
	t.Helper()
	o, err := store.OpenOffline(context.Background(), disk, keys(t))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, err = o.Check(context.Background(), func(f store.Finding) { findings = append(findings, f) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// TestCommitsAreToldInOrder lets the second of two syncs end first.
func TestCommitsAreToldInOrder(t *testing.T) {
	h := holdSyncs(t)
	first, releaseFirst := h.begin()
	second, releaseSecond := h.begin()
	close(releaseSecond)
	select {
	case err := <-second:
		t.Fatalf("the second was told before the first: %v", err)
	case <-time.After(50 * time.Millisecond): // time to do wrong
	}
	if b, err := h.s.Bounds(h.p); err != nil || b.High != 8 {
		t.Errorf("bounds %+v %v before the first is durable", b, err)
	}
	close(releaseFirst)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	h.end()
	verify(t, h.s, h.m)
	if err := h.s.Close(); err != nil {
		t.Error(err)
	}
}

// TestFailedSyncFailsWhatIsBehind lets the sync of one of three commits fail, and end before the others, between or
// behind them. What is told durable is, after a crash too; what is refused can be sent again and has the same offsets.
func TestFailedSyncFailsWhatIsBehind(t *testing.T) {
	for fails := range 3 {
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			h := holdSyncs(t, ofFailure...)
			h.faulty.Inject(vfs.Fault{On: vfs.OpSync, Name: ".journal", Skip: fails, Kind: fault.IO})
			var fates []<-chan error
			var releases []chan<- bool
			for range 3 {
				fate, release := h.begin()
				fates, releases = append(fates, fate), append(releases, release)
			}
			h.end()
			for _, i := range order {
				close(releases[i])
			}
			failed := false
			for i, fate := range fates {
				err := <-fate
				failed = failed || err != nil
				if (err != nil) != failed || err != nil && !fault.Is(err, fault.IO) || i == fails && err == nil {
					t.Errorf("%d of three fails, they end as %v: the fate of %d is %v", fails, order, i, err)
				}
			}
			resumes(t, h.load, h.p)
			verify(t, h.s, h.m)
			if findings := checked(t, h.disk.CrashClone(nil)); len(findings) > 0 {
				t.Error(findings)
			}
			if !survives(t, crash{disk: h.disk.CrashClone(nil), m: h.m.clone(), opt: sideBySide}) {
				t.Errorf("%d of three fails, they end as %v", fails, order)
			}
			if err := h.s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestRollWaitsForSyncs fills a file while syncs of it are under way: the next one vouches for all of it.
func TestRollWaitsForSyncs(t *testing.T) {
	h := holdSyncs(t)
	first, release := h.begin()
	values := h.values(h.p, 1, 63<<10)
	told := make(chan error, 1)
	h.wg.Add(1)
	a := &ack{l: h.load, p: h.p, values: values, done: func(err error) { told <- err }}
	if err := h.s.AppendBatch(store.BatchWrite{Partition: h.p, Batch: batch(-1, 0, values)}, a, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-told:
		t.Fatalf("a file was ended before it was durable: %v", err)
	case <-h.held:
		t.Fatal("the next file was begun")
	case <-time.After(50 * time.Millisecond): // time to do wrong
	}
	h.end()
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
	verify(t, h.s, h.m)
	if err := h.s.Close(); err != nil {
		t.Error(err)
	}
}
