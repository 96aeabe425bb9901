package kafka

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// veils masks what clients read of topics whose name begins so.
type veils struct {
	judges
	prefix string
	set    *mask.Set
}

func (v veils) MaskTopic(_ *access.Pass, topic string) *mask.Set {
	if !strings.HasPrefix(topic, v.prefix) {
		return nil
	}
	return v.set
}

func (v veils) MaskSome(topic string) bool { return strings.HasPrefix(topic, v.prefix) }

const canary = "canary-7f3a"

// openVeiled opens a house whose topics with names that begin with masked are masked. It keeps little in memory.
func openVeiled(t testing.TB, metrics *telemetry.Set) *house {
	t.Helper()
	var list []mask.Mask
	for _, text := range []string{"json:who.name=remove", "json:list[]=hash", "header:who=remove", "key=truncate:2"} {
		m, err := mask.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	set := &mask.Set{Secret: []byte("secret"), Fields: []*mask.Fields{mask.New(list)}}
	logger := logtest.New(t)
	log := store.Options{FS: vfs.NewMemory(), JournalBytes: 1 << 20, CacheBytes: 256 << 10, Logger: logger}
	return openHouseWith(t, log, Options{Guard: veils{judges{}, "masked", set}, Metrics: metrics})
}

// secretRecord is a record with the canary in its key, its payload and a header.
func secretRecord(topic string, n int) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte("k-" + canary), Timestamp: time.UnixMilli(int64(1_000_000 + n)),
		Value:   fmt.Appendf(nil, `{"n":%d,"who":{"name":"%s"},"pad":"%s"}`, n, canary, strings.Repeat("x", n%700)),
		Headers: []kgo.RecordHeader{{Key: "who", Value: []byte(canary)}, {Key: "what", Value: []byte("a meter")}}}
}

// TestFetchMasks: of a topic that is masked, by whatever codec and in transactions too, a client gets every record at
// its offset and its time, and nowhere what it may not see.
func TestFetchMasks(t *testing.T) {
	h := openVeiled(t, telemetry.New())
	topic := h.topic("masked", 1)
	ctx := t.Context()
	n := 0
	say := func(cl *kgo.Client, count int) {
		t.Helper()
		for range count {
			r := secretRecord("masked", n)
			if n%100 == 50 {
				r.Value = []byte("no JSON: " + canary)
			}
			cl.Produce(ctx, r, nil)
			n++
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(),
		kgo.Lz4Compression(), kgo.ZstdCompression()} {
		say(h.kgo(kgo.ProducerBatchCompression(codec)), 1500)
	}
	txn := h.kgo(kgo.TransactionalID("x"))
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if say(txn, 20); end == kgo.TryAbort {
			n -= 20
		}
		if err := txn.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	say(h.kgo(), 5)
	cl := h.kgo(kgo.ConsumeTopics("masked"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	want := h.unmasked(topic)
	for seen := 0; seen < n; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			all := fmt.Sprintf("%s %s %v", r.Key, r.Value, r.Headers)
			at, is := want[r.Offset]
			switch {
			case strings.Contains(all, canary):
				t.Errorf("offset %d: %s", r.Offset, all)
			case !is || at != r.Timestamp.UnixMilli():
				t.Errorf("offset %d: at %d, want %d", r.Offset, r.Timestamp.UnixMilli(), at)
			case string(r.Key) != "k-" || len(r.Headers) != 1 || r.Headers[0].Key != "what" || r.Value == nil:
				t.Errorf("offset %d: %s", r.Offset, all)
			case seen%100 != 50 && !bytes.HasPrefix(r.Value, fmt.Appendf(nil, `{"n":%d,"who":{},"pad"`, seen)):
				t.Errorf("offset %d: %s", r.Offset, all)
			case seen%100 == 50 && len(r.Value) > 0:
				t.Errorf("offset %d: %s", r.Offset, all)
			}
			seen++
		})
	}
}

