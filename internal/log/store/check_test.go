package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// written is a closed log on a disk, and what it holds.
func written(t *testing.T) (*vfs.Memory, *model) { return writtenBy(t, small) }

func writtenBy(t *testing.T, options func(vfs.FS) store.Options) (*vfs.Memory, *model) {
	t.Helper()
	disk, m := vfs.NewMemory(), newModel()
	s := open(t, options(disk))
	script(&load{t: t, s: s, m: m, round: 1})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return disk, m
}

func check(t *testing.T, disk vfs.FS) (store.Checked, []store.Finding) {
	t.Helper()
	return checkWith(t, disk, keys(t))
}

func checkWith(t *testing.T, disk vfs.FS, ring *atrest.Ring) (store.Checked, []store.Finding) {
	t.Helper()
	o, err := store.OpenOffline(context.Background(), disk, ring)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var findings []store.Finding
	done, err := o.Check(context.Background(), func(f store.Finding) { findings = append(findings, f) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return done, findings
}

func TestCheckFindsNothingInASoundLogAndChangesNothing(t *testing.T) {
	disk, _ := written(t)
	before := listing(t, disk)
	done, findings := check(t, disk)
	if len(findings) > 0 || done.Records < 500 || done.PartitionsDone != done.Partitions {
		t.Fatalf("%+v %v", done, findings)
	}
	if after := listing(t, disk); after != before {
		t.Fatalf("check changed the files\n%s\n%s", before, after)
	}
}

func listing(t *testing.T, fs vfs.FS) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range []string{".", "log"} {
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			fmt.Fprintf(&b, "%s/%s %d\n", dir, name, len(content(t, fs, dir+"/"+name)))
		}
	}
	return b.String()
}

