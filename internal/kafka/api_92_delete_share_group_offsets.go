package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteShareGroupOffsets, version 0.
//
// Has a share group forget what it knows of topics: it begins them again where share.auto.offset.reset says. It must
// have no members (NON_EMPTY_GROUP); one that is not there, or is of another kind, is GROUP_ID_NOT_FOUND. It is
// answered once it is on stable storage.
func (s *shares) deleteShareGroupOffsets(
	ctx context.Context, c *conn, req *kmsg.DeleteShareGroupOffsetsRequest,
) (*kmsg.DeleteShareGroupOffsetsResponse, error) {
	resp := kmsg.NewPtrDeleteShareGroupOffsetsResponse()
	if resp.ErrorCode = s.groups.mayGroup(c, OpDelete, req.GroupID); resp.ErrorCode == wire.None {
		resp.ErrorCode = s.available()
	}
	if resp.ErrorCode == wire.None {
		resp.ErrorCode = s.groups.idleShare(req.GroupID)
	}
	if resp.ErrorCode != wire.None {
		return resp, nil
	}
	for i := range req.Topics {
		one := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		one.Topic = req.Topics[i].Topic
		t := s.log.Topics().ByName(one.Topic)
		switch {
		case !s.groups.may(c, OpRead, OnTopic, one.Topic):
			one.ErrorCode = wire.TopicAuthorizationFailed
		case t == nil:
			one.ErrorCode = wire.UnknownTopicOrPartition
		default:
			one.TopicID = t.ID
			a := alteration{action: "offsets.delete", on: groupOf(req.GroupID),
				before: s.startsOf(req.GroupID, t, func(*sharePart) bool { return true })}
			one.ErrorCode = s.groups.alter(ctx, c, a, func() wire.Code {
				return code(s.forget(ctx, req.GroupID, func(p *sharePart) bool { return p.topic == t.ID }))
			})
		}
		resp.Topics = append(resp.Topics, one)
	}
	return resp, nil
}

// idleShare tells whether there is a share group without members. Codes: NonEmptyGroup, GroupIDNotFound.
func (co *coordinator) idleShare(id string) wire.Code {
	og := co.enter(id, false)
	if og == nil {
		return wire.GroupIDNotFound
	}
	defer co.release(og)
	g, is := og.mu.g.(*group.Share)
	switch {
	case !is || g.IsDead():
		return wire.GroupIDNotFound
	case !g.IsEmpty():
		return wire.NonEmptyGroup
	}
	return wire.None
}
