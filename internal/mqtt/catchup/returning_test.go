package catchup_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/race"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// from is a session that stands at the same offset everywhere.
func from(at record.Offset, subs ...*session.Subscription) fanout.Returning {
	return fanout.Returning{
		Subs:  subs,
		At:    func(stream.PartitionID) record.Offset { return at },
		Since: func(*session.Subscription, stream.PartitionID) record.Offset { return 0 },
	}
}

func filter(f string, qos byte) *session.Subscription {
	return &session.Subscription{Filter: f, QoS: qos}
}

func (h *house) back(s fanout.Sink, r fanout.Returning) *fanout.Member {
	m := h.f.Join(s, packet.V5, "")
	h.f.Return(m, r)
	return m
}

// TestReturn brings sessions back at all sorts of places while the log is written: each gets everything from there on,
// once and in order, and hears in the end that it is behind nowhere.
func TestReturn(t *testing.T) {
	h := open(t, store.Options{}, nil)
	topic := h.topic("back", 3, nil)
	const before, after = 500, 500
	write := func(first, count int) {
		var writers sync.WaitGroup
		for i, p := range topic.Partitions {
			writers.Go(func() {
				for n := first; n < first+count; n += 10 {
					h.produce(p, fmt.Sprintf("back/%d", i), n, 10)
				}
			})
		}
		writers.Wait()
	}
	write(0, before)
	var writing sync.WaitGroup
	writing.Go(func() { write(before, after) })
	places := []record.Offset{-1, 0, 1, 99, 250, 499, 500}
	var sinks []*sink
	for range 5 {
		for _, at := range places {
			s := newSink(-1)
			sinks = append(sinks, s)
			h.back(s, from(at, filter("back/#", 1)))
		}
	}
	writing.Wait()
	for i, s := range sinks {
		first := max(int(places[i%len(places)]), 0)
		want := 3 * (before + after - first)
		eventually(t, fmt.Sprintf("session %d has %d", i, want), func() bool { return s.count() >= want && s.inStep() })
		for part := range topic.Partitions {
			s.whole(t, fmt.Sprintf("back/%d", part), first, before+after-1)
		}
		s.check(t)
	}
	if n := h.behind.Len(); n != 0 {
		t.Errorf("%d cursors are left", n)
	}
}

// seat is a session that one connection after the other has. It takes messages at the offset that is next and no other.
type seat struct {
	mu     sync.Mutex
	epoch  int
	next   map[stream.PartitionID]record.Offset
	credit int // messages that it takes before it says Later
	full   chan struct{}
	wrong  error
}

// holder is one connection of a seat.
type holder struct {
	*seat
	epoch  int
	behind int
}

func (c *holder) Deliver(r *fanout.Run) fanout.Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d := r.Next(); d != nil; d = r.Next() {
		if c.seat.epoch != c.epoch {
			return fanout.Gone
		}
		if c.credit == 0 {
			select {
			case c.full <- struct{}{}:
			default:
			}
			return fanout.Later
		}
		c.credit--
		p, at := stream.PartitionID(d.From.Partition), record.Offset(d.From.Offset)
		if at != c.next[p] && c.wrong == nil {
			c.wrong = fmt.Errorf("partition %d: offset %d came, and %d was next", p, at, c.next[p])
		}
		if d.CatchUp && c.behind < 1 && c.wrong == nil {
			c.wrong = fmt.Errorf("offset %d comes from a cursor, and the session is behind nowhere", at)
		}
		c.next[p] = at + 1
		r.Take()
	}
	return fanout.Taken
}

func (c *holder) Flush() {}

func (c *holder) Behind(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.behind += by; c.behind < 0 {
		c.wrong = fmt.Errorf("behind in %d partitions", c.behind)
	}
}

// takeOver gives the seat to another connection.
func (s *seat) takeOver() (c *holder, at map[stream.PartitionID]record.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	return &holder{seat: s, epoch: s.epoch}, maps.Clone(s.next)
}

