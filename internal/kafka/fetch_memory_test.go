package kafka

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// largeBatches are n batches of about 1 MiB.
func largeBatches(n int) []record.Batch {
	all := make([]record.Batch, n)
	for i := range all {
		var b record.Builder
		now := time.Now().UnixMilli() // retention takes older ones
		b.Reset(nil, now)
		b.Append(&record.Record{Timestamp: now, Value: make([]byte, 1<<20-200)})
		all[i] = b.Seal(0, 0)
	}
	return all
}

// E5: a fetch that waits for more than there is holds none of what lies in files, and is answered with all of it.
func TestParkedFetchesHoldNoRecords(t *testing.T) {
	const clients = 20
	h, topic := shelf(t, vfs.NewMemory(), 1, largeBatches(20)...)
	before := alloctest.HeapInUse()
	var ids []int32
	var all []*client
	req := fetchFrom(topic, 0, 0, 3_600_000, 55<<20)
	req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 55<<20, 55<<20
	req.Version = 12
	for range clients {
		c := h.dial()
		all, ids = append(all, c), append(ids, c.send(req))
	}
	until(t, "all are parked", func() bool { return h.door.purgatory.parked.Load() == clients })
	// The housekeeper, still at work on what was reopened, may have a file in hand just now.
	until(t, "fetches that wait hold no records", func() bool { return alloctest.HeapInUse()-before <= 8<<20 })
	for i, c := range all { // one after the other: the door ends one that takes nothing for two minutes
		his := func(d *conn) bool { return d.nc.RemoteAddr().String() == c.nc.LocalAddr().String() }
		for _, d := range h.door.conns(his) {
			d.fetch.end()
		}
		resp, ok := c.receive(req, ids[i]).(*kmsg.FetchResponse)
		if got := fetched(resp); !ok || got.ErrorCode != 0 || !bytes.Equal(got.RecordBatches[:61], largeHead(h, topic)) ||
			len(got.RecordBatches) < 19<<20 {
			t.Fatalf("client %d: %d bytes, code %d", i, len(got.RecordBatches), got.ErrorCode)
		}
	}
}

