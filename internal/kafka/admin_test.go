package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every kind of error has a code, and none but success is 0.
func TestErrorTable(t *testing.T) {
	seen := map[wire.Code][]fault.Kind{}
	for _, kind := range fault.Kinds() {
		got := codeOf(kind)
		if got == wire.None || (got == wire.UnknownServerError) != (kind == fault.Internal) {
			t.Errorf("%v: code %d", kind, got)
		}
		if via := code(fault.New(kind, "op", "x")); via != got {
			t.Errorf("%v: %d through an error, %d by kind", kind, via, got)
		}
		seen[got] = append(seen[got], kind)
	}
	if code(nil) != wire.None {
		t.Error("nil is an error")
	}
	if same := seen[wire.KafkaStorageError]; len(same) != 3 {
		t.Errorf("storage errors: %v", same)
	}
}

func metadataFor(names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, name := range names {
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: &name})
	}
	return req
}

// [Kafka-Metadata].
func TestMetadataTopics(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 3)
	c := h.dial()
	for version := int16(0); version <= 13; version++ {
		all := kmsg.NewPtrMetadataRequest()
		if version == 0 {
			all.Topics = []kmsg.MetadataRequestTopic{}
		}
		got := askFor[*kmsg.MetadataResponse](c, version, all)
		i := slices.IndexFunc(got.Topics, func(t kmsg.MetadataResponseTopic) bool { return *t.Topic == "t" })
		if i < 0 || len(got.Topics[i].Partitions) != 3 || got.Topics[i].Partitions[2].Leader != 1 {
			t.Fatalf("v%d: %+v", version, got.Topics)
		}
		if version >= 10 && got.Topics[i].TopicID != topic.ID {
			t.Fatalf("v%d: id %x", version, got.Topics[i].TopicID)
		}
		for _, other := range got.Topics {
			if version >= 1 && other.IsInternal != strings.HasPrefix(*other.Topic, "__") {
				t.Fatalf("v%d: %s is internal: %v", version, *other.Topic, other.IsInternal)
			}
		}
		if version >= 1 {
			none := askFor[*kmsg.MetadataResponse](c, version, metadataFor())
			if len(none.Topics) != 0 || len(none.Brokers) != 1 {
				t.Fatalf("v%d: %+v for no topics", version, none)
			}
		}
	}
	for _, id := range [][16]byte{topic.ID, {1, 2, 3}} {
		req := metadataFor()
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{TopicID: id})
		got := askFor[*kmsg.MetadataResponse](c, 12, req).Topics[0]
		known := id == [16]byte(topic.ID)
		if known != (got.ErrorCode == 0) || known != (got.Topic != nil) || got.TopicID != id {
			t.Fatalf("%x: %+v", id, got)
		}
	}
}

// [Kafka-Metadata].
func TestMetadataCreates(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	req := metadataFor("new", "bad/name", "__firth_mine", strings.Repeat("x", 250), ".")
	req.AllowAutoTopicCreation = false
	for _, topic := range askFor[*kmsg.MetadataResponse](c, 9, req).Topics {
		if topic.ErrorCode == wire.None || h.store.Topics().ByName(*topic.Topic) != nil {
			t.Fatalf("%+v without leave to create", topic)
		}
	}
	req.AllowAutoTopicCreation = true
	got := askFor[*kmsg.MetadataResponse](c, 12, req).Topics
	if got[0].ErrorCode != wire.None || len(got[0].Partitions) != 1 ||
		h.store.Topics().ByName("new").ID != record.UUID(got[0].TopicID) {
		t.Fatalf("%+v", got[0])
	}
	for _, topic := range got[1:] {
		wantCode(t, *topic.Topic, topic.ErrorCode, wire.InvalidTopic)
	}
	wantCode(t, "v3 always may", askFor[*kmsg.MetadataResponse](c, 3, metadataFor("old")).Topics[0].ErrorCode, wire.None)

	strict := openHouse(t, Options{DisableAutoCreate: true}).dial()
	wantCode(
		t, "a door that creates nothing", askFor[*kmsg.MetadataResponse](strict, 9, req).Topics[0].ErrorCode,
		wire.UnknownTopicOrPartition,
	)
}

func newTopic(name string, partitions int32, replicas int16, config ...string) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, replicas
	for i := 0; i+1 < len(config); i += 2 {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: config[i], Value: &config[i+1]})
	}
	return t
}

func assigned(name string, replicas ...[]int32) kmsg.CreateTopicsRequestTopic {
	t := newTopic(name, -1, -1)
	for i, r := range replicas {
		t.ReplicaAssignment = append(
			t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: int32(i), Replicas: r},
		)
	}
	return t
}

