package store_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// reading is (*store.Store).Read, or another way to the same.
type reading func(
	s *store.Store, p stream.PartitionID, from record.Offset, maxBytes int, into []record.Batch,
) ([]record.Batch, error)

// found reads by Find and Load, through a buffer that takes a part of it at a time, and reads ahead.
func found(
	s *store.Store, p stream.PartitionID, from record.Offset, maxBytes int, into []record.Batch,
) ([]record.Batch, error) {
	into, st, err := s.Find(p, from, maxBytes, into)
	ahead := store.ColdReadahead()
	if st.Size() > 0 {
		ahead.Want(&st)
	}
	ahead.Start()
	for err == nil && st.Size() > 0 {
		var pieces [][]byte
		_, pieces, err = st.Load(make([]byte, 0, 3000), nil)
		for _, rest := range pieces {
			var b record.Batch
			for len(rest) > 0 && err == nil {
				if b, rest, err = record.Next(rest); err == nil {
					into = append(into, b)
				}
			}
		}
	}
	return into, err
}

// filled is a log with journals, rolled-up segments and kept ones, of which little is in memory, and its
// partitions: one of small batches, one of large ones.
func filled(t testing.TB, disk *vfs.Memory) (*store.Store, *load, []stream.PartitionID) {
	opt := small(disk)
	opt.RetentionInterval = 5 * time.Millisecond
	s := open(t, opt)
	l := &load{t: t, s: s, m: newModel(), round: 1}
	parts := l.create("t", 2, nil).Partitions
	for i := range 120 {
		l.publish(100+i*7, parts[0])
		if i%4 == 0 {
			l.publish(9000, parts[1])
		}
		l.wg.Wait()
	}
	return s, l, parts
}

