package kafka

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// reader is a client with a fetch session of one topic.
type reader struct {
	c         *client
	version   int16
	topic     *stream.Topic
	id, epoch int32
}

// fetch asks for partitions from offsets, given in turn, and forgets others.
func (r *reader) fetch(forget []int32, asked ...int64) *kmsg.FetchResponse {
	r.c.t.Helper()
	req := fetchFrom(r.topic, 0, 0, 0, 1)
	req.MaxBytes, req.SessionID, req.SessionEpoch = 50<<20, r.id, r.epoch
	req.Topics[0].Partitions = nil
	for i := 0; i+1 < len(asked); i += 2 {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = int32(asked[i]), asked[i+1], 1<<20
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
	}
	if len(asked) == 0 {
		req.Topics = nil
	}
	if len(forget) > 0 {
		f := kmsg.NewFetchRequestForgottenTopic()
		f.Topic, f.TopicID, f.Partitions = r.topic.Name, r.topic.ID, forget
		req.ForgottenTopics = append(req.ForgottenTopics, f)
	}
	resp := askFor[*kmsg.FetchResponse](r.c, r.version, req)
	if r.id, r.epoch = resp.SessionID, r.epoch+1; r.id == 0 {
		r.epoch = 0
	}
	return resp
}

// parts is what an answer tells of, as "partition:records".
func parts(resp *kmsg.FetchResponse) []string {
	var all []string
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			n := 0
			for b := record.Batch(p.RecordBatches); len(b) > 0; b = b[b.Size():] {
				n += int(b.Count())
			}
			all = append(all, fmt.Sprintf("%d:%d", p.Partition, n))
		}
	}
	return all
}

func wantParts(t *testing.T, what string, resp *kmsg.FetchResponse, want ...string) {
	t.Helper()
	wantCode(t, what, resp.ErrorCode, wire.None)
	if got := parts(resp); !slices.Equal(got, want) {
		t.Fatalf("%s: told of %v, want %v", what, got, want)
	}
}

// KIP-227: the client says what changes and is told what changed.
//
// [Kafka-Fetch].
func TestFetchSession(t *testing.T) {
	for _, version := range []int16{7, 11, 12, 13, 18} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) { playFetchSession(t, version) })
	}
}

func playFetchSession(t *testing.T, version int16) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 4)
	c := h.dial()
	h.put(c, topic, 1, batchOf(3, 10))
	r := &reader{c: c, version: version, topic: topic}
	wantParts(t, "the first", r.fetch(nil, 0, 0, 1, 0, 2, 0), "0:0", "1:3", "2:0")
	if r.id == 0 {
		t.Fatal("no session is given")
	}
	id := r.id
	wantParts(t, "nothing new", r.fetch(nil, 1, 3))
	h.put(c, topic, 2, batchOf(2, 10))
	h.put(c, topic, 3, batchOf(1, 10))
	wantParts(t, "records", r.fetch(nil), "2:2")
	wantParts(t, "asked again", r.fetch(nil, 2, 0), "2:2")
	wantParts(t, "one more", r.fetch(nil, 2, 2, 3, 0), "3:1")
	h.put(c, topic, 1, batchOf(1, 10))
	wantParts(t, "forgotten", r.fetch([]int32{1, 77}, 3, 1))
	wantParts(t, "taken in again", r.fetch(nil, 1, 3), "1:1")
	if _, err := h.store.TrimTo(t.Context(), topic.Partitions[2], 1); err != nil {
		t.Fatal(err)
	}
	wantParts(t, "another log start", r.fetch(nil, 1, 4), "2:0")
	wantParts(t, "nothing new", r.fetch(nil))
	resp := r.fetch(nil, 0, 9)
	wantParts(t, "above the end", resp, "0:0")
	wantCode(t, "above the end", fetched(resp).ErrorCode, wire.OffsetOutOfRange)
	wantParts(t, "still", r.fetch(nil), "0:0")
	wantParts(t, "the error is over", r.fetch(nil, 0, 0), "0:0")
	wantParts(t, "nothing new", r.fetch(nil))
	if r.id != id {
		t.Fatalf("session %d became %d", id, r.id)
	}
	wantParts(t, "all forgotten", r.fetch([]int32{0, 1, 2, 3}))
	late := reader{c: c, version: version, topic: topic, id: id, epoch: 17}
	wantCode(t, "an ended session", late.fetch(nil).ErrorCode, wire.FetchSessionIDNotFound)
}

