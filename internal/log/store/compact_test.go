package store_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// compacting is a log that compacts early and often.
func compacting(fs vfs.FS) store.Options {
	opt := small(fs)
	opt.RetentionInterval = 2 * time.Millisecond
	return opt
}

// compactedConfig has tombstones go at the second pass.
var compactedConfig = map[string]string{
	"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.3", "delete.retention.ms": "0",
}

// keyed is a load of a compacted partition, and what it was told. A value of "" is a tombstone.
type keyed struct {
	mu     sync.Mutex
	sent   map[string]string           // key by value: each value is given once
	graves map[string]int              // tombstones sent to a key
	acked  map[record.Offset][2]string // key and value
	n      int
}

func newKeyed() *keyed {
	return &keyed{sent: map[string]string{}, graves: map[string]int{}, acked: map[record.Offset][2]string{}}
}

func (m *keyed) clone() *keyed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &keyed{sent: maps.Clone(m.sent), graves: maps.Clone(m.graves), acked: maps.Clone(m.acked), n: m.n}
}

// batch makes a batch of random keys.
func (m *keyed) batch(rng *rand.Rand, keys int) (b record.Batch, said [][2]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var bu record.Builder
	bu.Reset(nil, 1000)
	for range 1 + rng.IntN(20) {
		m.n++
		key, value := fmt.Sprint("key ", rng.IntN(keys)), fmt.Sprintf("%d %s", m.n, strings.Repeat("x", rng.IntN(200)))
		r := &record.Record{Timestamp: 1000, Key: []byte(key), Value: []byte(value)}
		if rng.IntN(6) == 0 {
			r.Value, value = nil, ""
			m.graves[key]++
		} else {
			m.sent[value] = key
		}
		bu.Append(r)
		said = append(said, [2]string{key, value})
	}
	if rng.IntN(3) > 0 {
		return bu.Seal(0, 0), said
	}
	b, err := bu.SealCompressed(0, 0, record.Snappy)
	if err != nil {
		panic(err) // there is such a codec
	}
	return b, said
}

// keyedAck notes what was acknowledged.
type keyedAck struct {
	m    *keyed
	said [][2]string
	wg   *sync.WaitGroup
}

func (a *keyedAck) Appended(_ uint64, at stream.Placed, err error) {
	if err == nil {
		a.m.mu.Lock()
		for i, kv := range a.said {
			a.m.acked[at.Offset(0)+record.Offset(i)] = kv
		}
		a.m.mu.Unlock()
	}
	a.wg.Done()
}

// write appends so many batches.
func (m *keyed) write(s *store.Store, p stream.PartitionID, rng *rand.Rand, batches, keys int) {
	var wg sync.WaitGroup
	for i := range batches {
		b, said := m.batch(rng, keys)
		wg.Add(1)
		if s.AppendBatch(store.BatchWrite{Partition: p, Batch: b}, &keyedAck{m: m, said: said, wg: &wg}, 0) != nil {
			wg.Done()
		}
		if i%4 == 0 {
			wg.Wait()
		}
	}
	wg.Wait()
}

