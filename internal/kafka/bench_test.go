package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// at7 is where everything lies.
type at7 struct{}

func (at7) Offset(int) record.Offset { return 7 }

// instant is a log that takes batches and answers at once, to see what the door costs.
type instant struct{}

func (instant) AppendBatch(_ store.BatchWrite, to stream.Receipt, ticket uint64) error {
	to.Appended(ticket, at7{}, nil)
	return nil
}

// producePath is a connection, and a way to have it serve one Produce request without a socket.
func producePath(t testing.TB) func() {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	<-h.door.running // it has taken what it needs of the log
	h.door.produce = instant{}
	c := newConn(h.door, discard{}, usualName)
	c.ahead = make([]byte, 4<<10)
	req := produceTo(topic, 0, -1, batchOf(10, 100))
	req.Version = 9
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	size := len(frame) - wire.SizeLen
	api := h.door.apis[wire.Produce]
	ctx := context.Background()
	return func() {
		c.from, c.to = 0, copy(c.ahead, frame) // as peek leaves it
		if err := c.produce(ctx, api, size, time.Now()); err != nil {
			t.Fatal(err)
		}
		c.rest()
	}
}

// A Produce request costs its batch, the goroutine that writes the answer, and nothing else.
func TestProducePathAllocs(t *testing.T) {
	produce := producePath(t)
	for range 100 {
		produce()
	}
	if allocs := alloctest.PerRun(200, 2, produce); allocs > 2 {
		t.Fatalf("%v allocations for a Produce request", allocs)
	}
}

func BenchmarkProducePath(b *testing.B) {
	produce := producePath(b)
	b.ReportAllocs()
	for b.Loop() {
		produce()
	}
}

func BenchmarkFetchPath(b *testing.B) {
	h := openHouse(b, Options{})
	topic := h.topic("t", 1)
	h.put(h.dial(), topic, 0, batchOf(10, 100))
	c := newConn(h.door, discard{}, usualName)
	req := fetchFrom(topic, 0, 0, 0, 1)
	req.Version = 12
	body := req.AppendTo(nil)
	head := wire.Header{Key: wire.Fetch, Version: 12, CorrelationID: 1}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.startFetch(b.Context(), head, body, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
