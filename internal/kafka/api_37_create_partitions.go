package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions (37): v0-3.
//
// Behaviour
//   - The count is the new total and must be larger than it was: INVALID_PARTITIONS. A manual assignment
//     must name this node for each new partition: INVALID_REPLICA_ASSIGNMENT. validate_only makes
//     nothing. A topic named twice is answered once, INVALID_REQUEST.
//
// Versions: 2 flexible.

// createPartitions answers CreatePartitions.
func (d *Door) createPartitions(
	ctx context.Context, c *conn, req *kmsg.CreatePartitionsRequest,
) (*kmsg.CreatePartitionsResponse, error) {
	resp := kmsg.NewPtrCreatePartitionsResponse()
	seen := map[string]int{}
	for i := range req.Topics {
		seen[req.Topics[i].Topic]++
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		if seen[rt.Topic] == 0 {
			continue // named twice, and answered
		}
		var err error
		if seen[rt.Topic] > 1 {
			seen[rt.Topic] = 0
			err = refusal(wire.InvalidRequest, "the topic is named twice")
		} else {
			err = d.growTopic(ctx, c, rt, creation{req.ValidateOnly, req.Version >= 3})
		}
		answer := kmsg.NewCreatePartitionsResponseTopic()
		answer.Topic, answer.ErrorCode, answer.ErrorMessage = rt.Topic, createCode(err), words(err)
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

// growTopic adds partitions to one topic.
func (d *Door) growTopic(ctx context.Context, c *conn, rt *kmsg.CreatePartitionsRequestTopic, how creation) error {
	t, code := d.topic(c, d.log.Topics(), rt.Topic, OpAlter)
	switch {
	case code != wire.None:
		return refusal(code, "topic %q cannot be altered", rt.Topic)
	case t.Internal():
		return refusal(wire.InvalidTopic, "topic %q belongs to the log itself", rt.Topic)
	case int(rt.Count) <= len(t.Partitions):
		return refusal(wire.InvalidPartitions, "topic has %d partitions, %d are not more", len(t.Partitions), rt.Count)
	case rt.Assignment != nil && len(rt.Assignment) != int(rt.Count)-len(t.Partitions):
		return refusal(
			wire.InvalidReplicaAssignment, "%d partitions are new, %d are assigned", int(rt.Count)-len(t.Partitions),
			len(rt.Assignment),
		)
	}
	for _, a := range rt.Assignment {
		if len(a.Replicas) != 1 || a.Replicas[0] != d.opt.NodeID {
			return refusal(wire.InvalidReplicaAssignment, "each partition must be assigned to node %d only", d.opt.NodeID)
		}
	}
	if how.dry {
		return nil
	}
	if err := c.change(int(rt.Count)-len(t.Partitions), how.strict); err != nil {
		return err
	}
	a := alteration{action: "topic.grow", on: topicOf(rt.Topic), before: topicState{Partitions: len(t.Partitions)},
		after: topicState{Partitions: int(rt.Count)}}
	err := d.opt.alter(ctx, c, a, func() error {
		_, err := d.log.AlterTopic(ctx, rt.Topic, stream.TopicChange{Partitions: int(rt.Count)})
		return err
	})
	if err != nil {
		return newTopicError(err)
	}
	return nil
}
