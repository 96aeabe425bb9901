package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterShareGroupOffsets, version 0.
//
// Has a share group begin partitions anew at an offset: what it knew of their records is forgotten, deliveries too. It
// must have no members (NON_EMPTY_GROUP); one that is not there is made. It is answered once it is on stable storage.
func (s *shares) alterShareGroupOffsets(
	ctx context.Context, c *conn, req *kmsg.AlterShareGroupOffsetsRequest,
) (*kmsg.AlterShareGroupOffsetsResponse, error) {
	resp := kmsg.NewPtrAlterShareGroupOffsetsResponse()
	if resp.ErrorCode = s.groups.mayGroup(c, OpRead, req.GroupID); resp.ErrorCode == wire.None {
		resp.ErrorCode = s.available()
	}
	if resp.ErrorCode == wire.None {
		resp.ErrorCode = s.groups.foundShare(req.GroupID)
	}
	if resp.ErrorCode != wire.None {
		return resp, nil
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		one := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		one.Topic = rt.Topic
		t := s.log.Topics().ByName(rt.Topic)
		may := s.groups.may(c, OpRead, OnTopic, rt.Topic)
		if t != nil && may {
			one.TopicID = t.ID
		}
		for _, rp := range rt.Partitions {
			p := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			p.Partition = rp.Partition
			switch {
			case !may:
				p.ErrorCode = wire.TopicAuthorizationFailed
			case t == nil || t.Internal() || rp.Partition < 0 || int(rp.Partition) >= len(t.Partitions):
				p.ErrorCode = wire.UnknownTopicOrPartition
			default:
				p.ErrorCode = s.restartBy(ctx, c, shareKey{req.GroupID, t.ID, rp.Partition}, t, rp.StartOffset)
			}
			one.Partitions = append(one.Partitions, p)
		}
		resp.Topics = append(resp.Topics, one)
	}
	return resp, nil
}

// restartBy is restart for a client that asks for it.
func (s *shares) restartBy(ctx context.Context, c *conn, key shareKey, t *stream.Topic, at int64) wire.Code {
	a := alteration{action: "offsets.set", on: groupOf(key.group),
		before: s.startsOf(key.group, t, func(p *sharePart) bool { return p.index == key.index }),
		after:  places{partitionKey{t.Name, key.index}: at}}
	return s.groups.alter(ctx, c, a, func() wire.Code { return s.restart(ctx, key, t, at) })
}

// startsOf are where a share group begins partitions of a topic, for the audit.
func (s *shares) startsOf(group string, t *stream.Topic, so func(*sharePart) bool) places {
	all := places{}
	for _, p := range s.all(func(p *sharePart) bool { return p.group == group && p.topic == t.ID && so(p) }) {
		p.mu.Lock()
		if p.mu.q != nil {
			all[partitionKey{t.Name, p.index}] = p.mu.q.Start()
		}
		p.mu.Unlock()
	}
	return all
}

// restart has a share partition begin at an offset, within those that the log has.
func (s *shares) restart(ctx context.Context, key shareKey, t *stream.Topic, at int64) wire.Code {
	id := t.Partitions[key.index]
	bounds, err := s.log.Bounds(id)
	if err != nil {
		return code(err)
	}
	p, err := s.part(ctx, key, id)
	if err != nil {
		return code(err)
	}
	p.mu.Lock()
	if p.mu.gone {
		p.mu.Unlock()
		return wire.UnknownTopicOrPartition
	}
	p.mu.q = share.NewQueue(min(max(at, int64(bounds.Start)), int64(bounds.High)))
	p.mu.epoch++
	p.mu.written.slot = shareSlots // deltas of before do not follow it
	landed := p.landingLocked()
	s.changedLocked(p)
	p.mu.Unlock()
	return code(landed(ctx))
}

// foundShare has a share group without members be there. Codes: NonEmptyGroup, GroupIDNotFound,
// CoordinatorNotAvailable.
func (co *coordinator) foundShare(id string) (code wire.Code) {
	og := co.enter(id, true)
	if og == nil {
		return wire.CoordinatorNotAvailable
	}
	if !co.shareLocked(og) {
		co.release(og)
		return wire.GroupIDNotFound
	}
	co.act(og, func(g membership) (effects []group.Effect) {
		shared, is := g.(*group.Share)
		if !is {
			return nil
		}
		var found group.Code
		found, effects = shared.Found(co.now())
		code = wire.Code(found)
		return effects
	})
	return code
}
