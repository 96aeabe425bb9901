package kafka

import (
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Subscriptions to metrics of clients are resources with settings (KIP-714, KIP-1000), as kafka-client-metrics.sh
// makes, lists, shows and deletes them, also after a restart; and clients are asked for what they say.
// kafka-client-metrics.sh was answered INVALID_REQUEST.
//
// Long: one story of a subscription.
//
// [Kafka-GetTelemetrySubscriptions] [Kafka-DescribeConfigs] [Kafka-IncrementalAlterConfigs]
// [Kafka-ListConfigResources].
func TestClientSubscriptions(t *testing.T) {
	fs := vfs.NewMemory()
	h := openHouseOn(t, fs, Options{})
	c := h.dial()
	alter := func(name string, op kmsg.IncrementalAlterConfigOp, pairs ...string) wire.Code {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeClientMetrics, name
		for i := 0; i < len(pairs); i += 2 {
			cfg := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			cfg.Name, cfg.Op, cfg.Value = pairs[i], op, &pairs[i+1]
			r.Configs = append(r.Configs, cfg)
		}
		req.Resources = append(req.Resources, r)
		return askFor[*kmsg.IncrementalAlterConfigsResponse](c, 1, req).Resources[0].ErrorCode
	}
	show := func(name string) map[string]string {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{
			ResourceType: kmsg.ConfigResourceTypeClientMetrics, ResourceName: name,
		})
		r := askFor[*kmsg.DescribeConfigsResponse](c, 4, req).Resources[0]
		wantCode(t, name, r.ErrorCode, wire.None)
		set := map[string]string{}
		for _, cfg := range r.Configs {
			if cfg.Source == kmsg.ConfigSourceClientMetricsConfig {
				set[cfg.Name] = *cfg.Value
			}
		}
		return set
	}
	list := func(version int16) (names []string) {
		req := kmsg.NewPtrListConfigResourcesRequest()
		if version > 0 {
			req.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeClientMetrics)}
		}
		for _, r := range askFor[*kmsg.ListConfigResourcesResponse](c, version, req).ConfigResources {
			names = append(names, r.Name)
		}
		return names
	}
	get := func() *kmsg.GetTelemetrySubscriptionsResponse {
		return askFor[*kmsg.GetTelemetrySubscriptionsResponse](c, 0, kmsg.NewPtrGetTelemetrySubscriptionsRequest())
	}
	asked := func(interval int32, metrics ...string) {
		t.Helper()
		if got := get(); got.PushIntervalMillis != interval || !slices.Equal(got.RequestedMetrics, metrics) {
			t.Errorf("asked for %q each %d ms, want %q each %d ms",
				got.RequestedMetrics, got.PushIntervalMillis, metrics, interval)
		}
	}
	const set, add, del = kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpAppend,
		kmsg.IncrementalAlterConfigOpDelete
	before := get()
	wantCode(t, "set", alter("mine", set, "metrics", "org.apache.kafka.producer.,a", "interval.ms", "2000"), wire.None)
	const nobody = "client_id=nobody,client_source_port=[0-9]+"
	wantCode(t, "another", alter("other", set, "metrics", "*", "match", nobody), wire.None)
	asked(2000, "a", "org.apache.kafka.producer.")
	for what, code := range map[string]wire.Code{
		"no number": alter("mine", set, "interval.ms", "x"), "too often": alter("mine", set, "interval.ms", "99"),
		"no trait": alter("mine", set, "match", "shoe=44"), "no expression": alter("mine", set, "match", "client_id=("),
		"unknown": alter("mine", set, "nonsense", "1"), "no list": alter("mine", add, "interval.ms", "1"),
	} {
		wantCode(t, what, code, wire.InvalidConfig)
	}
	wantCode(t, "no name", alter("", set, "metrics", "a"), wire.InvalidRequest)
	h.stop()
	h = openHouseOn(t, fs, Options{})
	c = h.dial()
	if got := list(0); !slices.Equal(got, []string{"mine", "other"}) || !slices.Equal(list(1), got) {
		t.Errorf("listed: %q", got)
	}
	if got := show("mine"); len(got) != 2 || got["interval.ms"] != "2000" || len(show("nowhere")) != 0 {
		t.Errorf("shown: %q", got)
	}
	wantCode(t, "append", alter("mine", add, "match", "client_source_address=127.*"), wire.None)
	asked(2000, "a", "org.apache.kafka.producer.")
	wantCode(t, "none matches", alter("mine", set, "match", "client_source_address=10.*"), wire.None)
	asked(300_000)
	wantCode(t, "both", alter("other", set, "match", ""), wire.None)
	asked(300_000, everyMetric)
	req := kmsg.NewPtrPushTelemetryRequest()
	req.ClientInstanceID, req.SubscriptionID = record.UUID{1}, before.SubscriptionID
	wantCode(t, "as before", askFor[*kmsg.PushTelemetryResponse](c, 0, req).ErrorCode, wire.UnknownSubscriptionID)
	req.SubscriptionID = get().SubscriptionID
	wantCode(t, "as asked", askFor[*kmsg.PushTelemetryResponse](c, 0, req).ErrorCode, wire.None)
	wantCode(t, "delete", alter("mine", del, "metrics", "", "interval.ms", "", "match", ""), wire.None)
	wantCode(t, "delete", alter("other", del, "metrics", "", "match", ""), wire.None)
	if got := list(1); len(got) != 0 {
		t.Errorf("listed: %q", got)
	}
	asked(60_000, pushedMetrics...)
}
