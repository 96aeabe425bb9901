package kafka

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetDelete, version 0.
//
// Removes committed offsets of a group. While the group has members, only those of topics that no
// member subscribes to may go (GROUP_SUBSCRIBED_TO_TOPIC), in whatever state it is, and only of a group of consumers
// (else NON_EMPTY_GROUP). Those that open transactions would commit go too. It is the API of KIP-496.
func (co *coordinator) offsetDelete(
	ctx context.Context, c *conn, req *kmsg.OffsetDeleteRequest,
) (*kmsg.OffsetDeleteResponse, error) {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	if !co.may(c, OpDelete, OnGroup, req.Group) {
		resp.ErrorCode = wire.GroupAuthorizationFailed
		return resp, nil
	}
	resp.ErrorCode = co.alter(ctx, c, alteration{action: "offsets.delete", on: groupOf(req.Group),
		before: co.namedOf(req)}, func() wire.Code {
		co.deleteOffsetsOf(ctx, c, req, resp)
		return resp.ErrorCode
	})
	return resp, nil
}

// namedOf are the committed offsets that a request names.
func (co *coordinator) namedOf(req *kmsg.OffsetDeleteRequest) places {
	all, named := co.offsetsOf(req.Group), places{}
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			key := partitionKey{req.Topics[i].Topic, p.Partition}
			if at, is := all[key]; is {
				named[key] = at
			}
		}
	}
	return named
}

// deleteOffsetsOf is offsetDelete for who may.
func (co *coordinator) deleteOffsetsOf(
	ctx context.Context, c *conn, req *kmsg.OffsetDeleteRequest, resp *kmsg.OffsetDeleteResponse,
) {
	pending := co.txns.unstable(req.Group)
	og := co.enter(req.Group, len(pending) > 0)
	if og == nil {
		resp.ErrorCode = wire.GroupIDNotFound
		return
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
		return
	}
	w := &groupWrite{og: og}
	landed := co.landing(w)
	held := og.keysLocked()
	for key := range pending {
		held[key] = struct{}{}
	}
	for i := range req.Topics {
		resp.Topics = append(resp.Topics, co.deleteOffsets(c, &req.Topics[i], subscribed, held, w))
	}
	if len(w.offsets) == 0 {
		co.release(og)
		return
	}
	og.enqueueLocked(w)
	co.release(og)
	if resp.ErrorCode = fate(landed(ctx)); resp.ErrorCode == wire.None && len(pending) > 0 {
		resp.ErrorCode = co.deletePending(ctx, req.Group, w.offsets)
	}
}

// deletePending takes offsets out of open transactions, and deletes those that one of them has committed meanwhile.
func (co *coordinator) deletePending(ctx context.Context, id string, gone []offsetChange) wire.Code {
	err := co.txns.forgetOffsets(ctx, id, func(topic string, index int32) bool {
		return slices.ContainsFunc(gone, func(o offsetChange) bool { return o.key == partitionKey{topic, index} })
	})
	if err != nil {
		return fate(err)
	}
	og := co.enter(id, false)
	if og == nil {
		return wire.None
	}
	w := &groupWrite{og: og}
	landed := co.landing(w)
	held := og.keysLocked()
	for _, o := range gone {
		if _, is := held[o.key]; is {
			w.offsets = append(w.offsets, offsetChange{key: o.key})
		}
	}
	if len(w.offsets) == 0 {
		co.release(og)
		return wire.None
	}
	og.enqueueLocked(w)
	co.release(og)
	return fate(landed(ctx))
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
