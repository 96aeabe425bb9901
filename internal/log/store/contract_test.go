package store_test

import (
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

func TestContract(t *testing.T) {
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
		for _, opt := range []store.Options{{}, {JournalBytes: 64 << 10, ReserveBytes: 1, CacheBytes: 1 << 10}} {
			size := "usual"
			if opt.JournalBytes > 0 {
				size = "small files"
			}
			t.Run(name+", "+size, func(t *testing.T) {
				streamtest.Run(t, func(t *testing.T) stream.Keeper {
					opt := opt
					opt.FS = fs(t)
					s := open(t, opt)
					t.Cleanup(func() {
						if err := s.Close(); err != nil {
							t.Error(err)
						}
					})
					return s
				})
			})
		}
	}
}