// [Kafka-CreateTopics].
func TestCreateTopics(t *testing.T) {
	h := openHouse(t, Options{DefaultPartitions: 1})
	h.topic("there", 1)
	c := h.dial()
	both := assigned("both", []int32{1})
	both.NumPartitions = 3
	gap := assigned("gap", []int32{1}, []int32{1})
	gap.ReplicaAssignment[1].Partition = 5
	null := newTopic("null", 1, 1)
	null.Configs = append(null.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "retention.ms"})
	cases := []struct {
		topic      kmsg.CreateTopicsRequestTopic
		want       wire.Code
		partitions int
		say        string // part of the message
	}{
		{newTopic("a", 3, 1), wire.None, 3, ""},
		{newTopic("b", -1, -1), wire.None, 1, ""},
		{newTopic("c", 2, -1, "retention.ms", "5000", "cleanup.policy", "compact"), wire.None, 2, ""},
		{assigned("d", []int32{1}, []int32{1}), wire.None, 2, ""},
		{newTopic("there", 1, 1), wire.TopicAlreadyExists, 0, "exists"},
		{newTopic("zero", 0, 1), wire.InvalidPartitions, 0, "at least 1"},
		{newTopic("minus", -2, 1), wire.InvalidPartitions, 0, ""},
		{newTopic("million", 1_000_000, 1), wire.PolicyViolation, 0, ""},
		{newTopic("three", 1, 3), wire.InvalidReplicationFactor, 0, "one node"},
		{newTopic("none", 1, 0), wire.InvalidReplicationFactor, 0, ""},
		{newTopic("..", 1, 1), wire.InvalidTopic, 0, ""},
		{newTopic("a/b", 1, 1), wire.InvalidTopic, 0, ""},
		{newTopic("", 1, 1), wire.InvalidTopic, 0, ""},
		{newTopic(strings.Repeat("x", 250), 1, 1), wire.InvalidTopic, 0, ""},
		{newTopic("__transaction_state", 1, 1), wire.InvalidTopic, 0, "log itself"},
		{newTopic("cfg", 1, 1, "retention.ms", "x", "nonsense", "1"), wire.InvalidConfig, 0, "nonsense"},
		{null, wire.InvalidConfig, 0, "null"},
		{both, wire.InvalidRequest, 0, ""},
		{assigned("far", []int32{1}, []int32{2}), wire.InvalidReplicaAssignment, 0, ""},
		{assigned("many", []int32{1, 1}), wire.InvalidReplicaAssignment, 0, ""},
		{gap, wire.InvalidReplicaAssignment, 0, "numbered"},
	}
	for _, dry := range []bool{true, false} {
		for _, tc := range cases {
			req := kmsg.NewPtrCreateTopicsRequest()
			req.ValidateOnly, req.Topics = dry, append(req.Topics, tc.topic)
			if dry && tc.want == wire.PolicyViolation {
				continue // how many there may be is the log's to say
			}
			got := askFor[*kmsg.CreateTopicsResponse](c, 7, req).Topics[0]
			wantCode(t, fmt.Sprintf("%s (dry %v)", tc.topic.Topic, dry), got.ErrorCode, tc.want)
			if tc.say != "" && (got.ErrorMessage == nil || !strings.Contains(*got.ErrorMessage, tc.say)) {
				t.Fatalf("%s: no %q in what it says", tc.topic.Topic, tc.say)
			}
			made := h.store.Topics().ByName(tc.topic.Topic)
			if tc.want == wire.None &&
				(int(got.NumPartitions) != tc.partitions || len(got.Configs) < 20 || dry == (made != nil)) {
				t.Fatalf("%s (dry %v): %+v, made: %v", tc.topic.Topic, dry, got, made)
			}
		}
	}
	if s := h.store.Topics().ByName("c").Settings; s.RetentionMs != 5000 || !s.Compact {
		t.Fatalf("%+v", s)
	}
	twice := kmsg.NewPtrCreateTopicsRequest()
	twice.Topics = []kmsg.CreateTopicsRequestTopic{newTopic("twice", 1, 1), newTopic("twice", 1, 1)}
	got := askFor[*kmsg.CreateTopicsResponse](c, 2, twice).Topics
	if len(got) != 1 { // librdkafka fails the whole request when a name comes back twice
		t.Fatalf("a topic named twice has %d answers", len(got))
	}
	wantCode(t, "twice", got[0].ErrorCode, wire.InvalidRequest)
}

// [Kafka-DeleteTopics].
func TestDeleteTopics(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	a, b := h.topic("a", 1), h.topic("b", 1)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames = []string{"a", "nope", "__firth_topics"}
	got := askFor[*kmsg.DeleteTopicsResponse](c, 5, req).Topics
	for i, want := range []wire.Code{wire.None, wire.UnknownTopicOrPartition, wire.InvalidTopic} {
		wantCode(t, req.TopicNames[i], got[i].ErrorCode, want)
	}
	again := h.topic("a", 1)
	if again.ID == a.ID {
		t.Fatal("a topic came back with its old id")
	}
	wantCode(
		t, "fetch by the old id", fetched(askFor[*kmsg.FetchResponse](c, 13, fetchFrom(a, 0, 0, 0, 1))).ErrorCode,
		wire.UnknownTopicID,
	)
	byID := kmsg.NewPtrDeleteTopicsRequest()
	byID.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: b.ID}, {TopicID: a.ID}, {Topic: new("a"), TopicID: again.ID}}
	got = askFor[*kmsg.DeleteTopicsResponse](c, 6, byID).Topics
	for i, want := range []wire.Code{wire.None, wire.UnknownTopicID, wire.InvalidRequest} {
		wantCode(t, fmt.Sprintf("by id %d", i), got[i].ErrorCode, want)
	}
	if got[0].Topic == nil || *got[0].Topic != "b" || h.store.Topics().ByName("b") != nil {
		t.Fatalf("%+v", got[0])
	}
}