// largeHead is the head of the first batch of a topic, as it lies in the log.
func largeHead(h *house, topic *stream.Topic) []byte {
	h.t.Helper()
	batches, err := h.store.Read(topic.Partitions[0], 0, 1, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return batches[0][:61]
}

// E5: a reader that takes a trickle of what was in memory when it asked holds little of it once the log's cache has let
// it go, and gets it all the same.
func TestTrickleHoldsBoundedMemory(t *testing.T) {
	const clients, batches = 4, 30
	disk, err := vfs.NewDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := openHouseOn(t, disk, Options{})
	topic := h.topic("t", 1)
	producer := h.dial()
	req := fetchFrom(topic, 0, 0, 0, 1)
	req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 55<<20, 55<<20
	req.Version = 12
	for _, b := range largeBatches(batches) {
		h.put(producer, topic, 0, b)
	}
	before := alloctest.HeapInUse()
	var all []*client
	for range clients {
		c := h.dial()
		c.send(req)
		all = append(all, c)
	}
	until(t, "all are being answered", func() bool {
		return len(h.door.conns(func(c *conn) bool { return phase(c.watch.state.Load()>>32) == writing })) == clients
	})
	other := h.topic("other", 1) // drives the records out of the cache
	for _, b := range largeBatches(70) {
		h.put(producer, other, 0, b)
	}
	// The cache is as full as it was, or fuller by what it had room for: 64 MiB in all.
	if grown := alloctest.HeapInUse() - before - (64-batches)<<20; grown > clients*7<<20 {
		t.Errorf("%d readers that take nothing hold %d MiB", clients, grown>>20)
	}
	for i, c := range all {
		_, rest, err := c.frame()
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = 12
		if err := resp.ReadFrom(rest[1:]); err != nil {
			t.Fatal(err)
		}
		next := int64(0)
		for left := fetched(resp).RecordBatches; len(left) > 0; {
			b, behind, err := record.Next(left)
			if err != nil || b.Check() != nil || int64(b.BaseOffset()) != next {
				t.Fatalf("client %d at %d: %v", i, next, err)
			}
			left, next = behind, int64(b.LastOffset())+1
		}
		if next < batches-1 {
			t.Errorf("client %d got %d batches", i, next)
		}
	}
}

// F17: the same errors again and again do not spin: the fetch waits as one without errors. News of a good partition
// ends the wait all the same, and another error is told at once.
func TestFetchErrorsHaveABrake(t *testing.T) {
	h := openHouse(t, Options{})
	idle := h.topic("idle", 1)
	c := h.dial()
	bad := func(id byte) *kmsg.FetchRequest {
		req := fetchFrom(idle, 0, 0, 200, 1)
		dead := fetchFrom(&stream.Topic{Name: "dead", ID: record.UUID{id}}, 0, 0, 200, 1)
		req.Topics = append(dead.Topics, req.Topics...)
		return req
	}
	ask := func(req *kmsg.FetchRequest) time.Duration {
		begin := time.Now()
		resp := askFor[*kmsg.FetchResponse](c, 13, req)
		wantCode(t, "the dead topic", fetched(resp).ErrorCode, wire.UnknownTopicID)
		return time.Since(begin)
	}
	ask(bad(1))
	for range 3 {
		if took := ask(bad(1)); took < 150*time.Millisecond {
			t.Errorf("the same error again is answered after %v", took)
		}
	}
	slow := bad(2)
	slow.MaxWaitMillis = 3_600_000
	ask(slow) // another error ends the wait
	id := c.send(slow)
	until(t, "it waits", func() bool { return h.door.purgatory.parked.Load() > 0 })
	h.put(h.dial(), idle, 0, batchOf(1, 10))
	resp, _ := c.receive(slow, id).(*kmsg.FetchResponse)
	if got := resp.Topics[1].Partitions[0]; len(got.RecordBatches) == 0 {
		t.Errorf("news beside an error: %+v", got)
	}
	old := fetchFrom(&stream.Topic{Name: "dead", ID: record.UUID{3}}, 0, 0, 0, 0) // without any wait of its own
	n := 0
	for begin := time.Now(); time.Since(begin) < time.Second; n++ {
		ask(old)
	}
	if n > 25 {
		t.Errorf("%d errors in a second without a wait", n)
	}
}

// F32: the wait of a fetch is measured by a clock that does not step.
func TestFetchWaitIgnoresTheWallClock(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	req := fetchFrom(topic, 0, 0, 100, 1)
	req.Version = 12
	id := c.send(req)
	until(t, "it waits", func() bool { return h.door.purgatory.parked.Load() == 1 })
	for _, one := range h.door.conns(func(*conn) bool { return true }) {
		if at := time.Duration(one.fetch.deadline.Load()); at > time.Hour {
			t.Errorf("the deadline %v is one of the wall clock", at)
		}
	}
	c.receive(req, id)
}

// Beyond the budget of the door large holders wait and are refused with the code that has their clients try again;
// what is small goes on, and when there is room again so do they.
func TestDoorRefusesBeyondItsBudget(t *testing.T) {
	h := openHouse(t, Options{HeldBytes: 8 << 20})
	h.door.budget.patience = 100 * time.Millisecond
	topic := h.topic("t", 1)
	c := h.dial()
	hog := &holding{b: h.door.budget}
	if err := hog.take(7 << 20); err != nil {
		t.Fatal(err)
	}
	large := largeBatches(1)[0]
	send := func(b record.Batch) wire.Code {
		return produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, -1, b))).ErrorCode
	}
	wantCode(t, "large", send(large), wire.KafkaStorageError)
	wantCode(t, "small", send(batchOf(1, 100)), wire.None)
	hog.give(7 << 20)
	wantCode(t, "large, with room", send(large), wire.None)
	if err := hog.take(6 << 20); err != nil {
		t.Fatal(err)
	}
	fetch := func(from int64) kmsg.FetchResponseTopicPartition {
		return fetched(askFor[*kmsg.FetchResponse](c, 12, fetchFrom(topic, 0, from, 0, 1)))
	}
	if p := fetch(1); p.ErrorCode != wire.KafkaStorageError || len(p.RecordBatches) > 0 {
		t.Errorf("a large fetch: code %d, %d bytes", p.ErrorCode, len(p.RecordBatches))
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.ProtocolType = "g", 10_000, "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, 600<<10)}}
	join.Version = 3
	bad := h.dial()
	bad.send(join)
	bad.closed("a large request without room")
	hog.give(6 << 20)
	until(t, "nothing is held", func() bool { return h.door.budget.held() == 0 })
	if p := fetch(1); p.ErrorCode != 0 || len(p.RecordBatches) < len(large) {
		t.Errorf("a large fetch with room: code %d, %d bytes", p.ErrorCode, len(p.RecordBatches))
	}
}

// Whatever comes and goes, what the door counts is given back.
func TestBudgetIsGivenBack(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 2)
	for i := range 30 {
		c := h.dial()
		for _, b := range []record.Batch{batchOf(1, 200<<10), batchOf(3, 100)} {
			req := produceTo(topic, int32(i%2), -1, b)
			req.Version = 9
			frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
			if i%3 == 0 {
				frame = frame[:len(frame)/2]
			}
			if _, err := c.nc.Write(frame); err != nil {
				t.Fatal(err)
			}
			if i%3 == 0 {
				break
			}
		}
		f := fetchFrom(topic, int32(i%2), 0, 50, 1)
		f.Version = 12
		if i%3 == 1 {
			c.send(f)
		}
		if i%5 == 0 {
			_ = c.nc.Close()
			continue
		}
		go func() { _, _ = io.Copy(io.Discard, c.nc) }() // ends with the connection
	}
	h.stop()
	if n := h.door.budget.held(); n != 0 {
		t.Errorf("%d bytes are counted at the end", n)
	}
}
