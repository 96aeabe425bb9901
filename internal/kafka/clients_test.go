package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (h *house) kgo(opts ...kgo.Opt) *kgo.Client {
	h.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(h.addr), kgo.AllowAutoTopicCreation()}, opts...)...)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(cl.Close)
	return cl
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A real client produces, with every codec, and another reads every record back in order.
func TestKgoProduceConsume(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("all", 4)
	ctx := testContext(t)
	const each = 500
	var wg sync.WaitGroup
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(),
		kgo.GzipCompression(),
		kgo.SnappyCompression(),
		kgo.Lz4Compression(),
		kgo.ZstdCompression(),
	}
	for p, codec := range codecs {
		wg.Go(func() {
			cl := h.kgo(kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic("all"))
			for i := range each {
				rec := &kgo.Record{
					Key:   fmt.Appendf(nil, "p%d", p),
					Value: fmt.Appendf(nil, "%d/%d padding padding padding padding", p, i),
				}
				cl.Produce(ctx, rec, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Errorf("producer %d: %v", p, err)
					}
				})
			}
			if err := cl.Flush(ctx); err != nil {
				t.Errorf("producer %d: %v", p, err)
			}
		})
	}
	consumer := h.kgo(kgo.ConsumeTopics("all"))
	next := make([]int, len(codecs))
	for got := 0; got < each*len(codecs); {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var p, i int
			if _, err := fmt.Sscanf(string(r.Value), "%d/%d", &p, &i); err != nil || i != next[p] {
				t.Fatalf("%q comes when %v are next (%v)", r.Value, next, err)
			}
			next[p]++
			got++
		})
	}
	wg.Wait()
}

// Admin tools see what they made.
func TestKadm(t *testing.T) {
	h := openHouse(t, Options{})
	adm := kadm.NewClient(h.kgo())
	ctx := testContext(t)
	retention := "60000"
	created, err := adm.CreateTopics(ctx, 3, 1, map[string]*string{"retention.ms": &retention}, "a", "b")
	if err != nil || created.Error() != nil {
		t.Fatal(err, created.Error())
	}
	if n := created["a"].NumPartitions; n != 3 {
		t.Fatalf("%d partitions", n)
	}
	listed, err := adm.ListTopics(ctx)
	if err != nil || !listed.Has("a") || listed["b"].ID != created["b"].ID || len(listed["a"].Partitions) != 3 {
		t.Fatalf("%+v %v", listed, err)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, "a")
	if err != nil || configs[0].Err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" })
	if i < 0 || configs[0].Configs[i].MaybeValue() != retention {
		t.Fatalf("%+v", configs[0].Configs)
	}
	compact := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: new("compact")}}
	if _, err := adm.AlterTopicConfigs(ctx, compact, "a"); err != nil {
		t.Fatal(err)
	}
	if got := h.store.Topics().ByName("a").Settings; !got.Compact || got.RetentionMs != 60000 {
		t.Fatalf("%+v", got)
	}
	if resp, err := adm.CreatePartitions(ctx, 2, "b"); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	if n := len(h.store.Topics().ByName("b").Partitions); n != 5 {
		t.Fatalf("%d partitions", n)
	}
	brokers, err := adm.BrokerMetadata(ctx)
	if err != nil || len(brokers.Brokers) != 1 ||
		fmt.Sprintf("%s:%d", brokers.Brokers[0].Host, brokers.Brokers[0].Port) != h.addr {
		t.Fatalf("%+v %v, not %s", brokers, err, h.addr)
	}
	if brokers.Cluster != h.store.ClusterID() {
		t.Fatalf("cluster %q", brokers.Cluster)
	}
	broker, err := adm.DescribeBrokerConfigs(ctx, 1)
	if err != nil || broker[0].Err != nil || len(broker[0].Configs) < 10 {
		t.Fatalf("%+v %v", broker, err)
	}
	if dirs, err := adm.DescribeAllLogDirs(ctx, nil); err != nil || len(dirs[1]["firth-data"].Topics["b"]) != 5 {
		t.Fatalf("%+v %v", dirs, err)
	}
	deleted, err := adm.DeleteTopics(ctx, "a", "b")
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	if h.store.Topics().ByName("a") != nil {
		t.Fatal("a is still there")
	}
}

// Offsets by time and by rule, and deleting up to one, as an admin does it.
func TestKadmOffsets(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("o", 1)
	cl := h.kgo(kgo.DefaultProduceTopic("o"))
	adm := kadm.NewClient(cl)
	ctx := testContext(t)
	for i := range 10 {
		rec := &kgo.Record{Value: []byte("x"), Timestamp: time.UnixMilli(int64(1000 + 100*i))}
		if err := cl.ProduceSync(ctx, rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, list kadm.ListedOffsets, err error, want int64) {
		t.Helper()
		if o, _ := list.Lookup("o", 0); err != nil || o.Err != nil || o.Offset != want {
			t.Fatalf("%s: %+v %v, not %d", what, o, err, want)
		}
	}
	end, err := adm.ListEndOffsets(ctx, "o")
	check("end", end, err, 10)
	start, err := adm.ListStartOffsets(ctx, "o")
	check("start", start, err, 0)
	after, err := adm.ListOffsetsAfterMilli(ctx, 1450, "o")
	check("after 1450", after, err, 5)
	largest, err := adm.ListMaxTimestampOffsets(ctx, "o")
	check("largest", largest, err, 9)
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "o", Partition: 0, At: 4, LeaderEpoch: -1})
	if resp, err := adm.DeleteRecords(ctx, offsets); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	start, err = adm.ListStartOffsets(ctx, "o")
	check("start after deleting", start, err, 4)
}

// A producer that goes on over a restart of the log stays exactly once; a consumer with an old leader
// epoch finds its way.
func TestRestartUnderClients(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	h.topic("r", 1)
	ctx := testContext(t)
	if err := h.kgo().ProduceSync(ctx, &kgo.Record{Topic: "r", Value: []byte("before")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	epoch := h.store.Epoch()
	h.stop()
	h = openHouseOn(t, disk, Options{})
	if h.store.Epoch() <= epoch {
		t.Fatalf("epoch %d after %d", h.store.Epoch(), epoch)
	}
	if err := h.kgo().ProduceSync(ctx, &kgo.Record{Topic: "r", Value: []byte("after")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c := h.dial()
	req := fetchFrom(h.store.Topics().ByName("r"), 0, 0, 0, 1)
	req.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
	wantCode(t, "old epoch", fetched(askFor[*kmsg.FetchResponse](c, 18, req)).ErrorCode, wire.FencedLeaderEpoch)
	consumer := h.kgo(kgo.ConsumeTopics("r"))
	var got []string
	for len(got) < 2 {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if !slices.Equal(got, []string{"before", "after"}) {
		t.Fatal(got)
	}
}
