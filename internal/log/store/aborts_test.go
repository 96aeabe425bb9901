package store_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// byMarker puts aborted transactions into the order of their markers.
func byMarker(a, b partition.Aborted) int { return int(a.Last - b.Last) }

// wantAborted holds what the log tells of aborted transactions to what the batches of a partition say, all at once and
// for parts of it.
func wantAborted(t *testing.T, s *store.Store, p stream.PartitionID) (want []partition.Aborted) {
	t.Helper()
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	var txns partition.Transactions
	for from := bounds.Start; from < bounds.High; {
		batches, err := s.Read(p, from, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			from = b.LastOffset() + 1
			txns.Apply(b, from)
		}
	}
	want = txns.Aborts
	step := max(1, (bounds.High-bounds.Start)/20)
	for from := bounds.Start; from < bounds.High; from += step {
		for _, to := range []record.Offset{bounds.High, from + 1, from + 30} {
			var some []partition.Aborted
			for _, a := range want {
				if a.Last >= from && a.First < to {
					some = append(some, a)
				}
			}
			got, err := s.Aborted(p, from, to, nil)
			slices.SortFunc(got, byMarker)
			if err != nil || !slices.Equal(got, some) {
				t.Fatalf("partition %d, %d to %d: aborted are %v, %v\nwant %v", p, from, to, got, err, some)
			}
		}
	}
	return want
}

// aborting writes n transactions to a partition of which every second one is aborted, and one that is open beside all
// of them, of which the last is aborted too.
func aborting(t *testing.T, s *store.Store, p stream.PartitionID, n int) (want []string) {
	t.Helper()
	good, bad, long := begun(s, 1, 0), begun(s, 2, 0), begun(s, 3, 0)
	err := long.send(p, "long")
	for i := range n {
		value := fmt.Sprintf("good %d %0100d", i, i)
		err = errors.Join(err, good.send(p, value), good.end(true), bad.send(p, "bad "+value), bad.end(false))
		want = append(want, value)
	}
	if err = errors.Join(err, long.end(false)); err != nil {
		t.Fatal(err)
	}
	return want
}

// aborted opens a log of one partition with that many aborted transactions, of which the journals are sealed.
func aborted(t *testing.T, opt store.Options, n int) (s *store.Store, p stream.PartitionID, want []string) {
	t.Helper()
	s = open(t, opt)
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "t", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	p = topic.Partitions[0]
	want = aborting(t, s, p, n-1)
	eventually(t, "full journals are sealed", func() bool { return s.SealedFiles() == 0 })
	return s, p, want
}

func inPlace(fs vfs.FS) store.Options {
	opt := small(fs)
	opt.BulkBatchBytes = 1
	return opt
}

// TestAbortsAreInFooters has a log keep in memory, and in checkpoints, only the aborted transactions of which no sealed
// file tells: whether files are rolled up, merged, or kept where they are, and however the log is opened again.
func TestAbortsAreInFooters(t *testing.T) {
	const n = 300
	kinds := map[string]func(vfs.FS) store.Options{"rolled up": small, "merged": merging, "in place": inPlace}
	for name, options := range kinds {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMemory()
			s, p, want := aborted(t, options(disk), n)
			for _, how := range []string{"at once", "after a clean stop", "after a crash", "without a checkpoint"} {
				if kept := s.AbortsInMemory(p); kept > n/3 {
					t.Errorf("%s: %d of %d are in memory", how, kept, n)
				}
				if all := wantAborted(t, s, p); len(all) != n {
					t.Errorf("%s: %d aborted, want %d", how, len(all), n)
				}
				if got := committed(t, s, p); !slices.Equal(got, want) {
					t.Errorf("%s: %d values are committed, want %d", how, len(got), len(want))
				}
				crashed := disk.CrashClone(rand.New(rand.NewPCG(1, 2)))
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				switch how {
				case "after a clean stop":
					disk = crashed
				case "after a crash":
					loseCheckpoints(t, disk)
				}
				if s = open(t, options(disk)); how != "without a checkpoint" {
					eventually(t, "full journals are sealed", func() bool { return s.SealedFiles() == 0 })
				}
			}
			_ = s.Close()
			if _, findings := check(t, disk); len(findings) > 0 {
				t.Error(findings)
			}
		})
	}
}

