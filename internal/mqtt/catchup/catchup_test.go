package catchup_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/firthmq/firth/internal/mqtt/catchup"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

const patience = 5 * time.Minute

type house struct {
	t      *testing.T
	log    *store.Store
	f      *fanout.Fanout
	behind *catchup.CatchUp
}

func open(t *testing.T, opt store.Options, change func(*fanout.Options)) *house {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if opt.FS == nil {
		opt.FS = vfs.NewMemory()
	}
	if opt.Logger == nil {
		opt.Logger = logtest.New(t)
	}
	log, err := store.Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	table, err := hinge.New(nil, hinge.Options{PlainQoS: 1})
	if err != nil {
		t.Fatal(err)
	}
	fo := fanout.Options{Log: log, Mapping: func() *hinge.Table { return table }, Workers: 2, TurnBytes: 2048,
		Logger: opt.Logger}
	if change != nil {
		change(&fo)
	}
	f := fanout.New(fo)
	behind := catchup.New(f, catchup.Options{})
	ended := make(chan error, 2)
	go func() { ended <- f.Run(ctx) }()
	go func() { ended <- behind.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return &house{t: t, log: log, f: f, behind: behind}
}

func (h *house) topic(name string, partitions int, config map[string]string) *stream.Topic {
	h.t.Helper()
	t, err := h.log.CreateTopic(context.Background(), stream.TopicSpec{Name: name, Partitions: partitions, Config: config})
	if err != nil {
		h.t.Fatal(err)
	}
	return t
}

type receipt chan error

func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

// produce appends count records to a partition, numbered from first, and waits for the last.
func (h *house) produce(p stream.PartitionID, key string, first, count int) {
	h.t.Helper()
	done := make(receipt, count)
	for i := range count {
		value := binary.BigEndian.AppendUint32(nil, uint32(first+i))
		r := record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte(key), Value: append(value, make([]byte, 100)...)}
		if err := streamtest.Append(h.log, done, stream.Write{Partition: p, Record: &r}); err != nil {
			h.t.Fatal(err)
		}
	}
	for range count {
		if err := <-done; err != nil {
			h.t.Fatal(err)
		}
	}
}

// sink is a session that takes some messages, then none until it is woken.
type sink struct {
	mu      sync.Mutex
	rng     *rand.Rand
	credit  int              // messages that it takes before it says Later; -1: all
	got     map[string][]int // by topic name
	total   int
	later   int
	full    chan struct{} // one token when it said Later
	poison  int           // a number over which it panics, once
	behind  int           // as it was told
	wrong   error         // with what it was told
	qos     byte          // the lowest of what came
	flushes int
	next    int64         // one past the highest offset that came
	all     *atomic.Int64 // counts what came, beside other sinks; nil: nothing does
}

func newSink(credit int) *sink {
	return &sink{
		credit: credit, poison: -1, qos: 9, got: map[string][]int{}, full: make(chan struct{}, 1),
		rng: rand.New(rand.NewPCG(7, uint64(credit))),
	}
}

func (s *sink) Deliver(r *fanout.Run) fanout.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := r.Next(); d != nil; d = r.Next() {
		if v := s.take(d); v != fanout.Taken {
			return v
		}
		r.Take()
	}
	return fanout.Taken
}

func (s *sink) take(d *fanout.Delivery) fanout.Verdict {
	if d.CatchUp && s.behind < 1 {
		s.wrong = fmt.Errorf("offset %d comes from a cursor, and it is behind nowhere", d.From.Offset)
	}
	if s.credit == 0 {
		s.later++
		select {
		case s.full <- struct{}{}:
		default:
		}
		return fanout.Later
	}
	if s.credit > 0 {
		s.credit--
	}
	if s.all != nil {
		s.all.Add(1)
	}
	number := int(binary.BigEndian.Uint32(d.Frame[len(d.Frame)-104:]))
	if number == s.poison {
		panic("poison")
	}
	s.got[string(d.Topic)] = append(s.got[string(d.Topic)], number)
	s.total++
	s.qos, s.next = min(s.qos, d.QoS), max(s.next, d.From.Offset+1)
	return fanout.Taken
}