// Each way not to be in a session has its code.
//
// [Kafka-Fetch].
func TestFetchSessionErrors(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	topic := h.topic("t", 2)
	r := reader{c: c, version: 12, topic: topic}
	r.fetch(nil, 0, 0, 1, 0)
	try := func(what string, id, epoch int32, version int16, want wire.Code) {
		t.Helper()
		resp := (&reader{c: c, version: version, topic: topic, id: id, epoch: epoch}).fetch(nil)
		wantCode(t, what, resp.ErrorCode, want)
		if resp.SessionID != 0 && want != wire.None {
			t.Fatalf("%s: session %d", what, resp.SessionID)
		}
	}
	try("one that is none", r.id+1, 1, 12, wire.FetchSessionIDNotFound)
	try("an old epoch", r.id, 3, 12, wire.InvalidFetchSessionEpoch)
	try("a strange epoch", r.id, -7, 12, wire.InvalidFetchSessionEpoch)
	try("by id where it was by name", r.id, 1, 13, wire.FetchSessionTopicIDError)
	wantParts(t, "as if nothing had been", r.fetch(nil))
	resp := (&reader{c: c, version: 12, topic: topic, id: r.id, epoch: -1}).fetch(nil, 0, 0)
	wantParts(t, "the last in full", resp, "0:0")
	if resp.SessionID != 0 {
		t.Fatalf("session %d after its end", resp.SessionID)
	}
	try("after its end", r.id, 2, 12, wire.FetchSessionIDNotFound)
	r = reader{c: c, version: 18, topic: topic}
	r.fetch(nil, 0, 0)
	old := r.id
	r.epoch = 0
	wantParts(t, "a new one in place of the old", r.fetch(nil, 0, 0, 1, 0), "0:0", "1:0")
	try("the old one", old, 1, 18, wire.FetchSessionIDNotFound)
	if sessions, size := h.door.sessions.kept(); sessions != 1 || size != 2 {
		t.Fatalf("%d sessions of %d partitions are kept", sessions, size)
	}
}

// A fetch that waits while another connection goes on with its session is told so, and changes nothing.
func TestFetchSessionOfTwoConnections(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	a, b := h.dial(), h.dial()
	r := reader{c: a, version: 12, topic: topic}
	r.fetch(nil, 0, 0)
	waits := fetchFrom(topic, 0, 0, 60_000, 1)
	waits.Topics, waits.SessionID, waits.SessionEpoch = nil, r.id, r.epoch
	waits.SetVersion(12)
	sent := a.send(waits)
	h.parked(1)
	r.c, r.epoch = b, r.epoch+1
	wantParts(t, "the other goes on", r.fetch(nil))
	h.put(b, topic, 0, batchOf(1, 10))
	wantCode(t, "who waited", a.receive(waits, sent).(*kmsg.FetchResponse).ErrorCode, wire.InvalidFetchSessionEpoch)
	wantParts(t, "the other", r.fetch(nil), "0:1")
}

// What gave records goes behind the others, so that each partition has its turn (KIP-74).
func TestFetchSessionTakesTurns(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 3)
	c := h.dial()
	for p := range int32(3) {
		for range 3 {
			h.put(c, topic, p, batchOf(1, 2000))
		}
	}
	r := reader{c: c, version: 12, topic: topic}
	at := make([]int64, 3)
	var order []string
	for asked := []int64{0, 0, 1, 0, 2, 0}; len(order) < 9; {
		req := fetchFrom(topic, 0, 0, 0, 1)
		req.MaxBytes, req.SessionID, req.SessionEpoch = 100, r.id, r.epoch // one batch
		req.Topics[0].Partitions = nil
		for i := 0; i < len(asked); i += 2 {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.FetchOffset, p.PartitionMaxBytes = int32(asked[i]), asked[i+1], 1<<20
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
		}
		resp := askFor[*kmsg.FetchResponse](c, 12, req)
		r.id, r.epoch = resp.SessionID, r.epoch+1
		for _, p := range resp.Topics[0].Partitions {
			if len(p.RecordBatches) > 0 {
				at[p.Partition]++
				order = append(order, fmt.Sprint(p.Partition))
				asked = []int64{int64(p.Partition), at[p.Partition]}
			}
		}
	}
	if want := []string{"0", "1", "2", "0", "1", "2", "0", "1", "2"}; !slices.Equal(order, want) {
		t.Fatalf("partitions came in the order %v", order)
	}
}