// play takes the seat over again and again, before and after the old connection has left, or lets it go on, until stop
// is closed. It counts how often, and gives the last connection.
func (s *seat) play(h *house, seed uint64, stop chan struct{}, takeovers *atomic.Int64) (last *holder) {
	rng := rand.New(rand.NewPCG(seed, 17))
	var m *fanout.Member
	for running := true; running; {
		credit := rng.IntN(300)
		select {
		case <-stop:
			running, credit = false, 1<<30
		case <-time.After(time.Duration(rng.IntN(3)) * time.Millisecond):
		case <-s.full:
		}
		s.mu.Lock()
		s.credit = credit
		s.mu.Unlock()
		if m != nil && rng.IntN(3) > 0 {
			m.Wake()
			continue
		}
		c, at := s.takeOver()
		old, early := m, rng.IntN(2) == 0
		if early && old != nil {
			h.f.Leave(old)
		}
		m = h.back(c, fanout.Returning{
			Subs:  []*session.Subscription{filter("take/#", 1)},
			At:    func(p stream.PartitionID) record.Offset { return at[p] },
			Since: func(*session.Subscription, stream.PartitionID) record.Offset { return 0 },
		})
		if !early && old != nil {
			h.f.Leave(old)
		}
		last = c
		takeovers.Add(1)
	}
	m.Wake()
	return last
}

// TestTakeover takes sessions over again and again under load: nothing is lost and nothing comes twice.
func TestTakeover(t *testing.T) {
	h := open(t, store.Options{}, nil)
	topic := h.topic("take", 4, nil)
	const each, seats = 2000, 8
	var writers, players sync.WaitGroup
	written := make(chan struct{})
	for i, p := range topic.Partitions {
		writers.Go(func() {
			for n := 0; n < each; n += 20 {
				h.produce(p, fmt.Sprintf("take/%d", i), n, 20)
			}
		})
	}
	var all [seats]*seat
	var last [seats]*holder
	var takeovers atomic.Int64
	for i := range all {
		s := &seat{next: make(map[stream.PartitionID]record.Offset), full: make(chan struct{}, 1)}
		all[i] = s
		players.Go(func() {
			last[i] = s.play(h, uint64(i), written, &takeovers)
		})
	}
	writers.Wait()
	// A machine may write all of it before the others come to anything; then they go on with what is there.
	eventually(t, "there were many takeovers", func() bool { return takeovers.Load() >= 5*seats })
	close(written)
	players.Wait()
	for i, s := range all {
		eventually(t, fmt.Sprintf("session %d has all", i), func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.wrong != nil || last[i].behind == 0 &&
				!slices.ContainsFunc(topic.Partitions, func(p stream.PartitionID) bool { return s.next[p] < each })
		})
		s.mu.Lock()
		if s.wrong != nil {
			t.Errorf("session %d: %v", i, s.wrong)
		}
		s.mu.Unlock()
	}
	eventually(t, "no cursor is left", func() bool { return h.behind.Len() == 0 })
}

// TestReturnWithoutQoS0 leaves out what a session would get with QoS 0 of what came while it was away, unless that is
// kept.
func TestReturnWithoutQoS0(t *testing.T) {
	h := open(t, store.Options{}, nil)
	p := h.topic("zero", 1, nil).Partitions[0]
	h.produce(p, "zero/a", 0, 50)
	h.produce(p, "zero/b", 0, 50)
	kept := from(10, filter("zero/#", 0))
	kept.QoS0 = true
	not, all, mixed := newSink(-1), newSink(-1), newSink(-1)
	h.back(not, from(10, filter("zero/#", 0)))
	h.back(all, kept)
	h.back(mixed, from(10, filter("zero/a", 0), filter("zero/b", 1)))
	h.produce(p, "zero/a", 50, 50)
	for s, want := range map[*sink][3]int{not: {50, 50, 0}, all: {10, 140, 0}, mixed: {50, 100, 0}} {
		eventually(t, "what is kept, and what is new", func() bool { return s.count() >= want[1] && s.inStep() })
		s.whole(t, "zero/a", want[0], 99)
		if n := s.count(); n != want[1] {
			t.Errorf("%d messages, want %d", n, want[1])
		}
		s.check(t)
	}
	mixed.whole(t, "zero/b", 0, 49)
}

// TestReturnSince gives a subscription that was made while the session was behind nothing that is older.
func TestReturnSince(t *testing.T) {
	h := open(t, store.Options{}, nil)
	p := h.topic("since", 1, nil).Partitions[0]
	h.produce(p, "since/a", 0, 20)
	h.produce(p, "since/b", 0, 20)
	h.produce(p, "since/a", 20, 20)
	h.produce(p, "since/b", 20, 20)
	a, b := filter("since/a", 1), filter("since/b", 1)
	r := from(5, a, b)
	r.Since = func(s *session.Subscription, _ stream.PartitionID) record.Offset {
		if s == b {
			return 30
		}
		return 0
	}
	s := newSink(-1)
	m := h.back(s, r)
	again := *b
	h.f.Subscribe(m, &again, b) // which changes nothing of it
	h.produce(p, "since/b", 40, 5)
	eventually(t, "all", func() bool { return s.count() >= 70 && s.inStep() })
	s.whole(t, "since/a", 5, 39)
	s.whole(t, "since/b", 10, 44)
	s.check(t)
}

