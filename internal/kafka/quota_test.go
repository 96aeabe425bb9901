package kafka

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// entityOf makes an entity of "user=alice", "client-id=" (the default) and so on.
func entityOf(t testing.TB, parts ...string) (e quotaEntity) {
	t.Helper()
	for _, part := range parts {
		kind, name, _ := strings.Cut(part, "=")
		given := &name
		if name == "" {
			given = nil
		}
		if err := e.set(kind, given); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// alter asks to change quotas of an entity; values below 0 are removed.
func alter(c *client, e quotaEntity, values map[string]float64) wire.Code {
	c.t.Helper()
	req := kmsg.NewPtrAlterClientQuotasRequest()
	entry := kmsg.NewAlterClientQuotasRequestEntry()
	e.visit(func(kind string, name *string) {
		entry.Entity = append(entry.Entity, kmsg.AlterClientQuotasRequestEntryEntity{Type: kind, Name: name})
	})
	for key, value := range values {
		entry.Ops = append(entry.Ops, kmsg.AlterClientQuotasRequestEntryOp{Key: key, Value: value, Remove: value < 0})
	}
	req.Entries = append(req.Entries, entry)
	return askFor[*kmsg.AlterClientQuotasResponse](c, 1, req).Entries[0].ErrorCode
}

// described is what DescribeClientQuotas shows, as "entity name=value".
func described(c *client, req *kmsg.DescribeClientQuotasRequest) (all []string, code wire.Code) {
	c.t.Helper()
	resp := askFor[*kmsg.DescribeClientQuotasResponse](c, 1, req)
	for _, entry := range resp.Entries {
		var e quotaEntity
		for _, part := range entry.Entity {
			if err := e.set(part.Type, part.Name); err != nil {
				c.t.Fatal(err)
			}
		}
		for _, value := range entry.Values {
			all = append(all, fmt.Sprint(e.key(), " ", value.Key, "=", value.Value))
		}
	}
	return all, resp.ErrorCode
}

// Quotas are kept over a restart, described by every filter, and refused where they are none.
//
// [Kafka-AlterClientQuotas] [Kafka-DescribeClientQuotas].
func TestClientQuotas(t *testing.T) {
	fs := vfs.NewMemory()
	h := openHouseOn(t, fs, Options{})
	c := h.dial()
	for _, tc := range []struct {
		entity quotaEntity
		values map[string]float64
		want   wire.Code
	}{
		{entityOf(t, "user=alice"), map[string]float64{"producer_byte_rate": 1000, "request_percentage": 12.5}, wire.None},
		{entityOf(t, "user=alice", "client-id="), map[string]float64{"consumer_byte_rate": 7}, wire.None},
		{entityOf(t, "client-id="), map[string]float64{"controller_mutation_rate": 0.5}, wire.None},
		{entityOf(t, "ip=::ffff:10.0.0.1"), map[string]float64{"connection_creation_rate": 3}, wire.None},
		{entityOf(t, "user=gone"), map[string]float64{"producer_byte_rate": 1}, wire.None},
		{entityOf(t, "user=gone"), map[string]float64{"producer_byte_rate": -1, "consumer_byte_rate": -1}, wire.None},
		{entityOf(t), map[string]float64{"producer_byte_rate": 1}, wire.InvalidRequest},
		{entityOf(t, "ip=nowhere"), map[string]float64{"connection_creation_rate": 3}, wire.InvalidRequest},
		{entityOf(t, "ip=10.0.0.1", "user=a"), map[string]float64{"connection_creation_rate": 3}, wire.InvalidRequest},
		{entityOf(t, "ip=10.0.0.1"), map[string]float64{"producer_byte_rate": 3}, wire.InvalidRequest},
		{entityOf(t, "user=a"), map[string]float64{"connection_creation_rate": 3}, wire.InvalidRequest},
		{entityOf(t, "user=a"), map[string]float64{"producer_byte_rate": 1.5}, wire.InvalidRequest},
		{entityOf(t, "user=a"), map[string]float64{"producer_byte_rate": 0}, wire.InvalidRequest},
		{entityOf(t, "user=a"), map[string]float64{"speed": 1}, wire.InvalidRequest},
	} {
		wantCode(t, fmt.Sprint(tc.entity.key(), tc.values), alter(c, tc.entity, tc.values), tc.want)
	}
	for range 2 {
		c = h.dial()
		type component = kmsg.DescribeClientQuotasRequestComponent
		show := func(want wire.Code, strict bool, filter ...component) string {
			req := kmsg.NewPtrDescribeClientQuotasRequest()
			req.Components, req.Strict = filter, strict
			all, code := described(c, req)
			wantCode(t, fmt.Sprint(filter), code, want)
			return strings.Join(all, "; ")
		}
		alice, exact := new("alice"), kmsg.QuotasMatchTypeExact
		other, each := kmsg.QuotasMatchTypeDefault, kmsg.QuotasMatchTypeAny
		ofAlice := `{"user":"alice"} producer_byte_rate=1000; {"user":"alice"} request_percentage=12.5`
		both := `{"client-id":null,"user":"alice"} consumer_byte_rate=7`
		clients := `{"client-id":null} controller_mutation_rate=0.5`
		ip := `{"ip":"10.0.0.1"} connection_creation_rate=3`
		for _, tc := range []struct{ what, got, want string }{
			{"all", show(0, false), strings.Join([]string{both, clients, ip, ofAlice}, "; ")},
			{"none", show(0, true), ""},
			{"of alice", show(0, false, component{EntityType: "user", MatchType: exact, Match: alice}), both + "; " + ofAlice},
			{"of alice only", show(0, true, component{EntityType: "user", MatchType: exact, Match: alice}), ofAlice},
			{"of clients", show(0, true, component{EntityType: "client-id", MatchType: each}), clients},
			{"of default clients", show(0, false, component{EntityType: "client-id", MatchType: other}), both + "; " + clients},
			{"of addresses", show(0, false, component{EntityType: "ip", MatchType: each}), ip},
		} {
			if tc.got != tc.want {
				t.Errorf("%s: %s, want %s", tc.what, tc.got, tc.want)
			}
		}
		show(wire.UnsupportedVersion, false, component{EntityType: "shoe", MatchType: each})
		show(wire.InvalidRequest, false, component{EntityType: "", MatchType: each})
		show(wire.InvalidRequest, false, component{EntityType: "user", MatchType: exact})
		show(wire.InvalidRequest, false, component{EntityType: "user", MatchType: each, Match: alice})
		show(wire.InvalidRequest, false, component{EntityType: "user", MatchType: 3})
		show(wire.InvalidRequest, false, component{EntityType: "user", MatchType: each},
			component{EntityType: "ip", MatchType: each})
		h.stop()
		h = openHouseOn(t, fs, Options{})
	}
}

// The more exact quota goes first, each kind by itself, and is shared by who Kafka lets share it.
func TestQuotaPrecedence(t *testing.T) {
	all := map[quotaEntity]quotaValues{}
	for i, parts := range [][]string{
		{"user=u", "client-id=c"}, {"user=u", "client-id="}, {"user=u"}, {"user=", "client-id=c"},
		{"user=", "client-id="}, {"user="}, {"client-id=c"}, {"client-id="},
	} {
		all[entityOf(t, parts...)] = quotaValues{produceRate: float64(i + 1)}
	}
	all[entityOf(t, "client-id=c")] = quotaValues{produceRate: 7, fetchRate: 70}
	table := (*quotaTable)(nil).with(all)
	order := []string{"user=u client-id=c", "user=u client-id=", "user=u", "user= client-id=c", "user= client-id=",
		"user=", "client-id=c", "client-id="}
	shared := []string{"user=u client-id=c", "user=u client-id=c", "user=u", "user=u client-id=c", "user=u client-id=c",
		"user=u", "client-id=c", "client-id=c"}
	for i := range order {
		found := table.limitsOf("u", "c")
		if want := (allowance{float64(i + 1), entityOf(t, strings.Fields(shared[i])...)}); found[produceRate] != want {
			t.Errorf("with %v and below: %+v, want %+v", order[i], found[produceRate], want)
		}
		if i < 7 && found[fetchRate].rate != 70 {
			t.Errorf("%+v", found[fetchRate])
		}
		table = table.with(map[quotaEntity]quotaValues{entityOf(t, strings.Fields(order[i])...): {}})
	}
	if table != nil {
		t.Errorf("%v is left", table.of)
	}
}

// What is used is counted against a second's worth, and waits for what is owed; buckets that are full are forgotten.
func TestQuotaBuckets(t *testing.T) {
	now := time.Duration(0)
	q := newQuotas(func() time.Duration { return now })
	a := allowance{rate: 100, shared: entityOf(t, "user=a")}
	for i, tc := range []struct {
		after time.Duration
		used  float64
		want  time.Duration
	}{{0, 100, 0}, {0, 50, time.Second / 2}, {time.Second / 4, 0, time.Second / 4}, {time.Hour, 100, 0},
		{0, 1e9, mostQuiet}} {
		now += tc.after
		if got := q.charge(produceRate, a, tc.used); got != tc.want {
			t.Errorf("step %d: waits %v, want %v", i, got, tc.want)
		}
	}
	now += time.Hour
	for i := range 3 * mostBuckets {
		now += time.Millisecond
		q.charge(fetchRate, allowance{rate: 100, shared: entityOf(t, fmt.Sprint("client-id=", i))}, 1)
	}
	if n := len(q.buckets); n > sweepBuckets+2000 {
		t.Errorf("%d buckets are kept", n)
	}
	if q.buckets[bucketKey{produceRate, a.shared}] == nil {
		t.Error("what somebody owes was forgotten")
	}
}

// A producer and a consumer get what their quota allows, and are told for how long they are throttled; others are not.
func TestByteQuotas(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c, free := h.dial(), h.dial()
	free.id = "free"
	const rate = 200_000
	wantCode(t, "alter", alter(free, entityOf(t, "client-id=raw"), map[string]float64{
		"producer_byte_rate": rate, "consumer_byte_rate": rate,
	}), wire.None)
	// A busy machine may be slower than the quota for a while, and then nobody is throttled.
	start, sent, told := time.Now(), 0, int32(0)
	for sent < 2*rate || told < 500 && time.Since(start) < time.Minute {
		resp := askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, -1, batchOf(10, 2000)))
		wantCode(t, "produce", produced(resp).ErrorCode, wire.None)
		sent += 20_000
		told += resp.ThrottleMillis
	}
	askFor[*kmsg.MetadataResponse](c, 12, metadataFor("t")) // it waits for its turn
	if took := time.Since(start); took < 900*time.Millisecond || told < 500 {
		t.Errorf("%d bytes at %d a second took %v, throttled for %d ms", sent, rate, took, told)
	}
	resp := askFor[*kmsg.ProduceResponse](free, 9, produceTo(topic, 0, -1, batchOf(10, 2000)))
	if resp.ThrottleMillis != 0 {
		t.Errorf("who has no quota is throttled for %d ms", resp.ThrottleMillis)
	}
	start, told = time.Now(), 0
	read := 0
	for read < 2*rate || told < 500 && time.Since(start) < time.Minute {
		req := fetchFrom(topic, 0, int64(read%(2*rate)/20_000*10), 0, 1)
		req.MaxBytes = 50 << 20
		req.Topics[0].Partitions[0].PartitionMaxBytes = 50 << 20
		resp := askFor[*kmsg.FetchResponse](c, 12, req)
		n := len(fetched(resp).RecordBatches)
		if n > rate+30_000 {
			t.Fatalf("%d bytes at once, %d a second are allowed", n, rate)
		}
		read += n / 20_000 * 20_000
		told += resp.ThrottleMillis
	}
	askFor[*kmsg.MetadataResponse](c, 12, metadataFor("t"))
	if took := time.Since(start); took < 900*time.Millisecond || told < 500 {
		t.Errorf("%d bytes read at %d a second took %v, throttled for %d ms", read, rate, took, told)
	}
}

