package consoles

import "github.com/twmb/franz-go/pkg/kmsg"

// changes are what a visitor changes.
var changes = []call{
	{name: "set a setting", ask: of(kmsg.NewPtrIncrementalAlterConfigsRequest(),
		func(h *house, r *kmsg.IncrementalAlterConfigsRequest) {
			set := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			set.Name, set.Value = "retention.ms", new("3600000")
			r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
				ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: h.topic,
				Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{set},
			}}
		})},
	{name: "the setting is shown", ask: describeConfigs(kmsg.ConfigResourceTypeTopic),
		want: is(func(_ *house, r *kmsg.DescribeConfigsResponse) string {
			for _, c := range r.Resources[0].Configs {
				if c.Name == "retention.ms" {
					return unless(c.Value != nil && *c.Value == "3600000" && c.Source == kmsg.ConfigSourceDynamicTopicConfig &&
						len(c.ConfigSynonyms) > 1 && !c.IsDefault, "%+v", c)
				}
			}
			return "it is not there"
		})},
	{name: "replace the settings", by: redpandaConsole, ask: of(kmsg.NewPtrAlterConfigsRequest(),
		func(h *house, r *kmsg.AlterConfigsRequest) {
			set := kmsg.AlterConfigsRequestResourceConfig{Name: "cleanup.policy", Value: new("delete")}
			r.Resources = []kmsg.AlterConfigsRequestResource{{
				ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: h.topic,
				Configs: []kmsg.AlterConfigsRequestResourceConfig{set},
			}}
		})},
	{name: "more partitions", ask: of(kmsg.NewPtrCreatePartitionsRequest(), func(h *house,
		r *kmsg.CreatePartitionsRequest) {
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = h.topic, 4
		r.Topics, r.TimeoutMillis = []kmsg.CreatePartitionsRequestTopic{t}, 10_000
	})},
	{name: "remove records", ask: of(kmsg.NewPtrDeleteRecordsRequest(), func(h *house, r *kmsg.DeleteRecordsRequest) {
		p := kmsg.DeleteRecordsRequestTopicPartition{Partition: 0, Offset: 10}
		r.Topics = []kmsg.DeleteRecordsRequestTopic{
			{Topic: h.topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{p}},
		}
		r.TimeoutMillis = 10_000
	}), want: is(func(_ *house, r *kmsg.DeleteRecordsResponse) string {
		p := r.Topics[0].Partitions[0]
		return unless(p.LowWatermark == 10, "%+v", p)
	})},
	{name: "the records are gone", ask: of(kmsg.NewPtrListOffsetsRequest(), listOffsets(-2)), want: is(offsetIs(10))},
	{name: "move replicas", by: redpandaConsole + kafkaUI, ask: of(kmsg.NewPtrAlterPartitionAssignmentsRequest(),
		func(h *house, r *kmsg.AlterPartitionAssignmentsRequest) {
			p := kmsg.AlterPartitionAssignmentsRequestTopicPartition{Partition: 0, Replicas: []int32{1}}
			r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{
				{Topic: h.topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{p}},
			}
			r.TimeoutMillis = 10_000
		})},
	{name: "move to another directory", by: kafkaUI, ask: of(kmsg.NewPtrAlterReplicaLogDirsRequest(),
		func(h *house, r *kmsg.AlterReplicaLogDirsRequest) {
			r.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{
				Dir:    "/nowhere",
				Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: h.topic, Partitions: []int32{0}}},
			}}
		}), allowed: []int16{57}, want: is(func(_ *house, r *kmsg.AlterReplicaLogDirsResponse) string {
		code := r.Topics[0].Partitions[0].ErrorCode
		return unless(code == 57, "error code %d, want LOG_DIR_NOT_FOUND", code)
	})},
	{name: "set a quota", by: redpandaConsole + kafkaUI, ask: of(kmsg.NewPtrAlterClientQuotasRequest(),
		func(h *house, r *kmsg.AlterClientQuotasRequest) {
			r.Entries = []kmsg.AlterClientQuotasRequestEntry{{
				Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "client-id", Name: &h.group}},
				Ops:    []kmsg.AlterClientQuotasRequestEntryOp{{Key: "consumer_byte_rate", Value: 1e6}},
			}}
		})},
	{name: "quotas", by: redpandaConsole + kafkaUI, ask: of(kmsg.NewPtrDescribeClientQuotasRequest(),
		func(*house, *kmsg.DescribeClientQuotasRequest) {}),
		want: is(func(h *house, r *kmsg.DescribeClientQuotasResponse) string {
			for _, e := range r.Entries {
				if len(e.Entity) == 1 && e.Entity[0].Name != nil && *e.Entity[0].Name == h.group {
					return unless(len(e.Values) == 1 && e.Values[0].Value == 1e6, "%+v", e)
				}
			}
			return "the quota is not there"
		})},
	{name: "remove a topic", ask: of(kmsg.NewPtrDeleteTopicsRequest(), func(h *house, r *kmsg.DeleteTopicsRequest) {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = &h.topic
		r.TopicNames, r.Topics, r.TimeoutMillis = []string{h.topic}, []kmsg.DeleteTopicsRequestTopic{t}, 10_000
	})},
}