// unmasked is when each record of a topic was made, by its offset.
func (h *house) unmasked(topic *stream.Topic) map[int64]int64 {
	h.t.Helper()
	all := map[int64]int64{}
	var scratch record.Scratch
	for next := record.Offset(0); ; {
		batches, err := h.store.Read(topic.Partitions[0], next, 1<<20, nil)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(batches) == 0 {
			return all
		}
		for _, b := range batches {
			var it record.Iter
			var v record.View
			if err := it.Reset(b, &scratch); err != nil {
				h.t.Fatal(err)
			}
			for it.Next(&v) {
				all[int64(v.Offset)] = v.Timestamp
			}
			next = b.LastOffset() + 1
		}
	}
}

// TestFetchMasksBytes: what goes over the wire has the canary nowhere, in answers that come at once and in those that
// waited, with and without sessions; of a topic that is not masked it comes as it was.
func TestFetchMasksBytes(t *testing.T) {
	h := openVeiled(t, telemetry.New())
	for _, name := range []string{"masked", "open"} {
		topic := h.topic(name, 2)
		pub, sub := h.kgo(kgo.ProducerBatchCompression(kgo.NoCompression()),
			kgo.RecordPartitioner(kgo.ManualPartitioner())), h.dial()
		say := func(n int) {
			r := secretRecord(name, n)
			r.Partition = int32(n % 2)
			if err := pub.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		for i, waits := range []bool{false, true} {
			req := fetchFrom(topic, 1, int64(i), 60_000, 1)
			req.Version, req.SessionEpoch = 12, int32(i-1) // the second opens a session
			if !waits {
				say(2*i + 1)
			}
			id := sub.send(req)
			if waits {
				until(t, "the fetch waits", func() bool { return h.door.purgatory.parked.Load() > 0 })
				say(2*i + 1)
			}
			_, frame, err := sub.frame()
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Contains(frame, []byte(canary)); got == (name == "masked") {
				t.Errorf("%s, waits %v, answer %d: the canary is in it: %v", name, waits, id, got)
			}
			if !bytes.Contains(frame, []byte("a meter")) {
				t.Errorf("%s, waits %v, answer %d: there is no record in it", name, waits, id)
			}
		}
	}
}

// TestFetchHidesWhatItCannotMask: a batch that is too large to be masked has no records, and the client goes on behind
// it.
func TestFetchHidesWhatItCannotMask(t *testing.T) {
	metrics := telemetry.New()
	h := openVeiled(t, metrics)
	topic := h.topic("masked", 1)
	var large record.Builder
	large.Reset(nil, 1000)
	for n := range 9 {
		value := fmt.Appendf(nil, `{"n":%d,"who":{"name":"%s"}}`, n, canary)
		large.Append(&record.Record{Timestamp: 1000, Value: append(value, bytes.Repeat([]byte{' '}, maskedBatch/8)...)})
	}
	b, err := large.SealCompressed(0, 0, record.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	h.put(h.dial(), topic, 0, b)
	pub := h.kgo()
	if err := pub.ProduceSync(t.Context(), secretRecord("masked", 1)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	cl := h.kgo(kgo.ConsumeTopics("masked"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fetches := cl.PollFetches(t.Context())
	if records := fetches.Records(); fetches.Err() != nil || len(records) == 0 || records[0].Offset != 9 {
		t.Errorf("got %v, %v", records, fetches.Err())
	}
	w := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !strings.Contains(w.Body.String(), "firth_kafka_masked_hidden_total 1\n") {
		t.Error("it is not counted")
	}
}

// TestShareFetchMasks: members of share groups get what masks leave, too.
func TestShareFetchMasks(t *testing.T) {
	h := openVeiled(t, telemetry.New())
	topic := h.topic("masked", 1)
	h.earliest("g")
	m := h.share("g", "m", topic)
	m.beat()
	pub := h.kgo(kgo.ProducerBatchCompression(kgo.NoCompression()))
	for n := range 3 {
		if err := pub.ProduceSync(context.Background(), secretRecord("masked", n)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	req := m.request()
	req.MaxWaitMillis = 60_000
	resp := m.send(req)
	if len(resp.Topics) == 0 {
		t.Fatal("no answer for the topic")
	}
	part := resp.Topics[0].Partitions[0]
	if len(part.AcquiredRecords) == 0 || bytes.Contains(part.Records, []byte(canary)) {
		t.Errorf("%d are acquired: %q", len(part.AcquiredRecords), part.Records)
	}
	if !bytes.Contains(part.Records, []byte("a meter")) {
		t.Errorf("there is no record in %q", part.Records)
	}
}
