package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestFetchRequest(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var f FetchRequest // used again, as a connection does
	for version := int16(4); version <= 18; version++ {
		for range 60 {
			req := kmsg.NewFetchRequest()
			fill(rng, reflect.ValueOf(&req).Elem(), 0)
			req.Version = version
			req.Topics = slices.DeleteFunc(req.Topics, func(t kmsg.FetchRequestTopic) bool { return len(t.Partitions) == 0 })
			body := req.AppendTo(nil)
			if err := f.Decode(version, body); err != nil {
				t.Fatalf("v%d: %v", version, err)
			}
			checkFetchRequest(t, &f, &req)
			for cut := range body {
				if err := f.Decode(version, body[:cut]); !fault.Is(err, fault.Invalid) {
					t.Fatalf("v%d cut at %d of %d: %v", version, cut, len(body), err)
				}
			}
		}
	}
}

// sameForgotten tells whether the partitions that leave the session are those of the request.
func sameForgotten(f *FetchRequest, req *kmsg.FetchRequest) bool {
	var got, want []string
	f.Forgotten(func(t *FetchTopic, partition int32) {
		got = append(got, fmt.Sprint(string(t.Name), t.ID, partition))
	})
	for _, topic := range req.ForgottenTopics {
		for _, p := range topic.Partitions {
			name, id := topic.Topic, UUID(topic.TopicID)
			if f.Version >= 13 {
				name = ""
			} else {
				id = UUID{}
			}
			want = append(want, fmt.Sprint(name, id, p))
		}
	}
	return slices.Equal(got, want)
}

func checkFetchRequest(t *testing.T, f *FetchRequest, req *kmsg.FetchRequest) {
	version := f.Version
	if f.MaxWaitMillis != req.MaxWaitMillis || f.MinBytes != req.MinBytes || f.MaxBytes != req.MaxBytes ||
		f.Isolation != req.IsolationLevel {
		t.Fatalf("v%d: %+v", version, f)
	}
	if version <= 14 && f.ReplicaID != req.ReplicaID || version >= 15 && f.ReplicaID != req.ReplicaState.ID {
		t.Fatalf("v%d: replica %d", version, f.ReplicaID)
	}
	if version >= 7 &&
		(f.SessionID != req.SessionID || f.SessionEpoch != req.SessionEpoch || !sameForgotten(f, req)) {
		t.Fatalf("v%d: %+v", version, f)
	}
	if len(f.Topics) != len(req.Topics) {
		t.Fatalf("v%d: %d topics, not %d", version, len(f.Topics), len(req.Topics))
	}
	for i, topic := range req.Topics {
		got := f.Topics[i]
		if version >= 13 && got.ID != topic.TopicID || version < 13 && string(got.Name) != topic.Topic ||
			got.Last-got.First != len(topic.Partitions) {
			t.Fatalf("v%d: %+v", version, got)
		}
		for j, p := range topic.Partitions {
			q := f.Partitions[got.First+j]
			if q.Index != p.Partition || q.Offset != p.FetchOffset || q.MaxBytes != p.PartitionMaxBytes {
				t.Fatalf("v%d: %+v", version, q)
			}
			if version >= 9 && q.LeaderEpoch != p.CurrentLeaderEpoch || version < 9 && q.LeaderEpoch != -1 {
				t.Fatalf("v%d: epoch %d", version, q.LeaderEpoch)
			}
		}
	}
}

func TestFetchResponse(t *testing.T) {
	batches := [][]byte{[]byte("first batch"), []byte("second")}
	var w FetchResponse
	for version := int16(4); version <= 18; version++ {
		for _, isolation := range []int8{0, 1} {
			req := &FetchRequest{Version: version, Isolation: isolation, Topics: []FetchTopic{
				{Name: []byte("a"), ID: UUID{1}, First: 0, Last: 2}, {Name: []byte("b"), ID: UUID{2}, First: 2, Last: 3}}}
			w.Begin(req, 8, len(req.Topics))
			w.Topic(&req.Topics[0], 2)
			Partition(&w, &FetchResult{Index: 3, High: 10, Stable: 10, LogStart: 1}, batches)
			Partition(&w, &FetchResult{Index: 4, Code: OffsetOutOfRange, High: -1, Stable: -1, LogStart: -1}, [][]byte(nil))
			w.Topic(&req.Topics[1], 1)
			Partition(&w, &FetchResult{Index: 0, High: 5, Stable: 5}, batches[1:])
			resp := readFetch(t, version, w.Done(), w.Size())
			if len(resp.Topics) != 2 || len(resp.Topics[0].Partitions) != 2 {
				t.Fatalf("v%d: %+v", version, resp)
			}
			p, q, r := resp.Topics[0].Partitions[0], resp.Topics[0].Partitions[1], resp.Topics[1].Partitions[0]
			if p.Partition != 3 || p.HighWatermark != 10 || string(p.RecordBatches) != "first batchsecond" {
				t.Fatalf("v%d: %+v", version, p)
			}
			if q.ErrorCode != OffsetOutOfRange || len(q.RecordBatches) != 0 || string(r.RecordBatches) != "second" {
				t.Fatalf("v%d: %+v %+v", version, q, r)
			}
		}
	}
}