// Throttled is who takes too much of the processor, every way a response is made; and who changes topics too fast.
func TestRequestQuota(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	topic := h.topic("t", 1)
	wantCode(t, "alter", alter(c, entityOf(t, "user=ANONYMOUS"), map[string]float64{
		"request_percentage": 0.00001,
	}), wire.None)
	until := func(what string, ask func() int32) {
		t.Helper()
		for range 3 { // the time a request took is charged to the next of those that are answered later
			if ms := ask(); ms > 0 {
				if ms > 1001 {
					t.Errorf("%s: throttled for %d ms", what, ms)
				}
				return
			}
		}
		t.Errorf("%s: never throttled", what)
	}
	until("Metadata", func() int32 { return askFor[*kmsg.MetadataResponse](c, 12, metadataFor("t")).ThrottleMillis })
	until("Metadata v8", func() int32 { return askFor[*kmsg.MetadataResponse](c, 8, metadataFor("t")).ThrottleMillis })
	until("ApiVersions", func() int32 {
		return askFor[*kmsg.ApiVersionsResponse](c, 2, kmsg.NewPtrApiVersionsRequest()).ThrottleMillis
	})
	until("Fetch", func() int32 {
		return askFor[*kmsg.FetchResponse](c, 12, fetchFrom(topic, 0, 0, 0, 1)).ThrottleMillis
	})
	until("Produce", func() int32 {
		return askFor[*kmsg.ProduceResponse](c, 8, produceTo(topic, 0, -1, batchOf(1, 10))).ThrottleMillis
	})
	until("OffsetCommit", func() int32 {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation, req.Topics = "g", -1, commitOf("t", 0, 0)
		return askFor[*kmsg.OffsetCommitResponse](c, 8, req).ThrottleMillis
	})
	until("DescribeCluster", func() int32 {
		return askFor[*kmsg.DescribeClusterResponse](c, 0, kmsg.NewPtrDescribeClusterRequest()).ThrottleMillis
	})
	free := h.dial()
	wantCode(t, "alter", alter(free, entityOf(t, "user=ANONYMOUS"), map[string]float64{
		"request_percentage": -1, "controller_mutation_rate": 1000,
	}), wire.None)
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Topics = []kmsg.CreateTopicsRequestTopic{newTopic("many", 1100, 1)}
	if ms := askFor[*kmsg.CreateTopicsResponse](free, 5, create).ThrottleMillis; ms < 1 {
		t.Error("1,100 partitions at 1,000 a second are not throttled")
	}
}

