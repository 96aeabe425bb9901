package fanout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// still is a fanout whose worker is driven by hand, with a sink that notes what it is offered.
type still struct {
	*Fanout
	w     *worker
	part  *part
	topic string
	table *hinge.Table
}

func hold(t testing.TB, rules ...hinge.Rule) *still {
	t.Helper()
	log, err := store.Open(context.Background(), store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	made, err := log.CreateTopic(context.Background(), stream.TopicSpec{Name: "fleet"})
	if err != nil {
		t.Fatal(err)
	}
	s := &still{topic: made.Name}
	s.use(t, rules...)
	s.Fanout = New(Options{Log: log, Mapping: func() *hinge.Table { return s.table }, Workers: 1})
	t.Cleanup(s.listening.watch.Stop)
	s.w, s.part = s.workers[0], &part{id: made.Partitions[0]}
	s.w.now = time.UnixMilli(1_700_000_000_000)
	return s
}

// live has the worker deliver a record that became news just now.
func (s *still) live(v *record.View) {
	s.take(v)
	s.w.offerBatch()
}

// take has the worker take such a record in hand.
func (s *still) take(v *record.View) {
	s.w.turning = turning{part: s.part, topic: s.topic, table: s.table}
	s.w.epochs = append(s.w.epochs[:0], heard{0, s.epoch.Load()})
	s.w.live(v)
}

func (s *still) use(t testing.TB, rules ...hinge.Rule) {
	t.Helper()
	table, err := hinge.New(rules, hinge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.table = table
}

// view is a record as the log gives it.
func view(t testing.TB, r *record.Record) *record.View {
	t.Helper()
	var bu record.Builder
	bu.Reset(nil, r.Timestamp)
	bu.Append(r)
	var it record.Iter
	if err := it.Reset(bu.Seal(0, 0), nil); err != nil {
		t.Fatal(err)
	}
	var v record.View
	if !it.Next(&v) {
		t.Fatal(it.Err())
	}
	return &v
}

// notes is a sink that keeps the last delivery.
type notes struct {
	name string
	qos  byte
	n    int
}

func (s *notes) Deliver(r *Run) Verdict {
	for d := r.Next(); d != nil; d = r.Next() {
		s.name, s.qos = string(d.Topic), d.QoS
		s.n++
		r.Take()
	}
	return Taken
}

func (s *notes) Flush() {}

func (s *notes) Behind(int) {}

// anyRecord has one of a few keys and, now and then, a header that changes what it says.
func anyRecord(rng *rand.Rand, keys []string) *record.Record {
	r := &record.Record{Key: []byte(keys[rng.IntN(len(keys))]), Value: []byte("x")}
	r.Headers = []record.Header{{Key: hinge.HeaderFlags, Value: []byte(strconv.Itoa(rng.IntN(2)))}}
	switch rng.IntN(6) {
	case 0:
		r.Headers = append(r.Headers, record.Header{Key: hinge.HeaderTopic, Value: []byte("fleet/named")})
	case 1:
		r.Headers = append(r.Headers, record.Header{Key: "trace", Value: []byte("1")})
	case 2:
		r.Headers = nil
	}
	return r
}

// TestKnown sends records with few keys through a worker while subscriptions come and go and the mapping
// changes, and holds each delivery to what names.Match and a mapping without memory say.
func TestKnown(t *testing.T) {
	tables := [][]hinge.Rule{nil, {{MQTT: "plant/{site}/#", Topic: "fleet", Key: "{topic}"}},
		{{MQTT: "cars/{id}", Topic: "fleet", Key: "{id}", Headers: map[string]string{"from": "{id}"}}}}
	filters := []string{"#", "fleet/#", "fleet/+/rpm", "fleet/m1/rpm", "plant/+", "plant/a", "cars/+", "cars/m1", "fleet"}
	keys := []string{"", "fleet/m1/rpm", "fleet/m2/rpm", "m1", "m2", "plant/a", "plant/b", "fleet/+", "cars/m1"}
	h := hold(t)
	rng := rand.New(rand.NewPCG(3, 5))
	type holder struct {
		m    *Member
		sink *notes
		subs []*session.Subscription
	}
	var holders [4]holder
	for i := range holders {
		holders[i].sink = &notes{}
		holders[i].m = h.Join(holders[i].sink, packet.V5, "")
	}
	var fresh hinge.Message
	known := 0
	for step := range 50_000 {
		p := &holders[rng.IntN(len(holders))]
		switch n := rng.IntN(200); {
		case n == 0:
			h.use(t, tables[rng.IntN(len(tables))]...)
		case n < 4:
			sub := &session.Subscription{Filter: filters[rng.IntN(len(filters))], QoS: byte(rng.IntN(2))}
			h.Subscribe(p.m, sub, nil)
			p.subs = append(p.subs, sub)
		case n < 8 && len(p.subs) > 0:
			i := rng.IntN(len(p.subs))
			h.Unsubscribe(p.m, p.subs[i])
			p.subs = slices.Delete(p.subs, i, i+1)
		}
		v := view(t, anyRecord(rng, keys))
		for i := range holders {
			holders[i].sink.n = 0
		}
		if e, _ := h.w.known.find(h.part.id, v.Key); e != nil && h.w.known.version == h.version.Load() {
			known++
		}
		h.live(v)
		h.w.touched = h.w.touched[:0]
		if !h.table.Message(h.topic, v, &fresh) {
			t.Fatal("no message")
		}
		for i, p := range holders {
			p.m.at[0].touched = false
			best := -1
			for _, sub := range p.subs {
				if names.Match(sub.Filter, fresh.Topic) {
					best = max(best, int(min(sub.QoS, fresh.QoS)))
				}
			}
			switch {
			case best < 0 && p.sink.n > 0, best >= 0 && p.sink.n != 1:
				t.Fatalf("step %d: member %d got %q %d times, filters match: %v", step, i, fresh.Topic, p.sink.n, best >= 0)
			case best >= 0 && (p.sink.name != string(fresh.Topic) || int(p.sink.qos) != best):
				t.Fatalf("step %d: %q at QoS %d, not %q at %d", step, p.sink.name, p.sink.qos, fresh.Topic, best)
			}
		}
	}
	if known < 10_000 {
		t.Errorf("only %d of 50,000 records had a known key", known)
	}
}

// TestKnownForgets holds what is kept of members to those that are there.
func TestKnownForgets(t *testing.T) {
	h := hold(t)
	m := h.Join(&notes{}, packet.V5, "")
	sub := &session.Subscription{Filter: "fleet/#"}
	h.Subscribe(m, sub, nil)
	for i := range 3 * knownPlaces {
		h.live(view(t, &record.Record{Key: fmt.Appendf(nil, "fleet/m%d", i), Value: []byte("x")}))
	}
	if len(h.w.known.used) == 0 || len(h.w.known.used) > knownPlaces {
		t.Fatalf("%d places used", len(h.w.known.used))
	}
	h.Leave(m)
	h.w.known.begin(h.table, h.version.Load())
	for _, e := range h.w.known.places {
		if e.full || slices.ContainsFunc(e.subs[:cap(e.subs)], func(s *subscription) bool { return s != nil }) {
			t.Fatalf("%+v", e)
		}
	}
}

// found is how many subscriptions of a member match a name.
func found(m *Member, name []byte) (n int) {
	m.matching(name, func(*subscription) { n++ })
	return n
}

// TestManySubscriptions holds one member with so many subscriptions that they are indexed to what it is told:
// replaced and ended ones are gone, and those that match are found.
func TestManySubscriptions(t *testing.T) {
	h := hold(t)
	m, other := h.Join(&notes{}, packet.V5, ""), h.Join(&notes{}, packet.V5, "")
	subs := make([]*session.Subscription, 1000)
	h.Subscribe(other, &session.Subscription{Filter: "fleet/#", NoLocal: true}, nil)
	for i := range subs {
		subs[i] = &session.Subscription{Filter: fmt.Sprintf("fleet/m%d/+", i), NoLocal: i%2 == 1}
		h.Subscribe(m, subs[i], nil)
	}
	for i := range subs {
		again := *subs[i]
		h.Subscribe(m, &again, subs[i])
		subs[i] = &again
	}
	if n := h.Subscriptions(); n != len(subs)+1 {
		t.Fatalf("%d subscriptions", n)
	}
	for i, s := range subs {
		name := fmt.Appendf(nil, "fleet/m%d/rpm", i)
		if got := m.NoLocal(name); got != s.NoLocal {
			t.Fatalf("%s: No Local is %v", name, got)
		}
		if found(m, name) != 1 {
			t.Fatalf("%s: nothing found", name)
		}
		h.Unsubscribe(m, s)
		h.Unsubscribe(m, s) // that it is not there any more means nothing
		if found(m, name) > 0 {
			t.Fatalf("%s: found after its end", name)
		}
	}
	if n := h.Subscriptions(); n != 1 || m.index != nil {
		t.Fatalf("%d subscriptions, index %v", n, m.index)
	}
}

// BenchmarkResubscribe replaces one of a member's subscriptions: it must not matter how many there are.
func BenchmarkResubscribe(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("subscriptions=%d", n), func(b *testing.B) {
			h := hold(b)
			m := h.Join(&notes{}, packet.V5, "")
			subs := make([]*session.Subscription, n)
			for i := range subs {
				subs[i] = &session.Subscription{Filter: fmt.Sprintf("fleet/m%d/+", i)}
				h.Subscribe(m, subs[i], nil)
			}
			i := 0
			for b.Loop() {
				again := *subs[i]
				h.Subscribe(m, &again, subs[i])
				subs[i] = &again
				i = (i + 1) % n
			}
		})
	}
}