// readFetch reads a response back with kmsg and holds it to kmsg's own bytes.
func readFetch(t *testing.T, version int16, pieces [][]byte, size int) *kmsg.FetchResponse {
	t.Helper()
	out := bytes.Join(pieces, nil)
	rest := out[8:]
	if version >= 12 {
		rest = rest[1:]
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = version
	if err := resp.ReadFrom(rest); err != nil || len(out) != size || int(out[3])+int(out[2])<<8 != size-SizeLen {
		t.Fatalf("v%d: %v, %d of %d bytes", version, err, len(out), size)
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, rest) {
		t.Fatalf("v%d: %x, kmsg writes %x", version, rest, again)
	}
	return resp
}

func TestFetchRefuse(t *testing.T) {
	var w FetchResponse
	for version := int16(4); version <= 18; version++ {
		pieces := w.Refuse(&FetchRequest{Version: version}, 8, FetchSessionIDNotFound)
		resp := readFetch(t, version, pieces, w.Size())
		if version >= 7 && resp.ErrorCode != FetchSessionIDNotFound || len(resp.Topics) != 0 {
			t.Fatalf("v%d: %+v", version, resp)
		}
	}
}

// fetches is a Fetch of so many topics with so many partitions each, answered with a batch for each.
func fetches(t testing.TB, topics, partitions int, data []byte) (answer func() [][]byte, w *FetchResponse) {
	full := kmsg.NewFetchRequest()
	full.Version = 18
	for i := range topics {
		topic := kmsg.NewFetchRequestTopic()
		topic.TopicID[0] = byte(i)
		topic.Partitions = make([]kmsg.FetchRequestTopicPartition, partitions)
		full.Topics = append(full.Topics, topic)
	}
	body, batches := full.AppendTo(nil), [][]byte{data}
	var f FetchRequest
	w = &FetchResponse{}
	return func() [][]byte {
		if err := f.Decode(18, body); err != nil {
			t.Fatal(err)
		}
		w.Begin(&f, 1, len(f.Topics))
		for i := range f.Topics {
			w.Topic(&f.Topics[i], f.Topics[i].Last-f.Topics[i].First)
			for range f.Partitions[f.Topics[i].First:f.Topics[i].Last] {
				Partition(w, &FetchResult{}, batches)
			}
		}
		return w.Done()
	}, w
}

// Record bytes are never copied, and a response allocates nothing once its memory has grown.
func TestFetchAllocs(t *testing.T) {
	data := make([]byte, 64<<10)
	answer, w := fetches(t, 10, 32, data)
	shared := 0
	for _, piece := range answer() {
		if len(piece) == len(data) && &piece[0] == &data[0] {
			shared++
		}
	}
	if shared != 320 {
		t.Fatalf("%d of 320 partitions share the bytes of the batch", shared)
	}
	if allocs := alloctest.PerRun(100, 0, func() { answer() }); allocs != 0 {
		t.Fatalf("%v allocations for a Fetch", allocs)
	}
	w.Release(0)
	if w.head != nil || slices.ContainsFunc(w.out[:cap(w.out)], func(b []byte) bool { return b != nil }) {
		t.Fatal("Release keeps memory")
	}
}

// BenchmarkFetchEncode decodes a Fetch and frames its answer: the cost of a partition must not depend on its
// bytes.
func BenchmarkFetchEncode(b *testing.B) {
	for _, load := range []struct{ topics, partitions, bytes int }{{1, 1, 1 << 10}, {1, 1, 1 << 20}, {10, 32, 64 << 10}} {
		b.Run(fmt.Sprintf("partitions=%d,bytes=%d", load.topics*load.partitions, load.bytes), func(b *testing.B) {
			answer, _ := fetches(b, load.topics, load.partitions, make([]byte, load.bytes))
			b.ReportAllocs()
			for b.Loop() {
				answer()
			}
		})
	}
}
