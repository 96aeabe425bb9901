package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// merging makes files small, and merges them.
func merging(fs vfs.FS) store.Options {
	opt := small(fs)
	opt.MergeBytes = 400 << 10
	return opt
}

// mergedOften merges as soon as there are a few files, and gives back space all the time.
func mergedOften(fs vfs.FS) store.Options {
	opt := small(fs)
	opt.MergeBytes, opt.RetentionInterval, opt.OpenFiles = 120<<10, 2*time.Millisecond, 2
	return opt
}

// fillSmall publishes about so many KiB in small records to some partitions, one commit after another.
func (l *load) fillSmall(kib int, parts ...stream.PartitionID) {
	for range kib {
		for _, p := range parts {
			l.publish(1000/len(parts), p)
		}
		l.wg.Wait()
	}
}

// TestSmallFilesAreMerged writes 6 MiB in small records: what is left are files of about the size that is asked for,
// with all the records, which were written once more for that; and after the next start it is the same.
func TestSmallFilesAreMerged(t *testing.T) {
	const kib = 6 << 10
	disk := vfs.NewMemory()
	var s *store.Store
	var l *load
	write := func(most int64) float64 {
		disk = vfs.NewMemory()
		faulty := vfs.NewFaulty(disk)
		var written atomic.Int64
		faulty.OnOp(func(op vfs.Op) {
			if op.Kind == vfs.OpWrite {
				written.Add(op.Bytes)
			}
		})
		opt := merging(faulty)
		opt.MergeBytes = most
		s = open(t, opt)
		l = &load{t: t, s: s, m: newModel(), round: 1}
		l.fillSmall(kib, l.create("t", 3, nil).Partitions...)
		eventually(t, "files are merged", func() bool { return most < 0 || files(t, disk, ".segment") <= kib/200 })
		return float64(written.Load()) / (kib << 10)
	}
	alone := write(-1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if more := write(400<<10) - alone; more > 1.5 { // a record of 333 bytes takes 410 in a file
		t.Errorf("%.2f bytes were written more for each taken in, %.2f without", more, alone)
	}
	verify(t, s, l.m)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, findings := check(t, disk); len(findings) > 0 {
			t.Fatalf("findings: %v", findings)
		}
		s = open(t, merging(disk))
		verify(t, s, l.m)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMergedFilesLetGo: what retention and the deletion of topics take from merged files is gone, and its space is
// given back.
func TestMergedFilesLetGo(t *testing.T) {
	disk := vfs.NewMemory()
	opt := merging(disk)
	opt.RetentionInterval = 5 * time.Millisecond
	s := open(t, opt)
	l := &load{t: t, s: s, m: newModel(), round: 1}
	keep := l.create("keep", 1, nil).Partitions[0]
	gone := l.create("gone", 1, nil).Partitions[0]
	trimmed := l.create("trimmed", 1, nil).Partitions[0]
	l.fillSmall(2<<10, keep, gone, trimmed)
	eventually(t, "files are merged", func() bool { return files(t, disk, ".segment") < 20 })
	if err := s.DeleteTopic(context.Background(), "gone"); err != nil {
		t.Fatal(err)
	}
	l.m.gone[l.m.topics["gone"]] = true
	delete(l.m.topics, "gone")
	start, err := s.TrimTo(context.Background(), trimmed, 1900)
	if err != nil {
		t.Fatal(err)
	}
	l.m.starts[trimmed] = start
	eventually(t, "the space is given back", func() bool {
		free, total, err := vfs.Space(disk)
		return err == nil && total-free < 1200<<10
	})
	verify(t, s, l.m)
	crashed := disk.CrashClone(nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, left := range []*vfs.Memory{crashed, disk} {
		if _, findings := check(t, left); len(findings) > 0 {
			t.Fatalf("findings: %v", findings)
		}
		s := open(t, merging(left))
		verify(t, s, l.m)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMergeThatFailsIsTriedAgain lets each kind of operation of a merge fail: nothing is lost, and in the end the files
// are merged.
func TestMergeThatFailsIsTriedAgain(t *testing.T) {
	for _, fa := range []vfs.Fault{
		{On: vfs.OpCreate, Name: ".segment.tmp", Times: 3},
		{On: vfs.OpWrite, Name: ".segment.tmp", Skip: 30, Times: 2},
		{On: vfs.OpSync, Name: ".segment.tmp", Skip: 25, Times: 3},
		{On: vfs.OpRename, Name: ".segment.tmp", Skip: 25, Times: 3},
		{On: vfs.OpRead, Name: ".segment", Skip: 40, Times: 5},
		{On: vfs.OpRemove, Name: ".segment", Times: 5},
		{On: vfs.OpOpen, Name: ".segment", Skip: 30, Times: 3},
	} {
		t.Run(fmt.Sprintf("%s %d", fa.On, fa.Skip), func(t *testing.T) {
			disk := vfs.NewMemory()
			faulty := vfs.NewFaulty(disk)
			opt := with(t, merging(faulty), "merging files failed", "housekeeping of the log failed", "retention failed")
			opt.RetentionInterval, opt.OpenFiles = 5*time.Millisecond, 2
			s := open(t, opt)
			l := &load{t: t, s: s, m: newModel(), round: 1}
			parts := l.create("t", 3, nil).Partitions
			fa.Kind = fault.IO
			faulty.Inject(fa)
			l.fillSmall(3<<10, parts...)
			eventually(t, "files are merged", func() bool { return files(t, disk, ".segment") <= 24 })
			verify(t, s, l.m)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			clean(t, disk.CrashClone(nil), l.m)
		})
	}
}

// TestManyFilesFewOpen opens a log of many files with a bound on open ones, and reads it from end to end.
func TestManyFilesFewOpen(t *testing.T) {
	disk := vfs.NewMemory()
	s := open(t, small(disk))
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	for range 300 { // three to a file, kept in place
		l.publish(20<<10, p)
		l.wg.Wait()
	}
	awaitSegments(t, disk) // a journal that is not kept in place yet is open
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.NewFaulty(disk)
	var most atomic.Int64
	now := func() int64 {
		opened := faulty.Count(vfs.OpOpen) + faulty.Count(vfs.OpOpenWrite) + faulty.Count(vfs.OpCreate)
		return int64(opened - faulty.Count(vfs.OpClose))
	}
	opt := small(faulty)
	opt.OpenFiles = 10
	s = open(t, opt)
	most.Store(now())
	verify(t, s, l.m)
	most.Store(max(most.Load(), now()))
	if n := files(t, disk, ".segment"); n < 90 || most.Load() > 10+8 { // the journal, spares, a checkpoint, the lock
		t.Errorf("%d files, %d open", n, most.Load())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := now(); n != 0 {
		t.Errorf("%d files are left open", n)
	}
}
