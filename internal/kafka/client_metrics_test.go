package kafka

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// pushing is metrics as a client pushes them: a gauge (5) or a sum (7) with one number.
func pushing(name string, kind int, value float64) []byte {
	in := func(number int, b []byte) []byte {
		out := binary.AppendUvarint(nil, uint64(number)<<3|2)
		return append(binary.AppendUvarint(out, uint64(len(b))), b...)
	}
	point := append([]byte{4<<3 | 1}, binary.LittleEndian.AppendUint64(nil, math.Float64bits(value))...)
	return in(1, in(2, in(2, append(in(1, []byte(name)), in(kind, in(1, point))...))))
}

// What clients push is shown of all together, in metrics that do not grow with their number (KIP-714).
//
// [Kafka-GetTelemetrySubscriptions] [Kafka-PushTelemetry].
func TestClientMetrics(t *testing.T) {
	set := telemetry.New()
	h := openHouse(t, Options{Metrics: set})
	c := h.dial()
	get := func(id record.UUID) *kmsg.GetTelemetrySubscriptionsResponse {
		req := kmsg.NewPtrGetTelemetrySubscriptionsRequest()
		req.ClientInstanceID = id
		return askFor[*kmsg.GetTelemetrySubscriptionsResponse](c, 0, req)
	}
	push := func(what string, want wire.Code, id record.UUID, p pushed) {
		t.Helper()
		req := kmsg.NewPtrPushTelemetryRequest()
		req.ClientInstanceID, req.SubscriptionID, req.Metrics = id, p.subscription, p.metrics
		req.CompressionType, req.Terminating = p.codec, p.last
		wantCode(t, what, askFor[*kmsg.PushTelemetryResponse](c, 0, req).ErrorCode, want)
	}
	shown := func(want ...string) {
		t.Helper()
		text := exposition(t, set)
		for _, line := range want {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("not shown: %s", line)
			}
		}
	}
	const gauge = "org.apache.kafka.producer.record.queue.time.max"
	const sum = "org.apache.kafka.consumer.connection.creation.total"
	first, second := get(record.UUID{}), get(record.UUID{})
	a, b := record.UUID(first.ClientInstanceID), record.UUID(second.ClientInstanceID)
	if a == b || a == (record.UUID{}) || first.SubscriptionID == 0 || len(first.RequestedMetrics) < 10 ||
		first.PushIntervalMillis != 60_000 || !first.DeltaTemporality {
		t.Fatalf("%+v", first)
	}
	wantCode(t, "asked again", get(a).ErrorCode, wire.ThrottlingQuotaExceeded)
	var scratch record.Scratch
	for i, codec := range append([]int8{0}, first.AcceptedCompressionTypes...) {
		id := record.UUID(get(record.UUID{}).ClientInstanceID)
		metrics, err := scratch.Compress(nil, record.Codec(codec), pushing(sum, 7, 2))
		if err != nil {
			t.Fatal(err)
		}
		push(fmt.Sprint("codec ", codec), wire.None, id, pushed{defaultSubscription, codec, false, metrics})
		shown(fmt.Sprintf(`firth_kafka_client_metric_total{name="%s"} %d`, sum, 2*(i+1)))
	}
	both := append(pushing(gauge, 5, 4), pushing("its.own", 5, 9)...)
	push("a", wire.None, a, pushed{defaultSubscription, 0, false, both})
	push("b", wire.None, b, pushed{defaultSubscription, 0, false, pushing(gauge, 5, 8)})
	shown(`firth_kafka_client_instances 7`, fmt.Sprintf(`firth_kafka_client_metric{name="%s",of="max"} 8`, gauge),
		fmt.Sprintf(`firth_kafka_client_metric{name="%s",of="mean"} 6`, gauge))
	if strings.Contains(exposition(t, set), "its.own") {
		t.Error("what was not asked for is shown")
	}
	push("too soon", wire.ThrottlingQuotaExceeded, a, pushed{defaultSubscription, 0, false, nil})
	push("the last", wire.None, b, pushed{defaultSubscription, 0, true, pushing(gauge, 5, 9)})
	push("after the last", wire.InvalidRequest, b, pushed{defaultSubscription, 0, true, nil})
	push("no id", wire.InvalidRequest, record.UUID{}, pushed{defaultSubscription, 0, false, nil})
	push("an old subscription", wire.UnknownSubscriptionID, a, pushed{defaultSubscription + 1, 0, true, nil})
	wantCode(t, "told to ask", get(a).ErrorCode, wire.None)
	push("a codec that is none", wire.UnsupportedCompressionType, a, pushed{defaultSubscription, 9, true, nil})
	push("too large", wire.TelemetryTooLarge, a, pushed{defaultSubscription, 0, true, make([]byte, pushBytes+1)})
	push("no metrics", wire.InvalidRecord, a, pushed{defaultSubscription, 1, true, []byte("not gzip")})
	shown(`firth_kafka_client_instances 5`)
}

