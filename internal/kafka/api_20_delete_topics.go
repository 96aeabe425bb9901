package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics (20): v1-6.
//
// Behaviour
//   - A topic is gone for everybody when the answer comes; its id is never used again.
//   - By name, or from v6 on by id; naming one both ways, or twice, is INVALID_REQUEST.
//   - The log's own topics cannot be deleted: INVALID_TOPIC_EXCEPTION.
//   - A topic with records younger than its firth.retention.floor.ms is deleted by who has ALTER on the cluster only:
//     CLUSTER_AUTHORIZATION_FAILED.
//
// Versions: 4 flexible, 5 error messages, 6 ids (KIP-516).

// deleteTopics answers DeleteTopics.
func (d *Door) deleteTopics(
	ctx context.Context, c *conn, req *kmsg.DeleteTopicsRequest,
) (*kmsg.DeleteTopicsResponse, error) {
	resp := kmsg.NewPtrDeleteTopicsResponse()
	for i := range req.TopicNames {
		req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &req.TopicNames[i]})
	}
	seen := map[string]int{}
	for i := range req.Topics {
		if name := req.Topics[i].Topic; name != nil {
			seen[*name]++
		} else {
			seen[string(req.Topics[i].TopicID[:])]++ // 16 bytes that no name has: an id is random
		}
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		answer := kmsg.NewDeleteTopicsResponseTopic()
		answer.Topic, answer.TopicID = rt.Topic, rt.TopicID
		switch named := rt.Topic != nil; {
		case named && rt.TopicID != [16]byte{}:
			answer.ErrorCode, answer.ErrorMessage = wire.InvalidRequest, new("a topic is named by its name or its id")
		case !named && rt.TopicID == [16]byte{}:
			answer.ErrorCode, answer.ErrorMessage = wire.InvalidRequest, new("neither a name nor an id")
		case named && seen[*rt.Topic] > 1, !named && seen[string(rt.TopicID[:])] > 1:
			answer.ErrorCode, answer.ErrorMessage = wire.InvalidRequest, new("the topic is named twice")
		default:
			d.deleteTopic(ctx, c, req.Version >= 5, &answer)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

// deleteTopic deletes the topic that the answer is about.
func (d *Door) deleteTopic(ctx context.Context, c *conn, strict bool, answer *kmsg.DeleteTopicsResponseTopic) {
	topics := d.log.Topics()
	var name string
	if answer.Topic == nil {
		t, code := d.described(c, answer.TopicID)
		if code != wire.None {
			answer.ErrorCode = code
			return
		}
		name = t.Name
		answer.Topic = &name
	}
	name = *answer.Topic
	t, code := d.topic(c, topics, name, OpDelete)
	if code != wire.None {
		answer.ErrorCode = code
		return
	}
	answer.TopicID = t.ID
	if t.Internal() {
		d.opt.refused(c, OpDelete, OnTopic, t.Name)
		answer.ErrorCode, answer.ErrorMessage = wire.InvalidTopic, new("the topic belongs to the log itself")
		return
	}
	err := d.mayTakeAll(ctx, c, t)
	if err == nil {
		err = c.change(len(t.Partitions), strict)
	}
	if err != nil {
		answer.ErrorCode, answer.ErrorMessage = createCode(err), words(err)
		return
	}
	a := alteration{action: "topic.delete", on: topicOf(name), before: topicState{len(t.Partitions), t.Config}}
	if err := d.opt.alter(ctx, c, a, func() error { return d.log.DeleteTopic(ctx, name) }); err != nil {
		answer.ErrorCode, answer.ErrorMessage = codeOf(fault.KindOf(err)), words(err)
	}
}