// [Kafka-CreatePartitions].
func TestCreatePartitions(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("t", 2)
	c := h.dial()
	grow := func(what string, dry bool, name string, count int32, want wire.Code, replicas ...int32) {
		t.Helper()
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.ValidateOnly = dry
		rt := kmsg.CreatePartitionsRequestTopic{Topic: name, Count: count}
		for _, r := range replicas {
			rt.Assignment = append(rt.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: []int32{r}})
		}
		req.Topics = append(req.Topics, rt)
		wantCode(t, what, askFor[*kmsg.CreatePartitionsResponse](c, 3, req).Topics[0].ErrorCode, want)
	}
	grow("fewer", false, "t", 1, wire.InvalidPartitions)
	grow("as many", false, "t", 2, wire.InvalidPartitions)
	grow("unknown", false, "nope", 3, wire.UnknownTopicOrPartition)
	grow("internal", false, "__firth_topics", 30, wire.InvalidTopic)
	grow("assigned elsewhere", false, "t", 3, wire.InvalidReplicaAssignment, 9)
	grow("assigned too few", false, "t", 4, wire.InvalidReplicaAssignment, 1)
	grow("dry", true, "t", 3, wire.None)
	if n := len(h.store.Topics().ByName("t").Partitions); n != 2 {
		t.Fatalf("%d partitions", n)
	}
	grow("assigned", false, "t", 3, wire.None, 1)
	grow("more", false, "t", 5, wire.None)
	twice := kmsg.NewPtrCreatePartitionsRequest()
	twice.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 6}, {Topic: "t", Count: 7}}
	got := askFor[*kmsg.CreatePartitionsResponse](c, 3, twice).Topics
	if len(got) != 1 {
		t.Fatalf("a topic named twice has %d answers", len(got))
	}
	wantCode(t, "twice", got[0].ErrorCode, wire.InvalidRequest)
	if n := len(h.store.Topics().ByName("t").Partitions); n != 5 {
		t.Fatalf("%d partitions", n)
	}
}

// configOf asks for one setting of a topic.
func configOf(t *testing.T, c *client, topic, name string) kmsg.DescribeConfigsResponseResourceConfig {
	t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{
		ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic, ConfigNames: []string{name},
	})
	r := askFor[*kmsg.DescribeConfigsResponse](c, 4, req).Resources[0]
	if r.ErrorCode != 0 || len(r.Configs) != 1 {
		t.Fatalf("%+v", r)
	}
	return r.Configs[0]
}