func content(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		return nil // a folder
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if size > 0 {
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestBitFlipsAreNeverServed turns one bit after another in every file: the log opens (or says that it is
// damaged), never serves a record that was not written, and keeps every partition apart from the damage.
func TestBitFlipsAreNeverServed(t *testing.T) {
	t.Run("plain", func(t *testing.T) { bitFlipsAreNeverServed(t, small) })
	t.Run("encrypted", func(t *testing.T) { bitFlipsAreNeverServed(t, encrypted(t, small)) })
}

func bitFlipsAreNeverServed(t *testing.T, options func(vfs.FS) store.Options) {
	disk, m := writtenBy(t, options)
	rounds := *crashFlips
	rng := rand.New(rand.NewPCG(*crashSeed, 3))
	files := strings.Fields(strings.ReplaceAll(listing(t, disk), "./", ""))
	noticed := 0
	for range rounds {
		name := files[2*rng.IntN(len(files)/2)]
		size := len(content(t, disk, name))
		if size == 0 {
			continue
		}
		broken := disk.Clone()
		bit := int64(rng.IntN(size * 8))
		if err := broken.Flip(name, bit); err != nil {
			t.Fatal(err)
		}
		if damaged(t, options(broken), m) {
			noticed++
		}
		if t.Failed() {
			t.Fatalf("%s bit %d, seed %d", name, bit, *crashSeed)
		}
	}
	if noticed < rounds/20 {
		t.Fatalf("only %d of %d flips were noticed: the test looks at nothing", noticed, rounds)
	}
	t.Logf("%d of %d flips hit something", noticed, rounds)
}

// TestDamagedHeadersLoseNothing turns every bit of the header of the newest journal after a crash, of the first
// journal of a life and of a later one: it is told, and everything that was acknowledged is there.
func TestDamagedHeadersLoseNothing(t *testing.T) {
	for _, records := range []int{5, 400} {
		disk, m := vfs.NewMemory(), newModel()
		s := open(t, small(disk))
		l := &load{t: t, s: s, m: m, round: 1}
		p := l.create("t", 1, nil).Partitions[0]
		for range records {
			l.publish(200, p)
			l.wg.Wait()
		}
		crashed := disk.CrashClone(nil)
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
		if later := newest != "log/0000000000000001.journal"; later != (records > 5) {
			t.Fatalf("%d records end in %s", records, newest)
		}
		for bit := range int64(64 * 8) {
			broken := crashed.Clone()
			if err := broken.Flip(newest, bit); err != nil {
				t.Fatal(err)
			}
			if _, findings := check(t, broken); len(findings) == 0 {
				t.Errorf("%s, bit %d: nothing was found", newest, bit)
			}
			s := open(t, with(t, small(broken), ofDamage...))
			verify(t, s, m)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, with(t, small(broken), ofDamage...)) // and it stays told, and there
			verify(t, s, m)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// TestDamageIsToldToTheOperator reads a damaged record twice: it is logged once.
func TestDamageIsToldToTheOperator(t *testing.T) {
	seesBytes(t)
	disk := vfs.NewMemory()
	s := open(t, small(disk))
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	l.publish(50, p)
	l.wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	vfstest.Flip(t, disk, "log", []byte("1/1/1"), 0)
	var told strings.Builder
	opt := small(disk)
	opt.Logger = slog.New(slog.NewTextHandler(&told, nil))
	s = open(t, opt)
	for range 2 {
		if _, err := s.Read(p, 0, 1000, nil); !fault.Is(err, fault.Corrupt) {
			t.Errorf("read: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(told.String(), "damaged records cannot be read"); n != 1 {
		t.Errorf("told %d times:\n%s", n, told.String())
	}
}

// TestCutFilesAreNeverServed cuts every file at random lengths.
func TestCutFilesAreNeverServed(t *testing.T) {
	t.Run("plain", func(t *testing.T) { cutFilesAreNeverServed(t, small) })
	t.Run("encrypted", func(t *testing.T) { cutFilesAreNeverServed(t, encrypted(t, small)) })
}

func cutFilesAreNeverServed(t *testing.T, options func(vfs.FS) store.Options) {
	disk, m := writtenBy(t, options)
	rng := rand.New(rand.NewPCG(*crashSeed, 4))
	files := strings.Fields(strings.ReplaceAll(listing(t, disk), "./", ""))
	for i := 0; i < len(files); i += 2 {
		for range 8 {
			size := int64(len(content(t, disk, files[i])))
			if size == 0 {
				break
			}
			broken := disk.Clone()
			cut := rng.Int64N(size)
			if err := broken.Cut(files[i], cut); err != nil {
				t.Fatal(err)
			}
			damaged(t, options(broken), m)
			if t.Failed() {
				t.Fatalf("%s cut to %d of %d, seed %d", files[i], cut, size, *crashSeed)
			}
		}
	}
}

// damaged opens a damaged disk and reads everything that can be read. What is read must be what was written;
// it tells whether anything was reported.
func damaged(t *testing.T, opt store.Options, m *model) (reported bool) {
	t.Helper()
	s, err := store.Open(context.Background(), opt)
	if err != nil {
		switch fault.KindOf(err) {
		case fault.Corrupt, fault.Unsupported, fault.Invalid:
			return true
		case fault.Denied: // its format has become that of encrypted directories, and there is no key
			if opt.Keys == nil {
				return true
			}
		}
		t.Errorf("open: %v", err)
		return true
	}
	defer s.Close()
	for name, id := range m.topics {
		topic := s.Topics().ByName(name)
		if topic == nil || topic.ID != id {
			t.Errorf("topic %s is lost", name)
			return true
		}
		for _, p := range topic.Partitions {
			reported = readDamaged(t, s, m, p, found) || reported
			reported = readDamaged(t, s, m, p, (*store.Store).Read) || reported
		}
	}
	return reported
}

func readDamaged(t *testing.T, s *store.Store, m *model, p stream.PartitionID, read reading) (reported bool) {
	t.Helper()
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Error(err)
		return true
	}
	acked := record.Offset(0)
	for offset := range m.acked[p] {
		acked = max(acked, offset+1)
	}
	var it record.Iter
	var scratch record.Scratch
	for next := bounds.Start; next < bounds.High; {
		batches, err := read(s, p, next, 8<<10, nil)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Errorf("partition %d at %d: %v", p, next, err)
			}
			reported = true
			next++
			continue
		}
		for _, b := range batches {
			if err := it.Reset(b, &scratch); err != nil {
				t.Error(err)
			}
			for v := (record.View{}); it.Next(&v); {
				if want, ok := m.acked[p][v.Offset]; ok && want != string(v.Value) {
					t.Errorf("partition %d offset %d: served %.20q, written %.20q", p, v.Offset, v.Value, want)
				}
			}
			next = b.LastOffset() + 1
		}
	}
	return reported || bounds.High < acked
}