func createCompacted(t *testing.T, s *store.Store, partitions int) *stream.Topic {
	t.Helper()
	topic, err := s.CreateTopic(context.Background(),
		stream.TopicSpec{Name: "c", Partitions: partitions, Config: compactedConfig})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// keyedLeft reads a compacted partition: offset to key and value.
func keyedLeft(s *store.Store, p stream.PartitionID, read reading) (map[record.Offset][2]string, error) {
	bounds, err := s.Bounds(p)
	if err != nil {
		return nil, err
	}
	left, last := map[record.Offset][2]string{}, record.Offset(-1)
	for next := bounds.Start; next < bounds.High; {
		batches, err := read(s, p, next, 8<<10, nil)
		if now, _ := s.Bounds(p); fault.Is(err, fault.OutOfRange) && next < now.Start {
			next = now.Start // retention was faster, and only then
			continue
		}
		if err != nil || len(batches) == 0 {
			return nil, fmt.Errorf("read at %d of %+v: %d batches, %w", next, bounds, len(batches), err)
		}
		for _, b := range batches {
			if b.LastOffset() < next {
				return nil, fmt.Errorf("batch %d to %d where %d is due", b.BaseOffset(), b.LastOffset(), next)
			}
			next = b.LastOffset() + 1
			if b.Count() == 0 {
				continue
			}
			var it record.Iter
			if err := it.Reset(b, &record.Scratch{}); err != nil {
				return nil, err
			}
			for v := (record.View{}); it.Next(&v); {
				if v.Offset <= last {
					return nil, fmt.Errorf("offset %d behind %d", v.Offset, last)
				}
				last = v.Offset
				left[v.Offset] = [2]string{string(v.Key), string(v.Value)}
			}
			if err := it.Err(); err != nil {
				return nil, err
			}
		}
	}
	return left, nil
}

// verify holds what is left to the rules of compaction: of each key the last record that was acknowledged is there, or
// a newer one, unless that is a tombstone; and where it is not, nothing older is.
func (m *keyed) verify(t testing.TB, s *store.Store, p stream.PartitionID) map[record.Offset][2]string {
	t.Helper()
	left, err := keyedLeft(s, p, (*store.Store).Read)
	if err != nil {
		t.Fatal(err)
	}
	newest := map[string]record.Offset{} // of what is left
	for o, kv := range left {
		if kv[1] != "" && m.sent[kv[1]] != kv[0] {
			t.Fatalf("offset %d: %q was never sent with %q", o, kv[1], kv[0])
		}
		if want, ok := m.acked[o]; ok && want != kv {
			t.Fatalf("offset %d is %q, acknowledged was %q", o, kv, want)
		}
		newest[kv[0]] = max(newest[kv[0]], o)
	}
	last, graves := map[string]record.Offset{}, map[string]int{} // of what was acknowledged
	for o, kv := range m.acked {
		last[kv[0]] = max(last[kv[0]], o)
		if kv[1] == "" {
			graves[kv[0]]++
		}
	}
	for key, o := range last {
		there, ok := newest[key]
		switch {
		case ok && there >= o:
		case m.acked[o][1] != "" && m.graves[key] == graves[key]:
			t.Fatalf("offset %d, the last of %q, is gone", o, key)
		case ok:
			t.Fatalf("%q is back at offset %d: its tombstone at %d is gone", key, there, o)
		}
	}
	return left
}

// TestCompaction compacts topics while they are written, beside one that is not: what is left is little, and what the
// rules say; also when it is opened again, and when it is checked.
func TestCompaction(t *testing.T) {
	disk := vfs.NewMemory()
	s := open(t, compacting(disk))
	l := &load{t: t, s: s, m: newModel(), round: 1}
	other := l.create("other", 1, nil).Partitions[0]
	topic := createCompacted(t, s, 2)
	models, rng := []*keyed{newKeyed(), newKeyed()}, rand.New(rand.NewPCG(1, 2))
	for range 60 {
		for i, p := range topic.Partitions {
			models[i].write(s, p, rng, 10, 50+50*i)
		}
		l.publish(500, other)
	}
	l.wg.Wait()
	for i, p := range topic.Partitions {
		for _, read := range []reading{(*store.Store).Read, found} {
			eventually(t, "little is left", func() bool {
				left, err := keyedLeft(s, p, read)
				return err == nil && len(left) < len(models[i].acked)/3
			})
		}
		models[i].verify(t, s, p)
	}
	verify(t, s, l.m)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	clean(t, disk, l.m)
	s = open(t, compacting(disk))
	defer s.Close()
	for i, p := range topic.Partitions {
		models[i].verify(t, s, p)
		models[i].write(s, p, rng, 200, 50)
		models[i].verify(t, s, p)
	}
}

// TestCompactionCrash cuts the power at the file operations of a log that is compacted while it is written.
func TestCompactionCrash(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	type cut struct {
		op   vfs.Op
		disk *vfs.Memory
		m    *keyed
	}
	var cuts []cut
	var mu sync.Mutex
	m, n, rng := newKeyed(), 0, rand.New(rand.NewPCG(*crashSeed, 9))
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if n++; !op.Kind.Changes() || n%*crashEvery != 0 && !strings.Contains(op.Name, ".segment") {
			return
		}
		before, from := m.clone(), rng
		if n%4 == 0 {
			from = nil
		}
		left := disk.CrashClone(from)
		m.mu.Lock() // what was asked for meanwhile may be there
		before.sent, before.graves = maps.Clone(m.sent), maps.Clone(m.graves)
		m.mu.Unlock()
		cuts = append(cuts, cut{op: op, disk: left, m: before})
	})
	s := open(t, compacting(faulty))
	topic := createCompacted(t, s, 1)
	p, load := topic.Partitions[0], rand.New(rand.NewPCG(*crashSeed, 10))
	for range 60 {
		m.write(s, p, load, 8, 60)
	}
	eventually(t, "a pass is done", func() bool { n, err := s.PartitionBytes(p); return err == nil && n < 3*64<<10 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	faulty.OnOp(nil)
	segments := 0
	for i, c := range cuts {
		if strings.Contains(c.op.Name, ".segment") {
			segments++
		}
		if !t.Run("", func(t *testing.T) { outlives(t, c.disk, c.m, topic) }) {
			t.Fatalf("crash %d, before %s %s (number %d of its kind)", i, c.op.Kind, c.op.Name, c.op.N)
		}
	}
	if t.Logf("%d crashes, %d of them at segments, seed %d", len(cuts), segments, *crashSeed); segments < 40 {
		t.Fatalf("only %d crashes at segments", segments)
	}
}

// outlives opens a crashed disk and checks it, goes on writing and compacting, and does so again.
func outlives(t *testing.T, disk *vfs.Memory, m *keyed, topic *stream.Topic) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2 {
		s := open(t, compacting(disk))
		if s.Topics().ByName("c") == nil {
			if len(m.acked) > 0 {
				t.Fatal("the topic is lost")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		p := topic.Partitions[0]
		m.verify(t, s, p)
		m.write(s, p, rng, 60, 60)
		m.verify(t, s, p)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		disk = disk.CrashClone(nil)
	}
}

// TestCompactionFaults lets operations on segments fail: the topic is compacted all the same when they work again, and
// nothing is lost meanwhile.
func TestCompactionFaults(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpRead, vfs.OpSyncDir} {
		t.Run(kind.String(), func(t *testing.T) {
			disk := vfs.NewMemory()
			faulty := vfs.NewFaulty(disk)
			opt := with(t, compacting(faulty), append(ofFailure, ofDamage...)...)
			s := open(t, opt)
			defer s.Close()
			topic := createCompacted(t, s, 1)
			p, m, rng := topic.Partitions[0], newKeyed(), rand.New(rand.NewPCG(5, 6))
			for i := range 20 {
				if i%4 == 1 {
					faulty.Inject(vfs.Fault{On: kind, Name: ".segment", Kind: fault.IO, Times: 2})
				}
				m.write(s, p, rng, 10, 60)
			}
			faulty.Heal()
			eventually(t, "the topic is compacted", func() bool {
				n, err := s.PartitionBytes(p)
				return err == nil && n < 3*64<<10
			})
			m.verify(t, s, p)
		})
	}
}

// TestCompactionOfLittle compacts what does not fill a journal: segment.ms and max.compaction.lag.ms end it.
func TestCompactionOfLittle(t *testing.T) {
	for setting, ratio := range map[string]string{"segment.ms": "0.1", "max.compaction.lag.ms": "1"} {
		t.Run(setting, func(t *testing.T) {
			s := open(t, compacting(vfs.NewMemory()))
			defer s.Close()
			config := map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": ratio, setting: "20"}
			topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "c", Partitions: 1, Config: config})
			if err != nil {
				t.Fatal(err)
			}
			p, m, rng := topic.Partitions[0], newKeyed(), rand.New(rand.NewPCG(11, 12))
			for range 3 {
				m.write(s, p, rng, 10, 5)
				all := len(m.acked)
				eventually(t, "the topic is compacted", func() bool {
					left, err := keyedLeft(s, p, (*store.Store).Read)
					return err == nil && len(left) < min(all, 20)
				})
				m.verify(t, s, p)
			}
		})
	}
}