// [Kafka-DescribeConfigs] [Kafka-AlterConfigs].
func TestConfigs(t *testing.T) {
	h := openHouse(t, Options{TopicDefaults: map[string]string{
		"segment.bytes": "1048576", "max.message.bytes": stream.FindSetting("max.message.bytes").Default,
	}})
	h.topic("t", 1, "retention.ms", "5000")
	c := h.dial()
	set := configOf(t, c, "t", "retention.ms")
	if *set.Value != "5000" || set.Source != kmsg.ConfigSourceDynamicTopicConfig ||
		set.ConfigType != kmsg.ConfigTypeLong ||
		len(set.ConfigSynonyms) != 2 ||
		*set.Documentation == "" {
		t.Fatalf("%+v", set)
	}
	node := configOf(t, c, "t", "segment.bytes")
	if *node.Value != "1048576" || node.Source != kmsg.ConfigSourceStaticBrokerConfig {
		t.Fatalf("%+v", node)
	}
	same := configOf(t, c, "t", "max.message.bytes")
	if same.Source != kmsg.ConfigSourceDefaultConfig || len(same.ConfigSynonyms) != 1 {
		t.Fatalf("the node says what is the default anyway: %+v", same)
	}
	def := configOf(t, c, "t", "cleanup.policy")
	if *def.Value != "delete" || def.Source != kmsg.ConfigSourceDefaultConfig || def.ConfigType != kmsg.ConfigTypeList {
		t.Fatalf("%+v", def)
	}
	for _, names := range [][]string{nil, {}} { // an empty list asks for all, as in Kafka
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Resources = []kmsg.DescribeConfigsRequestResource{
			{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t", ConfigNames: names},
		}
		all := askFor[*kmsg.DescribeConfigsResponse](c, 4, req).Resources[0].Configs
		if len(all) != len(stream.TopicSettings()) {
			t.Errorf("names %#v ask for %d settings", names, len(all))
		}
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = []kmsg.DescribeConfigsRequestResource{
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "nope"},
		{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"},
		{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: ""},
		{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "9"},
		{ResourceType: 99, ResourceName: "x"},
	}
	codes := []wire.Code{wire.UnknownTopicOrPartition, wire.None, wire.None, wire.InvalidRequest, wire.InvalidRequest}
	for i, want := range codes {
		wantCode(
			t, fmt.Sprint(req.Resources[i]), askFor[*kmsg.DescribeConfigsResponse](c, 1, req).Resources[i].ErrorCode, want,
		)
	}
}

// [Kafka-IncrementalAlterConfigs] [Kafka-DescribeConfigs].
func TestIncrementalAlterConfigs(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("t", 1, "retention.ms", "5000")
	c := h.dial()
	alter := func(what string, dry bool, want wire.Code, ops ...kmsg.IncrementalAlterConfigsRequestResourceConfig) {
		t.Helper()
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.ValidateOnly = dry
		req.Resources = append(
			req.Resources,
			kmsg.IncrementalAlterConfigsRequestResource{
				ResourceType: kmsg.ConfigResourceTypeTopic,
				ResourceName: "t",
				Configs:      ops,
			},
		)
		got := askFor[*kmsg.IncrementalAlterConfigsResponse](c, 1, req).Resources[0]
		wantCode(t, what, got.ErrorCode, want)
	}
	type change = kmsg.IncrementalAlterConfigsRequestResourceConfig
	op := func(name string, op kmsg.IncrementalAlterConfigOp, value string) change {
		return kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Op: op, Value: &value}
	}
	config := func() map[string]string { return h.store.Topics().ByName("t").Config }
	const (
		set = kmsg.IncrementalAlterConfigOpSet
		del = kmsg.IncrementalAlterConfigOpDelete
		add = kmsg.IncrementalAlterConfigOpAppend
		sub = kmsg.IncrementalAlterConfigOpSubtract
	)
	alter(
		"a bad value beside a good one", false, wire.InvalidConfig, op("segment.bytes", set, "1048576"),
		op("retention.ms", set, "x"),
	)
	alter("unknown", false, wire.InvalidConfig, op("nonsense", set, "1"))
	alter("unknown to delete", false, wire.InvalidConfig, op("nonsense", del, ""))
	alter("append to what is no list", false, wire.InvalidConfig, op("retention.ms", add, "1"))
	alter("operation 9", false, wire.InvalidConfig, op("retention.ms", 9, "1"))
	alter("twice", false, wire.InvalidRequest, op("retention.ms", set, "1"), op("retention.ms", set, "2"))
	alter("dry", true, wire.None, op("retention.ms", set, "1"))
	if got := config(); len(got) != 1 || got["retention.ms"] != "5000" {
		t.Fatalf("%v", got)
	}
	alter("append", false, wire.None, op("cleanup.policy", add, "compact"))
	if got := config()["cleanup.policy"]; got != "delete,compact" {
		t.Fatalf("cleanup.policy %q", got)
	}
	alter("subtract", false, wire.None, op("cleanup.policy", sub, "delete"), op("retention.ms", del, ""))
	if got := config(); got["cleanup.policy"] != "compact" || len(got) != 1 {
		t.Fatalf("%v", got)
	}

	old := kmsg.NewPtrAlterConfigsRequest()
	value := "7000"
	old.Resources = append(
		old.Resources,
		kmsg.AlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t",
			Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: &value}}},
		kmsg.AlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"},
	)
	got := askFor[*kmsg.AlterConfigsResponse](c, 0, old).Resources
	wantCode(t, "AlterConfigs", got[0].ErrorCode, wire.None)
	wantCode(t, "of the broker, nothing", got[1].ErrorCode, wire.None)
	if got := config(); got["retention.ms"] != "7000" || len(got) != 1 {
		t.Fatalf("%v", got)
	}
}

// offsetsOf is a ListOffsets request for partitions of topic t.
func offsetsOf(parts ...kmsg.ListOffsetsRequestTopicPartition) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: parts}}
	return req
}

// offsetAt asks for the offset of one partition.
func offsetAt(
	c *client, version int16, part kmsg.ListOffsetsRequestTopicPartition,
) kmsg.ListOffsetsResponseTopicPartition {
	return askFor[*kmsg.ListOffsetsResponse](c, version, offsetsOf(part)).Topics[0].Partitions[0]
}

