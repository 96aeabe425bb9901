package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestKgoReadsACompactedTopic has a client read over gaps: of each key the last value comes, at its offset, in order,
// and the client gets to the end.
func TestKgoReadsACompactedTopic(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("c", 1, "cleanup.policy", "compact")
	ctx := testContext(t)
	const keys, records = 20, 3000
	producer := h.kgo(kgo.DefaultProduceTopic("c"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	last := map[string]int{}
	for i := range records {
		key := fmt.Sprint("key ", i*7%keys)
		last[key] = i
		value := fmt.Appendf(nil, "%d %s", i, make([]byte, 4096))
		producer.Produce(ctx, &kgo.Record{Key: []byte(key), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		n, err := h.store.PartitionBytes(topic.Partitions[0])
		if err != nil {
			t.Fatal(err)
		}
		if n < records*4096/2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are left", n)
		}
		time.Sleep(time.Millisecond) // how often, not whether
	}
	consumer := h.kgo(kgo.ConsumeTopics("c"))
	got, count, next := map[string]int{}, 0, int64(0)
	for next < records {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var i int
			if _, err := fmt.Sscan(string(r.Value), &i); err != nil || r.Offset < next || int64(i) != r.Offset {
				t.Errorf("offset %d, where %d is next, has %.10q", r.Offset, next, r.Value)
			}
			got[string(r.Key)], next, count = i, r.Offset+1, count+1
		})
	}
	for key, i := range last {
		if got[key] != i {
			t.Errorf("%s: %d, want %d", key, got[key], i)
		}
	}
	if count == records {
		t.Error("nothing was compacted")
	}
	bounds, err := h.store.Bounds(topic.Partitions[0])
	if err != nil || bounds.Start != 0 || bounds.High != record.Offset(records) {
		t.Errorf("%+v, %v", bounds, err)
	}
}