// TestTopicsChangeWhileAway brings a session back for which a topic was made, one was deleted, and one is deleted at
// that moment.
func TestTopicsChangeWhileAway(t *testing.T) {
	h := open(t, store.Options{}, nil)
	gone := h.topic("gone", 2, nil)
	for _, p := range gone.Partitions {
		h.produce(p, "gone/x", 0, 10)
	}
	if err := h.log.DeleteTopic(context.Background(), "gone"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		name := fmt.Sprintf("made%d", i)
		made := h.topic(name, 2, nil)
		h.produce(made.Partitions[0], name+"/0", 0, 10)
		h.produce(made.Partitions[1], name+"/1", 0, 10)
		s := newSink(-1)
		m := h.back(s, from(-1, filter("gone/#", 1), filter(name+"/#", 1), filter("later/#", 1)))
		if i%2 == 0 {
			eventually(t, "all of the one that was made", func() bool { return s.count() >= 20 && s.inStep() })
			s.whole(t, name+"/0", 0, 9)
			s.whole(t, name+"/1", 0, 9)
		}
		if err := h.log.DeleteTopic(context.Background(), name); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is behind nowhere", s.inStep)
		s.check(t)
		later := h.topic("later", 1, nil).Partitions[0]
		h.produce(later, "later/x", 0, 5)
		eventually(t, "what was made later", func() bool { return len(s.numbers("later/x")) == 5 })
		h.f.Leave(m)
		if err := h.log.DeleteTopic(context.Background(), "later"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReturnForLittle brings sessions back that miss one record in each of two partitions of different workers: each
// has a cursor there and is through in no time, again and again.
func TestReturnForLittle(t *testing.T) {
	h := open(t, store.Options{}, nil)
	for _, p := range h.topic("little", 2, nil).Partitions {
		h.produce(p, fmt.Sprintf("little/%d", p), 0, 1)
	}
	for i := range 1500 {
		s := newSink(-1)
		m := h.back(s, from(0, filter("little/#", 1)))
		eventually(t, fmt.Sprintf("session %d has both", i), func() bool { return s.count() == 2 && s.inStep() })
		h.f.Leave(m)
	}
}

// TestReturnForSparse brings sessions back each of which wants one record in 40: they come many at a time.
func TestReturnForSparse(t *testing.T) {
	h := open(t, store.Options{}, nil)
	p := h.topic("sparse", 1, nil).Partitions[0]
	const sessions, each = 40, 50
	for n := range each {
		for i := range sessions {
			h.produce(p, fmt.Sprintf("sparse/%d", i), n, 1)
		}
	}
	var sinks []*sink
	for i := range sessions {
		sinks = append(sinks, newSink(-1))
		h.back(sinks[i], from(0, filter(fmt.Sprintf("sparse/%d", i), 1)))
	}
	flushes := 0
	for i, s := range sinks {
		eventually(t, fmt.Sprintf("session %d has all", i), func() bool { return s.count() == each && s.inStep() })
		s.whole(t, fmt.Sprintf("sparse/%d", i), 0, each-1)
		flushes += s.flushes
	}
	if flushes > sessions*each/3 {
		t.Errorf("%d messages were flushed %d times", sessions*each, flushes)
	}
}

// TestPartitionsMadeWhileTheyReturn makes topics while sessions come back that want them: they get them whole.
func TestPartitionsMadeWhileTheyReturn(t *testing.T) {
	h := open(t, store.Options{}, nil)
	const sessions, topics = 240, 80
	var wg sync.WaitGroup
	sinks := make([]*sink, sessions)
	for i := range sinks {
		sinks[i] = newSink(-1)
		wg.Go(func() { h.back(sinks[i], from(-1, filter("+/x", 1))) })
		if i%3 == 0 {
			wg.Go(func() {
				name := fmt.Sprintf("new%d", i/3)
				h.produce(h.topic(name, 1, nil).Partitions[0], name+"/x", 0, 10)
			})
		}
	}
	wg.Wait()
	for _, s := range sinks {
		eventually(t, "all topics", func() bool { return s.count() >= topics*10 && s.inStep() })
		for i := range topics {
			s.whole(t, fmt.Sprintf("new%d/x", i), 0, 9)
		}
		s.check(t)
	}
}

// TestSubscribeWhileReturning: a session that comes back subscribes to more at once. It gets what comes after that.
func TestSubscribeWhileReturning(t *testing.T) {
	h := open(t, store.Options{}, nil)
	old, other := h.topic("old", 1, nil).Partitions[0], h.topic("other", 1, nil).Partitions[0]
	witness := newSink(-1)
	h.join(witness, "#", 0)
	h.produce(old, "old/x", 0, 300)
	h.produce(old, "old/y", 0, 10)
	h.produce(other, "other/x", 0, 10)
	for i := range 200 {
		s := newSink(-1)
		m := h.back(s, from(200, filter("old/x", 1)))
		h.f.Subscribe(m, filter("other/x", 1), nil)
		h.f.Subscribe(m, filter("old/y", 1), nil)
		h.produce(other, "other/x", 10+i, 1)
		h.produce(old, "old/y", 10+i, 1)
		eventually(t, "the old and the new", func() bool { return s.count() >= 102 && s.inStep() })
		s.whole(t, "old/x", 200, 299)
		s.whole(t, "old/y", 10+i, 10+i)
		s.whole(t, "other/x", 10+i, 10+i)
		s.check(t)
		h.f.Leave(m)
	}
}

// TestRetentionWhileAway: a session comes back for what retention has removed. It goes on at the oldest that is there,
// and what it missed is counted.
func TestRetentionWhileAway(t *testing.T) {
	set := telemetry.New()
	h := open(t, store.Options{RetentionInterval: 5 * time.Millisecond, JournalBytes: 64 << 10, CacheBytes: 1},
		func(o *fanout.Options) { o.Metrics = set })
	config := map[string]string{"retention.bytes": "20000", "segment.bytes": "16384"}
	p := h.topic("past", 1, config).Partitions[0]
	next := 0
	start := func() record.Offset {
		b, err := h.log.Bounds(p)
		if err != nil {
			t.Fatal(err)
		}
		return b.Start
	}
	eventually(t, "retention has removed something", func() bool {
		h.produce(p, "past/1", next, 50)
		next += 50
		return start() > 100
	})
	s := newSink(-1)
	h.back(s, from(40, filter("past/#", 1)))
	h.produce(p, "past/1", next, 1)
	eventually(t, "the newest", func() bool {
		got := s.numbers("past/1")
		return len(got) > 0 && got[len(got)-1] == next && s.inStep()
	})
	got := s.numbers("past/1")
	if !slices.IsSorted(got) || got[0] < 100 {
		t.Errorf("%d came first", got[0])
	}
	if lost := dropped(set, "retention"); lost < 60 || lost > got[0]-40 {
		t.Errorf("%d are counted as missed, the first that came is %d", lost, got[0])
	}
	s.check(t)
}

// unbound is a log that cannot tell for a while where partitions begin and end.
type unbound struct {
	stream.Log
	silent atomic.Bool
}

func (u *unbound) Bounds(p stream.PartitionID) (stream.Bounds, error) {
	if u.silent.Load() {
		return stream.Bounds{}, fault.New(fault.Timeout, "bounds", "nobody answers")
	}
	return u.Log.Bounds(p)
}

// TestReturnToASilentLog brings sessions back while partitions cannot be followed: they are behind until that is over,
// miss nothing, and one that leaves meanwhile is forgotten.
func TestReturnToASilentLog(t *testing.T) {
	u := &unbound{}
	h := open(t, store.Options{}, func(o *fanout.Options) {
		u.Log = o.Log
		o.Log, o.Logger = u, logtest.New(t, "cannot follow a partition, trying again")
	})
	p := h.topic("mute", 1, nil).Partitions[0]
	h.produce(p, "mute/x", 0, 100)
	u.silent.Store(true)
	s, leaves := newSink(-1), newSink(-1)
	h.back(s, from(30, filter("mute/#", 1)))
	m := h.back(leaves, from(30, filter("mute/#", 1)))
	h.produce(p, "mute/x", 100, 10)
	h.f.Leave(m)
	eventually(t, "the one that left is forgotten", leaves.inStep)
	if s.inStep() || s.count() > 0 {
		t.Error("the session is in step with what nobody could ask")
	}
	u.silent.Store(false)
	eventually(t, "all", func() bool { return s.count() >= 80 && s.inStep() })
	s.whole(t, "mute/x", 30, 109)
	s.check(t)
}

// TestLeaveWhileReturning: who leaves before it was joined is forgotten.
func TestLeaveWhileReturning(t *testing.T) {
	h := open(t, store.Options{}, nil)
	topic := h.topic("brief", 4, nil)
	for _, p := range topic.Partitions {
		h.produce(p, "brief/x", 0, 20)
	}
	sinks := make([]*sink, 500)
	var wg sync.WaitGroup
	for i := range sinks {
		sinks[i] = newSink(i%3 - 1)
		wg.Go(func() {
			m := h.f.Join(sinks[i], packet.V5, "")
			if i%5 == 0 {
				h.f.Leave(m) // even before it came back
			}
			h.f.Return(m, from(record.Offset(i%25), filter("brief/#", 1)))
			h.f.Leave(m)
		})
	}
	wg.Wait()
	for _, s := range sinks {
		eventually(t, "it is forgotten", s.inStep)
		s.check(t)
	}
	if n := h.f.Subscriptions(); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	eventually(t, "no cursor is left", func() bool { return h.behind.Len() == 0 })
}

// watchReached holds what Reached says of a partition to what sinks got, until stop is closed, and gives how often each
// was found in step.
func (h *house) watchReached(p stream.PartitionID, sinks []*sink, stop chan struct{}) []int {
	inStep := make([]int, len(sinks))
	at := map[stream.PartitionID]record.Offset{}
	var since uint64
	for {
		select {
		case <-stop:
			return inStep
		default:
		}
		since = h.f.Reached(since, func(p stream.PartitionID, to record.Offset) {
			if to < at[p] {
				h.t.Errorf("partition %d went back from %d to %d", p, at[p], to)
			}
			at[p] = to
		})
		for i, s := range sinks {
			if !s.inStep() {
				continue
			}
			inStep[i]++
			s.mu.Lock()
			if s.next < int64(at[p]) {
				h.t.Errorf("session %d has all below %d, live delivery has come to %d", i, s.next, at[p])
			}
			s.mu.Unlock()
		}
	}
}

// TestReached holds what Reached says to what was offered: a session that is behind nowhere has everything below it.
func TestReached(t *testing.T) {
	h := open(t, store.Options{}, nil)
	topic := h.topic("mark", 2, nil)
	p := topic.Partitions[0]
	sinks := []*sink{newSink(-1), newSink(3), newSink(50)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, s := range sinks {
		m := h.join(s, "mark/0", 1)
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 5))
			for {
				select {
				case <-s.full:
				case <-stop:
					return
				}
				s.give(1 + rng.IntN(100))
				m.Wake()
			}
		})
	}
	var inStep []int
	wg.Go(func() { inStep = h.watchReached(p, sinks, stop) })
	for n := 0; n < 3000; n += 5 {
		h.produce(p, "mark/0", n, 5)
	}
	for _, s := range sinks {
		eventually(t, "all", func() bool { return s.count() == 3000 && s.inStep() })
	}
	eventually(t, "live delivery is through", func() (through bool) {
		h.f.Reached(0, func(q stream.PartitionID, at record.Offset) { through = through || q == p && at == 3000 })
		return through
	})
	close(stop)
	wg.Wait()
	for i, n := range inStep {
		if n == 0 {
			t.Errorf("session %d was never in step", i)
		}
	}
}

