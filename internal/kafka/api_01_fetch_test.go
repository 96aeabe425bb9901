package kafka

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// put produces batches and fails if one is not taken.
func (h *house) put(c *client, topic *stream.Topic, partition int32, batches ...record.Batch) {
	h.t.Helper()
	for _, b := range batches {
		p := produced(askFor[*kmsg.ProduceResponse](c, 13, produceTo(topic, partition, -1, b)))
		wantCode(h.t, "produce", p.ErrorCode, wire.None)
	}
}

// Whole batches come, byte for byte, from the one that holds the offset; the bounds hold but for the
// first (KIP-74).
//
// [Kafka-Fetch].
func TestFetchBounds(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 2)
	c := h.dial()
	a, b, d := batchOf(4, 100), batchOf(4, 1000), batchOf(1, 10)
	h.put(c, topic, 0, a, b, d)
	h.put(c, topic, 1, batchOf(2, 50))
	cases := []struct {
		name            string
		offset          int64
		partMax, allMax int32
		want            []int // sizes of the batches
	}{
		{"all", 0, 1 << 20, 1 << 20, []int{len(a), len(b), len(d)}},
		{"from the middle of a batch", 3, 1 << 20, 1 << 20, []int{len(a), len(b), len(d)}},
		{"from the second", 4, 1 << 20, 1 << 20, []int{len(b), len(d)}},
		{"at the end", 9, 1 << 20, 1 << 20, nil},
		{"first above the partition's bound", 4, 100, 1 << 20, []int{len(b)}},
		{"first above every bound", 4, 0, 0, []int{len(b)}},
		{"partition's bound", 0, int32(len(a) + 10), 1 << 20, []int{len(a)}},
		{"total bound", 0, 1 << 20, int32(len(a) + 10), []int{len(a)}},
		{"negative bounds", 0, -1, -1, []int{len(a)}},
	}
	for version := int16(4); version <= 18; version++ {
		for _, tc := range cases {
			req := fetchFrom(topic, 0, tc.offset, 0, 1)
			req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = tc.allMax, tc.partMax
			p := fetched(askFor[*kmsg.FetchResponse](c, version, req))
			if p.ErrorCode != 0 || p.HighWatermark != 9 || p.LastStableOffset != 9 || (version >= 5 && p.LogStartOffset != 0) {
				t.Fatalf("v%d %s: %+v", version, tc.name, p)
			}
			var got []int
			for rest := p.RecordBatches; len(rest) > 0; {
				var batch record.Batch
				var err error
				if batch, rest, err = record.Next(rest); err != nil || batch.Check() != nil {
					t.Fatalf("v%d %s: %v", version, tc.name, err)
				}
				got = append(got, len(batch))
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Fatalf("v%d %s: batches of %v bytes, not %v", version, tc.name, got, tc.want)
			}
		}
	}
}

// The total bound spans partitions, in the order of the request; a second partition gets no batch that
// goes beyond it.
func TestFetchOrder(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 2)
	c := h.dial()
	big := batchOf(1, 5000)
	h.put(c, topic, 0, big)
	h.put(c, topic, 1, big)
	for _, order := range [][]int32{{0, 1}, {1, 0}} {
		req := fetchFrom(topic, order[0], 0, 0, 1)
		second := req.Topics[0].Partitions[0]
		second.Partition = order[1]
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, second)
		req.MaxBytes = int32(len(big) + 100)
		parts := askFor[*kmsg.FetchResponse](c, 11, req).Topics[0].Partitions
		if len(parts[0].RecordBatches) != len(big) || len(parts[1].RecordBatches) != 0 || parts[0].Partition != order[0] {
			t.Fatalf("%v: %d and %d bytes", order, len(parts[0].RecordBatches), len(parts[1].RecordBatches))
		}
	}
}