// TestCompactionLag leaves records alone that are younger than min.compaction.lag.ms: by the log's clock they are a
// second old.
func TestCompactionLag(t *testing.T) {
	s := open(t, compacting(vfs.NewMemory()))
	defer s.Close()
	for lag, compacted := range map[string]bool{"900": true, "1100": false} {
		config := maps.Clone(compactedConfig)
		config["min.compaction.lag.ms"] = lag
		topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "c" + lag, Partitions: 1, Config: config})
		if err != nil {
			t.Fatal(err)
		}
		p, m, rng := topic.Partitions[0], newKeyed(), rand.New(rand.NewPCG(15, 16))
		for range 30 {
			m.write(s, p, rng, 10, 20)
		}
		if compacted {
			eventually(t, "the topic is compacted", func() bool {
				left, err := keyedLeft(s, p, (*store.Store).Read)
				return err == nil && len(left) < len(m.acked)/2
			})
		}
		if left := m.verify(t, s, p); !compacted && len(left) != len(m.acked) {
			t.Errorf("%d of %d records are left that are too young", len(left), len(m.acked))
		}
	}
}

// TestCompactAndDelete has retention shorten a topic that is compacted as well.
func TestCompactAndDelete(t *testing.T) {
	s := open(t, compacting(vfs.NewMemory()))
	defer s.Close()
	config := maps.Clone(compactedConfig)
	config["cleanup.policy"], config["retention.bytes"] = "compact,delete", "100000"
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "c", Partitions: 1, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	p, m, rng := topic.Partitions[0], newKeyed(), rand.New(rand.NewPCG(17, 18))
	for range 60 {
		m.write(s, p, rng, 10, 5000) // more keys than retention leaves room for
	}
	eventually(t, "retention has removed records", func() bool {
		b, err := s.Bounds(p)
		n, e := s.PartitionBytes(p)
		if err == nil && e == nil && b.Start > 0 && n < 200_000 {
			return true
		}
		// Files go as a whole: one into which compaction has put all of it goes when there is enough behind it.
		m.write(s, p, rng, 1, 5000)
		return false
	})
	left, err := keyedLeft(s, p, (*store.Store).Read)
	if err != nil || len(left) == 0 {
		t.Fatalf("%d records, %v", len(left), err)
	}
	for o, kv := range left {
		if m.acked[o] != kv {
			t.Errorf("offset %d is %q, acknowledged was %q", o, kv, m.acked[o])
		}
	}
}