// What Find and Load give is what Read gives, from every offset and within every bound.
func TestFindAndLoadAreRead(t *testing.T) {
	s, l, parts := filled(t, vfs.NewMemory())
	defer s.Close()
	l.wg.Wait()
	stored := 0
	for _, p := range parts {
		bounds, err := s.Bounds(p)
		if err != nil {
			t.Fatal(err)
		}
		for from := bounds.Start; from < bounds.High; from++ {
			for _, most := range []int{1, 2000, 20_000, 1 << 20} {
				want, err := s.Read(p, from, most, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := found(s, p, from, most, nil)
				if err != nil || len(got) == 0 || len(got) > len(want) {
					t.Fatalf("partition %d from %d: %d batches, want %d: %v", p, from, len(got), len(want), err)
				}
				for i := range got {
					if !bytes.Equal(got[i], want[i]) {
						t.Fatalf("partition %d from %d: batch %d differs", p, from, i)
					}
				}
				if got[len(got)-1].LastOffset() < from {
					t.Fatalf("partition %d from %d: nothing of it came", p, from)
				}
				if _, st, _ := s.Find(p, from, most, nil); st.Size() > 0 {
					stored++
					if len(got) != len(want) {
						t.Fatalf("partition %d from %d: %d batches, want %d", p, from, len(got), len(want))
					}
				}
			}
		}
	}
	if stored < 100 {
		t.Fatalf("only %d were not in memory: the test looks at nothing", stored)
	}
}

// A load that begins after its file was rolled up gives the same bytes from where they are now; one whose
// records are gone gives an error and nothing else.
func TestLoadAfterTheFileWent(t *testing.T) {
	disk := vfs.NewMemory()
	s, l, parts := filled(t, disk)
	defer s.Close()
	bounds, err := s.Bounds(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	type look struct {
		st   store.Stretch
		want []record.Batch
	}
	var looks []look
	for from := bounds.Start; from < bounds.High; from++ {
		_, st, err := s.Find(parts[0], from, 4000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if st.Size() > 0 {
			want, err := s.Read(parts[0], from, 4000, nil)
			if err != nil {
				t.Fatal(err)
			}
			looks = append(looks, look{st, want})
		}
	}
	before := files(t, disk, ".segment")
	for range 400 {
		l.publish(900, parts[1])
		l.wg.Wait()
	}
	eventually(t, "journals were rolled up", func() bool { return files(t, disk, ".segment") > before+2 })
	for _, k := range looks {
		st := k.st
		buf, pieces, err := st.Load(make([]byte, 0, 8000), nil)
		if err != nil || !bytes.Equal(bytes.Join(pieces, nil), joined(k.want)) {
			t.Fatalf("%d bytes of %d in %d: %v", len(bytes.Join(pieces, nil)), k.st.Size(), len(buf), err)
		}
	}
	if err := s.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all of the topic is gone", func() bool {
		for _, k := range looks {
			st := k.st
			_, pieces, err := st.Load(make([]byte, 0, 8000), nil)
			if err == nil && !bytes.Equal(bytes.Join(pieces, nil), joined(k.want)) || err != nil && len(pieces) > 0 {
				t.Fatalf("%d pieces of a deleted topic, %v", len(pieces), err)
			}
			if err == nil {
				return false
			}
		}
		return true
	})
}

func joined(batches []record.Batch) []byte {
	var all []byte
	for _, b := range batches {
		all = append(all, b...)
	}
	return all
}

// A load stops at the first damaged batch. What lies before it can be read, then and later.
func TestLoadStopsAtDamage(t *testing.T) {
	seesBytes(t)
	disk := vfs.NewMemory()
	s := open(t, small(disk))
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	for range 5 {
		l.publish(500, p)
		l.wg.Wait()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	vfstest.Flip(t, disk, "log", []byte(l.m.acked[p][3]), 0)
	s = open(t, with(t, small(disk), ofDamage...))
	defer s.Close()
	_, st, err := s.Find(p, 0, 1<<20, nil)
	if err != nil || st.Next() != 5 {
		t.Fatalf("up to %d: %v", st.Next(), err)
	}
	var pieces [][]byte
	for buf := make([]byte, 0, 700); err == nil && st.Size() > 0; {
		var some [][]byte
		_, some, err = st.Load(buf, nil)
		for _, b := range some {
			pieces = append(pieces, bytes.Clone(b))
		}
	}
	if !fault.Is(err, fault.Corrupt) || len(pieces) != 3 {
		t.Fatalf("%d pieces, then %v", len(pieces), err)
	}
	for i, want := range []int{3, 2, 1} {
		batches, st, err := s.Find(p, record.Offset(i), 1<<20, nil)
		if err != nil || st.Size() > 0 || len(batches) != want || batches[want-1].LastOffset() != 2 {
			t.Fatalf("from %d: %d batches, %d bytes left where they are, %v", i, len(batches), st.Size(), err)
		}
	}
	if _, _, err := s.Find(p, 3, 1<<20, nil); !fault.Is(err, fault.Corrupt) {
		t.Fatalf("the damaged batch: %v", err)
	}
	if batches, err := found(s, p, 4, 1<<20, nil); err != nil || len(batches) != 1 {
		t.Fatalf("behind it: %d batches, %v", len(batches), err)
	}
}

// A load that begins after its journal became a segment in its place stops at damage as any other, and the damage is
// known from then on.
func TestLoadStopsAtDamageElsewhere(t *testing.T) {
	disk := vfs.NewMemory()
	opt := with(t, small(disk), ofDamage...)
	opt.BulkBatchBytes = 4000
	s := open(t, opt)
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	var st store.Stretch
	for st.Size() == 0 || st.Next() < 5 {
		l.publish(9000, p)
		l.wg.Wait()
		var err error
		if _, st, err = s.Find(p, 0, 1<<20, nil); err != nil {
			t.Fatal(err)
		}
	}
	vfstest.Flip(t, disk, "log", []byte(l.m.acked[p][3]), 0)
	eventually(t, "its file was replaced", func() bool {
		l.publish(9000, p)
		l.wg.Wait()
		if !st.File().Acquire() {
			return true
		}
		st.File().Release()
		return false
	})
	if _, _, err := st.Load(make([]byte, 0, 1<<20), nil); !fault.Is(err, fault.Corrupt) {
		t.Fatalf("loaded: %v", err)
	}
	batches, st, err := s.Find(p, 0, 1<<20, nil)
	if err != nil || st.Size() > 0 || len(batches) != 3 {
		t.Fatalf("%d batches, %d bytes left where they are, %v", len(batches), st.Size(), err)
	}
}

// Readers load beside a log that rolls, rolls up and drops its oldest files.
func TestLoadBesideTheKeeper(t *testing.T) {
	s := open(t, small(vfs.NewMemory()))
	defer s.Close()
	l := &load{t: t, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, map[string]string{"retention.bytes": "300000", "segment.bytes": "65536"}).Partitions[0]
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for seed := range uint64(3) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1))
			for next := record.Offset(0); ; {
				batches, err := found(s, p, next, 30_000, nil)
				bounds, _ := s.Bounds(p)
				switch {
				case fault.Is(err, fault.OutOfRange):
					next = bounds.Start
				case err != nil:
					t.Errorf("at %d of %+v: %v", next, bounds, err)
					return
				}
				for _, b := range batches {
					if err := b.Check(); err != nil || b.BaseOffset() > next || b.LastOffset() < next {
						t.Errorf("at %d: batch %d to %d, %v", next, b.BaseOffset(), b.LastOffset(), err)
						return
					}
					next = b.LastOffset() + 1
				}
				if next >= bounds.High {
					next = bounds.Start + record.Offset(rng.Int64N(int64(max(1, bounds.High-bounds.Start))))
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 1200 {
		l.publish(300+i%1500, p)
		if i%8 == 0 {
			l.wg.Wait()
		}
	}
	l.wg.Wait()
	close(stop)
	readers.Wait()
}

func BenchmarkLoad(b *testing.B) {
	disk, err := vfs.NewDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s := open(b, store.Options{FS: disk, CacheBytes: 1, ReserveBytes: 1})
	defer s.Close()
	l := &load{t: b, s: s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	for range 64 {
		l.publish(100<<10, p)
		l.wg.Wait()
	}
	bounds, err := s.Bounds(p)
	if err != nil {
		b.Fatal(err)
	}
	room, pieces, from := make([]byte, 0, 256<<10), make([][]byte, 0, 16), bounds.Start
	b.ReportAllocs()
	for b.Loop() {
		_, st, err := s.Find(p, from, 1<<20, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(st.Size()))
		from = st.Next()
		for st.Size() > 0 {
			if _, pieces, err = st.Load(room, pieces[:0]); err != nil {
				b.Fatal(err)
			}
		}
		if from >= bounds.High {
			from = bounds.Start
		}
	}
}
