package store_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

// small makes every file small, so that a short load rolls, rolls up and retains. Its clock stands still, a
// second behind the records of the loads.
func small(fs vfs.FS) store.Options {
	return store.Options{
		FS: fs, JournalBytes: 64 << 10, ReserveBytes: 1, CacheBytes: 16 << 10,
		DirectBytes:    4 << 10, // so that commits go both ways
		ReadaheadBytes: 4 << 10,
		MergeBytes:     -1,
		SlowSync:       time.Hour, // one commit at a time, however busy the machine is
		Clock:          func() time.Time { return time.UnixMilli(2000) },
	}
}

// What a log may log as an error in a test that damages it, and in one that lets its disk fail.
var (
	ofDamage  = []string{"the log is damaged", "damaged records cannot be read"}
	ofFailure = []string{"commit failed", "housekeeping of the log failed", "retention failed"}
)

// with has errors logged that are expected.
func with(t testing.TB, opt store.Options, expected ...string) store.Options {
	opt.Logger = logtest.New(t, expected...)
	return opt
}

// open opens a log that must not log an error, unless the options have a Logger of their own.
func open(t testing.TB, opt store.Options) *store.Store {
	t.Helper()
	if opt.Logger == nil {
		opt.Logger = logtest.New(t)
	}
	if *allEncrypted && opt.Keys == nil {
		opt.Keys = keys(t)
	}
	s, err := store.Open(context.Background(), opt)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// model is what a load was told: the truth that the log is held to.
type model struct {
	mu     sync.Mutex
	topics map[string]record.UUID
	gone   map[record.UUID]bool // deleted, and told so
	leave  map[record.UUID]bool // asked to be deleted
	acked  map[stream.PartitionID]map[record.Offset]string
	sent   map[string]stream.PartitionID // every value ever handed in
	starts map[stream.PartitionID]record.Offset
	pids   map[int64]bool
	loose  map[stream.PartitionID]bool // of memory topics: a crash may take what was acknowledged
}

func newModel() *model {
	return &model{
		topics: make(map[string]record.UUID), gone: make(map[record.UUID]bool), leave: make(map[record.UUID]bool),
		acked: make(map[stream.PartitionID]map[record.Offset]string), sent: make(map[string]stream.PartitionID),
		starts: make(map[stream.PartitionID]record.Offset), pids: make(map[int64]bool),
		loose: make(map[stream.PartitionID]bool),
	}
}

func (m *model) clone() *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &model{
		topics: maps.Clone(m.topics), gone: maps.Clone(m.gone), leave: maps.Clone(m.leave), sent: maps.Clone(m.sent),
		starts: maps.Clone(m.starts), pids: maps.Clone(m.pids), loose: maps.Clone(m.loose),
		acked: make(map[stream.PartitionID]map[record.Offset]string),
	}
	for p, records := range m.acked {
		c.acked[p] = maps.Clone(records)
	}
	return c
}

// asked takes over what was asked for meanwhile: it may be there or not.
func (m *model) asked(of *model) {
	of.mu.Lock()
	defer of.mu.Unlock()
	m.sent, m.leave = maps.Clone(of.sent), maps.Clone(of.leave)
}

func (m *model) ack(p stream.PartitionID, base record.Offset, values []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.acked[p] == nil {
		m.acked[p] = make(map[record.Offset]string)
	}
	for i, v := range values {
		m.acked[p][base+record.Offset(i)] = v
	}
}

// load drives one store and keeps the model.
type load struct {
	t     testing.TB
	s     *store.Store
	m     *model
	round int
	n     int
	wg    sync.WaitGroup
}

type ack struct {
	l      *load
	p      stream.PartitionID
	values []string
	done   func(error)
}

func (a *ack) Appended(_ uint64, at stream.Placed, err error) {
	if err == nil {
		a.l.m.ack(a.p, at.Offset(0), a.values)
	}
	if a.done != nil {
		a.done(err)
	}
	a.l.wg.Done()
}

func (l *load) values(p stream.PartitionID, count, size int) []string {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	values := make([]string, count)
	for i := range values {
		l.n++
		v := fmt.Sprintf("%d/%d/%d", l.round, p, l.n)
		values[i] = v + string(make([]byte, max(0, size-len(v))))
		l.m.sent[values[i]] = p
	}
	return values
}

// publish appends one record to each of some partitions, as one unit.
func (l *load) publish(size int, parts ...stream.PartitionID) {
	ws := make([]stream.Write, len(parts))
	values := make([]string, len(parts))
	for i, p := range parts {
		values[i] = l.values(p, 1, size)[0]
		ws[i] = stream.Write{Partition: p, Record: &record.Record{Timestamp: 1000, Value: []byte(values[i])}}
	}
	l.wg.Add(1)
	if err := streamtest.Append(l.s, &ack{l: l, p: parts[0], values: values[:1]}, ws...); err != nil {
		l.wg.Done()
	}
}

func batch(pid int64, sequence int32, values []string) record.Batch {
	var bu record.Builder
	bu.Reset(nil, 1000)
	if pid >= 0 {
		bu.SetProducer(pid, 0, sequence)
	}
	for _, v := range values {
		bu.Append(&record.Record{Timestamp: 1000, Value: []byte(v)})
	}
	return bu.Seal(0, 0)
}

