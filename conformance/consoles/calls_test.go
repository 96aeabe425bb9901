package consoles

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// call is one that a console makes, in the order in which a visitor would have it make them.
type call struct {
	name    string
	by      string // the consoles that make it, "": all
	ask     func(h *house) kmsg.Request
	allowed []int16                                           // error codes that Kafka, too, gives here
	want    func(h *house, resp kmsg.Response) (wrong string) // "": right
}

// of makes a request with what has to be said in it.
func of[R kmsg.Request](req R, fill func(h *house, req R)) func(h *house) kmsg.Request {
	return func(h *house) kmsg.Request {
		fill(h, req)
		return req
	}
}

// is judges an answer of one kind.
func is[R kmsg.Response](judge func(h *house, resp R) string) func(h *house, resp kmsg.Response) string {
	return func(h *house, resp kmsg.Response) string { return judge(h, resp.(R)) }
}

// unless says what is wrong unless something holds.
func unless(holds bool, format string, args ...any) string {
	if holds {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

const (
	kafkaUI         = "kafka-ui"
	kafkaUIAndAKHQ  = "kafka-ui akhq"
	redpandaConsole = "redpanda-console"
)

var calls = append(append(looks, groupCalls...), changes...)

// looks are what shows the cluster and its topics.
var looks = []call{
	{name: "api versions", ask: of(kmsg.NewPtrApiVersionsRequest(), func(_ *house, r *kmsg.ApiVersionsRequest) {
		r.ClientSoftwareName, r.ClientSoftwareVersion = "console", "1"
	}), want: is(func(_ *house, r *kmsg.ApiVersionsResponse) string {
		return unless(len(r.ApiKeys) > 50, "%d APIs", len(r.ApiKeys))
	})},
	{name: "cluster", by: kafkaUIAndAKHQ, ask: of(kmsg.NewPtrDescribeClusterRequest(),
		func(_ *house, r *kmsg.DescribeClusterRequest) { r.IncludeClusterAuthorizedOperations = true },
	), want: is(func(_ *house, r *kmsg.DescribeClusterResponse) string {
		return unless(len(r.Brokers) == 1 && r.ControllerID == r.Brokers[0].NodeID && r.ClusterID != "" &&
			r.ClusterAuthorizedOperations > 0, "%+v", r)
	})},
	{name: "all topics", ask: of(kmsg.NewPtrMetadataRequest(), func(*house, *kmsg.MetadataRequest) {}),
		want: is(func(h *house, r *kmsg.MetadataResponse) string {
			for _, t := range r.Topics {
				if t.Topic != nil && *t.Topic == h.topic {
					h.topicID = t.TopicID
					p := t.Partitions[2]
					return unless(len(t.Partitions) == 3 && !t.IsInternal && t.TopicID != [16]byte{} && len(p.ISR) == 1 &&
						p.Leader == p.ISR[0] && len(p.OfflineReplicas) == 0, "%+v", t)
				}
			}
			return "the topic is not there"
		})},
	{name: "settings of topics", ask: describeConfigs(kmsg.ConfigResourceTypeTopic), want: is(described(25))},
	{name: "settings of a broker", ask: describeConfigs(kmsg.ConfigResourceTypeBroker), want: is(described(15))},
	{name: "log directories", ask: of(kmsg.NewPtrDescribeLogDirsRequest(), func(*house, *kmsg.DescribeLogDirsRequest) {}),
		want: is(func(h *house, r *kmsg.DescribeLogDirsResponse) string {
			for _, t := range r.Dirs[0].Topics {
				if t.Topic == h.topic {
					return unless(len(t.Partitions) == 3 && t.Partitions[0].Size >= 300 && t.Partitions[0].OffsetLag == 0 &&
						(r.Version < 4 || r.Dirs[0].TotalBytes > 0 && r.Dirs[0].UsableBytes > 0), "%+v of %+v", t, r.Dirs[0])
				}
			}
			return "the topic is not there"
		})},
	{name: "earliest offsets", ask: of(kmsg.NewPtrListOffsetsRequest(), listOffsets(-2)), want: is(offsetIs(0))},
	{name: "latest offsets", ask: of(kmsg.NewPtrListOffsetsRequest(), listOffsets(-1)), want: is(offsetIs(30))},
	{name: "offsets by time", ask: of(kmsg.NewPtrListOffsetsRequest(), listOffsets(15_500)), want: is(offsetIs(15))},
	{name: "messages", ask: of(kmsg.NewPtrFetchRequest(), func(h *house, r *kmsg.FetchRequest) {
		r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = 500, 1, 1<<20, -1
		p := kmsg.NewFetchRequestTopicPartition()
		p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = 25, 1<<20, -1
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID, t.Partitions = h.topic, h.topicID, []kmsg.FetchRequestTopicPartition{p}
		r.Topics = []kmsg.FetchRequestTopic{t}
	}), want: is(func(_ *house, r *kmsg.FetchResponse) string {
		p := r.Topics[0].Partitions[0]
		return unless(p.HighWatermark == 30 && p.LogStartOffset == 0 && len(p.RecordBatches) > 0, "%+v", p)
	})},
	{name: "producers", by: kafkaUI, ask: of(kmsg.NewPtrDescribeProducersRequest(),
		func(h *house, r *kmsg.DescribeProducersRequest) {
			r.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: h.topic, Partitions: []int32{0}}}
		}), want: is(func(_ *house, r *kmsg.DescribeProducersResponse) string {
		active := r.Topics[0].Partitions[0].ActiveProducers
		return unless(len(active) == 1 && active[0].LastSequence == 29, "%+v", active)
	})},
	{name: "quorum", by: kafkaUI, ask: of(kmsg.NewPtrDescribeQuorumRequest(), func(_ *house,
		r *kmsg.DescribeQuorumRequest) {
		r.Topics = []kmsg.DescribeQuorumRequestTopic{
			{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}},
		}
	}), want: is(func(_ *house, r *kmsg.DescribeQuorumResponse) string {
		p := r.Topics[0].Partitions[0]
		return unless(len(p.CurrentVoters) == 1 && p.CurrentVoters[0].ReplicaID == p.LeaderID, "%+v", p)
	})},
	{name: "reassignments", by: redpandaConsole, ask: of(kmsg.NewPtrListPartitionReassignmentsRequest(),
		func(_ *house, r *kmsg.ListPartitionReassignmentsRequest) { r.TimeoutMillis = 1000 }),
		want: is(func(_ *house, r *kmsg.ListPartitionReassignmentsResponse) string {
			return unless(len(r.Topics) == 0, "%+v", r.Topics)
		})},
	{name: "access rules", ask: of(kmsg.NewPtrDescribeACLsRequest(), func(_ *house, r *kmsg.DescribeACLsRequest) {
		r.ResourceType, r.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
		r.Operation, r.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	}), want: is(func(_ *house, r *kmsg.DescribeACLsResponse) string {
		return unless(len(r.Resources) == 0, "%+v", r.Resources)
	})},
}

