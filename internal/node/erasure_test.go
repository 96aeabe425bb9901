package node_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/erasure"
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// house is a log in memory with its audit and its erasures.
type house struct {
	*erasure.Erasures
	t     *testing.T
	log   *store.Store
	trail *audit.Trail
	end   func()

	metrics *telemetry.Set
}

func open(t *testing.T, disk vfs.FS) *house {
	t.Helper()
	key, err := atrest.NewLocal(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := atrest.NewRing([]atrest.Wrapper{key})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, metrics: telemetry.New()}
	h.log, err = store.Open(t.Context(), store.Options{FS: disk, Keys: ring, Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	if h.trail, err = audit.Open(t.Context(), audit.Options{Log: h.log, FS: disk, Source: "/test"}); err != nil {
		t.Fatal(err)
	}
	h.Erasures, err = erasure.Open(t.Context(), erasure.Options{
		Log: h.log, Audit: h.trail, Places: h.places, Metrics: h.metrics,
		Logger: logtest.New(t, "requests to shred a subject cannot be read"),
		Clear:  func(context.Context, func([]byte) bool) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.trail.Run(ctx) }()
	h.end = func() {
		cancel()
		if err := <-ended; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		if err := h.log.Close(); err != nil {
			t.Error(err)
		}
	}
	return h
}

func (h *house) places() (places []erasure.Place) {
	for _, t := range h.log.Topics().All() {
		if t.Settings.Subject.Named() {
			places = append(places, erasure.Place{Topic: t, Of: t.Settings.Subject.Of})
		}
	}
	return places
}

// write makes a topic that names its subject by the key, if need be, and writes a record about each.
func (h *house) write(whom ...string) {
	h.t.Helper()
	topic := h.log.Topics().ByName("people")
	if topic == nil {
		var err error
		topic, err = h.log.CreateTopic(h.t.Context(), stream.TopicSpec{Name: "people", Partitions: 1,
			Config: map[string]string{"firth.subject": "key"}})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	for _, who := range whom {
		r := &record.Record{Timestamp: 1000, Key: []byte(who), Value: []byte("about " + who)}
		u := &stream.Unit{Writes: []stream.Write{{Partition: topic.Partitions[0], Record: r}}}
		if err := stream.StoreUnit(h.t.Context(), h.log, u); err != nil {
			h.t.Fatal(err)
		}
	}
}

// holds are the records, as readers see them.
func (h *house) holds() string {
	h.t.Helper()
	var lines []string
	p := h.log.Topics().ByName("people").Partitions[0]
	_, err := stream.Fold(h.t.Context(), h.log, p, 0, func(v *record.View) error {
		key, _, _ := strings.Cut(string(v.Key), "-")
		lines = append(lines, key+"="+string(v.Value))
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(lines, " ")
}

// await runs until a request has ended.
func (h *house) await(id string) erasure.Status {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	}()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		for _, st := range h.List() {
			if st.ID == id && st.Ended != nil {
				return st
			}
		}
	}
	h.t.Fatalf("it does not come to an end: %+v", h.List())
	return erasure.Status{}
}

// TestARequestOutlivesACrash asks, cuts the power before anything is done, and finds it done after the next start: up
// to where the log was when it was asked for.
func TestARequestOutlivesACrash(t *testing.T) {
	disk := vfs.NewMemory()
	h := open(t, disk)
	h.write("alice", "bob", "alice")
	asked, err := h.Ask(t.Context(), []byte("alice"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("alice")
	left := disk.CrashClone(nil)
	h.end()

	h = open(t, left)
	defer h.end()
	if again, err := h.Ask(t.Context(), []byte("alice")); err != nil || again.ID != asked.ID {
		t.Fatalf("another request for who is on the way: %+v %v", again, err)
	}
	st := h.await(asked.ID)
	if st.Records["people"] != 2 || st.Subject != asked.Subject || !st.Asked.Equal(asked.Asked) {
		t.Errorf("%+v", st)
	}
	if want := "shredded= bob=about bob shredded= alice=about alice"; h.holds() != want {
		t.Errorf("%s, want %s", h.holds(), want)
	}
	next, err := h.Ask(t.Context(), []byte("alice")) // it has ended: this one is about what came since
	if err != nil || next.ID == asked.ID || next.Subject == asked.Subject {
		t.Fatalf("%+v %v", next, err)
	}
	if st := h.await(next.ID); st.Records["people"] != 1 {
		t.Errorf("%+v", st)
	}
	if found := h.Find([]byte("alice")); len(found) != 2 || len(h.Find([]byte("bob"))) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestErasureRefused(t *testing.T) {
	h := open(t, vfs.NewMemory())
	defer h.end()
	if _, err := h.Ask(t.Context(), []byte("alice")); !fault.Is(err, fault.NotFound) {
		t.Errorf("no topic names a subject: %v", err)
	}
	h.write("bob")
	if _, err := h.Ask(t.Context(), nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("nobody: %v", err)
	}
}

// TestLostRequests: requests that cannot be read are told until somebody accepts that, also after a restart, and told
// anew when more of them are.
func TestLostRequests(t *testing.T) {
	disk := vfs.NewMemory()
	h := open(t, disk)
	told := func(want int64) {
		t.Helper()
		all := h.Lost()
		page := httptest.NewRecorder()
		h.metrics.Handler().ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
		if !strings.Contains(page.Body.String(), fmt.Sprintf("\nfirth_shred_requests_lost %d\n", want)) {
			t.Errorf("the metric does not tell of %d", want)
		}
		if len(all) != int(min(want, 1)) ||
			want > 0 && (all[0].Lost != want || !strings.Contains(all[0].Hint, "firth shred accept")) {
			t.Errorf("told of %+v, not of %d", all, want)
		}
	}
	spoil := func(id string) {
		t.Helper()
		row := record.Record{Key: []byte(id), Value: []byte("{")}
		if err := stream.StoreState(t.Context(), h.log, erasure.TopicName, []record.Record{row}); err != nil {
			t.Fatal(err)
		}
	}
	again := func() {
		t.Helper()
		h.end()
		h = open(t, disk)
	}
	h.write("alice")
	if _, err := h.Ask(t.Context(), []byte("alice")); err != nil {
		t.Fatal(err)
	}
	told(0)
	if err := h.Accept(t.Context()); !fault.Is(err, fault.NotFound) {
		t.Errorf("nothing was accepted: %v", err)
	}
	spoil("one")
	for range 2 {
		again()
		told(1)
	}
	if err := h.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	told(0)
	again()
	told(0)
	if len(h.List()) != 1 {
		t.Errorf("requests: %+v", h.List())
	}
	spoil("two")
	again()
	told(2)
	h.end()
}