// produce appends one batch and waits for it.
func (l *load) produce(p stream.PartitionID, pid int64, sequence int32, count, size int) error {
	values := l.values(p, count, size)
	return l.send(p, batch(pid, sequence, values), values)
}

func (l *load) send(p stream.PartitionID, b record.Batch, values []string) error {
	result := make(chan error, 1)
	l.wg.Add(1)
	a := &ack{l: l, p: p, values: values, done: func(err error) { result <- err }}
	if err := l.s.AppendBatch(store.BatchWrite{Partition: p, Batch: b}, a, 0); err != nil {
		l.wg.Done()
		return err
	}
	return <-result
}

func (l *load) create(name string, partitions int, config map[string]string) *stream.Topic {
	spec := stream.TopicSpec{Name: name, Partitions: partitions, Config: config}
	topic, err := l.s.CreateTopic(context.Background(), spec)
	if err != nil {
		return nil
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.topics[name] = topic.ID
	return topic
}

// readAll reads a partition from its start, checks what every reader may rely on, and gives the values. Retention
// may move the start meanwhile, and only then is the place to read from out of range: it goes on at the new start.
func readAll(t testing.TB, s *store.Store, p stream.PartitionID) map[record.Offset]string {
	t.Helper()
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[record.Offset]string)
	var it record.Iter
	var scratch record.Scratch
	next := bounds.Start
	for next < bounds.High {
		batches, err := s.Read(p, next, 8<<10, nil)
		if now, _ := s.Bounds(p); fault.Is(err, fault.OutOfRange) && next < now.Start {
			next = now.Start
			continue
		}
		if err != nil || len(batches) == 0 {
			t.Fatalf("partition %d: read at %d of %+v: %d batches, %v", p, next, bounds, len(batches), err)
		}
		for i, b := range batches {
			if err := it.Reset(b, &scratch); err != nil {
				t.Fatal(err)
			}
			for v := (record.View{}); it.Next(&v); {
				if v.Offset < next && i == 0 {
					continue // the batch begins before the offset asked for
				}
				if v.Offset != next {
					t.Fatalf("partition %d: offset %d where %d is due", p, v.Offset, next)
				}
				got[next] = string(v.Value)
				next++
			}
			if b.Count() == 0 { // it only takes the offsets of what a memory topic lost
				next = b.LastOffset() + 1
			}
		}
	}
	return got
}

// verify holds a reopened log to the model: all that was acknowledged is there, nothing is torn, doubled or
// re-ordered, and nothing is there that was never sent.
func verify(t testing.TB, s *store.Store, m *model) {
	t.Helper()
	for name, id := range m.topics {
		topic := s.Topics().ByName(name)
		if topic == nil && m.leave[id] || topic != nil && m.gone[topic.ID] == false && topic.ID != id {
			continue
		}
		if topic == nil || topic.ID != id {
			t.Fatalf("topic %s %s is lost: %+v", name, id, topic)
		}
		for _, p := range topic.Partitions {
			verifyPartition(t, s, m, p)
		}
	}
	for id := range m.gone {
		if topic := s.Topics().ByID(id); topic != nil {
			t.Fatalf("deleted topic %s is back", topic.Name)
		}
	}
	pid, err := s.NewProducerID(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if m.pids[pid] {
		t.Fatalf("producer id %d was given twice", pid)
	}
}

func verifyPartition(t testing.TB, s *store.Store, m *model, p stream.PartitionID) {
	t.Helper()
	got := readAll(t, s, p)
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	if bounds.Start < m.starts[p] {
		t.Fatalf("partition %d: log start went back to %d, was %d", p, bounds.Start, m.starts[p])
	}
	if n := record.Offset(len(got)); !m.loose[p] && n < bounds.High-bounds.Start {
		t.Fatalf("partition %d: %d records in %+v", p, n, bounds)
	}
	for offset, want := range m.acked[p] {
		if m.loose[p] {
			break
		}
		if have, ok := got[offset]; offset >= bounds.Start && (!ok || have != want) {
			t.Fatalf("partition %d offset %d of %+v: acknowledged %.20q, have %.20q", p, offset, bounds, want, have)
		}
	}
	seen := make(map[string]bool)
	for offset, v := range got {
		if from, ok := m.sent[v]; !ok || from != p {
			t.Fatalf("partition %d offset %d: %.20q was never sent there", p, offset, v)
		}
		if seen[v] {
			t.Fatalf("partition %d: %.20q is there twice", p, v)
		}
		seen[v] = true
	}
	ordered := make([]string, 0, len(got))
	for o := bounds.Start; o < bounds.High; o++ {
		if v, ok := got[o]; ok {
			ordered = append(ordered, v)
		}
	}
	verifyOrder(t, p, ordered)
}

// verifyOrder holds the values of one partition to the order in which the load, a single sender, gave them.
func verifyOrder(t testing.TB, p stream.PartitionID, values []string) {
	t.Helper()
	var last [2]int
	for _, v := range values {
		var round, part, n int
		if _, err := fmt.Sscanf(v, "%d/%d/%d", &round, &part, &n); err != nil {
			t.Fatalf("partition %d: %.20q: %v", p, v, err)
		}
		if round < last[0] || round == last[0] && n <= last[1] {
			t.Fatalf("partition %d: %.20q comes behind %v", p, v, last)
		}
		last = [2]int{round, n}
	}
}