// [Kafka-Fetch].
func TestFetchErrors(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	h.put(c, topic, 0, batchOf(3, 10))
	ask := func(what string, version int16, req *kmsg.FetchRequest, want wire.Code) {
		t.Helper()
		req.MaxWaitMillis, req.MinBytes = 3_600_000, 1<<20 // an error ends the wait
		wantCode(t, what, fetched(askFor[*kmsg.FetchResponse](c, version, req)).ErrorCode, want)
	}
	ask("above the end", 12, fetchFrom(topic, 0, 4, 0, 1), wire.OffsetOutOfRange)
	ask("offset -5", 12, fetchFrom(topic, 0, -5, 0, 1), wire.OffsetOutOfRange)
	ask("partition 1 of 1", 12, fetchFrom(topic, 1, 0, 0, 1), wire.UnknownTopicOrPartition)
	ask("partition -1", 12, fetchFrom(topic, -1, 0, 0, 1), wire.UnknownTopicOrPartition)
	ask("unknown topic", 12, fetchFrom(&stream.Topic{Name: "nope"}, 0, 0, 0, 1), wire.UnknownTopicOrPartition)
	ask("unknown id", 13, fetchFrom(&stream.Topic{ID: record.UUID{1}}, 0, 0, 0, 1), wire.UnknownTopicID)
	epoch := fetchFrom(topic, 0, 0, 0, 1)
	epoch.Topics[0].Partitions[0].CurrentLeaderEpoch = h.store.Epoch() + 1
	ask("epoch to come", 12, epoch, wire.UnknownLeaderEpoch)
	if h.store.Epoch() > 0 {
		epoch.Topics[0].Partitions[0].CurrentLeaderEpoch = h.store.Epoch() - 1
		ask("old epoch", 12, epoch, wire.FencedLeaderEpoch)
	}
	whole := func(what string, id, epoch int32, want wire.Code) {
		t.Helper()
		req := fetchFrom(topic, 0, 0, 0, 1)
		req.SessionID, req.SessionEpoch = id, epoch
		resp := askFor[*kmsg.FetchResponse](c, 12, req)
		wantCode(t, what, resp.ErrorCode, want)
		if resp.SessionID != 0 {
			t.Fatalf("%s: session %d is given", what, resp.SessionID)
		}
	}
	whole("no session", 0, -1, wire.None)
	whole("an epoch without a session", 0, 3, wire.FetchSessionIDNotFound)
	whole("a session that was never given", 7, 1, wire.FetchSessionIDNotFound)
	whole("the end of one", 7, -1, wire.None)
	replica := fetchFrom(topic, 0, 0, 0, 1)
	replica.ReplicaID = 2
	wantCode(t, "a replica", askFor[*kmsg.FetchResponse](c, 12, replica).ErrorCode, wire.NotLeaderOrFollower)
}

// A fetch that waits is the only one: when its connection is closed, the request behind it is not begun.
func TestFetchBehindAFetchThatIsClosed(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 300) // more than a connection keeps memory for
	for range 20 {
		c := h.dial()
		req := fetchFrom(topic, 0, 0, 60_000, 1)
		for p := int32(1); p < 300; p++ {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, fetchFrom(topic, p, 0, 0, 1).Topics[0].Partitions...)
		}
		behind := fetchFrom(topic, 0, 0, 0, 1)
		req.SetVersion(12)
		behind.SetVersion(12)
		before := h.door.bytesIn.Load()
		c.send(req)
		h.parked(300)
		first := h.door.bytesIn.Load() - before
		c.send(behind)
		until(t, "the second is read", func() bool { return h.door.bytesIn.Load()-before > first })
		h.door.closeConns()
		h.parked(0)
	}
}

// After records were deleted their offsets are out of range, and the answer says where the log starts.
//
// [Kafka-DeleteRecords] [Kafka-Fetch].
func TestFetchBelowStart(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	h.put(c, topic, 0, batchOf(5, 10), batchOf(5, 10))
	del := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic, rt.Partitions = "t", []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: 5}}
	del.Topics = append(del.Topics, rt)
	if p := askFor[*kmsg.DeleteRecordsResponse](c, 2, del).Topics[0].Partitions[0]; p.ErrorCode != 0 ||
		p.LowWatermark != 5 {
		t.Fatalf("%+v", p)
	}
	p := fetched(askFor[*kmsg.FetchResponse](c, 12, fetchFrom(topic, 0, 2, 0, 1)))
	if p.ErrorCode != wire.OffsetOutOfRange || p.LogStartOffset != 5 {
		t.Fatalf("%+v", p)
	}
}

// A fetch at the end parks: it costs nothing until a record comes, and then is answered at once.
func TestFetchParks(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c, producer := h.dial(), h.dial()
	req := fetchFrom(topic, 0, 0, 60_000, 1)
	req.Version = 13
	id := c.send(req)
	h.parked(1)
	h.put(producer, topic, 0, batchOf(1, 10))
	resp, _ := c.receive(req, id).(*kmsg.FetchResponse)
	if p := fetched(resp); p.HighWatermark != 1 || len(p.RecordBatches) == 0 {
		t.Fatalf("%+v", p)
	}
	h.parked(0)
}

// parked waits until so many partitions are waited for.
func (h *house) parked(n int64) {
	h.t.Helper()
	until(h.t, fmt.Sprintf("%d partitions are parked", n), func() bool { return h.door.purgatory.parked.Load() == n })
}