// TestReachedSince visits what moved since, and what a filter may want.
func TestReachedSince(t *testing.T) {
	h := open(t, store.Options{}, nil)
	topic := h.topic("mark", 2, nil)
	p, q := topic.Partitions[0], topic.Partitions[1]
	s := newSink(-1)
	h.join(s, "#", 0)
	var since uint64
	moves := func(want ...stream.PartitionID) {
		t.Helper()
		var moved []stream.PartitionID
		eventually(t, "they moved", func() bool {
			since = h.f.Reached(since, func(p stream.PartitionID, _ record.Offset) {
				if !slices.Contains(moved, p) {
					moved = append(moved, p)
				}
			})
			return len(moved) >= len(want)
		})
		if slices.Sort(moved); !slices.Equal(moved, want) {
			t.Errorf("%d moved, not %d", moved, want)
		}
	}
	moves(p, q)
	h.produce(q, "mark/1", 0, 1)
	moves(q)
	h.produce(p, "mark/0", 0, 1)
	h.produce(q, "mark/1", 1, 1)
	moves(p, q)
	h.topic("else", 1, nil)
	visited := map[stream.PartitionID]record.Offset{}
	eventually(t, "both have come to the end", func() bool {
		h.f.ReachedFor(t.Context(), "mark/+", func(p stream.PartitionID, at record.Offset) { visited[p] = at })
		return visited[p] == 1 && visited[q] == 2
	})
	if len(visited) != 2 {
		t.Errorf("%v", visited)
	}
}