// Clients that are not heard of any more do not count, and make room for others.
func TestClientMetricsForget(t *testing.T) {
	now := time.Duration(0)
	m := newClientMetrics(func() time.Duration { return now })
	m.totals = (*telemetry.Set)(nil).Counter("x", "", "name")
	ask := func(i int) wire.Code {
		var who pusher
		binary.BigEndian.PutUint64(who.instance[:], uint64(i))
		_, code := m.subscribe(&who)
		return code
	}
	for i := range mostInstances {
		wantCode(t, "one that fits", ask(i+1), wire.None)
	}
	wantCode(t, "one too many", ask(1<<20), wire.ThrottlingQuotaExceeded)
	now += silentIntervals*pushInterval + 1
	wantCode(t, "in place of the silent", ask(1<<20), wire.None)
	if n := len(m.instances); n != 1 {
		t.Errorf("%d are remembered", n)
	}
}

// A feature has the level of the release, whoever asks for another.
//
// [Kafka-UpdateFeatures].
func TestUpdateFeatures(t *testing.T) {
	c := openHouse(t, Options{}).dial()
	level, _ := wire.FeatureLevel("transaction.version")
	ask := func(version int16, updates ...kmsg.UpdateFeaturesRequestFeatureUpdate) *kmsg.UpdateFeaturesResponse {
		req := kmsg.NewPtrUpdateFeaturesRequest()
		req.FeatureUpdates = updates
		return askFor[*kmsg.UpdateFeaturesResponse](c, version, req)
	}
	type update = kmsg.UpdateFeaturesRequestFeatureUpdate
	is := update{Feature: "transaction.version", MaxVersionLevel: level, UpgradeType: 1}
	other := update{Feature: "transaction.version", MaxVersionLevel: level + 1, UpgradeType: 1}
	none := update{Feature: "time.travel", MaxVersionLevel: 1, UpgradeType: 1}
	wantCode(t, "as it is", ask(2, is).ErrorCode, wire.None)
	wantCode(t, "another level", ask(2, other).ErrorCode, wire.InvalidUpdateVersion)
	wantCode(t, "one that is none", ask(2, is, none).ErrorCode, wire.InvalidUpdateVersion)
	wantCode(t, "nothing", ask(1).ErrorCode, wire.InvalidRequest)
	wantCode(t, "twice", ask(2, is, is).ErrorCode, wire.InvalidRequest)
	resp := ask(1, is, none)
	if len(resp.Results) != 2 || resp.ErrorCode != 0 || resp.Results[0].ErrorCode != 0 ||
		resp.Results[1].ErrorCode != wire.InvalidUpdateVersion {
		t.Errorf("%+v", resp)
	}
	wantCode(t, "no kind of change", ask(1, update{Feature: is.Feature, MaxVersionLevel: level}).Results[0].ErrorCode,
		wire.InvalidRequest)
}
