package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// manyParts is a request for n partitions of a topic, each with a batch of its own from batchOf.
func manyParts(topic *stream.Topic, n int, batchOf func(i int) []byte) *kmsg.ProduceRequest {
	req := produceTo(topic, 0, -1, batchOf(0))
	for i := 1; i < n; i++ {
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = int32(i), batchOf(i)
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, part)
	}
	return req
}

// TestProduceStream sends a request of many partitions and two topics, of which some are refused.
func TestProduceStream(t *testing.T) {
	const parts = 300
	h := openHouse(t, Options{})
	topic := h.topic("t", parts, "max.message.bytes", "20000")
	batch := func(i int) []byte {
		switch i {
		case 7:
			return nil
		case 70:
			return batchOf(1, 30_000) // too large: passed over
		case 170:
			return batchOf(3, 10)[:50]
		}
		return batchOf(1+i%3, 10_000/(1+i%3))
	}
	c := h.dial()
	for _, version := range []int16{3, 8, 9, 12, 13} {
		req := manyParts(topic, parts+1, batch)
		unknown := produceTo(&stream.Topic{Name: "nope", ID: record.UUID{9}}, 0, -1, batchOf(1, 1000))
		req.Topics = append(unknown.Topics, req.Topics...)
		resp := askFor[*kmsg.ProduceResponse](c, version, req)
		if len(resp.Topics) != 2 || len(resp.Topics[1].Partitions) != parts+1 {
			t.Fatalf("v%d: %d topics", version, len(resp.Topics))
		}
		if code := produced(resp).ErrorCode; code == wire.None {
			t.Fatalf("v%d: a topic that does not exist: code %d", version, code)
		}
		for i, p := range resp.Topics[1].Partitions {
			want := wire.None
			switch i {
			case 7:
				want = wire.InvalidRecord
			case 70:
				want = wire.MessageTooLarge
			case 170:
				want = wire.CorruptMessage
			case parts:
				want = wire.UnknownTopicOrPartition
			}
			if p.ErrorCode != want || int(p.Partition) != i {
				t.Fatalf("v%d: partition %d: %+v, want code %d", version, i, p, want)
			}
		}
	}
	for i, p := range topic.Partitions {
		_, n := h.readBack(p)
		want := 5 * (1 + i%3)
		if i == 7 || i == 70 || i == 170 {
			want = 0
		}
		if n != want {
			t.Fatalf("partition %d has %d records, not %d", i, n, want)
		}
	}
}

// cutShort sends a request for three partitions up to the last batch, of which a part is missing, and waits until the
// first two are stored.
func cutShort(t *testing.T) (h *house, c *client, req *kmsg.ProduceRequest) {
	t.Helper()
	h = openHouse(t, Options{})
	topic := h.topic("t", 3)
	req = manyParts(topic, 3, func(int) []byte { return batchOf(1, 5000) })
	req.Version = 9
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	c = h.dial()
	c.raw(frame[:len(frame)-3000])
	until(t, "two batches are stored", func() bool {
		bounds, err := h.store.Bounds(topic.Partitions[1])
		return err == nil && bounds.High == 1
	})
	return h, c, req
}

// TestProduceStreamCut cuts a connection in the middle of a request: what had arrived stays, the rest was never
// there, and others do not notice.
func TestProduceStreamCut(t *testing.T) {
	h, c, req := cutShort(t)
	if err := c.nc.Close(); err != nil {
		t.Fatal(err)
	}
	again := askFor[*kmsg.ProduceResponse](h.dial(), 9, req)
	for i, p := range again.Topics[0].Partitions {
		if want := []int64{1, 1, 0}[i]; p.ErrorCode != wire.None || p.BaseOffset != want {
			t.Errorf("sent again: partition %d: %+v, want offset %d", i, p, want)
		}
	}
}

// TestProduceStreamDrain: a request that never becomes whole does not hold up the end.
func TestProduceStreamDrain(t *testing.T) {
	h, c, _ := cutShort(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.door.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	c.closed("after Drain")
}

// E5: a batch that is stored pins no more memory than it has, whatever came with it in its request.
func TestSmallBatchesPinNoFrames(t *testing.T) {
	const requests = 300
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	small := batchOf(1, 10)
	garbage := kmsg.NewProduceRequestTopicPartition()
	garbage.Partition, garbage.Records = 7, make([]byte, 1<<20-2048) // of no partition that there is
	before := alloctest.HeapInUse()
	for range requests {
		req := produceTo(topic, 0, -1, small)
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, garbage)
		resp := askFor[*kmsg.ProduceResponse](c, 9, req)
		wantCode(t, "the good partition", produced(resp).ErrorCode, wire.None)
		wantCode(t, "the other", resp.Topics[0].Partitions[1].ErrorCode, wire.UnknownTopicOrPartition)
	}
	if grown := alloctest.HeapInUse() - before; grown > 20<<20 {
		t.Errorf("%d requests of 1 MiB with a batch of %d bytes each hold %d MiB", requests, len(small), grown>>20)
	}
}