// pulse publishes a message now and then, until stop is closed.
func (h *house) pulse(w *stopwatch, p stream.PartitionID, stop chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		w.start()
		h.produce(p, "live/x", n, 1)
	}
}

// TestCrowdReturns brings 10,000 sessions back at once, at places all over 1,000 partitions, while messages are
// delivered live.
func TestCrowdReturns(t *testing.T) {
	sessions := 10_000
	if race.Detector || testing.Short() {
		sessions = 1000
	}
	const topics, partitions, each, most = 50, 20, 40, 20_000
	h := open(t, store.Options{}, func(o *fanout.Options) { o.TurnBytes = 0 })
	live := h.topic("live", 1, nil).Partitions[0]
	var parts [topics][]stream.PartitionID
	for i := range parts {
		name := fmt.Sprintf("crowd%d", i)
		parts[i] = h.topic(name, partitions, nil).Partitions
		for _, p := range parts[i] {
			h.produce(p, name+"/x", 0, each)
		}
	}
	var returned atomic.Int64 // messages
	w := &stopwatch{meanwhile: returned.Load}
	h.f.Subscribe(h.f.Join(w, packet.V311, ""), filter("live/#", 0), nil)
	stop := make(chan struct{})
	var pulse, callers sync.WaitGroup
	pulse.Go(func() { h.pulse(w, live, stop) })
	eventually(t, "some are delivered live", func() bool { return len(w.all()) >= 200 })
	quiet, _ := w.percentile(99)
	w.reset()
	sinks, want := make([]*sink, sessions), make([]int, sessions)
	began := time.Now()
	for c := range 8 {
		callers.Go(func() {
			for i := c; i < sessions; i += 8 {
				rng := rand.New(rand.NewPCG(uint64(i), 1))
				at := make(map[stream.PartitionID]record.Offset)
				for _, p := range parts[i%topics] {
					at[p] = record.Offset(rng.IntN(each + 1))
					want[i] += each - int(at[p])
				}
				sinks[i] = newSink(-1)
				sinks[i].all = &returned
				r := from(0, filter(fmt.Sprintf("crowd%d/#", i%topics), 1))
				r.At = func(p stream.PartitionID) record.Offset { return at[p] }
				h.back(sinks[i], r)
			}
		})
	}
	callers.Wait()
	called := time.Since(began)
	for i, s := range sinks {
		eventually(t, fmt.Sprintf("session %d has all", i), func() bool { return s.count() == want[i] && s.inStep() })
		s.check(t)
	}
	took := time.Since(began)
	close(stop)
	pulse.Wait()
	p99, between := w.percentile(99)
	t.Logf("%d sessions called back in %v, had %d partitions each in %v; live p99 %v, %d messages, meanwhile, %v before",
		sessions, called, partitions, took, p99, between, quiet)
	if between > most { // what is counted does not depend on what else the machine does
		t.Errorf("p99 of live messages waits for %d of those that return", between)
	}
}

// stopwatch is a sink that measures how long messages took, which come one at a time, and how much else was done
// meanwhile.
type stopwatch struct {
	meanwhile func() int64

	mu    sync.Mutex
	began time.Time
	from  int64
	took  []time.Duration
	done  []int64
}

func (w *stopwatch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.from = time.Now(), w.meanwhile()
}

func (w *stopwatch) all() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.took)
}

func (w *stopwatch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took, w.done = nil, nil
}

func (w *stopwatch) percentile(n int) (took time.Duration, done int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.took) == 0 {
		return 0, 0
	}
	slices.Sort(w.took)
	slices.Sort(w.done)
	at := len(w.took) * n / 100
	return w.took[at], w.done[at]
}

func (w *stopwatch) Deliver(r *fanout.Run) fanout.Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	for d := r.Next(); d != nil; d = r.Next() {
		if strings.HasPrefix(string(d.Topic), "live/") {
			w.took = append(w.took, time.Since(w.began))
			w.done = append(w.done, w.meanwhile()-w.from)
		}
		r.Take()
	}
	return fanout.Taken
}

func (w *stopwatch) Flush() {}

func (w *stopwatch) Behind(int) {}
