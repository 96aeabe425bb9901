package store_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// copyOf puts the files of an image into a folder, and gives what is needed to restore it.
func copyOf(t testing.TB, im *store.Image, ring *atrest.Ring, into vfs.FS) store.Restoring {
	t.Helper()
	if err := into.MkdirAll("log"); err != nil {
		t.Fatal(err)
	}
	for i := range im.Files {
		f := &im.Files[i]
		if !store.ImageName(f.Name) {
			t.Fatalf("an image has %s", f.Name)
		}
		content, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size))
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteWhole(into, f.Name, content); err != nil {
			t.Fatal(err)
		}
	}
	return store.Restoring{Cluster: im.Cluster, Format: im.Format, Keys: ring, Now: time.UnixMilli(3000)}
}

// taken is an image, and what had been acknowledged before it.
type taken struct {
	im   *store.Image
	disk *vfs.Memory
	of   store.Restoring
	m    *model
	// Where the log was later on, and the epoch and the producer id that it gave last.
	high  map[stream.PartitionID]record.Offset
	epoch int32
	pid   int64
}

// TestImage takes images of a log while it is written to, merged and trimmed, and restores each: what was acknowledged
// before is there, nothing else, and the log goes on with offsets, epochs and producer ids that the other one never
// gave.
func TestImage(t *testing.T) {
	t.Run("one by one", func(t *testing.T) { images(t, small) })
	t.Run("merged", func(t *testing.T) { images(t, mergedOften) })
	t.Run("encrypted", func(t *testing.T) { images(t, encrypted(t, mergedOften)) })
}

