package wire

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestProduce(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for version := int16(0); version <= 13; version++ {
		for range 60 {
			req := kmsg.NewProduceRequest()
			fill(rng, reflect.ValueOf(&req).Elem(), 0)
			req.Version = version
			body := req.AppendTo(nil)
			var p ProduceRequest
			if err := p.Parse(version, body); err != nil {
				t.Fatalf("v%d: %v on %x", version, err, body)
			}
			checkProduceWalk(t, &p, &req)
			checkProduceResponse(t, rng, &p, &req)
			sameStreamed(t, version, body, &p, nil)
			for cut := range body {
				err := p.Parse(version, body[:cut])
				if !fault.Is(err, fault.Invalid) {
					t.Fatalf("v%d cut at %d of %d: %v", version, cut, len(body), err)
				}
				sameStreamed(t, version, body[:cut], &p, err)
			}
		}
	}
}

func checkProduceWalk(t *testing.T, p *ProduceRequest, req *kmsg.ProduceRequest) {
	if p.Acks != req.Acks || p.TimeoutMillis != req.TimeoutMillis ||
		(p.Version >= 3 && string(p.TransactionalID) != *req.TransactionID) {
		t.Fatalf("v%d: %+v", p.Version, p)
	}
	w := p.Walk()
	n := 0
	for _, topic := range req.Topics {
		for i, part := range topic.Partitions {
			if !w.Next() || w.Index != part.Partition || !bytes.Equal(w.Records, part.Records) {
				t.Fatalf("v%d: partition %d: %+v", p.Version, i, w.ProducePartition)
			}
			if w.NewTopic != (i == 0) || cap(w.Records) != len(w.Records) {
				t.Fatalf("v%d: partition %d: new topic %v, capacity %d", p.Version, i, w.NewTopic, cap(w.Records))
			}
			if p.Version >= 13 && w.TopicID != topic.TopicID || p.Version < 13 && string(w.Topic) != topic.Topic {
				t.Fatalf("v%d: topic %q %x", p.Version, w.Topic, w.TopicID)
			}
			n++
		}
	}
	if w.Next() || n != p.Partitions {
		t.Fatalf("v%d: %d partitions, not %d", p.Version, p.Partitions, n)
	}
}

func checkProduceResponse(t *testing.T, rng *rand.Rand, p *ProduceRequest, req *kmsg.ProduceRequest) {
	results := make([]ProduceResult, p.Partitions)
	for i := range results {
		results[i] = ProduceResult{Code: int16(i), BaseOffset: rng.Int64(), LogAppendTime: -1, LogStart: int64(i)}
		if i%2 == 1 {
			results[i].Message = "why"
		}
	}
	out := AppendProduceResponse([]byte("before"), p, 42, results)[6:]
	rest := out[8:]
	if p.Version >= 9 {
		rest = rest[1:]
	}
	resp := kmsg.NewProduceResponse()
	resp.Version = p.Version
	if err := resp.ReadFrom(rest); err != nil || !bytes.Equal(resp.AppendTo(nil), rest) {
		t.Fatalf("v%d: %v, %x", p.Version, err, out)
	}
	if len(resp.Topics) != len(req.Topics) {
		t.Fatalf("v%d: %d topics, not %d", p.Version, len(resp.Topics), len(req.Topics))
	}
	n := 0
	for i, topic := range resp.Topics {
		for j, part := range topic.Partitions {
			if part.Partition != req.Topics[i].Partitions[j].Partition || part.ErrorCode != int16(n) ||
				part.BaseOffset != results[n].BaseOffset {
				t.Fatalf("v%d: %+v", p.Version, part)
			}
			n++
		}
	}
}

func produceBody(topics, partitions int) []byte {
	req := kmsg.NewProduceRequest()
	req.Version, req.Acks = 13, -1
	for i := range topics {
		topic := kmsg.NewProduceRequestTopic()
		topic.TopicID[0] = byte(i + 1)
		for j := range partitions {
			part := kmsg.NewProduceRequestTopicPartition()
			part.Partition, part.Records = int32(j), make([]byte, 1024)
			topic.Partitions = append(topic.Partitions, part)
		}
		req.Topics = append(req.Topics, topic)
	}
	return req.AppendTo(nil)
}

func TestProduceAllocs(t *testing.T) {
	body := produceBody(4, 32)
	results := make([]ProduceResult, 128)
	out := make([]byte, 0, 64<<10)
	var p ProduceRequest
	allocs := alloctest.PerRun(100, 0, func() {
		if err := p.Parse(13, body); err != nil {
			t.Fatal(err)
		}
		w := p.Walk()
		for w.Next() {
		}
		out = AppendProduceResponse(out[:0], &p, 1, results)
	})
	if allocs != 0 {
		t.Fatalf("%v allocations for a Produce", allocs)
	}
}

func TestProduceHostile(t *testing.T) {
	huge := []byte{1, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f} // 2^32-2 topics
	var p ProduceRequest
	if err := p.Parse(13, huge); !fault.Is(err, fault.Invalid) {
		t.Fatalf("2^32-2 topics in no bytes: %v", err)
	}
}

func BenchmarkProduceWalk(b *testing.B) {
	body := produceBody(1, 1)
	b.ReportAllocs()
	var p ProduceRequest
	for b.Loop() {
		if p.Parse(13, body) != nil {
			b.Fatal("bad")
		}
		w := p.Walk()
		for w.Next() {
		}
	}
}