// [Kafka-ListOffsets].
func TestListOffsets(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	type part = kmsg.ListOffsetsRequestTopicPartition
	list := func(version int16, partition int32, ts int64) kmsg.ListOffsetsResponseTopicPartition {
		return offsetAt(c, version, part{Partition: partition, Timestamp: ts, CurrentLeaderEpoch: -1})
	}
	if p := list(8, 0, timeMax); p.ErrorCode != 0 || p.Offset != -1 {
		t.Fatalf("the largest of none: %+v", p)
	}
	h.put(c, topic, 0, batchOf(5, 10), batchOf(5, 10)) // stamped 1000 to 1004, twice
	cases := []struct {
		name          string
		version       int16
		ts            int64
		code          wire.Code
		offset, stamp int64
		epoch         bool
	}{
		{"latest", 1, timeLatest, 0, 10, -1, false},
		{"latest", 4, timeLatest, 0, 10, -1, true},
		{"earliest", 4, timeEarliest, 0, 0, -1, false},
		{"by time", 4, 1002, 0, 2, 1002, true},
		{"time 0", 4, 0, 0, 0, 1000, true},
		{"time to come", 4, 9999, 0, -1, -1, false},
		{"time 2^63-1", 4, 1<<63 - 1, 0, -1, -1, false},
		{"largest", 7, timeMax, 0, 4, 1004, true},
		{"largest before v7", 6, timeMax, wire.UnsupportedVersion, -1, -1, false},
		{"local", 8, timeLocal, 0, 0, -1, false},
		{"tiered", 9, timeTiered, 0, -1, -1, false},
		{"to be tiered", 11, timeEarliestTier, 0, -1, -1, false},
		{"odd", 11, -99, wire.UnsupportedVersion, -1, -1, false},
	}
	for _, tc := range cases {
		p := list(tc.version, 0, tc.ts)
		if p.ErrorCode != tc.code || p.Offset != tc.offset || p.Timestamp != tc.stamp ||
			(tc.epoch && p.LeaderEpoch != h.store.Epoch()) {
			t.Errorf("%s v%d: %+v", tc.name, tc.version, p)
		}
	}
	wantCode(t, "partition 3 of 1", list(4, 3, timeLatest).ErrorCode, wire.UnknownTopicOrPartition)
	same := part{Timestamp: timeLatest, CurrentLeaderEpoch: -1}
	twice := askFor[*kmsg.ListOffsetsResponse](c, 4, offsetsOf(same, same)).Topics[0].Partitions[0]
	wantCode(t, "twice", twice.ErrorCode, wire.InvalidRequest)
	ahead := offsetAt(c, 4, part{Timestamp: timeLatest, CurrentLeaderEpoch: h.store.Epoch() + 1})
	wantCode(t, "epoch to come", ahead.ErrorCode, wire.UnknownLeaderEpoch)
}

// The times that are not times have a meaning from a version on, and are refused before it.
//
// [Kafka-ListOffsets].
func TestListOffsetsSpecialTimes(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	h.put(c, topic, 0, batchOf(5, 10))
	if _, err := h.store.TrimTo(t.Context(), topic.Partitions[0], 2); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		ts     int64
		since  int16
		offset int64
	}{{timeLatest, 1, 5}, {timeEarliest, 1, 2}, {timeMax, 7, 4}, {timeLocal, 8, 2}, {timeTiered, 9, -1},
		{timeEarliestTier, 11, -1}, {-7, 12, -1}} {
		for version := int16(1); version <= 11; version++ {
			p := offsetAt(c, version, kmsg.ListOffsetsRequestTopicPartition{Timestamp: tc.ts, CurrentLeaderEpoch: -1})
			want, code := tc.offset, wire.None
			if version < tc.since {
				want, code = -1, wire.UnsupportedVersion
			}
			if p.Offset != want || p.ErrorCode != code {
				t.Errorf("time %d in v%d: offset %d, error %d; want %d, %d", tc.ts, version, p.Offset, p.ErrorCode, want, code)
			}
		}
	}
}

// By id, an id that is none is unknown, and so is that of a topic that was made again (KIP-516).
//
// [Kafka-Fetch] [Kafka-Produce].
func TestTopicsByID(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	old := h.topic("t", 1)
	h.put(c, old, 0, batchOf(1, 10))
	if err := h.store.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	renewed := h.topic("t", 1)
	strange := &stream.Topic{ID: record.UUID{9}}
	for what, topic := range map[string]*stream.Topic{"no id": {Name: "t"}, "the old id": old, "a strange one": strange} {
		p := produced(askFor[*kmsg.ProduceResponse](c, 13, produceTo(topic, 0, -1, batchOf(1, 10))))
		wantCode(t, "produce by "+what, p.ErrorCode, wire.UnknownTopicID)
		f := fetched(askFor[*kmsg.FetchResponse](c, 18, fetchFrom(topic, 0, 0, 0, 1)))
		wantCode(t, "fetch by "+what, f.ErrorCode, wire.UnknownTopicID)
	}
	h.put(c, renewed, 0, batchOf(1, 10))
	inside := h.store.Topics().ByName("__firth_topics")
	p := produced(askFor[*kmsg.ProduceResponse](c, 13, produceTo(inside, 0, -1, batchOf(1, 10))))
	wantCode(t, "produce to a topic of the log", p.ErrorCode, wire.InvalidTopic)
}