// fans are the records of n names and what they are delivered to, batch by batch.
func fans(t testing.TB, names, subscribers int) func() {
	h := hold(t)
	for range subscribers {
		h.Subscribe(h.Join(taking{}, packet.V311, ""), &session.Subscription{Filter: "fleet/#", QoS: 1}, nil)
	}
	views := make([]*record.View, names)
	for i := range views {
		views[i] = view(t, &record.Record{
			Timestamp: 1_700_000_000_000, Key: fmt.Appendf(nil, "fleet/line7/machine-%06d/rpm", i), Value: make([]byte, 100),
			Headers: []record.Header{{Key: hinge.HeaderFlags, Value: []byte("1")}},
		})
	}
	i := 0
	return func() {
		h.take(views[i])
		if i++; i == len(views) {
			i = 0
		}
	}
}

// taking is a sink that takes everything.
type taking struct{}

func (taking) Deliver(r *Run) Verdict {
	for r.Next() != nil {
		r.Take()
	}
	return Taken
}

func (taking) Flush() {}

func (taking) Behind(int) {}

func TestLiveAllocs(t *testing.T) {
	for _, names := range []int{1, 16, 100_000} {
		live := fans(t, names, 3)
		for range min(4*names, 150_000) {
			live()
		}
		if n := alloctest.PerRun(1000, 0, live); n != 0 {
			t.Errorf("%d names: %v allocations a record", names, n)
		}
	}
}

