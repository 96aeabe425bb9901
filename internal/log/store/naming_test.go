package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

// byKey is a naming in which the key is the name.
type byKey struct {
	mapping uint64
	asked   *atomic.Int64 // for names; nil: nobody counts
}

func (n byKey) TopicName(_ string, v *record.View) ([]byte, bool) {
	if n.asked != nil {
		n.asked.Add(1)
	}
	return v.Key, v.Key != nil
}

func (n byKey) Fingerprint() uint64 { return n.mapping }

// wanting is the hint of a reader of the names below a stem.
func wanting(stem string, mapping uint64) *stream.Names {
	return &stream.Names{Mapping: mapping, Stems: [][]byte{[]byte(stem)}, Match: func(name []byte) bool {
		return string(name) == stem || strings.HasPrefix(string(name), stem+"/")
	}}
}

// TestScanByName fills a log with the records of a fleet and a few of others, in files that are rolled up and in
// files that are kept in place, and looks for the few: they are found, and little else is read.
func TestScanByName(t *testing.T) {
	for _, kind := range []struct {
		name  string
		bulk  int64  // mean bytes of a batch from which a file is kept in place
		told  uint64 // by which mapping those who append tell the names; 0: they do not
		reads bool   // the names have to be read
	}{
		{"rolled up", 1 << 30, 0, true},
		{"rolled up, names told", 1 << 30, fleetMapping, false},
		{"rolled up, names told by another mapping", 1 << 30, fleetMapping + 1, true},
		{"kept in place", 1, 0, true},
		{"kept in place, names told", 1, fleetMapping, false},
		{"kept in place, names told by another mapping", 1, fleetMapping + 1, true},
	} {
		t.Run(kind.name, func(t *testing.T) { scanByName(t, kind.bulk, kind.told, kind.reads) })
	}
}

const (
	fleetMapping = 7
	fleetBytes   = 48 << 20
)

func scanByName(t *testing.T, bulk int64, told uint64, reads bool) {
	const mapping, total = fleetMapping, fleetBytes
	var read, asked atomic.Int64
	fs := vfs.NewFaulty(vfs.NewMemory())
	fs.OnOp(func(op vfs.Op) {
		if op.Kind == vfs.OpRead {
			read.Add(op.Bytes)
		}
	})
	opt := store.Options{
		FS: fs, JournalBytes: 12 << 20, ReserveBytes: 1, BulkBatchBytes: bulk,
		Naming: func() store.Naming { return byKey{mapping, &asked} },
	}
	s := open(t, opt)
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "t"})
	if err != nil {
		t.Fatal(err)
	}
	p := topic.Partitions[0]
	rare := fillFleet(t, s, fs, p, told)
	awaitSegments(t, fs)
	if got := asked.Load() > 0; got != reads {
		t.Errorf("the names of records were read: %v, want %v", got, reads)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, opt) // what is read now comes from files
	defer s.Close()
	eventually(t, "the last journal is converted", func() bool { return s.SealedFiles() == 0 })

	for _, c := range []struct {
		stem    string
		mapping uint64
		most    int64 // bytes read
		want    map[record.Offset]bool
	}{
		{"nobody", mapping, total / 100, nil},
		{"rare/one", mapping, total/100 + 10<<20, rare},
		{"rare/one", mapping + 1, 2 * total, rare}, // by another mapping the index says nothing
	} {
		before := read.Load()
		found := map[record.Offset]bool{}
		bounds, err := s.Bounds(p)
		if err != nil {
			t.Fatal(err)
		}
		for from := record.Offset(0); from < bounds.Stable; {
			o := stream.ScanOptions{Names: wanting(c.stem, c.mapping)}
			next, err := s.Scan(p, from, o, func(v *record.View) bool {
				if strings.HasPrefix(string(v.Key), c.stem+"/") {
					found[v.Offset] = true
				}
				return true
			})
			if err != nil || next <= from {
				t.Fatalf("at %d: goes on at %d, %v", from, next, err)
			}
			from = next
		}
		if len(found) != len(c.want) {
			t.Errorf("%s: found %v, want %v", c.stem, found, c.want)
		}
		if n := read.Load() - before; n > c.most {
			t.Errorf("%s by mapping %d: read %d KiB, at most %d", c.stem, c.mapping, n>>10, c.most>>10)
		}
	}
}

// fillFleet appends the records of a fleet, one of another device among them, and gives the offset of that.
// It goes no faster than the housekeeper, who reads no names while files wait.
func fillFleet(t *testing.T, s *store.Store, fs vfs.FS, p stream.PartitionID, told uint64) map[record.Offset]bool {
	t.Helper()
	const total, perUnit, size, fleet = fleetBytes, 200, 1000, 500
	done := make(receipt, 1)
	rare := map[record.Offset]bool{}
	for n := 0; n < total/size; n += perUnit {
		ws := make([]stream.Write, perUnit)
		for i := range ws {
			key := fmt.Appendf(nil, "fleet/machine-%06d/rpm", (n+i)%fleet)
			if n+i == total/size/2 {
				key = []byte("rare/one/rpm")
				rare[record.Offset(n+i)] = true
			}
			ws[i] = stream.Write{Partition: p, Record: &record.Record{Key: key, Value: make([]byte, size)}}
			if told != 0 {
				ws[i].Name = &stream.Name{Mapping: told, Topic: key}
			}
		}
		if err := errors.Join(streamtest.Append(s, done, ws...), <-done); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no full journal waits", func() bool { return files(t, fs, ".journal") == 1 })
	}
	return rare
}

// awaitSegments waits until no sealed journal is left and there are segments.
func awaitSegments(t *testing.T, fs vfs.FS) {
	t.Helper()
	eventually(t, "all full journals are converted", func() bool {
		return files(t, fs, ".journal") == 1 && files(t, fs, ".segment") > 0
	})
}