func images(t *testing.T, opt func(vfs.FS) store.Options) {
	m, disk := newModel(), vfs.NewMemory()
	options := opt(disk)
	if *allEncrypted && options.Keys == nil {
		options.Keys = keys(t)
	}
	s := open(t, options)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		script(&load{t: t, s: s, m: m, round: 1})
	}()
	var all []taken
	for last := false; !last; {
		select {
		case <-ended:
			last = true
		default:
		}
		before := m.clone()
		im, err := s.Image(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < 12 || last {
			one := taken{im: im, disk: vfs.NewMemory()}
			one.of = copyOf(t, im, options.Keys, one.disk)
			before.asked(m)
			one.m = before
			all = append(all, one)
		}
		im.Close()
	}
	highs := bounds(t, s)
	pid, err := s.NewProducerID(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	epoch := s.Epoch()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d images", len(all))
	for i, one := range all {
		one.high, one.epoch, one.pid = highs, epoch, pid
		restored(t, one, fmt.Sprintf("image %d", i), opt)
	}
}

// restored restores an image and holds the log to what was acknowledged, and to what the other one gave since.
func restored(t *testing.T, one taken, name string, opt func(vfs.FS) store.Options) {
	t.Helper()
	if names, _ := one.disk.List("."); slices.Contains(names, "FIRTH") {
		t.Fatalf("%s: it is a log before it is restored", name)
	}
	done, err := store.Restore(t.Context(), one.disk, one.of)
	if err != nil || len(done.Findings) > 0 {
		t.Fatalf("%s: %v %v", name, done.Findings, err)
	}
	if _, findings := check(t, one.disk.Clone()); len(findings) > 0 {
		t.Fatalf("%s: %v", name, findings)
	}
	s := open(t, opt(one.disk))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if s.Epoch() <= done.Epoch || done.Epoch <= one.epoch || s.ClusterID() != one.of.Cluster {
		t.Fatalf("%s: epoch %d behind %d, the other one had %d", name, s.Epoch(), done.Epoch, one.epoch)
	}
	if next, err := s.NewProducerID(t.Context()); err != nil || next <= one.pid {
		t.Fatalf("%s: producer id %d %v, the other one gave %d", name, next, err, one.pid)
	}
	for topicName, id := range one.m.topics {
		topic := s.Topics().ByName(topicName)
		if topic == nil && one.m.leave[id] {
			continue
		}
		if topic == nil || topic.ID != id {
			t.Fatalf("%s: topic %s is lost", name, topicName)
		}
		for _, p := range topic.Partitions {
			restoredPartition(t, s, &one, p)
			produceBehind(t, s, p, one.high[p])
		}
	}
}

func restoredPartition(t *testing.T, s *store.Store, one *taken, p stream.PartitionID) {
	t.Helper()
	got := readAll(t, s, p)
	b, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	if b.Start < one.m.starts[p] {
		t.Fatalf("partition %d: log start went back to %d, was %d", p, b.Start, one.m.starts[p])
	}
	hole := b.High - store.RestoreGap
	for offset, want := range one.m.acked[p] {
		if have, ok := got[offset]; offset >= b.Start && (!ok || have != want) {
			t.Fatalf("partition %d offset %d of %+v: acknowledged %.20q, have %.20q", p, offset, b, want, have)
		}
	}
	for offset, v := range got {
		if from, ok := one.m.sent[v]; !ok || from != p || offset >= hole {
			t.Fatalf("partition %d offset %d: %.20q was never sent there", p, offset, v)
		}
	}
	// Who has read further, of this epoch or a later one of the other log, is told where that ended (KIP-320).
	for _, asked := range []int32{one.im.Epoch, one.im.Epoch + 5} {
		if e, end, err := s.EndOfEpoch(p, asked); err != nil || e > one.im.Epoch && e != asked || end != hole {
			t.Fatalf("partition %d: epoch %d ended at (%d, %d) %v, want %d", p, asked, e, end, err, hole)
		}
	}
}

// produceBehind appends a record, which has to come behind all offsets that were ever given.
func produceBehind(t *testing.T, s *store.Store, p stream.PartitionID, high record.Offset) {
	t.Helper()
	m := newModel()
	l := &load{t: t, s: s, m: m, round: 2}
	l.publish(60, p)
	l.wg.Wait()
	if len(m.acked[p]) != 1 {
		t.Fatalf("partition %d takes nothing", p)
	}
	for offset := range m.acked[p] {
		if offset < high || readAll(t, s, p)[offset] == "" {
			t.Fatalf("partition %d: offset %d, the other one had got to %d", p, offset, high)
		}
	}
}

// TestRestoreIsCut cuts the power at each operation of a restore: the folder is no log, or all of it is there.
func TestRestoreIsCut(t *testing.T) {
	s := open(t, small(vfs.NewMemory()))
	m := newModel()
	l := &load{t: t, s: s, m: m, round: 1}
	topic := l.mustCreate("small", 3, nil)
	for range 40 {
		l.publish(200, topic.Partitions...)
	}
	l.wg.Wait()
	im, err := s.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	of := copyOf(t, im, nil, faulty)
	if *allEncrypted {
		of.Keys = keys(t)
	}
	if err := disk.SyncDir("log"); err != nil {
		t.Fatal(err)
	}
	var left []*vfs.Memory
	rng := rand.New(rand.NewPCG(1, 2))
	faulty.OnOp(func(op vfs.Op) {
		if op.Kind.Changes() {
			left = append(left, disk.CrashClone(nil), disk.CrashClone(rng))
		}
	})
	if _, err := store.Restore(t.Context(), faulty, of); err != nil {
		t.Fatal(err)
	}
	faulty.OnOp(nil)
	whole := 0
	for i, disk := range append(left, disk.CrashClone(nil)) {
		opt := small(disk)
		opt.Keys = of.Keys
		s, err := store.Open(t.Context(), opt)
		if fault.Is(err, fault.Invalid) {
			continue
		}
		if err != nil {
			t.Fatalf("cut %d: %v", i, err)
		}
		whole++
		for _, p := range topic.Partitions {
			restoredPartition(t, s, &taken{im: im, m: m}, p)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil || whole == 0 {
		t.Fatal("the restored log does not open", err)
	}
}