// Whatever a client asks and forgets, in a session it learns what it would have learned without.
func TestFetchSessionTellsTheSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 227))
	h := openHouse(t, Options{})
	const n = 8
	topic := h.topic("t", n)
	c := h.dial()
	r := reader{c: c, version: 13, topic: topic}
	var in [n]bool
	var at, high [n]int64
	for step := range 400 {
		var asked []int64
		var forget []int32
		for p := range n {
			switch {
			case rng.IntN(8) == 0:
				h.put(c, topic, int32(p), batchOf(1+rng.IntN(3), 10))
				fallthrough
			case rng.IntN(4) > 0:
			case in[p]:
				in[p], high[p] = false, -1
				forget = append(forget, int32(p))
			default:
				in[p], high[p] = true, -1
				asked = append(asked, int64(p), at[p])
			}
		}
		if step%97 == 96 {
			r.id, r.epoch, asked, forget = 0, 0, nil, nil // as after a lost connection
			for p := range n {
				if in[p] {
					asked = append(asked, int64(p), at[p])
				}
			}
		}
		resp := r.fetch(forget, asked...)
		wantCode(t, fmt.Sprint("step ", step), resp.ErrorCode, wire.None)
		moved := []int64(nil)
		for _, rt := range resp.Topics {
			for _, p := range rt.Partitions {
				if !in[p.Partition] || p.ErrorCode != 0 {
					t.Fatalf("step %d: told of partition %d, error %d", step, p.Partition, p.ErrorCode)
				}
				high[p.Partition] = p.HighWatermark
				if len(p.RecordBatches) > 0 {
					at[p.Partition] = p.HighWatermark
					moved = append(moved, int64(p.Partition), p.HighWatermark)
				}
			}
		}
		for p := range n {
			if bounds, err := h.store.Bounds(topic.Partitions[p]); in[p] &&
				(err != nil || high[p] != int64(bounds.High) || at[p] != high[p]) {
				t.Fatalf("step %d: partition %d ends at %d, read to %d of %d: %v", step, p, bounds.High, at[p], high[p], err)
			}
		}
		if r.id != 0 && len(moved) > 0 {
			wantCode(t, "moved on", r.fetch(nil, moved...).ErrorCode, wire.None)
		}
	}
}

// Sessions are bounded in number and bytes: those not used for long go first, then smaller ones that are not young.
func TestFetchSessionsEvicted(t *testing.T) {
	now := time.Duration(0)
	s := newFetchSessions(newTestBudget(16<<20, time.Second), 2, func() time.Duration { return now })
	s.evicted = (*telemetry.Set)(nil).Counter("evicted", "").With()
	open := func(size int) *fetchSession {
		r := wire.FetchRequest{Version: 13, Topics: []wire.FetchTopic{{ID: wire.UUID{1}, Last: size}}}
		for i := range size {
			r.Partitions = append(r.Partitions, wire.FetchPartition{Index: int32(i)})
		}
		var u sessionUse
		s.open(&r, &u)
		return u.session
	}
	want := func(what string, all ...*fetchSession) {
		t.Helper()
		bytes := int64(0)
		for _, f := range all {
			bytes += f.bytes
			if s.byID[f.id] != f {
				t.Fatalf("%s: one is gone", what)
			}
		}
		if sessions, _ := s.kept(); sessions != len(all) || s.bytes != bytes || s.budget.cached != bytes {
			t.Fatalf("%s: %d sessions of %d bytes, want %d of %d", what, sessions, s.bytes, len(all), bytes)
		}
	}
	small, large := open(2), open(9)
	if open(20) != nil {
		t.Fatal("a third session is there while both others are young")
	}
	now += sessionAge + time.Second
	s.find(small.id)
	s.find(large.id)
	if open(2) != nil {
		t.Fatal("a session went for one that is no larger")
	}
	larger := open(3)
	want("the smallest went", large, larger)
	now += sessionAge + time.Second
	s.find(larger.id)
	last := open(1)
	want("the one not used went", larger, last)
	if open(10_000) != nil {
		t.Fatal("a session larger than the bound is there")
	}
	s.drop(larger)
	s.drop(larger)
	s.drop(last)
	want("none is left")
}