// Min bytes are gathered over several appends and partitions; a wait that is over gives what is there.
//
// [Kafka-Fetch].
func TestFetchMinBytes(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 2)
	c, producer := h.dial(), h.dial()
	one := batchOf(1, 1000)
	req := fetchFrom(topic, 0, 0, 60_000, int32(3*len(one)))
	second := req.Topics[0].Partitions[0]
	second.Partition = 1
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, second)
	req.Version = 13
	id := c.send(req)
	h.parked(2)
	h.put(producer, topic, 0, one)
	h.put(producer, topic, 1, one)
	h.parked(2) // not enough
	h.put(producer, topic, 0, one)
	resp, _ := c.receive(req, id).(*kmsg.FetchResponse)
	parts := resp.Topics[0].Partitions
	if len(parts[0].RecordBatches) != 2*len(one) || len(parts[1].RecordBatches) != len(one) {
		t.Fatalf("%d and %d bytes", len(parts[0].RecordBatches), len(parts[1].RecordBatches))
	}
	start := time.Now()
	late := fetchFrom(topic, 0, 1, 200, 1<<20)
	p := fetched(askFor[*kmsg.FetchResponse](c, 13, late))
	if took := time.Since(start); took < 200*time.Millisecond || !bytes.Equal(p.RecordBatches[16:], one[16:]) {
		t.Fatalf("after %v: %d bytes", took, len(p.RecordBatches))
	}
}

// A topic that is deleted ends the wait or at least does not break it; a connection that is closed ends
// it too.
func TestFetchEnds(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	req := fetchFrom(topic, 0, 0, 60_000, 1)
	req.Version = 13
	c.send(req)
	h.parked(1)
	if err := c.nc.Close(); err != nil {
		t.Fatal(err)
	}
	h.parked(0)
	until(t, "the connection is gone", func() bool {
		h.door.mu.Lock()
		defer h.door.mu.Unlock()
		return len(h.door.mu.conns) == 0
	})
}

// Thousands of fetches wait for one partition without goroutines of their own, and all are answered.
func TestFetchManyParked(t *testing.T) {
	const waiting = 500
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	clients := make([]*client, waiting)
	for i := range clients {
		clients[i] = h.dial()
	}
	until(t, "all are in", func() bool {
		h.door.mu.Lock()
		defer h.door.mu.Unlock()
		return len(h.door.mu.conns) == waiting
	})
	req := fetchFrom(topic, 0, 0, 3_600_000, 1)
	req.Version = 13
	for _, c := range clients {
		c.send(req)
	}
	h.parked(waiting)
	until(t, "no goroutine waits for a fetch", func() bool {
		return alloctest.Goroutines("github.com/firthmq/firth/internal/kafka.") <= waiting+20 // one reads from each client
	})
	h.put(h.dial(), topic, 0, batchOf(1, 10))
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			if _, rest, err := c.frame(); err != nil || len(rest) < 60 {
				t.Errorf("%d bytes, %v", len(rest), err)
			}
		})
	}
	all.Wait()
	h.parked(0)
}

// A consumer at the tail sees every record exactly once, whatever the timing of parks and wakes.
func TestFetchTail(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	const n = 400
	var all sync.WaitGroup
	for _, minBytes := range []int32{1, 500, 5000} {
		c := h.dial()
		all.Go(func() {
			for next := int64(0); next < n; {
				p := fetched(askFor[*kmsg.FetchResponse](c, 13, fetchFrom(topic, 0, next, 50, minBytes)))
				if p.ErrorCode != 0 {
					t.Errorf("%+v", p)
					return
				}
				for rest := p.RecordBatches; len(rest) > 0; {
					b, more, err := record.Next(rest)
					if err != nil || int64(b.BaseOffset()) != next {
						t.Errorf("offset %d when %d is next: %v", b.BaseOffset(), next, err)
						return
					}
					next, rest = int64(b.LastOffset())+1, more
				}
			}
		})
	}
	producer := h.dial()
	for range n {
		h.put(producer, topic, 0, batchOf(1, 20))
	}
	all.Wait()
}

// Record bytes are not copied: what a fetch of 1 MiB allocates does not depend on it.
func TestFetchDoesNotCopy(t *testing.T) {
	h := openHouseOn(t, vfs.NewMemory(), Options{})
	topic := h.topic("t", 1)
	h.put(h.dial(), topic, 0, batchOf(1, 900<<10))
	c := newConn(h.door, discard{}, usualName)
	req := fetchFrom(topic, 0, 0, 0, 1)
	req.Version = 12
	body := req.AppendTo(nil)
	head := wire.Header{Key: wire.Fetch, Version: 12, CorrelationID: 1}
	fetch := func() {
		if err := c.startFetch(t.Context(), head, body, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	fetch()
	if bytes := alloctest.BytesPerRun(100, 2000, fetch); bytes > 2000 {
		t.Fatalf("%d bytes are allocated for a fetch", bytes)
	}
	if allocs := alloctest.PerRun(100, 3, fetch); allocs > 3 {
		t.Fatalf("%v allocations for a fetch", allocs)
	}
}