// BenchmarkLive is a record from its view to the frame of its PUBLISH: names that come again and again, and so
// many that none is known.
func BenchmarkLive(b *testing.B) {
	for _, load := range []struct{ names, subscribers int }{{1, 1}, {16, 1}, {1000, 1}, {100_000, 1}, {16, 100}} {
		b.Run(fmt.Sprintf("names=%d,subscribers=%d", load.names, load.subscribers), func(b *testing.B) {
			live := fans(b, load.names, load.subscribers)
			b.ReportAllocs()
			for b.Loop() {
				live()
			}
		})
	}
}

// TestHeardOfWhatIsHeldBack asks for a record behind an open transaction: it is news to come, so that who subscribes
// now gets it live, and not from the retained messages besides.
func TestHeardOfWhatIsHeldBack(t *testing.T) {
	f := &Fanout{}
	f.workers = []*worker{newWorker(f, 0)}
	w := f.workers[0]
	f.epoch.Store(7)
	w.prepare(3)
	w.start(3, 0, 5)
	if got := f.Heard(3, 4); got != 7 {
		t.Errorf("a record that is news was heard in %d", got)
	}
	if got := f.Heard(3, 6); got <= 1000 {
		t.Errorf("a record that is held back was heard in %d", got)
	}
	f.epoch.Store(9)
	w.advanced(3, 8)
	if got := f.Heard(3, 6); got != 9 {
		t.Errorf("when it is news it was heard in %d, want 9", got)
	}
}
