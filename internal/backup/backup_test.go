package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/backup"
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

// node is a log that is backed up.
type node struct {
	t     *testing.T
	log   *store.Store
	ring  *atrest.Ring
	topic *stream.Topic
	n     int
	clock atomic.Int64 // seconds
}

func newNode(t *testing.T, ring *atrest.Ring) *node {
	t.Helper()
	h := &node{t: t, ring: ring}
	h.clock.Store(1_700_000_000)
	h.log = h.open(vfs.NewMemory())
	var err error
	h.topic, err = h.log.CreateTopic(t.Context(), stream.TopicSpec{Name: "plant", Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// open opens a log; its clock goes on by a second with each image.
func (h *node) open(fs vfs.FS) *store.Store {
	h.t.Helper()
	s, err := store.Open(h.t.Context(), store.Options{
		FS: fs, Keys: h.ring, Logger: logtest.New(h.t), JournalBytes: 64 << 10, ReserveBytes: 1, MergeBytes: -1,
		Clock: h.now,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			h.t.Error(err)
		}
	})
	return s
}

func (h *node) now() time.Time { return time.Unix(h.clock.Load(), 0) }

type receipt chan error

func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

// write appends so many records to each partition.
func (h *node) write(count int) {
	h.t.Helper()
	for range count {
		for _, p := range h.topic.Partitions {
			done := make(receipt, 1)
			w := stream.Write{Partition: p, Record: &record.Record{Timestamp: 1000, Value: fmt.Appendf(nil, "value %d", h.n)}}
			if err := streamtest.Append(h.log, done, w); err != nil {
				h.t.Fatal(err)
			}
			if err := <-done; err != nil {
				h.t.Fatal(err)
			}
		}
		h.n++
	}
}

// send is the stream of an image, of which so many bytes come; -1: all.
func (h *node) send(ctx context.Context, known []backup.Sum, most int64) io.Reader {
	h.t.Helper()
	h.clock.Add(1)
	im, err := h.log.Image(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	out, in := io.Pipe()
	asked := make(map[backup.Sum]bool)
	for _, s := range known {
		asked[s] = true
	}
	go func() {
		defer im.Close()
		in.CloseWithError(backup.Send(ctx, in, im, "1", asked))
	}()
	if most >= 0 {
		return io.MultiReader(io.LimitReader(out, most), broken{out})
	}
	return out
}

// broken is a connection that goes.
type broken struct{ io.Closer }

func (b broken) Read([]byte) (int, error) {
	return 0, errors.Join(errors.New("the broker died"), b.Close())
}

// back makes a backup.
func (h *node) back(place backup.Place, keep int, most int64) (*backup.Manifest, backup.Stored, error) {
	h.t.Helper()
	b, err := backup.New(place).Begin(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	defer b.Close()
	return b.Store(h.t.Context(), h.send(h.t.Context(), b.Known(), most), keep, nil)
}

func (h *node) mustBack(place backup.Place, keep int) (*backup.Manifest, backup.Stored) {
	h.t.Helper()
	m, done, err := h.back(place, keep, -1)
	if err != nil {
		h.t.Fatal(err)
	}
	return m, done
}

// settle makes backups until only the checkpoint is new: nothing is written, and all journals have become segments.
func (h *node) settle(place backup.Place) {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		_, done := h.mustBack(place, 0)
		if done.Files-done.Known == 1 {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("nothing was written: %+v", done)
		}
	}
}

// holds restores a backup and wants it to have so many records in each partition.
func (h *node) holds(place backup.Place, m *backup.Manifest, count int) {
	h.t.Helper()
	r, into := backup.New(place), vfs.NewMemory()
	v, err := r.Verify(h.t.Context(), m, h.ring, nil)
	if err != nil || len(v.Findings) > 0 || v.Sealed || v.Checked.Records < int64(2*count) {
		h.t.Fatalf("verify %s: %+v %v", m.ID, v, err)
	}
	of := store.Restoring{Keys: h.ring, Now: h.now()}
	if _, err := r.Restore(h.t.Context(), m, into, of, nil); err != nil {
		h.t.Fatalf("restore %s: %v", m.ID, err)
	}
	s := h.open(into)
	for _, p := range h.topic.Partitions {
		b, err := s.Bounds(p)
		if want := record.Offset(count) + store.RestoreGap; err != nil || b.High != want {
			h.t.Fatalf("%s: partition %d ends at %d %v, want %d", m.ID, p, b.High, err, want)
		}
	}
}

// TestBackup makes backups one after the other: each costs what is new, and each is there.
func TestBackup(t *testing.T) {
	t.Run("plain", func(t *testing.T) { backups(t, nil) })
	t.Run("encrypted", func(t *testing.T) { backups(t, ring(t)) })
}

func ring(t *testing.T) *atrest.Ring {
	t.Helper()
	key, err := atrest.NewLocal([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := atrest.NewRing([]atrest.Wrapper{key})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func backups(t *testing.T, ring *atrest.Ring) {
	h, place := newNode(t, ring), backup.InFolder(vfs.NewMemory())
	var made []*backup.Manifest
	var counts []int
	for range 4 {
		h.write(200)
		m, done := h.mustBack(place, 0)
		if done.Files != len(m.Files) || done.Bytes > m.Bytes() || done.Pieces == 0 {
			t.Fatalf("%+v of %d files", done, len(m.Files))
		}
		made, counts = append(made, m), append(counts, h.n)
	}
	h.settle(place)
	all, bad, err := backup.New(place).List(t.Context())
	if err != nil || len(bad) > 0 || len(all) <= len(made) {
		t.Fatalf("%d backups, %v, %v", len(all), bad, err)
	}
	for i, m := range made {
		h.holds(place, m, counts[i])
	}
	at, err := backup.At(all, made[1].Point.Add(time.Millisecond))
	if err != nil || at.ID != made[1].ID {
		t.Fatalf("at a point: %v %v", at, err)
	}
	if _, err := backup.At(all, made[0].Point.Add(-time.Millisecond)); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	h.write(10)
	before := all[len(all)-1]
	last, done := h.mustBack(place, 2)
	if all, _, err = backup.New(place).List(t.Context()); err != nil || len(all) != 2 || all[0].ID != before.ID ||
		done.Removed == 0 {
		t.Fatalf("kept %d of 2, %+v, %v", len(all), done, err)
	}
	h.holds(place, all[0], counts[3])
	if _, err := backup.New(place).Remove(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	h.holds(place, last, h.n)
}

// TestBackupBreaksOff ends the stream at many places, and the store at some of its operations: what was there stays,
// and the next backup finds what was stored.
func TestBackupBreaksOff(t *testing.T) {
	h, disk := newNode(t, nil), vfs.NewMemory()
	h.write(300)
	first, _ := h.mustBack(backup.InFolder(disk), 0)
	count := h.n
	h.write(300)
	for _, most := range []int64{0, 100, 700, 20_000, 40_000} {
		if _, _, err := h.back(backup.InFolder(disk), 0, most); !fault.Is(err, fault.IO) {
			t.Fatalf("%d bytes came: %v", most, err)
		}
	}
	h.holds(backup.InFolder(disk), first, count)
	for n := 1; ; n++ {
		crashed := disk.CrashClone(nil)
		faulty := vfs.NewFaulty(crashed)
		ops := 0
		var left []*vfs.Memory
		faulty.OnOp(func(op vfs.Op) {
			if op.Kind.Changes() {
				if ops++; ops == n {
					left = append(left, crashed.CrashClone(nil), crashed.Clone())
				}
			}
		})
		if _, _, err := h.back(backup.InFolder(faulty), 0, -1); err != nil {
			t.Fatal(err)
		}
		if left == nil {
			break // it has no more operations
		}
		for _, disk := range left {
			place := backup.InFolder(disk)
			h.holds(place, first, count)
			m, _ := h.mustBack(place, 0)
			h.holds(place, m, h.n)
			torn(t, disk)
		}
		n += 7
	}
}

// torn wants no file that is not whole.
func torn(t *testing.T, disk vfs.FS) {
	t.Helper()
	err := backup.InFolder(disk).Names(t.Context(), "objects", func(name string, _ int64) {
		if strings.HasSuffix(name, ".new") {
			t.Errorf("%s is left", name)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamage changes each piece and each manifest: verify and restore tell, and another backup heals what was removed.
func TestDamage(t *testing.T) {
	h, disk := newNode(t, nil), vfs.NewMemory()
	place := backup.InFolder(disk)
	h.write(300)
	m, _ := h.mustBack(place, 0)
	r := backup.New(place)
	for i := range m.Files {
		name := fmt.Sprintf("objects/%.2s/%s", m.Files[i].Pieces[0], m.Files[i].Pieces[0])
		good, err := place.Get(t.Context(), name, backup.PieceBytes)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(good)
		bad[len(bad)/2] ^= 1
		if err := place.Put(t.Context(), name, bad); err != nil {
			t.Fatal(err)
		}
		v, err := r.Verify(t.Context(), m, nil, nil)
		if err != nil || len(v.Findings) != 1 || v.Findings[0].File != m.Files[i].Name {
			t.Fatalf("%s: %+v %v", m.Files[i].Name, v.Findings, err)
		}
		if _, err := r.Restore(t.Context(), m, vfs.NewMemory(), store.Restoring{}, nil); !fault.Is(err, fault.Corrupt) {
			t.Fatal(err)
		}
		if err := place.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if v, err := r.Verify(t.Context(), m, nil, nil); err != nil || len(v.Findings) != 1 {
			t.Fatalf("%s: %+v %v", m.Files[i].Name, v.Findings, err)
		}
		h.mustBack(place, 0)
		if err := place.Put(t.Context(), name, good); err != nil {
			t.Fatal(err)
		}
	}
	h.holds(place, m, h.n)
	if err := place.Put(t.Context(), "backups/"+m.ID+".json", []byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	all, broken, err := r.List(t.Context())
	if err != nil || len(broken) != 1 || len(all) != len(m.Files) {
		t.Fatalf("%d backups, %v, %v", len(all), broken, err)
	}
	if _, done := h.mustBack(place, 1); done.Removed != 0 {
		t.Fatalf("%+v: a manifest cannot be read", done)
	}
}

// TestRefusals: what does not belong together is told apart.
func TestRefusals(t *testing.T) {
	a, b, disk := newNode(t, nil), newNode(t, ring(t)), vfs.NewMemory()
	place := backup.InFolder(disk)
	a.write(10)
	m, _ := a.mustBack(place, 0)
	b.clock.Store(a.clock.Load())
	if _, _, err := b.back(place, 0, -1); !fault.Is(err, fault.Invalid) {
		t.Errorf("another log: %v", err)
	}
	a.clock.Add(-3600)
	if _, _, err := a.back(place, 0, -1); !fault.Is(err, fault.Exists) {
		t.Errorf("a clock that was set back: %v", err)
	}
	begun, err := backup.New(place).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.New(place).Begin(t.Context()); !fault.Is(err, fault.Exists) {
		t.Errorf("two at once: %v", err)
	}
	if err := begun.Close(); err != nil {
		t.Fatal(err)
	}
	into := vfs.NewMemory()
	if err := vfs.WriteWhole(into, "note", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.New(place).Restore(t.Context(), m, into, store.Restoring{}, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a folder with something in it: %v", err)
	}
	if _, err := backup.New(place).Remove(t.Context(), "../x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no backup: %v", err)
	}
	sealed := backup.InFolder(vfs.NewMemory())
	b.write(10)
	m, _ = b.mustBack(sealed, 0)
	if v, err := backup.New(sealed).Verify(t.Context(), m, nil, nil); err != nil || !v.Sealed || len(v.Findings) > 0 {
		t.Errorf("without a key: %+v %v", v, err)
	}
	into = vfs.NewMemory()
	if _, err := backup.New(sealed).Restore(t.Context(), m, into, store.Restoring{}, nil); !fault.Is(err, fault.Denied) {
		t.Errorf("restored without a key: %v", err)
	}
}

// TestCheck reads the log of a node that runs, and goes no further than it is let.
func TestCheck(t *testing.T) {
	h := newNode(t, ring(t))
	h.write(100)
	im, err := h.log.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	none := func(f store.Finding) { t.Errorf("%+v", f) }
	done, err := backup.Check(t.Context(), im, h.ring, none)
	if err != nil || done.Records < 200 || done.PartitionsDone != done.Partitions {
		t.Errorf("%+v %v", done, err)
	}
	if _, err := backup.Check(t.Context(), im, nil, none); !fault.Is(err, fault.Denied) {
		t.Errorf("without a key: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := backup.Check(ended, im, h.ring, none); !fault.Is(err, fault.Timeout) {
		t.Errorf("nobody waits: %v", err)
	}
}

// FuzzManifest holds the decoder to what it says.
func FuzzManifest(f *testing.F) {
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"format":1,"id":"20261130T165500.123Z","files":[{"name":"log/x","size":-1}]}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := backup.DecodeManifest(backup.Summed(line))
		if err != nil {
			if k := fault.KindOf(err); k != fault.Corrupt && k != fault.Unsupported {
				t.Fatal(err)
			}
			return
		}
		for _, file := range m.Files {
			if strings.Contains(file.Name, "..") || !store.ImageName(file.Name) || file.Size < 0 {
				t.Fatalf("%+v", file)
			}
		}
	})
}
