package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetDelete, version 0.
//
// Removes committed offsets of a group. While the group has members, only those of topics that no
// member subscribes to may go (GROUP_SUBSCRIBED_TO_TOPIC), in whatever state it is, and only of a group of consumers
// (else NON_EMPTY_GROUP). It is the API of KIP-496.
func (co *coordinator) offsetDelete(
	ctx context.Context, c *conn, req *kmsg.OffsetDeleteRequest,
) (*kmsg.OffsetDeleteResponse, error) {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	if !co.may(c, OpDelete, OnGroup, req.Group) {
		resp.ErrorCode = wire.GroupAuthorizationFailed
		return resp, nil
	}
	og := co.enter(req.Group, false)
	if og == nil {
		resp.ErrorCode = wire.GroupIDNotFound
		return resp, nil
	}
	subscribed, known := og.mu.g.Subscribes()
	switch {
	case og.mu.g.IsDead():
		resp.ErrorCode = wire.GroupIDNotFound
	case !known:
		resp.ErrorCode = wire.NonEmptyGroup
	}
	if resp.ErrorCode != wire.None {
		co.release(og)
		return resp, nil
	}
	w := &groupWrite{og: og}
	landed := co.landing(w)
	held := og.keysLocked()
	for i := range req.Topics {
		resp.Topics = append(resp.Topics, co.deleteOffsets(c, &req.Topics[i], subscribed, held, w))
	}
	if len(w.offsets) == 0 {
		co.release(og)
		return resp, nil
	}
	og.enqueueLocked(w)
	co.release(og)
	resp.ErrorCode = fate(landed(ctx))
	return resp, nil
}

// deleteOffsets answers for one topic and adds what is to be removed to w.
func (co *coordinator) deleteOffsets(
	c *conn, rt *kmsg.OffsetDeleteRequestTopic, subscribed func(string) bool, held map[partitionKey]struct{},
	w *groupWrite,
) kmsg.OffsetDeleteResponseTopic {
	resp := kmsg.NewOffsetDeleteResponseTopic()
	resp.Topic = rt.Topic
	code := wire.None
	switch {
	case !co.may(c, OpRead, OnTopic, rt.Topic):
		code = wire.TopicAuthorizationFailed
	case subscribed(rt.Topic):
		code = wire.GroupSubscribedToTopic
	}
	t := co.log.Topics().ByName(rt.Topic)
	for i := range rt.Partitions {
		p := kmsg.NewOffsetDeleteResponseTopicPartition()
		p.Partition, p.ErrorCode = rt.Partitions[i].Partition, code
		key := partitionKey{rt.Topic, p.Partition}
		_, is := held[key]
		switch {
		case code != wire.None:
		case is:
			w.offsets = append(w.offsets, offsetChange{key: key})
		case t == nil || p.Partition < 0 || int(p.Partition) >= len(t.Partitions):
			p.ErrorCode = wire.UnknownTopicOrPartition
		}
		resp.Partitions = append(resp.Partitions, p)
	}
	return resp
}