// A fetch of many partitions that is refused leaves nothing with its connection, in a session or without.
func TestRefusedFetchKeepsNothing(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := newConn(h.door, discard{}, usualName)
	head := wire.Header{Key: wire.Fetch, Version: 12, CorrelationID: 1}
	req := fetchFrom(topic, 0, 0, 0, 1)
	for range 5000 {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, req.Topics[0].Partitions[0])
	}
	for i := range req.Topics[0].Partitions {
		req.Topics[0].Partitions[i].Partition = int32(i)
	}
	for what, spoil := range map[string]func(){
		"of a replica": func() { req.ReplicaID, req.SessionID, req.SessionEpoch = 2, 0, -1 },
		"without room": func() { // for a session that grows
			req.ReplicaID, req.SessionID, req.SessionEpoch = -1, 0, 0
			all := req.Topics[0].Partitions
			req.Topics[0].Partitions = all[:1]
			req.Version = 12
			if err := c.startFetch(t.Context(), head, req.AppendTo(nil), time.Now()); err != nil {
				t.Fatal(err)
			}
			req.Topics[0].Partitions = all
			req.SessionID, req.SessionEpoch = h.door.sessions.used.next.id, 1
			h.door.sessions.most = 1 << 10
		},
	} {
		spoil()
		req.Version = 12
		before := h.door.bytesOut.Load()
		if err := c.startFetch(t.Context(), head, req.AppendTo(nil), time.Now()); err != nil {
			t.Fatal(err)
		}
		f := &c.fetch
		if n := max(cap(f.req.Partitions), cap(f.parts), cap(f.use.parts)); n > keepFetched {
			t.Errorf("%s: memory for %d partitions is kept", what, n)
		}
		if out := h.door.bytesOut.Load() - before; out > 100 {
			t.Errorf("%s: answered in %d bytes", what, out)
		}
	}
}

// What is counted for a session is about what it takes: never much less.
func TestFetchSessionsCountWhatTheyTake(t *testing.T) {
	s := newFetchSessions(newTestBudget(1<<30, time.Second), 100, func() time.Duration { return 0 })
	for _, shape := range []struct{ topics, partitions int }{{1, 20_000}, {20_000, 1}} {
		before, counted := alloctest.HeapInUse(), s.bytes
		for range 4 {
			r := wire.FetchRequest{Version: 12}
			for topic := range shape.topics {
				rt := wire.FetchTopic{Name: fmt.Appendf(nil, "topic-number-%d", topic), First: len(r.Partitions)}
				for p := range shape.partitions {
					r.Partitions = append(r.Partitions, wire.FetchPartition{Index: int32(p)})
				}
				rt.Last = len(r.Partitions)
				r.Topics = append(r.Topics, rt)
			}
			s.open(&r, &sessionUse{})
		}
		took, said := alloctest.HeapInUse()-before, s.bytes-counted
		if sessions, _ := s.kept(); took > said*5/4 || took < said/3 {
			t.Errorf("%d sessions: %d bytes are counted, %d were taken", sessions, said, took)
		}
	}
}