func describeConfigs(kind kmsg.ConfigResourceType) func(h *house) kmsg.Request {
	return of(kmsg.NewPtrDescribeConfigsRequest(), func(h *house, r *kmsg.DescribeConfigsRequest) {
		one := kmsg.NewDescribeConfigsRequestResource()
		one.ResourceType, one.ResourceName = kind, h.topic
		if kind == kmsg.ConfigResourceTypeBroker {
			one.ResourceName = "1"
		}
		r.Resources = []kmsg.DescribeConfigsRequestResource{one}
		r.IncludeSynonyms, r.IncludeDocumentation = true, true
	})
}

// described wants so many settings at least, each with its documentation and with what is behind its value.
func described(count int) func(h *house, r *kmsg.DescribeConfigsResponse) string {
	return func(_ *house, r *kmsg.DescribeConfigsResponse) string {
		all := r.Resources[0].Configs
		for _, c := range all {
			if c.Documentation == nil || *c.Documentation == "" || c.ConfigType == 0 ||
				len(c.ConfigSynonyms) == 0 && !c.ReadOnly {
				return fmt.Sprintf("%+v", c)
			}
		}
		return unless(len(all) >= count, "%d settings", len(all))
	}
}

func listOffsets(at int64) func(h *house, r *kmsg.ListOffsetsRequest) {
	return func(h *house, r *kmsg.ListOffsetsRequest) {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp, p.CurrentLeaderEpoch = at, -1
		r.ReplicaID = -1
		r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: h.topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
	}
}

func offsetIs(want int64) func(h *house, r *kmsg.ListOffsetsResponse) string {
	return func(_ *house, r *kmsg.ListOffsetsResponse) string {
		got := r.Topics[0].Partitions[0].Offset
		return unless(got == want, "offset %d, want %d", got, want)
	}
}
