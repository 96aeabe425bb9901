package node

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kafka/wire"
)

// The calls of the access matrix about what was read, and what is to be written: offsets, and transactions. Each is
// about two things or three, of which all but one are allowed for ever.

const (
	goodTopic = "mxlit"
	goodGroup = "mxg-lit"
	goodTxn   = "mxt-lit"
)

// offsetCalls are about offsets: by the topic, and by the group.
func offsetCalls() []call {
	return []call{
		{"OffsetCommit", 7, "topic", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			return commitOf(goodGroup, name)
		}},
		{"OffsetCommit", 7, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			return commitOf(name, goodTopic)
		}},
		{"OffsetFetch", 7, "topic", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Group = goodGroup
			req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: name, Partitions: []int32{0}}}
			return req
		}},
		{"OffsetDelete", 0, "group", []string{"delete"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrOffsetDeleteRequest()
			req.Group = name
			return req
		}},
		{"StreamsGroupHeartbeat", 0, "topic", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
			req.Group, req.MemberID, req.RebalanceTimeoutMillis = "mxg-pre-streams", "one", 60_000
			req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
			req.ProcessID = new("p")
			t := kmsg.NewStreamsGroupHeartbeatRequestTopology()
			s := kmsg.NewStreamsGroupHeartbeatRequestTopologySubtopology()
			s.SubtopologyID, s.SourceTopics = "0", []string{name}
			t.Subtopologies = append(t.Subtopologies, s)
			req.Topology = &t
			return req
		}},
		{"StreamsGroupHeartbeat", 0, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
			req.Group, req.MemberID, req.MemberEpoch = name, "nobody", 7
			return req
		}},
		{"StreamsGroupDescribe", 0, "group", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrStreamsGroupDescribeRequest()
			req.Groups = []string{name}
			return req
		}},
	}
}

func commitOf(group, topic string) kmsg.Request {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic,
		Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return req
}

// transactionCalls are about what enters a transaction, none of which is open: by the topic, the group, and the
// transactional id.
func transactionCalls() []call {
	enter := func(id, topic string) kmsg.Request {
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		req.TransactionalID, req.ProducerID = id, 1
		req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: []int32{0}}}
		return req
	}
	announce := func(id, group string) kmsg.Request {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.Group = id, 1, group
		return req
	}
	commit := func(id, group, topic string) kmsg.Request {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.Group, req.Generation = id, 1, group, -1
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic,
			Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
		return req
	}
	const id = "transactional_id"
	return []call{
		{"AddPartitionsToTxn", 3, "topic", []string{"write"}, func(_ *matrix, name string) kmsg.Request {
			return enter(goodTxn, name)
		}},
		{"AddPartitionsToTxn", 3, id, []string{"write"}, func(_ *matrix, name string) kmsg.Request {
			return enter(name, goodTopic)
		}},
		{"AddOffsetsToTxn", 3, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			return announce(goodTxn, name)
		}},
		{"AddOffsetsToTxn", 3, id, []string{"write"}, func(_ *matrix, name string) kmsg.Request {
			return announce(name, goodGroup)
		}},
		{"TxnOffsetCommit", 3, "topic", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			return commit(goodTxn, goodGroup, name)
		}},
		{"TxnOffsetCommit", 3, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			return commit(goodTxn, name, goodTopic)
		}},
		{"TxnOffsetCommit", 3, id, []string{"write"}, func(_ *matrix, name string) kmsg.Request {
			return commit(name, goodGroup, goodTopic)
		}},
	}
}

// acknowledge says in the session of before of every topic that something of it is done with, and judges whether that
// was refused. A session that has ended is begun anew by the next fetch.
func (s *sharing) acknowledge(b *backEnd) {
	m := b.m
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.GroupID, req.MemberID, req.ShareSessionEpoch = s.req.GroupID, s.req.MemberID, s.req.ShareSessionEpoch
	for _, name := range shared {
		t := kmsg.NewShareAcknowledgeRequestTopic()
		t.TopicID = m.node.store.Topics().ByName(name).ID
		p := kmsg.NewShareAcknowledgeRequestTopicPartition()
		p.AcknowledgementBatches = []kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{
			{AcknowledgeTypes: []int8{1}}}
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	answer, _ := b.must(req, 1)
	resp := answer.(*kmsg.ShareAcknowledgeResponse)
	if resp.ErrorCode != 0 {
		return
	}
	s.req.ShareSessionEpoch++
	for _, name := range shared {
		id := m.node.store.Topics().ByName(name).ID
		refused := slices.ContainsFunc(resp.Topics, func(t kmsg.ShareAcknowledgeResponseTopic) bool {
			return t.TopicID == id && t.Partitions[0].ErrorCode == wire.TopicAuthorizationFailed
		})
		m.judge("ShareAcknowledge", b.who, name, m.oracle.topic(b.who, "read", name), !refused)
	}
}
