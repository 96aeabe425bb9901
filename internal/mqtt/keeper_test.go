package mqtt_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// keeperVariable is "cluster" where the door is tried on a Kafka cluster, one in memory, in place of a log on files.
// conformance/keepers.sh does so: what devices find is the same.
const keeperVariable = "FIRTH_TEST_KEEPER"

func onCluster() bool { return os.Getenv(keeperVariable) == "cluster" }

// keeper is the log of a house.
type keeper interface {
	stream.Keeper
	Close() error
}

// clusters are those that stand for files: who opens a house on them again finds what is there.
var clusters struct {
	sync.Mutex
	of map[vfs.FS]*kfake.Cluster
}

func openKeeper(t testing.TB, fs vfs.FS, logger *slog.Logger) keeper {
	t.Helper()
	if !onCluster() {
		log, err := store.Open(context.Background(), store.Options{FS: fs, JournalBytes: 16 << 20, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	if _, fails := fs.(*vfs.Faulty); fails {
		t.Skip("only a log on files fails as its disk does")
	}
	clusters.Lock()
	defer clusters.Unlock()
	f := clusters.of[fs]
	if f == nil {
		var err error
		if f, err = kfake.NewCluster(kfake.NumBrokers(3)); err != nil {
			t.Fatal(err)
		}
		if clusters.of == nil {
			clusters.of = make(map[vfs.FS]*kfake.Cluster)
		}
		clusters.of[fs] = f
		t.Cleanup(func() {
			clusters.Lock()
			defer clusters.Unlock()
			delete(clusters.of, fs)
			f.Close()
		})
	}
	log, err := cluster.Open(context.Background(), cluster.Options{
		Seeds: f.ListenAddrs(), Logger: logger, Instance: "a", Takeover: time.Minute, DefaultPartitions: 1,
		LargestMessage: 16 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// disk is the log on files, for what only that can: the test is for no other.
func (h *house) disk() *store.Store {
	h.t.Helper()
	log, ok := h.log.(*store.Store)
	if !ok {
		h.t.Skip("only a log on files can do this")
	}
	return log
}

// kept is a copy of a record that outlives its visit.
func kept(v *record.View) record.View {
	c := *v
	c.Key, c.Value = bytes.Clone(v.Key), bytes.Clone(v.Value)
	c.MapHeaders(nil, func(_, value []byte) ([]byte, bool) { return value, true })
	return c
}

// onFiles are files that may lose their power; the test is for no other log.
func onFiles(t testing.TB, fs *vfs.Memory) *vfs.Memory {
	t.Helper()
	if onCluster() {
		t.Skip("only a log on files may lose its power")
	}
	return fs
}
