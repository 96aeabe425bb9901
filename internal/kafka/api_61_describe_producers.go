package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers (61): v0.
//
// The producers that partitions know, with what each has open there (KIP-664).

// describeProducers answers DescribeProducers.
func (ts *transactions) describeProducers(
	_ context.Context, c *conn, req *kmsg.DescribeProducersRequest,
) (*kmsg.DescribeProducersResponse, error) {
	resp := kmsg.NewPtrDescribeProducersResponse()
	topics := ts.log.Topics()
	for _, rt := range req.Topics {
		answer := kmsg.NewDescribeProducersResponseTopic()
		answer.Topic = rt.Topic
		t := topics.ByName(rt.Topic)
		allowed := ts.groups.may(c, OpRead, OnTopic, rt.Topic)
		for _, index := range rt.Partitions {
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition = index
			switch {
			case !allowed:
				p.ErrorCode = wire.TopicAuthorizationFailed
			case t == nil || index < 0 || int(index) >= len(t.Partitions):
				p.ErrorCode = wire.UnknownTopicOrPartition
			default:
				ts.describePartition(t.Partitions[index], &p)
			}
			answer.Partitions = append(answer.Partitions, p)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

func (ts *transactions) describePartition(id stream.PartitionID, p *kmsg.DescribeProducersResponseTopicPartition) {
	known, err := ts.log.ProducersOf(id)
	if err != nil {
		p.ErrorCode = code(err)
		return
	}
	for i := range known {
		k := &known[i]
		one := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		one.ProducerID, one.ProducerEpoch, one.LastSequence = k.ProducerID, int32(k.Epoch), k.LastSequence
		one.LastTimestamp, one.CoordinatorEpoch, one.CurrentTxnStartOffset = k.LastMillis, 0, int64(k.Began)
		p.ActiveProducers = append(p.ActiveProducers, one)
	}
}
