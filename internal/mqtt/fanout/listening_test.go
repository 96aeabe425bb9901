package fanout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// asked is a log that counts the questions for bounds.
type asked struct {
	stream.Log
	bounds atomic.Int32
	fails  atomic.Bool
}

// Bounds implements stream.Log.
func (a *asked) Bounds(p stream.PartitionID) (stream.Bounds, error) {
	a.bounds.Add(1)
	if a.fails.Load() {
		return stream.Bounds{}, fault.New(fault.IO, "test", "no bounds now")
	}
	return a.Log.Bounds(p)
}

// quiet is a fanout on a log with many topics, whose clock stands.
type quiet struct {
	*Fanout
	t     *testing.T
	log   *store.Store
	asked *asked
	clock atomic.Int64
	table atomic.Pointer[hinge.Table]
}

// idly makes one that does nothing by itself.
func idly(t *testing.T, topics ...string) *quiet {
	t.Helper()
	log, err := store.Open(context.Background(), store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	q := &quiet{t: t, log: log, asked: &asked{Log: log}}
	for _, name := range topics {
		q.create(name)
	}
	q.table.Store(q.mapping())
	q.Fanout = New(Options{
		Log: q.asked, Mapping: q.table.Load, Logger: logtest.New(t),
		Clock: func() time.Time { return time.UnixMilli(q.clock.Load()) },
	})
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func quietly(t *testing.T, topics ...string) *quiet {
	t.Helper()
	q := idly(t, topics...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return q
}

func (q *quiet) mapping(rules ...hinge.Rule) *hinge.Table {
	q.t.Helper()
	table, err := hinge.New(rules, hinge.Options{})
	if err != nil {
		q.t.Fatal(err)
	}
	return table
}

func (q *quiet) create(name string) {
	q.t.Helper()
	if _, err := q.log.CreateTopic(context.Background(), stream.TopicSpec{Name: name}); err != nil {
		q.t.Fatal(err)
	}
}

func (q *quiet) drop(name string) {
	q.t.Helper()
	if err := q.log.DeleteTopic(context.Background(), name); err != nil {
		q.t.Fatal(err)
	}
}

// follows lists the topics that are followed.
func (q *quiet) follows() string {
	l := q.listening
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for p := range l.mu.followed {
		name := "?"
		if t := q.log.Topics().Place(p).Topic; t != nil {
			name = t.Name
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (q *quiet) wants(want string) {
	q.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); q.follows() != want; <-tick.C {
		if time.Now().After(deadline) {
			q.t.Fatalf("follows %q, want %q", q.follows(), want)
		}
	}
}

func (q *quiet) produce(topic, key string) {
	q.t.Helper()
	p := q.log.Topics().ByName(topic).Partitions[0]
	done := make(placed, 1)
	r := record.Record{Key: []byte(key), Value: []byte("x")}
	if err := streamtest.Append(q.log, done, stream.Write{Partition: p, Record: &r}); err != nil {
		q.t.Fatal(err)
	}
	if err := <-done; err != nil {
		q.t.Fatal(err)
	}
}

type placed chan error

func (r placed) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

// counting is a sink that counts by name.
type counting struct{ got chan string }

func (c counting) Deliver(r *Run) Verdict {
	for d := r.Next(); d != nil; d = r.Next() {
		c.got <- string(d.Topic)
		r.Take()
	}
	return Taken
}

func (counting) Flush() {}

func (counting) Behind(int) {}

// TestFollowsWhatIsWanted asks for the bounds of partitions that somebody listens to, and follows no others: also when
// topics come and go, one gone and one made between two looks, and when the mapping changes.
func TestFollowsWhatIsWanted(t *testing.T) {
	var topics []string
	for i := range 100 {
		topics = append(topics, fmt.Sprintf("t%d", i))
	}
	q := quietly(t, topics...)
	if n := q.asked.bounds.Load(); n != 0 {
		t.Errorf("asked for the bounds of %d partitions, for nobody", n)
	}
	m := q.Join(counting{make(chan string, 100)}, packet.V5, "")
	one := &session.Subscription{Filter: "t1/#"}
	q.Subscribe(m, one, nil)
	q.Subscribe(m, &session.Subscription{Filter: "t2/x/y"}, nil)
	q.Subscribe(m, &session.Subscription{Filter: "new/+"}, nil)
	q.wants("t1 t2")
	if n := q.asked.bounds.Load(); n != 2 {
		t.Errorf("asked for %d bounds", n)
	}
	q.create("new")
	q.wants("new t1 t2")
	q.drop("t2")
	q.create("other")
	q.wants("new t1")
	q.create("t2")
	q.wants("new t1 t2")
	q.Remap(q.mapping(hinge.Rule{MQTT: "new/{name}", Topic: "t-{name}"}, hinge.Rule{MQTT: "new/a/#", Topic: "t7"}))
	q.wants("new t1 t2 t7")
	q.Unsubscribe(m, one)
	q.wants("new t1 t2 t7") // for a while
	q.produce("t1", "t1/x")
	for deadline := time.Now().Add(time.Minute); q.follows() != "new t2 t7"; { // the worker may see news after time passed
		if time.Now().After(deadline) {
			t.Fatalf("follows %q although nobody has listened to t1 for long", q.follows())
		}
		q.clock.Add(2 * leaveAfter.Milliseconds())
		q.produce("t1", "t1/x")
	}
	q.Leave(m)
}

// TestWildcardFollowsAll follows every topic that is not internal for a filter that begins with a wildcard.
func TestWildcardFollowsAll(t *testing.T) {
	q := quietly(t, "a", "b")
	m := q.Join(counting{make(chan string, 100)}, packet.V5, "")
	q.Subscribe(m, &session.Subscription{Filter: "+/x"}, nil)
	q.wants("a b")
	q.create("c")
	q.wants("a b c")
	q.drop("a")
	q.wants("b c")
}

// TestNewTopicFromItsStart delivers all of a topic that is made while somebody waits for it, although its records are
// there before it is followed, and nothing of it to whoever subscribes after them.
func TestNewTopicFromItsStart(t *testing.T) {
	q := quietly(t)
	early, late := counting{make(chan string, 100)}, counting{make(chan string, 100)}
	q.Subscribe(q.Join(early, packet.V5, ""), &session.Subscription{Filter: "+/x"}, nil)
	for i := range 30 {
		name := fmt.Sprintf("t%d", i)
		q.create(name)
		q.produce(name, name+"/x")
		m := q.Join(late, packet.V5, "")
		q.Subscribe(m, &session.Subscription{Filter: name + "/x"}, nil)
		q.produce(name, name+"/x")
		for range 2 {
			if got := <-early.got; got != name+"/x" {
				t.Fatalf("%s came for %s", got, name)
			}
		}
		if <-late.got; len(late.got) > 0 {
			t.Fatalf("%s: something older than the subscription came", name)
		}
		q.Leave(m)
	}
}

// TestHeardOfANewTopic: nobody is known to get the records of a topic that was made a moment ago, until the fanout
// looks: then who was there gets them, and who comes later does not.
func TestHeardOfANewTopic(t *testing.T) {
	q := idly(t)
	t.Cleanup(q.listening.watch.Stop)
	m, early := q.Join(counting{make(chan string, 1)}, packet.V5, ""), &session.Subscription{Filter: "new/+"}
	q.Subscribe(m, early, nil)
	q.create("new")
	q.create("other")
	q.produce("new", "new/x")
	q.produce("other", "other/x")
	of := func(topic string) stream.PartitionID { return q.log.Topics().ByName(topic).Partitions[0] }
	if got := q.Heard(of("new"), 0); got != 0 {
		t.Errorf("heard in epoch %d before it is followed", got)
	}
	q.Follow()
	late := &session.Subscription{Filter: "+/x"}
	q.Subscribe(m, late, nil)
	if got := q.Heard(of("new"), 0); got < q.Epoch(m, early) || got >= q.Epoch(m, late) {
		t.Errorf("heard in epoch %d, by subscriptions of %d and %d", got, q.Epoch(m, early), q.Epoch(m, late))
	}
	if got := q.Heard(of("other"), 0); got != 0 {
		t.Errorf("what nobody wanted was heard in epoch %d", got)
	}
}

// TestNewTopicWhoseStartCannotBeRead: the log does not say at first where a new topic begins. What came to it until it
// does is delivered to who was there, and to nobody who comes later.
func TestNewTopicWhoseStartCannotBeRead(t *testing.T) {
	q := idly(t)
	t.Cleanup(q.listening.watch.Stop)
	q.opt.Logger = logtest.New(t, "cannot follow a partition")
	m, early := q.Join(counting{make(chan string, 1)}, packet.V5, ""), &session.Subscription{Filter: "new/+"}
	q.Subscribe(m, early, nil)
	q.create("new")
	q.asked.fails.Store(true)
	q.Follow()
	q.produce("new", "new/x")
	q.asked.fails.Store(false)
	late := &session.Subscription{Filter: "+/x"}
	q.Subscribe(m, late, nil)
	got := q.Heard(q.log.Topics().ByName("new").Partitions[0], 0)
	if got < q.Epoch(m, early) || got >= q.Epoch(m, late) {
		t.Errorf("heard in epoch %d, by subscriptions of %d and %d", got, q.Epoch(m, early), q.Epoch(m, late))
	}
}

// TestRemapMissesNothing swaps the mapping while somebody listens: what the new one sends to a topic that was not
// followed before is delivered from its first message on.
func TestRemapMissesNothing(t *testing.T) {
	q := quietly(t, "lake")
	q.produce("lake", "lake/x")
	s := counting{make(chan string, 100)}
	q.Subscribe(q.Join(s, packet.V5, ""), &session.Subscription{Filter: "river/+"}, nil)
	table := q.mapping(hinge.Rule{MQTT: "river/{name}", Topic: "lake", Key: "{name}"})
	q.Remap(table)
	q.table.Store(table)
	q.produce("lake", "elbe")
	if got := <-s.got; got != "river/elbe" {
		t.Errorf("got %s", got)
	}
}

// TestInterest holds interest to what filters match: it never says no to what one of them may match, and with none left
// it says no to everything.
func TestInterest(t *testing.T) {
	table, err := hinge.New([]hinge.Rule{{MQTT: "a/{x}/#", Topic: "a-{x}"}, {MQTT: "b/{y}", Topic: "b"}},
		hinge.Options{Sparkplug: true})
	if err != nil {
		t.Fatal(err)
	}
	filters := []string{
		"#", "+", "a", "a/#", "a/+", "a/b/#", "a/+/c", "+/b/c", "+/+", "a-b/c", "b", "b/x", "/", "/+", "c/#",
		"$sparkplug/#", "$sparkplug/+/spBv1.0/+/NBIRTH/#", "$SYS/#",
	}
	const certificate = "$sparkplug/certificates/spBv1.0/G/NBIRTH/E"
	names := []string{"a/b", "a/b/c", "a/c/d", "b/x", "a", "b", "c/d", "a-b/c", "/", "/x"}
	var to hinge.Target
	for mask := range 1 << len(filters) {
		if mask%17 != 0 {
			continue
		}
		var in interest
		for i, f := range filters {
			if mask>>i&1 != 0 {
				in.add(f)
			}
		}
		for _, name := range names {
			if err := table.Target([]byte(name), &to); err != nil {
				t.Fatal(err)
			}
			wanted := slices.ContainsFunc(filters, func(f string) bool {
				return mask>>slices.Index(filters, f)&1 != 0 && matches(f, name)
			})
			if got := in.in(table, to.Topic); wanted && !got {
				t.Fatalf("filters %b: nobody wants %s of %s", mask, name, to.Topic)
			}
		}
		wanted := slices.ContainsFunc(filters, func(f string) bool {
			return mask>>slices.Index(filters, f)&1 != 0 && matches(f, certificate)
		})
		if got := in.in(table, hinge.RetainedTopic); got != wanted {
			t.Fatalf("filters %b: certificates are wanted: %v", mask, got)
		}
		for i, f := range filters {
			if mask>>i&1 != 0 {
				in.remove(f)
			}
		}
		if in.all != 0 || len(in.begins) != 0 {
			t.Fatalf("filters %b: left over %+v", mask, in)
		}
	}
}

func matches(filter, name string) (found bool) {
	var f Fanout
	f.subs.trie.Add(filter, &subscription{})
	f.match([]byte(name), func(*subscription) { found = true })
	return found
}

// BenchmarkWanted asks whether anybody wants a topic that nobody does: it must not matter how many filters there are.
func BenchmarkWanted(b *testing.B) {
	for _, n := range []int{10, 1_000_000} {
		b.Run(fmt.Sprintf("filters=%d", n), func(b *testing.B) {
			table, err := hinge.New([]hinge.Rule{{MQTT: "plant/{site}/#", Topic: "plant-{site}"}}, hinge.Options{})
			if err != nil {
				b.Fatal(err)
			}
			var in interest
			for i := range n {
				in.add(fmt.Sprintf("fleet/device-%d/#", i))
			}
			for b.Loop() {
				if in.in(table, "plant-berlin") {
					b.Fatal("somebody wants it")
				}
			}
		})
	}
}