// [Kafka-OffsetForLeaderEpoch].
func TestOffsetForLeaderEpoch(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	h.put(c, topic, 0, batchOf(5, 10))
	ask := func(epoch, current int32) kmsg.OffsetForLeaderEpochResponseTopicPartition {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{
			{
				Topic:      "t",
				Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{LeaderEpoch: epoch, CurrentLeaderEpoch: current}},
			},
		}
		return askFor[*kmsg.OffsetForLeaderEpochResponse](c, 4, req).Topics[0].Partitions[0]
	}
	if p := ask(h.store.Epoch(), -1); p.ErrorCode != 0 || p.EndOffset != 5 || p.LeaderEpoch != h.store.Epoch() {
		t.Fatalf("%+v", p)
	}
	wantCode(t, "epoch to come", ask(0, h.store.Epoch()+1).ErrorCode, wire.UnknownLeaderEpoch)
}

// [Kafka-DeleteRecords].
func TestDeleteRecordsRefusals(t *testing.T) {
	h := openHouse(t, Options{})
	h.put(h.dial(), h.topic("t", 1), 0, batchOf(5, 10))
	h.topic("compacted", 1, "cleanup.policy", "compact")
	c := h.dial()
	ask := func(what, topic string, partition int32, offset int64, want wire.Code, low int64) {
		t.Helper()
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Topics = []kmsg.DeleteRecordsRequestTopic{
			{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: offset}}},
		}
		p := askFor[*kmsg.DeleteRecordsResponse](c, 1, req).Topics[0].Partitions[0]
		wantCode(t, what, p.ErrorCode, want)
		if p.LowWatermark != low {
			t.Fatalf("%s: log start %d, not %d", what, p.LowWatermark, low)
		}
	}
	ask("beyond the end", "t", 0, 6, wire.OffsetOutOfRange, -1)
	ask("offset -2", "t", 0, -2, wire.OffsetOutOfRange, -1)
	ask("unknown partition", "t", 1, 0, wire.UnknownTopicOrPartition, -1)
	ask("compacted", "compacted", 0, 0, wire.PolicyViolation, -1)
	ask("internal", "__firth_topics", 0, 0, wire.InvalidTopic, -1)
	ask("up to 2", "t", 0, 2, wire.None, 2)
	ask("back to 1", "t", 0, 1, wire.None, 2)
	ask("all", "t", 0, -1, wire.None, 5)
}

// [Kafka-DescribeCluster].
func TestDescribeCluster(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	for kind, want := range map[int8]wire.Code{
		1: wire.None, 2: wire.MismatchedEndpointType, 0: wire.UnsupportedEndpointType, 9: wire.UnsupportedEndpointType,
	} {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.EndpointType, req.IncludeClusterAuthorizedOperations = kind, true
		resp := askFor[*kmsg.DescribeClusterResponse](c, 2, req)
		wantCode(t, fmt.Sprintf("endpoint type %d", kind), resp.ErrorCode, want)
		if want != wire.None {
			continue
		}
		if resp.ClusterID != h.store.ClusterID() || len(resp.Brokers) != 1 ||
			resp.ClusterAuthorizedOperations == wire.NoOperations {
			t.Fatalf("%+v", resp)
		}
	}
}

// Pages of DescribeTopicPartitions join to the whole.
//
// [Kafka-DescribeTopicPartitions].
func TestDescribeTopicPartitions(t *testing.T) {
	h := openHouse(t, Options{})
	for _, name := range []string{"b", "a", "c"} {
		h.topic(name, 5)
	}
	c := h.dial()
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = 3
	for _, name := range []string{"c", "a", "nope", "b"} {
		req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
	}
	var got []string
	for pages := 0; ; pages++ {
		resp := askFor[*kmsg.DescribeTopicPartitionsResponse](c, 0, req)
		for _, topic := range resp.Topics {
			if *topic.Topic == "nope" {
				wantCode(t, "nope", topic.ErrorCode, wire.UnknownTopicOrPartition)
			}
			for _, p := range topic.Partitions {
				got = append(got, fmt.Sprintf("%s%d", *topic.Topic, p.Partition))
			}
		}
		if resp.NextCursor == nil {
			break
		}
		if pages > 10 {
			t.Fatal("no end")
		}
		req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{
			Topic:     resp.NextCursor.Topic,
			Partition: resp.NextCursor.Partition,
		}
	}
	if want := "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4"; strings.Join(got, " ") != want {
		t.Fatal(got)
	}
}

// [Kafka-ListConfigResources].
func TestListConfigResources(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("t", 1)
	c := h.dial()
	req := kmsg.NewPtrListConfigResourcesRequest()
	resp := askFor[*kmsg.ListConfigResourcesResponse](c, 0, req)
	if resp.ErrorCode != 0 || len(resp.ConfigResources) != 0 {
		t.Fatalf("%+v", resp)
	}
	resp = askFor[*kmsg.ListConfigResourcesResponse](c, 1, req)
	if !slices.ContainsFunc(
		resp.ConfigResources,
		func(r kmsg.ListConfigResourcesResponseConfigResource) bool { return r.Name == "t" && r.Type == 2 },
	) {
		t.Fatalf("%+v", resp)
	}
	req.ResourceTypes = []int8{77}
	wantCode(t, "type 77", askFor[*kmsg.ListConfigResourcesResponse](c, 1, req).ErrorCode, wire.UnsupportedVersion)
}

