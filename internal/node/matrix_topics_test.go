package node

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The calls of the access matrix by which administrators change topics, and those whose rights are by topic within a
// call about a group that may be changed.

const (
	goodOffsets = "mxg-pre-offsets" // a group with offsets, which may be read and deleted
	goodShares  = "mxg-pre-shares"  // one that shares topics
)

// prepare makes the groups that calls are about.
func (m *matrix) prepare() {
	m.t.Helper()
	b, err := m.backEnd(&person{user: "root"})
	if err != nil {
		m.t.Fatal(err)
	}
	defer b.nc.Close()
	b.must(commitOf(goodOffsets, goodTopic), 7)
	b.must(commitOf(goodOffsets, "mxlook"), 7) // which nobody reads, so that the group stays
	b.must(beginOf(goodShares, goodTopic), 0)
}

// restore makes a topic again that a call has deleted.
func (m *matrix) restore(call, name string) {
	if call != "DeleteTopics" || m.node.store.Topics().ByName(name) != nil || strings.HasPrefix(name, "__firth_") {
		return
	}
	m.root.publish(&packet.Publish{Topic: []byte(within(name)), Payload: []byte("x"), QoS: 1}, 0)
	m.root.drain()
}

// changingCalls change topics, or would if they were not only tried.
func changingCalls() []call {
	return []call{
		{"CreateTopics", 5, "topic", []string{"create"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrCreateTopicsRequest()
			req.ValidateOnly = true
			req.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: name, NumPartitions: 1, ReplicationFactor: 1}}
			return req
		}},
		{"DeleteTopics", 5, "topic", []string{"delete"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.TimeoutMillis, req.TopicNames = 60_000, []string{name}
			return req
		}},
		{"AlterConfigs", 2, "topic", []string{"alter_configs"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrAlterConfigsRequest()
			req.ValidateOnly = true
			req.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: name}}
			return req
		}},
		{"OffsetDelete", 0, "topic", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrOffsetDeleteRequest()
			req.Group = goodOffsets
			req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: name,
				Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
			return req
		}},
	}
}

func beginOf(group, topic string) kmsg.Request {
	req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	req.GroupID = group
	req.Topics = []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: topic,
		Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{}}}}
	return req
}

// shareCalls are about where share groups stand: by the topic, and by the group.
func shareCalls() []call {
	forget := func(group, topic string) kmsg.Request {
		req := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
		req.GroupID, req.Topics = group, []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: topic}}
		return req
	}
	show := func(group, topic string) kmsg.Request {
		req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
		req.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: group,
			Topics: []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{{Topic: topic, Partitions: []int32{0}}}}}
		return req
	}
	return []call{
		{"AlterShareGroupOffsets", 0, "topic", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			return beginOf(goodShares, name)
		}},
		{"DescribeShareGroupOffsets", 0, "topic", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			return show(goodShares, name)
		}},
		{"DescribeShareGroupOffsets", 0, "group", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			return show(name, goodTopic)
		}},
		{"DeleteShareGroupOffsets", 0, "topic", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			return forget(goodShares, name)
		}},
		{"DeleteShareGroupOffsets", 0, "group", []string{"delete"}, func(_ *matrix, name string) kmsg.Request {
			return forget(name, goodTopic)
		}},
	}
}

// idCalls name topics by their ids, and what subscribes to them.
func idCalls() []call {
	return []call{
		{"OffsetCommit by id", 10, "topic", []string{"read"}, func(m *matrix, name string) kmsg.Request {
			req := commitOf(goodGroup, name).(*kmsg.OffsetCommitRequest)
			req.Topics[0].TopicID = m.topicID(name)
			return req
		}},
		{"OffsetFetch by id", 10, "topic", []string{"describe"}, func(m *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrOffsetFetchRequest()
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group, g.MemberEpoch = goodGroup, -1
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			t.TopicID, t.Partitions = m.topicID(name), []int32{0}
			g.Topics = append(g.Topics, t)
			req.Groups = append(req.Groups, g)
			return req
		}},
		{"Metadata by id", 12, "topic", []string{"describe"}, func(m *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = []kmsg.MetadataRequestTopic{{TopicID: m.topicID(name)}}
			return req
		}},
	}
}

// topicID is the id of a topic; one that is not there has one that none has.
func (m *matrix) topicID(name string) [16]byte {
	if t := m.node.store.Topics().ByName(name); t != nil {
		return t.ID
	}
	return [16]byte{1}
}

// clusterCalls are about the cluster, and change nothing.
func clusterCalls() []call {
	const cluster = "cluster"
	return []call{
		{"ElectLeaders", 2, cluster, []string{"alter"}, func(*matrix, string) kmsg.Request {
			req := kmsg.NewPtrElectLeadersRequest()
			req.Topics = []kmsg.ElectLeadersRequestTopic{}
			return req
		}},
		{"UpdateFeatures", 1, cluster, []string{"alter"}, func(*matrix, string) kmsg.Request {
			req := kmsg.NewPtrUpdateFeaturesRequest()
			req.ValidateOnly = true
			return req
		}},
		{"DescribeQuorum", 0, cluster, []string{"describe"}, func(*matrix, string) kmsg.Request {
			return kmsg.NewPtrDescribeQuorumRequest()
		}},
		{"AlterClientQuotas", 1, cluster, []string{"alter_configs"}, func(*matrix, string) kmsg.Request {
			req := kmsg.NewPtrAlterClientQuotasRequest()
			req.ValidateOnly = true
			e := kmsg.NewAlterClientQuotasRequestEntry()
			e.Entity = []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: new("nobody")}}
			e.Ops = []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1e6}}
			req.Entries = append(req.Entries, e)
			return req
		}},
	}
}
