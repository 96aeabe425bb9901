package kafka

import (
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
)

// owner is a guard under which all may be done, but to the cluster when it says so.
type owner struct{ cluster *bool }

func (o owner) may(_ string, _ Operation, on Resource, _ string) bool {
	return on != OnCluster || *o.cluster
}

const floor = "firth.retention.floor.ms"

// setTopic sets or, with null, unsets settings of a topic, and gives the code.
func (c *client) setTopic(topic string, settings ...string) wire.Code {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	for i := 0; i+1 < len(settings); i += 2 {
		one := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		one.Name, one.Value = settings[i], &settings[i+1]
		if settings[i+1] == "" {
			one.Op = kmsg.IncrementalAlterConfigOpDelete
		}
		r.Configs = append(r.Configs, one)
	}
	req.Resources = append(req.Resources, r)
	return askFor[*kmsg.IncrementalAlterConfigsResponse](c, 1, req).Resources[0].ErrorCode
}

// TestRetentionFloor: who may do everything to a topic, but nothing to the cluster, cannot lower its floor, nor take a
// record away that is younger; who may alter the cluster can.
func TestRetentionFloor(t *testing.T) {
	cluster := false
	h := openHouse(t, Options{Guard: judges{owner{&cluster}}})
	topic := h.topic("kept", 1)
	c := h.dial()
	const hour = "3600000"
	wantCode(t, "floor above the retention", c.setTopic("kept", "retention.ms", "1000", floor, hour), wire.InvalidConfig)
	wantCode(t, "a floor", c.setTopic("kept", "retention.ms", "7200000", floor, hour), wire.None)
	wantCode(t, "a higher one", c.setTopic("kept", floor, "7200000"), wire.None)
	for _, settings := range [][]string{
		{"retention.ms", "7199999"}, {"retention.bytes", "1000"}, {"cleanup.policy", "compact"},
		{"cleanup.policy", "compact,delete", "min.compaction.lag.ms", "1"},
	} {
		wantCode(t, settings[0], c.setTopic("kept", settings...), wire.InvalidConfig)
	}
	var old, young record.Builder
	now := time.Now().UnixMilli()
	old.Reset(nil, now-100*60*60*1000)
	old.Append(&record.Record{Timestamp: now - 100*60*60*1000, Value: []byte("old")})
	young.Reset(nil, now)
	young.Append(&record.Record{Timestamp: now, Value: []byte("young")})
	h.put(c, topic, 0, old.Seal(0, 0))
	h.put(c, topic, 0, young.Seal(0, 0))

	replace := kmsg.NewPtrAlterConfigsRequest()
	r := kmsg.NewAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, "kept"
	replace.Resources = append(replace.Resources, r)
	lowered := func() map[string]wire.Code {
		return map[string]wire.Code{
			"lower":   c.setTopic("kept", floor, hour),
			"none":    c.setTopic("kept", floor, ""),
			"replace": askFor[*kmsg.AlterConfigsResponse](c, 2, replace).Resources[0].ErrorCode,
		}
	}
	for what, code := range lowered() {
		wantCode(t, what, code, wire.ClusterAuthorizationFailed)
	}
	wantCode(t, "what is old", c.trimmed("kept", 1), wire.None)
	wantCode(t, "what is young", c.trimmed("kept", 2), wire.ClusterAuthorizationFailed)
	wantCode(t, "all", c.trimmed("kept", -1), wire.ClusterAuthorizationFailed)
	wantCode(t, "the topic", c.deleted("kept"), wire.ClusterAuthorizationFailed)
	cluster = true
	wantCode(t, "all, by who may", c.trimmed("kept", -1), wire.None)
	for what, code := range lowered() {
		wantCode(t, what+", by who may", code, wire.None)
	}
	wantCode(t, "the topic, by who may", c.deleted("kept"), wire.None)
}

// trimmed asks for the records below an offset to be deleted, and gives the code.
func (c *client) trimmed(topic string, end int64) wire.Code {
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rt.Topic, rp.Offset = topic, end
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return askFor[*kmsg.DeleteRecordsResponse](c, 2, req).Topics[0].Partitions[0].ErrorCode
}

func (c *client) deleted(topic string) wire.Code {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames = []string{topic}
	return askFor[*kmsg.DeleteTopicsResponse](c, 3, req).Topics[0].ErrorCode
}

// TestTopicsSayWhoseTheyAre: owner and classification are text for people, and a new topic holds its floor.
func TestTopicsSayWhoseTheyAre(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	create := func(name string, settings ...string) wire.Code {
		req := kmsg.NewPtrCreateTopicsRequest()
		rt := newTopic(name, 1, 1)
		for i := 0; i+1 < len(settings); i += 2 {
			rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: settings[i], Value: &settings[i+1]})
		}
		req.Topics = append(req.Topics, rt)
		return askFor[*kmsg.CreateTopicsResponse](c, 5, req).Topics[0].ErrorCode
	}
	wantCode(t, "a topic", create("t", "firth.owner", "Team Ü", "firth.classification", "personal"), wire.None)
	wantCode(t, "an owner of two lines", create("u", "firth.owner", "a\nb"), wire.InvalidConfig)
	month := strconv.FormatInt((30 * 24 * time.Hour).Milliseconds(), 10)
	wantCode(t, "a floor above the retention", create("u", floor, month), wire.InvalidConfig)
	wantCode(t, "a floor", create("u", floor, month, "retention.ms", "-1"), wire.None)
	if got := h.store.Topics().ByName("t").Config["firth.owner"]; got != "Team Ü" {
		t.Errorf("the owner is %q", got)
	}
}
