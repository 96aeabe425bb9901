package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeQuorum (55): v0-2.
//
// Behaviour
//   - The quorum of __cluster_metadata is this node: it leads, has all and is the only voter. What other
//     brokers keep in that topic is in the journal here, so it has no offsets: they are those of the topics' own
//     log of changes, which only grow.
//   - There is no quorum of any other topic or partition: UNKNOWN_TOPIC_OR_PARTITION.
//
// Versions: 1 times of fetches (KIP-836), 2 directory ids and the nodes' addresses (KIP-853).

const (
	metadataTopic = "__cluster_metadata" // whose quorum tools ask for
	changesTopic  = "__firth_topics"     // what changed in topics
)

// describeQuorum answers DescribeQuorum.
func (d *Door) describeQuorum(
	_ context.Context, c *conn, req *kmsg.DescribeQuorumRequest,
) (*kmsg.DescribeQuorumResponse, error) {
	resp := kmsg.NewPtrDescribeQuorumResponse()
	if !d.may(c, OpDescribe, OnCluster, ClusterResource) {
		resp.ErrorCode = wire.ClusterAuthorizationFailed
		return resp, nil
	}
	for _, rt := range req.Topics {
		answer := kmsg.NewDescribeQuorumResponseTopic()
		answer.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			answer.Partitions = append(answer.Partitions, d.quorumOf(rt.Topic, rp.Partition))
		}
		resp.Topics = append(resp.Topics, answer)
	}
	node := kmsg.NewDescribeQuorumResponseNode()
	node.NodeID = d.opt.NodeID
	listener := kmsg.NewDescribeQuorumResponseNodeListener()
	listener.Name, listener.Host, listener.Port = "PLAINTEXT", c.told.host, uint16(c.told.port)
	node.Listeners = append(node.Listeners, listener)
	resp.Nodes = append(resp.Nodes, node)
	return resp, nil
}

// quorumOf is the quorum of a partition.
func (d *Door) quorumOf(topic string, index int32) kmsg.DescribeQuorumResponseTopicPartition {
	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.Partition = index
	if topic != metadataTopic || index != 0 {
		p.ErrorCode = wire.UnknownTopicOrPartition
		return p
	}
	p.LeaderID, p.LeaderEpoch = d.opt.NodeID, d.log.Epoch()
	if t := d.log.Topics().ByName(changesTopic); t != nil {
		if bounds, err := d.log.Bounds(t.Partitions[0]); err == nil {
			p.HighWatermark = int64(bounds.High)
		}
	}
	voter := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
	voter.ReplicaID, voter.LogEndOffset = d.opt.NodeID, p.HighWatermark
	voter.LastFetchTimestamp, voter.LastCaughtUpTimestamp = -1, -1
	p.CurrentVoters = append(p.CurrentVoters, voter)
	return p
}