// TestCompactionOfManyFiles keeps files few though the dirty share never asks for compaction.
func TestCompactionOfManyFiles(t *testing.T) {
	disk := vfs.NewMemory()
	s := open(t, compacting(disk))
	defer s.Close()
	config := map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "1"}
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "c", Partitions: 1, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	p, m, rng := topic.Partitions[0], newKeyed(), rand.New(rand.NewPCG(13, 14))
	for range 60 {
		m.write(s, p, rng, 60, 40)
	}
	if bounds, err := s.Bounds(p); err != nil || bounds.High < 30_000 {
		t.Fatalf("%+v, %v: too few to tell", bounds, err)
	}
	eventually(t, "files are few", func() bool { return files(t, disk, ".segment") < 25 })
	m.verify(t, s, p)
}

// TestCompactionBesideReaders reads a topic in both ways while it is compacted: nobody is told of anything but records
// in their order.
func TestCompactionBesideReaders(t *testing.T) {
	s := open(t, compacting(vfs.NewMemory()))
	defer s.Close()
	topic := createCompacted(t, s, 1)
	p, m := topic.Partitions[0], newKeyed()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for _, read := range []reading{found, (*store.Store).Read} {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := keyedLeft(s, p, read); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for range 100 {
		m.write(s, p, rng, 10, 100)
	}
	close(stop)
	readers.Wait()
	m.verify(t, s, p)
}
