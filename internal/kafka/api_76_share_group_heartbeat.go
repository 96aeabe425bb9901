package kafka

import (
	"context"
	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxShareMember bounds the id of a member of a share group, which it gives itself: a UUID as text.
const maxShareMember = 36

// ShareGroupHeartbeat, version 1.
//
// The one request by which a member of a share group (KIP-932) joins (epoch 0), says what it subscribes to, is told
// which partitions it is to fetch from, and leaves (epoch -1). It is answered when what it tells is on stable storage,
// and heard at once, as a heartbeat is. What a member that leaves, or is not heard of in its session, has acquired is
// given to others.
//
// A group of another kind of the same name is GROUP_ID_NOT_FOUND. After a restart members are not known
// (UNKNOWN_MEMBER_ID) and join again. A topic that a member names must be one that its client may know of
// (TOPIC_AUTHORIZATION_FAILED).
func (co *coordinator) shareGroupHeartbeat(
	_ context.Context, c *conn, req *kmsg.ShareGroupHeartbeatRequest, done func(*kmsg.ShareGroupHeartbeatResponse),
) {
	resp := kmsg.NewPtrShareGroupHeartbeatResponse()
	refuse := func(code wire.Code, why string) {
		resp.ErrorCode, resp.ErrorMessage = code, wire.Nullable(why)
		done(resp)
	}
	if code, why := co.judgeShareBeat(c, req); code != wire.None {
		refuse(code, why)
		return
	}
	og := co.enter(req.GroupID, req.MemberEpoch == 0)
	switch {
	case og == nil && req.MemberEpoch == 0:
		refuse(wire.CoordinatorNotAvailable, "there are too many groups")
		return
	case og == nil:
		refuse(wire.GroupIDNotFound, "Group "+req.GroupID+" not found.")
		return
	}
	if !co.shareLocked(og) {
		co.release(og)
		refuse(wire.GroupIDNotFound, "Group "+req.GroupID+" is not a share group.")
		return
	}
	beat := group.Beat{
		Who: group.Who{MemberID: req.MemberID}, Epoch: req.MemberEpoch, Rack: req.RackID, ClientID: bounded(c.clientID),
		ClientHost: bounded(c.host), Topics: req.SubscribedTopicNames,
	}
	beat.Ticket = og.waitLocked(func(e group.Effect, ok bool) {
		if !ok {
			refuse(wire.UnknownServerError, "the group broke and began anew")
			return
		}
		co.fillShareBeat(resp, req.GroupID, e.Beat)
		done(resp)
	})
	beat.Full = !co.reserveLocked(og, beat.Bytes())
	co.act(og, func(g membership) []group.Effect {
		shared, is := g.(*group.Share)
		if !is {
			return nil
		}
		return shared.Beat(co.now(), beat)
	})
}

// shareLocked makes a locked group that nobody has used a share group, and tells whether it is one.
func (co *coordinator) shareLocked(og *ownedGroup) bool {
	if _, is := og.mu.g.(*group.Share); is {
		return true
	}
	if !og.traceless() || og.mu.g.IsDead() || len(og.mu.queue) > 0 {
		return false
	}
	og.mu.g = group.NewShare(og.id, co.ofGroup(og.id), co.now())
	return true
}

// shareGroup tells whether there is a share group of a name.
func (co *coordinator) shareGroup(id string) bool {
	og := co.enter(id, false)
	if og == nil {
		return false
	}
	defer co.release(og)
	g, is := og.mu.g.(*group.Share)
	return is && !g.IsDead()
}

// fillShareBeat says in a response what the group answers.
func (co *coordinator) fillShareBeat(resp *kmsg.ShareGroupHeartbeatResponse, id string, a *group.BeatAnswer) {
	resp.ErrorCode, resp.ErrorMessage = wire.Code(a.Code), wire.Nullable(a.Message)
	if a.Code != group.None {
		return
	}
	resp.MemberID, resp.MemberEpoch = &a.MemberID, a.Epoch
	resp.HeartbeatIntervalMillis = int32(co.configs.of(id).shareHeartbeat.Milliseconds())
	if !a.Assigned {
		return
	}
	resp.Assignment = &kmsg.ShareGroupHeartbeatResponseAssignment{}
	a.Assignment.ByTopic(func(id group.TopicID, indexes []int32) {
		t := kmsg.NewShareGroupHeartbeatResponseAssignmentTopicPartition()
		t.TopicID, t.Partitions = id, indexes
		resp.Assignment.TopicPartitions = append(resp.Assignment.TopicPartitions, t)
	})
}

// judgeShareBeat judges what can be judged without the group.
func (co *coordinator) judgeShareBeat(c *conn, req *kmsg.ShareGroupHeartbeatRequest) (code wire.Code, why string) {
	switch {
	case co.shares.available() != wire.None:
		return co.shares.available(), ""
	case req.GroupID == "":
		return wire.InvalidRequest, "GroupId can't be empty."
	case req.MemberID == "" || len(req.MemberID) > maxShareMember:
		return wire.InvalidRequest, "MemberId must have 1 to 36 characters."
	case req.MemberEpoch < group.LeaveEpoch:
		return wire.InvalidRequest, "MemberEpoch is invalid."
	case req.RackID != nil && *req.RackID == "":
		return wire.InvalidRequest, "RackId can't be empty."
	case req.MemberEpoch == 0 && len(req.SubscribedTopicNames) == 0:
		return wire.InvalidRequest, "SubscribedTopicNames must be set in first request."
	}
	if code := co.mayGroup(c, OpRead, req.GroupID); code != wire.None {
		return code, ""
	}
	for _, name := range req.SubscribedTopicNames {
		if !co.may(c, OpDescribe, OnTopic, name) {
			return wire.TopicAuthorizationFailed, ""
		}
	}
	return wire.None, ""
}
