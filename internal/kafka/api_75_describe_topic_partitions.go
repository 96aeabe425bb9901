package kafka

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTopicPartitions (75): v0.
//
// Behaviour
//   - Topics in the order of their names, page by page: at most the partitions asked for, and never more
//     than 2,000; the cursor says where to go on (KIP-966). No topics asks for all.

// maxTopicPartitions is max.request.partition.size.limit of a Kafka broker.
const maxTopicPartitions = 2000

// describeTopicPartitions answers DescribeTopicPartitions.
func (d *Door) describeTopicPartitions(
	_ context.Context, c *conn, req *kmsg.DescribeTopicPartitionsRequest,
) (*kmsg.DescribeTopicPartitionsResponse, error) {
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	left := min(int(req.ResponsePartitionLimit), maxTopicPartitions)
	if left < 1 {
		left = maxTopicPartitions
	}
	topics := d.log.Topics()
	for _, name := range d.pageNames(c, topics, req) {
		answer := kmsg.NewDescribeTopicPartitionsResponseTopic()
		answer.Topic = &name
		answer.AuthorizedOperations = wire.NoOperations
		t, code := d.topic(c, topics, name, OpDescribe)
		if answer.ErrorCode = code; code != wire.None {
			resp.Topics = append(resp.Topics, answer)
			continue
		}
		first := int32(0)
		if req.Cursor != nil && req.Cursor.Topic == name {
			first = max(req.Cursor.Partition, 0)
		}
		if left == 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: first}
			break
		}
		next := d.describePage(t, first, left, &answer)
		answer.AuthorizedOperations = d.operations(c, topicOperations, OnTopic, name)
		resp.Topics = append(resp.Topics, answer)
		left -= len(answer.Partitions)
		if int(next) < len(t.Partitions) {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: next}
			break
		}
	}
	return resp, nil
}

// pageNames is the topics to describe, in order, from the cursor on.
func (d *Door) pageNames(c *conn, topics *stream.Topics, req *kmsg.DescribeTopicPartitionsRequest) []string {
	var names []string
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	if len(req.Topics) == 0 {
		for _, t := range topics.All() {
			if d.sees(c, OpDescribe, OnTopic, t.Name) {
				names = append(names, t.Name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if req.Cursor != nil {
		names = slices.DeleteFunc(names, func(name string) bool { return name < req.Cursor.Topic })
	}
	return names
}

// describePage adds at most left partitions from first on and returns where it stopped.
func (d *Door) describePage(
	t *stream.Topic, first int32, left int, answer *kmsg.DescribeTopicPartitionsResponseTopic,
) int32 {
	answer.TopicID, answer.IsInternal = t.ID, t.Internal()
	node, none := []int32{d.opt.NodeID}, []int32{} // null is allowed by the schema, but not by Java's admin
	for ; int(first) < len(t.Partitions) && left > 0; left-- {
		p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		p.Partition, p.LeaderID, p.LeaderEpoch = first, d.opt.NodeID, d.log.Epoch()
		p.Replicas, p.ISR = node, node
		p.EligibleLeaderReplicas, p.LastKnownELR = none, none
		answer.Partitions = append(answer.Partitions, p)
		first++
	}
	return first
}
