package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

func TestContract(t *testing.T) {
	seesBytes(t)
	disk := func(t *testing.T) vfs.FS {
		fs, err := vfs.NewDisk(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return fs
	}
	memory := func(*testing.T) vfs.FS { return vfs.NewMemory() }
	slow := func(*testing.T) vfs.FS { // syncs and reads that take their time
		fs := vfs.NewFaulty(vfs.NewMemory())
		fs.Inject(vfs.Fault{On: vfs.OpSync, Delay: time.Millisecond, Times: -1})
		fs.Inject(vfs.Fault{On: vfs.OpRead, Delay: 100 * time.Microsecond, Times: -1})
		return fs
	}
	for name, fs := range map[string]func(*testing.T) vfs.FS{"disk": disk, "memory": memory, "slow": slow} {
		small := store.Options{
			JournalBytes: 64 << 10, ReserveBytes: 1, CacheBytes: 1 << 10, RetentionInterval: 20 * time.Millisecond,
		}
		for _, opt := range []store.Options{{}, small} {
			size := "usual"
			if opt.JournalBytes > 0 {
				size = "small files"
			}
			t.Run(name+", "+size, func(t *testing.T) {
				streamtest.Run(t, func(t *testing.T) *streamtest.Kept {
					opt := opt
					opt.FS = fs(t)
					return kept(t, opt)
				})
			})
		}
	}
}

// kept is a log, and what can be done to it without the contract.
func kept(t *testing.T, opt store.Options) *streamtest.Kept {
	s := open(t, with(t, opt, ofDamage...))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	k := &streamtest.Kept{
		Keeper: s,
		Hide:   func(p stream.PartitionID) { hide(t, s, p) },
		Trim: func(p stream.PartitionID, start record.Offset) {
			if _, err := s.TrimTo(context.Background(), p, start); err != nil {
				t.Fatal(err)
			}
		},
		Cannot: map[string]string{"Rival": "a data directory belongs to one node"},
	}
	const cached = "the newest records are read from memory; small files have it"
	k.Cannot["Compact"] = "usual files do not fill up soon; small ones do"
	if k.Cannot["Damage"], k.Cannot["FailRead"] = cached, cached; opt.CacheBytes > 0 {
		k.Compact = &streamtest.Compact{Bytes: 20 << 10}
		k.Damage = func(_ stream.PartitionID, content []byte) { vfstest.Flip(t, opt.FS, "log", content, 0) }
		k.Cannot["FailRead"] = "only a faulty file system does that"
		if faulty, ok := opt.FS.(*vfs.Faulty); ok {
			k.FailRead = func() { faulty.Inject(vfs.Fault{On: vfs.OpRead, Times: 1}) }
		}
	}
	return k
}

// hide appends markers: they have offsets and are no records.
func hide(t *testing.T, s *store.Store, p stream.PartitionID) {
	t.Helper()
	u := &store.Unit{Markers: []store.Marker{{Partition: p, ProducerID: 7, Commit: true}, {Partition: p, ProducerID: 8}}}
	told := make(told, 1)
	if err := s.Commit(u, told, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Fatal(err)
	}
}

// told is a receipt that gives the error.
type told chan error

// Appended implements stream.Receipt.
func (c told) Appended(_ uint64, _ stream.Placed, err error) { c <- err }