// [Kafka-InitProducerId].
func TestInitProducerIDRefusesWhatIsWrong(t *testing.T) {
	c := openHouse(t, Options{}).dial()
	long := strings.Repeat("x", maxTransactionalID+1)
	for id, want := range map[string]wire.Code{
		"no timeout": wire.InvalidTransactionTimeout, "": wire.InvalidRequest, long: wire.InvalidRequest,
	} {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = &id
		resp := askFor[*kmsg.InitProducerIDResponse](c, 5, req)
		wantCode(t, fmt.Sprintf("transactional id %q", id), resp.ErrorCode, want)
		if resp.ProducerID != -1 {
			t.Fatalf("%+v", resp)
		}
	}
}

// denying is a guard that hides what begins with "secret" and lets nobody touch the cluster.
type denying struct{}

func (denying) may(_ string, _ Operation, on Resource, name string) bool {
	return on != OnCluster && !strings.HasPrefix(name, "secret")
}

// What a client may not do it is told by its code, and what it may not see it does not learn.
func TestGuard(t *testing.T) {
	h := openHouse(t, Options{Guard: judges{denying{}}})
	secret := h.topic("secret", 1)
	h.topic("open", 1)
	c := h.dial()
	for _, name := range []string{"secret", "secret2"} { // there or not: the same answer
		topic := &stream.Topic{Name: name}
		wantCode(
			t, "produce", produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, -1, batchOf(1, 1)))).ErrorCode,
			wire.TopicAuthorizationFailed,
		)
		wantCode(
			t, "fetch", fetched(askFor[*kmsg.FetchResponse](c, 9, fetchFrom(topic, 0, 0, 0, 1))).ErrorCode,
			wire.TopicAuthorizationFailed,
		)
		wantCode(
			t, "metadata", askFor[*kmsg.MetadataResponse](c, 9, metadataFor(name)).Topics[0].ErrorCode,
			wire.TopicAuthorizationFailed,
		)
		del := kmsg.NewPtrDeleteTopicsRequest()
		del.TopicNames = []string{name}
		wantCode(
			t, "delete", askFor[*kmsg.DeleteTopicsResponse](c, 3, del).Topics[0].ErrorCode, wire.TopicAuthorizationFailed,
		)
		create := kmsg.NewPtrCreateTopicsRequest()
		create.Topics = []kmsg.CreateTopicsRequestTopic{newTopic(name, 1, 1)}
		wantCode(
			t, "create", askFor[*kmsg.CreateTopicsResponse](c, 3, create).Topics[0].ErrorCode, wire.TopicAuthorizationFailed,
		)
	}
	byID := metadataFor()
	byID.Topics = append(byID.Topics, kmsg.MetadataRequestTopic{TopicID: secret.ID})
	wantCode(
		t, "metadata by id", askFor[*kmsg.MetadataResponse](c, 12, byID).Topics[0].ErrorCode, wire.TopicAuthorizationFailed,
	)
	all := askFor[*kmsg.MetadataResponse](c, 9, kmsg.NewPtrMetadataRequest())
	for _, topic := range all.Topics {
		if strings.HasPrefix(*topic.Topic, "secret") {
			t.Fatal("a hidden topic is listed")
		}
	}
	wantCode(
		t, "producer id", askFor[*kmsg.InitProducerIDResponse](c, 3, kmsg.NewPtrInitProducerIDRequest()).ErrorCode,
		wire.ClusterAuthorizationFailed,
	)
	dirs := kmsg.NewPtrDescribeLogDirsRequest()
	wantCode(t, "log dirs", askFor[*kmsg.DescribeLogDirsResponse](c, 3, dirs).ErrorCode, wire.ClusterAuthorizationFailed)
}