func (s *sink) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushes++
}

func (s *sink) Behind(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind += by; s.behind < 0 {
		s.wrong = fmt.Errorf("behind in %d partitions", s.behind)
	}
}

// inStep tells whether the sink has heard that it is behind nowhere.
func (s *sink) inStep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind == 0
}

// check fails for what was wrong about what the sink was told.
func (s *sink) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong != nil {
		t.Error(s.wrong)
	}
}

func (s *sink) give(credit int) {
	s.mu.Lock()
	s.credit = credit
	s.mu.Unlock()
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// numbers are those that came of a topic.
func (s *sink) numbers(topic string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[topic])
}

// whole checks that the numbers of a topic are first, first+1, ... up to last.
func (s *sink) whole(t *testing.T, topic string, first, last int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got[topic]
	for i, n := range got {
		if n != first+i {
			t.Fatalf("%s: message %d is number %d, want %d", topic, i, n, first+i)
		}
	}
	if len(got) != last-first+1 {
		t.Fatalf("%s: %d messages, want %d", topic, len(got), last-first+1)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func (h *house) join(s *sink, filter string, qos byte) *fanout.Member {
	m := h.f.Join(s, packet.V5, "")
	h.f.Subscribe(m, &session.Subscription{Filter: filter, QoS: qos}, nil)
	return m
}

// TestSlowMembersLoseNothing lets members with all sorts of patience read four partitions while they are
// written: each falls behind and catches up again and again, and gets every message once and in order.
func TestSlowMembersLoseNothing(t *testing.T) {
	h := open(t, store.Options{}, nil)
	topic := h.topic("slow", 4, nil)
	const each = 3000
	sinks := []*sink{newSink(-1), newSink(0), newSink(1), newSink(10), newSink(500)}
	stop := make(chan struct{})
	var wakers sync.WaitGroup
	for i, s := range sinks {
		m := h.join(s, "slow/#", 1)
		wakers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			for {
				select {
				case <-s.full:
				case <-stop:
					return
				}
				s.give(1 + rng.IntN(200))
				m.Wake()
			}
		})
	}
	var writers sync.WaitGroup
	for i, p := range topic.Partitions {
		writers.Go(func() {
			for n := 0; n < each; n += 100 {
				h.produce(p, fmt.Sprintf("slow/%d", i), n, 100)
			}
		})
	}
	writers.Wait()
	for i, s := range sinks {
		eventually(t, fmt.Sprintf("member %d has all", i), func() bool { return s.count() >= 4*each })
		s.check(t)
		for part := range topic.Partitions {
			s.whole(t, fmt.Sprintf("slow/%d", part), 0, each-1)
		}
		if i > 0 && s.later == 0 {
			t.Errorf("member %d never fell behind: the test tests nothing", i)
		}
	}
	close(stop)
	wakers.Wait()
}

// TestSubscribeUnderLoad subscribes again and again while messages flow: what is acknowledged before
// does not come, what is appended after comes, without a gap.
func TestSubscribeUnderLoad(t *testing.T) {
	h := open(t, store.Options{}, nil)
	p := h.topic("load", 1, nil).Partitions[0]
	bystander := newSink(-1)
	h.join(bystander, "load/#", 0)
	next := 0
	for round := range 300 {
		h.produce(p, "load/1", next, 5)
		next += 5
		s := newSink(-1)
		if round%3 == 0 {
			s = newSink(0) // begins behind
		}
		m := h.join(s, "load/1", 1)
		h.produce(p, "load/1", next, 5)
		if round%3 == 0 {
			<-s.full
			s.give(-1)
			m.Wake()
		}
		eventually(t, "five messages", func() bool { return s.count() >= 5 })
		h.f.Leave(m)
		s.whole(t, "load/1", next, next+4)
		next += 5
	}
	if n := h.f.Subscriptions(); n != 1 {
		t.Errorf("%d subscriptions, want 1", n)
	}
}