// A connection that is throttled ends at once with the door.
func TestThrottledDrain(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	topic := h.topic("t", 1)
	wantCode(t, "alter", alter(c, entityOf(t, "client-id="), map[string]float64{"producer_byte_rate": 1}), wire.None)
	resp := askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, -1, batchOf(1, 2000)))
	if resp.ThrottleMillis < 60_000 {
		t.Fatalf("throttled for %d ms", resp.ThrottleMillis)
	}
	c.send(metadataFor("t")) // is not heard
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.door.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// Connections beyond the rate of their address are closed, and only those (KIP-612).
func TestConnectionQuota(t *testing.T) {
	set := telemetry.New()
	h := openHouse(t, Options{Metrics: set})
	c := h.dial()
	limit := func(rate float64) {
		t.Helper()
		got := alter(c, entityOf(t, "ip=127.0.0.1"), map[string]float64{"connection_creation_rate": rate})
		wantCode(t, "alter", got, wire.None)
	}
	limit(2)
	begin, served, closed := time.Now(), 0, 0
	for closed < 2 && time.Since(begin) < time.Minute { // a busy machine may not be too fast
		one := h.dial()
		one.send(kmsg.NewPtrApiVersionsRequest())
		if _, _, err := one.frame(); err != nil {
			closed++
		} else {
			served++
		}
	}
	if took := time.Since(begin); closed < 2 || served < 2 || served > 4+int(2*took.Seconds()) {
		t.Errorf("%d connections were served in %v, %d closed", served, took, closed)
	}
	text, counted := exposition(t, set), `firth_kafka_throttled_total{quota="connection_creation_rate"}`
	if !strings.Contains(text, counted) {
		t.Errorf("not counted: %s", text)
	}
	limit(-1)
	for range 6 {
		askFor[*kmsg.ApiVersionsResponse](h.dial(), 3, func() *kmsg.ApiVersionsRequest {
			req := kmsg.NewPtrApiVersionsRequest()
			req.ClientSoftwareName, req.ClientSoftwareVersion = "raw", "1"
			return req
		}())
	}
}