// One broker has no replicas to move and no leaders to elect, and says so in the words of a cluster.
//
// [Kafka-ElectLeaders] [Kafka-AlterPartitionReassignments] [Kafka-ListPartitionReassignments]
// [Kafka-AlterReplicaLogDirs] [Kafka-DescribeLogDirs].
func TestOneNodeCluster(t *testing.T) {
	h := openHouse(t, Options{NodeID: 7, LogDir: "/data"})
	h.topic("t", 2)
	c := h.dial()
	for version := range int16(3) {
		req := kmsg.NewPtrElectLeadersRequest()
		resp := askFor[*kmsg.ElectLeadersResponse](c, version, req)
		if wantCode(t, "all", resp.ErrorCode, wire.None); len(resp.Topics) != 0 {
			t.Errorf("elected %+v", resp.Topics)
		}
		req.Topics = []kmsg.ElectLeadersRequestTopic{
			{Topic: "t", Partitions: []int32{1, 2}}, {Topic: "n", Partitions: []int32{0}},
		}
		resp = askFor[*kmsg.ElectLeadersResponse](c, version, req)
		wantCode(t, "led here", resp.Topics[0].Partitions[0].ErrorCode, wire.ElectionNotNeeded)
		wantCode(t, "no partition", resp.Topics[0].Partitions[1].ErrorCode, wire.UnknownTopicOrPartition)
		wantCode(t, "no topic", resp.Topics[1].Partitions[0].ErrorCode, wire.UnknownTopicOrPartition)
		if req.ElectionType = 2; version > 0 {
			wantCode(t, "kind 2", askFor[*kmsg.ElectLeadersResponse](c, version, req).ErrorCode, wire.InvalidRequest)
		}
	}
	for version := range int16(2) {
		req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		topic := kmsg.NewAlterPartitionAssignmentsRequestTopic()
		topic.Topic = "t"
		want := []wire.Code{wire.None, wire.NoReassignmentInProgress, wire.InvalidReplicaAssignment,
			wire.InvalidReplicaAssignment, wire.InvalidReplicaAssignment}
		for _, replicas := range [][]int32{{7}, nil, {8}, {}, {7, 8}} {
			topic.Partitions = append(topic.Partitions,
				kmsg.AlterPartitionAssignmentsRequestTopicPartition{Partition: 1, Replicas: replicas})
		}
		req.Topics = append(req.Topics, topic)
		for i, p := range askFor[*kmsg.AlterPartitionAssignmentsResponse](c, version, req).Topics[0].Partitions {
			wantCode(t, fmt.Sprintf("replicas %v", topic.Partitions[i].Replicas), p.ErrorCode, want[i])
		}
	}
	list := askFor[*kmsg.ListPartitionReassignmentsResponse](c, 0, kmsg.NewPtrListPartitionReassignmentsRequest())
	if wantCode(t, "list", list.ErrorCode, wire.None); len(list.Topics) != 0 {
		t.Errorf("listed %+v", list.Topics)
	}
	for version := int16(1); version < 3; version++ {
		req := kmsg.NewPtrAlterReplicaLogDirsRequest()
		for _, dir := range []string{"/data", "/other"} {
			req.Dirs = append(req.Dirs, kmsg.AlterReplicaLogDirsRequestDir{Dir: dir,
				Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "t", Partitions: []int32{0, 2}}}})
		}
		moved := askFor[*kmsg.AlterReplicaLogDirsResponse](c, version, req).Topics
		wantCode(t, "there", moved[0].Partitions[0].ErrorCode, wire.None)
		wantCode(t, "no partition", moved[0].Partitions[1].ErrorCode, wire.UnknownTopicOrPartition)
		wantCode(t, "no folder", moved[1].Partitions[0].ErrorCode, wire.LogDirNotFound)
	}
}

// What a folder tells of the disk under it (KIP-827), which consoles show beside the sizes of topics.
//
// [Kafka-DescribeLogDirs].
func TestLogDirTellsItsDisk(t *testing.T) {
	fs := vfs.NewMemory()
	fs.SetCapacity(64 << 20)
	h := openHouseOn(t, fs, Options{LogDir: "/data"})
	dir := askFor[*kmsg.DescribeLogDirsResponse](h.dial(), 4, kmsg.NewPtrDescribeLogDirsRequest()).Dirs[0]
	if dir.TotalBytes != 64<<20 || dir.UsableBytes <= 0 || dir.UsableBytes >= dir.TotalBytes {
		t.Errorf("%d of %d bytes are free, want some of %d", dir.UsableBytes, dir.TotalBytes, 64<<20)
	}
}

// This node is the quorum of the metadata, whose offsets grow with what changes.
//
// [Kafka-DescribeQuorum].
func TestDescribeQuorum(t *testing.T) {
	h := openHouse(t, Options{NodeID: 7})
	c := h.dial()
	before := int64(-1)
	for version := range int16(3) {
		h.topic(fmt.Sprintf("t%d", version), 1)
		req := kmsg.NewPtrDescribeQuorumRequest()
		for name, partitions := range map[string]int{"__cluster_metadata": 2, "t0": 1} {
			topic := kmsg.NewDescribeQuorumRequestTopic()
			for i := range partitions {
				topic.Topic = name
				topic.Partitions = append(topic.Partitions, kmsg.DescribeQuorumRequestTopicPartition{Partition: int32(i)})
			}
			req.Topics = append(req.Topics, topic)
		}
		resp := askFor[*kmsg.DescribeQuorumResponse](c, version, req)
		wantCode(t, "quorum", resp.ErrorCode, wire.None)
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if topic.Topic != "__cluster_metadata" || p.Partition != 0 {
					wantCode(t, topic.Topic, p.ErrorCode, wire.UnknownTopicOrPartition)
					continue
				}
				wantCode(t, topic.Topic, p.ErrorCode, wire.None)
				if p.LeaderID != 7 || p.HighWatermark <= before || len(p.CurrentVoters) != 1 ||
					p.CurrentVoters[0].ReplicaID != 7 || p.CurrentVoters[0].LogEndOffset != p.HighWatermark {
					t.Errorf("v%d: %+v", version, p)
				}
				before = p.HighWatermark
			}
		}
		if version == 2 && (len(resp.Nodes) != 1 || resp.Nodes[0].NodeID != 7 || resp.Nodes[0].Listeners[0].Port == 0) {
			t.Errorf("%+v", resp.Nodes)
		}
	}
}