// TestNewFilterOfOneThatIsBehind: a member that is behind subscribes to more. It gets nothing of the new
// filter that is older than the subscription, and nothing of the old one is lost.
func TestNewFilterOfOneThatIsBehind(t *testing.T) {
	h := open(t, store.Options{}, nil)
	p := h.topic("more", 1, nil).Partitions[0]
	s, witness := newSink(0), newSink(-1)
	h.join(witness, "more/#", 0)
	m := h.join(s, "more/old", 1)
	h.produce(p, "more/old", 0, 10)
	h.produce(p, "more/new", 0, 10)
	eventually(t, "the head is past them", func() bool { return witness.count() == 20 })
	h.f.Subscribe(m, &session.Subscription{Filter: "more/new", QoS: 1}, nil)
	h.produce(p, "more/new", 10, 10)
	h.produce(p, "more/old", 10, 10)
	eventually(t, "the head is past all", func() bool { return witness.count() == 40 })
	s.give(-1)
	m.Wake()
	eventually(t, "caught up", func() bool { return s.count() >= 30 })
	s.whole(t, "more/old", 0, 19)
	s.whole(t, "more/new", 10, 19)
}

// TestRetentionOvertakesAMember: what retention removed before a member could read it is gone for it, and
// the member goes on behind the gap.
func TestRetentionOvertakesAMember(t *testing.T) {
	h := open(t, store.Options{RetentionInterval: 5 * time.Millisecond, JournalBytes: 64 << 10, CacheBytes: 1}, nil)
	topic := h.topic("short", 1, map[string]string{"retention.bytes": "20000", "segment.bytes": "16384"})
	p := topic.Partitions[0]
	s := newSink(0)
	m := h.join(s, "short/#", 1)
	next := 0
	moved := func() bool {
		h.produce(p, "short/1", next, 50)
		next += 50
		b, err := h.log.Bounds(p)
		if err != nil {
			t.Fatal(err)
		}
		return b.Start > 100
	}
	eventually(t, "retention has removed something", moved)
	s.give(-1)
	m.Wake()
	eventually(t, "the newest message came", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		got := s.got["short/1"]
		return len(got) > 0 && got[len(got)-1] == next-1
	})
	s.mu.Lock()
	got := s.got["short/1"]
	s.mu.Unlock()
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Fatalf("%d came after %d", got[i], got[i-1])
		}
	}
	if len(got) >= next {
		t.Error("nothing was missed: the test tests nothing")
	}
}

// TestTopicsComeAndGo delivers from topics made after the start, and survives their deletion.
func TestTopicsComeAndGo(t *testing.T) {
	h := open(t, store.Options{}, nil)
	s := newSink(-1)
	h.join(s, "+/x", 0)
	for i := range 30 {
		name := fmt.Sprintf("come%d", i)
		p := h.topic(name, 1, nil).Partitions[0]
		h.produce(p, name+"/x", 0, 3)
		eventually(t, name, func() bool { return s.count() == 3*(i+1) })
		s.whole(t, name+"/x", 0, 2)
		if err := h.log.DeleteTopic(context.Background(), name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnwantedPartitionsAreSkipped moves past records that nobody can want, and is there when somebody
// does.
func TestUnwantedPartitionsAreSkipped(t *testing.T) {
	h := open(t, store.Options{}, nil)
	quiet, loud := h.topic("quiet", 1, nil).Partitions[0], h.topic("loud", 1, nil).Partitions[0]
	s := newSink(-1)
	m := h.join(s, "quiet/1", 0)
	for round := range 50 {
		h.produce(loud, "loud/1", round, 1)
		h.produce(quiet, "quiet/1", round, 1)
	}
	eventually(t, "all of quiet", func() bool { return s.count() == 50 })
	sub := &session.Subscription{Filter: "loud/1"}
	h.f.Subscribe(m, sub, nil)
	h.produce(loud, "loud/1", 50, 10)
	eventually(t, "all of loud", func() bool { return s.count() == 60 })
	s.whole(t, "loud/1", 50, 59)
	h.f.Unsubscribe(m, sub)
	h.produce(loud, "loud/1", 60, 10)
	h.produce(quiet, "quiet/1", 50, 1)
	eventually(t, "the last of quiet", func() bool { return s.count() == 61 })
	s.whole(t, "loud/1", 50, 59)
}