// TestAbortsOfFormat2 opens what a log wrote whose segments did not tell of aborted transactions: it knows them from
// the checkpoint, and tells of them in the files that it writes anew.
func TestAbortsOfFormat2(t *testing.T) {
	disk := vfs.NewMemory()
	untar(t, disk, "testdata/aborts-2.tar.gz")
	s := open(t, small(disk))
	ps := s.Topics().ByName("t").Partitions
	want := make([][]string, len(ps))
	for n := range 700 {
		want[n%2] = append(want[n%2], fmt.Sprint("good ", n))
	}
	for range 2 {
		for i, p := range ps {
			if got := short(committed(t, s, p)); !slices.Equal(got, want[i]) {
				t.Errorf("partition %d: %d values are committed, want %d", i, len(got), len(want[i]))
			}
			if all := wantAborted(t, s, p); len(all) != 350+1-i {
				t.Errorf("partition %d: %d aborted", i, len(all))
			}
		}
		if kept := s.AbortsInMemory(ps[0]); kept < 300 {
			t.Errorf("%d are in memory: where else?", kept)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, mergedOften(disk))
	}
	defer s.Close()
	if _, err := s.TrimTo(context.Background(), ps[0], 1350); err != nil { // more than half of most files
		t.Fatal(err)
	}
	eventually(t, "what is left of a large file is written anew", func() bool { return s.AbortsInMemory(ps[1]) < 250 })
	wantAborted(t, s, ps[1])
	if got := short(committed(t, s, ps[1])); !slices.Equal(got, want[1]) {
		t.Errorf("%d values are committed, want %d", len(got), len(want[1]))
	}
}

// short takes off what only makes values long.
func short(values []string) []string {
	for i := range values {
		values[i] = strings.TrimRight(values[i], "x")
	}
	return values
}

// untar puts the files of an archive on a disk.
func untar(t *testing.T, disk vfs.FS, archive string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		b, readErr := io.ReadAll(r)
		if err = errors.Join(err, readErr); err == nil && h.Typeflag == tar.TypeReg {
			err = errors.Join(disk.MkdirAll(path.Dir(h.Name)), writeWhole(disk, h.Name, b))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func writeWhole(disk vfs.FS, name string, b []byte) error {
	f, err := disk.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// footer is where the aborted transactions of a partition begin in a sealed file of a closed log, which it names.
func footer(t *testing.T, disk vfs.FS, p stream.PartitionID) (name string, at int64) {
	t.Helper()
	names, err := disk.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".segment") {
			continue
		}
		seg, err := segment.Open(disk, "log/"+name)
		if err != nil {
			t.Fatal(err)
		}
		sum, _ := seg.Summary(uint32(p))
		_ = seg.Close()
		if sum.Aborts > 0 && len(seg.Summaries()) == 1 { // they are in front of the run table
			const row, trailer = 72, 64
			return "log/" + name, seg.Size() - trailer - row - int64(sum.Aborts)
		}
	}
	t.Fatal("no file tells of aborted transactions")
	return "", 0
}

// TestDamagedAbortsAreReported flips a bit of what a footer tells: readers of committed records are told instead of
// being given what may have been aborted, `firth log check` finds it, and all else can be read.
func TestDamagedAbortsAreReported(t *testing.T) {
	seesBytes(t)
	disk := vfs.NewMemory()
	s, p, want := aborted(t, small(disk), 300)
	_ = s.Close()
	name, at := footer(t, disk, p)
	if err := disk.Flip(name, at*8+17); err != nil {
		t.Fatal(err)
	}
	if _, findings := check(t, disk); len(findings) != 1 || !strings.Contains(findings[0].What, "aborted transactions") {
		t.Errorf("check finds %v", findings)
	}
	s = open(t, with(t, small(disk), ofDamage...))
	defer s.Close()
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Aborted(p, bounds.Start, bounds.High, nil); !fault.Is(err, fault.Corrupt) {
		t.Errorf("aborted transactions: %v, want Corrupt", err)
	}
	var got []string
	lost := 0
	for from := bounds.Start; from < bounds.Stable; {
		next, err := s.Scan(p, from, stream.ScanOptions{MaxBytes: 300}, func(v *record.View) bool {
			got = append(got, string(v.Value))
			return true
		})
		if damage, is := errors.AsType[*stream.Damage](err); is {
			next, lost = damage.Next, lost+1
		} else if err != nil {
			t.Fatal(err)
		}
		from = next
	}
	if lost == 0 || len(got) == 0 || slices.ContainsFunc(got, func(v string) bool { return !slices.Contains(want, v) }) {
		t.Errorf("%d times damage, %d values of %d", lost, len(got), len(want))
	}
}

// TestLostFootersAreMadeAnew damages the run table of a file, so that it is salvaged, or read as the journal that it
// was: which transactions were aborted in it is found out from the records.
func TestLostFootersAreMadeAnew(t *testing.T) {
	seesBytes(t)
	for name, options := range map[string]func(vfs.FS) store.Options{"rolled up": small, "in place": inPlace} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMemory()
			s, p, want := aborted(t, options(disk), 300)
			all := wantAborted(t, s, p)
			_ = s.Close()
			file, _ := footer(t, disk, p)
			f, err := disk.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			size, _ := f.Size()
			_ = f.Close()
			if err := disk.Flip(file, (size-70)*8); err != nil {
				t.Fatal(err)
			}
			s = open(t, with(t, options(disk), ofDamage...))
			defer s.Close()
			if again := wantAborted(t, s, p); !slices.Equal(again, all) {
				t.Errorf("%d aborted, want %d", len(again), len(all))
			}
			if got := committed(t, s, p); !slices.Equal(got, want) {
				t.Errorf("%d values are committed, want %d", len(got), len(want))
			}
		})
	}
}
