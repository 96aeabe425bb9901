package retain_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/firthmq/firth/internal/mqtt/retain"
)

const patience = time.Minute

type house struct {
	t     *testing.T
	fs    vfs.FS
	log   *store.Store
	table *hinge.Table
	store *retain.Store
	stop  func()
}

func open(t *testing.T, fs vfs.FS, maxTopics int) *house {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log, err := store.Open(ctx, store.Options{FS: fs, JournalBytes: 1 << 20, Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	table, err := hinge.New(nil, hinge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	current := func() *hinge.Table { return table }
	s, err := retain.Open(ctx, retain.Options{Log: log, Mapping: current, MaxTopics: maxTopics, Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	h := &house{t: t, fs: fs, log: log, table: table, store: s}
	h.stop = func() {
		h.stop = func() {}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { h.stop() })
	return h
}

type receipt chan error

func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

// set appends a retained message as the door does, and waits until it is acknowledged.
func (h *house) set(m *hinge.Message) {
	h.t.Helper()
	var to hinge.Target
	h.table.CatchAllTarget(m.Topic, &to)
	r := record.Record{Timestamp: time.Now().UnixMilli()}
	to.Record(m, &r)
	if len(m.Payload) == 0 {
		r.Value = nil
	}
	done := make(receipt, 1)
	if err := streamtest.Append(h.log, done, stream.Write{Partition: h.store.Partition(), Record: &r}); err != nil {
		h.t.Fatal(err)
	}
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) text(topic, payload string) {
	h.t.Helper()
	h.set(&hinge.Message{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: true})
}

// receiver takes credit messages, then says Later. It is the test's when a turn has ended, until the next Resume; so
// a test has fewer than 256 messages sent at a time.
type receiver struct {
	credit  int // -1: all
	got     map[string]string
	request *retain.Request
	turns   chan struct{} // that have ended
	check   func(m *hinge.Message)
}

func newReceiver(credit int) *receiver {
	return &receiver{credit: credit, got: map[string]string{}, turns: make(chan struct{}, 1)}
}

func (r *receiver) Retained(q *retain.Request, m *hinge.Message, _ record.Offset) retain.Outcome {
	r.request = q
	if r.credit == 0 {
		return retain.Later
	}
	if r.credit > 0 {
		r.credit--
	}
	r.got[string(m.Topic)] = string(m.Payload)
	if r.check != nil {
		r.check(m)
	}
	return retain.Sent
}

func (r *receiver) RetainedFlush() {
	select {
	case r.turns <- struct{}{}:
	default: // nobody has waited for the last one
	}
}

// turn waits until a turn has ended: a request that is small enough is all sent then.
func (r *receiver) turn(t *testing.T) {
	t.Helper()
	select {
	case <-r.turns:
	case <-time.After(patience):
		t.Fatal("the request had no turn in time")
	}
}

// find is what a subscription with a filter gets.
func (h *house) find(filter string) map[string]string {
	h.t.Helper()
	r := newReceiver(-1)
	h.store.Send(filter, r)
	r.turn(h.t)
	return r.got
}

func same(t *testing.T, got map[string]string, want ...string) {
	t.Helper()
	wanted := map[string]string{}
	for i := 0; i < len(want); i += 2 {
		wanted[want[i]] = want[i+1]
	}
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("got %v, want %v", got, wanted)
	}
}

func TestFold(t *testing.T) {
	fs := vfs.NewMemory()
	h := open(t, fs, 0)
	h.text("a/1", "one")
	same(t, h.find("a/#"), "a/1", "one")
	h.text("a/1", "two")
	h.text("a/2", "x")
	h.text("b", "y")
	same(t, h.find("a/+"), "a/1", "two", "a/2", "x")
	h.text("a/2", "")
	same(t, h.find("#"), "a/1", "two", "b", "y")
	h.text("b", "")
	h.text("never set", "")
	if n := h.store.Len(); n != 1 {
		t.Errorf("%d names, want 1", n)
	}
	h.stop()
	h = open(t, fs, 0)
	same(t, h.find("#"), "a/1", "two")
}

func TestProperties(t *testing.T) {
	fs := vfs.NewMemory()
	h := open(t, fs, 0)
	user := []byte{0x26, 0, 1, 'k', 0, 1, 'v'}
	h.set(&hinge.Message{
		Topic: []byte("p"), Payload: []byte("x"), QoS: 1, Retain: true, HasExpiry: true, Expiry: 100, HasPayloadFormat: true,
		PayloadFormat: 1, ContentType: []byte("c"), ResponseTopic: []byte("r"), Correlation: []byte{0}, UserProperties: user,
	})
	check := func(m *hinge.Message) {
		if !m.HasExpiry || m.Expiry != 100 || !m.HasPayloadFormat || m.PayloadFormat != 1 || string(m.ContentType) != "c" ||
			string(m.ResponseTopic) != "r" || string(m.Correlation) != "\x00" || string(m.UserProperties) != string(user) ||
			m.QoS != 1 || !m.Retain {
			t.Errorf("%+v", m)
		}
	}
	for range 2 {
		r := newReceiver(-1)
		r.check = check
		h.store.Send("p", r)
		r.turn(t)
		if len(r.got) != 1 {
			t.Errorf("got %v", r.got)
		}
		h.stop()
		h = open(t, fs, 0)
	}
}

// TestSlowReceiver takes a few at a time; what changes in between comes in its newest form.
func TestSlowReceiver(t *testing.T) {
	h := open(t, vfs.NewMemory(), 0)
	const count = 1000
	for i := range count {
		h.text(fmt.Sprintf("s/%d", i), "old")
	}
	r := newReceiver(10)
	h.store.Send("s/#", r)
	r.turn(t)
	early := maps.Clone(r.got)
	if len(early) != 10 {
		t.Fatalf("%d messages where 10 are taken", len(early))
	}
	for i := range count {
		if name := fmt.Sprintf("s/%d", i); i%2 == 0 {
			h.text(name, "new")
		}
	}
	for range count / 100 {
		r.credit = 100
		h.store.Resume(r.request)
		r.turn(t)
	}
	if len(r.got) != count {
		t.Fatalf("%d messages, want %d", len(r.got), count)
	}
	for i := range count {
		name, want := fmt.Sprintf("s/%d", i), "old"
		if _, first := early[name]; !first && i%2 == 0 {
			want = "new"
		}
		if r.got[name] != want {
			t.Errorf("%s is %s, want %s", name, r.got[name], want)
		}
	}
}

func TestFull(t *testing.T) {
	h := open(t, vfs.NewMemory(), 2)
	for _, name := range []string{"1", "2"} {
		if h.store.Full([]byte(name)) {
			t.Errorf("full before %s", name)
		}
		h.text(name, "x")
		h.find("#") // folded
	}
	if !h.store.Full([]byte("3")) || h.store.Full([]byte("1")) {
		t.Error("the bound does not hold, or holds for names that are there")
	}
}