// What a reader of 1,000 partitions that has nothing to read costs for each fetch, in full and in a session; parked:
// it waits a millisecond for records.
func BenchmarkFetchIdle(b *testing.B) {
	for _, epoch := range []int32{-1, 0} {
		for _, wait := range []int32{0, 1} {
			b.Run(fmt.Sprintf("session=%v/parked=%v", epoch == 0, wait > 0), func(b *testing.B) {
				h := openHouse(b, Options{})
				topic := h.topic("t", 1000)
				c := newConn(h.door, discard{}, usualName)
				head := wire.Header{Key: wire.Fetch, Version: 12, CorrelationID: 1}
				r := fetchFrom(topic, 0, 0, wait, 1)
				one := r.Topics[0].Partitions[0]
				r.Topics[0].Partitions = nil
				for p := range int32(1000) {
					one.Partition = p
					r.Topics[0].Partitions = append(r.Topics[0].Partitions, one)
				}
				r.Version, r.SessionEpoch = 12, epoch
				fetch := func() (size int) {
					body := r.AppendTo(nil)
					_ = c.await(func() bool { return c.mu.fetching }) // it does not fail
					if err := c.startFetch(b.Context(), head, body, time.Now()); err != nil {
						b.Fatal(err)
					}
					return len(body)
				}
				fetch()
				if epoch == 0 {
					_ = c.await(func() bool { return c.mu.fetching }) // it does not fail
					r.Topics = nil
					h.door.sessions.mu.Lock()
					r.SessionID = h.door.sessions.used.next.id
					h.door.sessions.mu.Unlock()
				}
				in, out := 0, h.door.bytesOut.Load()
				b.ReportAllocs()
				for b.Loop() {
					if epoch == 0 {
						r.SessionEpoch++
					}
					in += fetch()
				}
				b.ReportMetric(float64(in)/float64(b.N), "in/op")
				b.ReportMetric(float64(h.door.bytesOut.Load()-out)/float64(b.N), "out/op")
			})
		}
	}
}

// wakeful is a parked fetch of many partitions that wants more bytes than ever come.
func wakeful(tb testing.TB, partitions int) (h *house, c *conn, topic *stream.Topic) {
	h = openHouse(tb, Options{})
	topic = h.topic("t", partitions)
	c = newConn(h.door, discard{}, usualName)
	r := fetchFrom(topic, 0, 0, 3_600_000, 50<<20)
	r.MaxBytes = 55 << 20
	one := r.Topics[0].Partitions[0]
	one.PartitionMaxBytes = 55 << 20
	r.Topics[0].Partitions = nil
	for p := range int32(partitions) {
		one.Partition = p
		r.Topics[0].Partitions = append(r.Topics[0].Partitions, one)
	}
	r.Version = 12
	head := wire.Header{Key: wire.Fetch, Version: 12, CorrelationID: 1}
	if err := c.startFetch(tb.Context(), head, r.AppendTo(nil), time.Now()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.fetch.end()
		_ = c.await(func() bool { return c.mu.fetching }) // it does not fail
	})
	return h, c, topic
}

// asleep waits until a fetch is parked.
func asleep(tb testing.TB, c *conn) {
	for c.fetch.state.Load() != fetchParked {
		runtime.Gosched()
	}
}

// TestParkedFetchLooksAtNews has a parked fetch find what comes to some of many partitions, again and again, and look
// at these only.
func TestParkedFetchLooksAtNews(t *testing.T) {
	const partitions, rounds = 1000, 50
	h, c, topic := wakeful(t, partitions)
	other := h.dial()
	want := 0
	for i := range rounds {
		b := batchOf(1, 100)
		h.put(other, topic, int32(i%7), b)
		want += len(b)
	}
	until(t, "it has seen all", func() bool {
		asleep(t, c)
		return c.fetch.bytes == want
	})
	fresh := 0
	for i := range c.fetch.parts {
		if !c.fetch.parts[i].stale {
			fresh++
		}
	}
	if fresh > 7 {
		t.Errorf("it looked at %d partitions, 7 had news", fresh)
	}
}

// What it costs to wake a fetch that waits for many bytes of 1,000 partitions.
func BenchmarkFetchWoken(b *testing.B) {
	_, c, _ := wakeful(b, 1000)
	asleep(b, c)
	b.ReportAllocs()
	for b.Loop() {
		c.fetch.parts[500].waiter.news.Store(true)
		c.fetch.wake()
		asleep(b, c)
	}
}
