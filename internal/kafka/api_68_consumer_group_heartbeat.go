package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupHeartbeat, versions 0 and 1.
//
// The one request by which a member of the consumer protocol (KIP-848) joins (epoch 0), says what it subscribes to and
// what it holds, is told what it is assigned, and leaves (epoch -1; -2 for a static member that will come back). The
// group assigns by itself, by one of two assignors: uniform, the default, and range. It is answered when what it tells
// is on stable storage, and heard at once, as a heartbeat is. A classic group of consumers becomes a consumer group
// with the first member that joins so.
//
// A topic that a member names must be one that its client may know of (TOPIC_AUTHORIZATION_FAILED); what a regular
// expression matches is less what it may not know of. The rack is kept and shown; on one node nothing depends on it.
// While a group is not in its places, members are told a shorter interval of heartbeats.
//
// Versions: 1 subscription by regular expression; the member gives itself its id (KIP-1082).
func (co *coordinator) consumerGroupHeartbeat(
	_ context.Context, c *conn, req *kmsg.ConsumerGroupHeartbeatRequest, done func(*kmsg.ConsumerGroupHeartbeatResponse),
) {
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	refuse := func(code wire.Code, why string) {
		resp.ErrorCode, resp.ErrorMessage = code, wire.Nullable(why)
		done(resp)
	}
	if code, why := co.judgeBeat(c, req); code != wire.None {
		refuse(code, why)
		return
	}
	og := co.enter(req.Group, req.MemberEpoch == 0)
	switch {
	case og == nil && req.MemberEpoch == 0:
		refuse(wire.CoordinatorNotAvailable, "there are too many groups")
		return
	case og == nil:
		refuse(wire.GroupIDNotFound, "Group "+req.Group+" not found.")
		return
	}
	beat := co.beatOf(c, req)
	beat.Ticket = og.waitLocked(func(e group.Effect, ok bool) {
		if !ok {
			refuse(wire.UnknownServerError, "the group broke and began anew")
			return
		}
		co.fillBeat(resp, req.Group, e.Beat)
		done(resp)
	})
	beat.Full = !co.reserveLocked(og, beat.Bytes())
	co.act(og, func(membership) []group.Effect { return co.beatLocked(og, &beat) })
}

// fillBeat says in a response what the group answers.
func (co *coordinator) fillBeat(resp *kmsg.ConsumerGroupHeartbeatResponse, id string, a *group.BeatAnswer) {
	resp.ErrorCode, resp.ErrorMessage = wire.Code(a.Code), wire.Nullable(a.Message)
	if a.Code != group.None {
		return
	}
	resp.MemberID, resp.MemberEpoch = &a.MemberID, a.Epoch
	resp.HeartbeatIntervalMillis = int32(beatInterval(co.consumerHeartbeat(id), a).Milliseconds())
	if !a.Assigned {
		return
	}
	resp.Assignment = &kmsg.ConsumerGroupHeartbeatResponseAssignment{}
	a.Assignment.ByTopic(func(id group.TopicID, indexes []int32) {
		t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		t.TopicID, t.Partitions = id, indexes
		resp.Assignment.Topics = append(resp.Assignment.Topics, t)
	})
}

// beatInterval is when a member is to be heard of again. While it waits for others to give partitions up, and for one
// interval after members or topics have changed, for a change rarely comes alone, it is to ask ten times as often: so a
// group is soon in its places. A large group asks less often, about 1,000 times a second in all.
func beatInterval(interval time.Duration, a *group.BeatAnswer) time.Duration {
	if !a.Waits && a.Quiet >= interval.Milliseconds() {
		return interval
	}
	return min(interval, max(interval/10, time.Duration(a.Members)*time.Millisecond))
}

// judgeBeat judges what can be judged without the group.
func (co *coordinator) judgeBeat(c *conn, req *kmsg.ConsumerGroupHeartbeatRequest) (code wire.Code, why string) {
	if code := co.mayGroup(c, OpRead, req.Group); code != wire.None && req.Group != "" {
		return code, ""
	}
	if why := misfitBeat(req); why != "" {
		return wire.InvalidRequest, why
	}
	if a := req.ServerAssignor; a != nil && !slices.Contains(group.Assignors(), *a) {
		return wire.UnsupportedAssignor, fmt.Sprintf("ServerAssignor %s is not supported. Supported assignors: %s.",
			*a, strings.Join(group.Assignors(), ", "))
	}
	for _, name := range req.SubscribedTopicNames {
		if !co.may(c, OpDescribe, OnTopic, name) {
			return wire.TopicAuthorizationFailed, ""
		}
	}
	return wire.None, ""
}

// misfitBeat is what is wrong with a request by itself; "": nothing.
func misfitBeat(req *kmsg.ConsumerGroupHeartbeatRequest) string {
	joins := req.MemberEpoch == 0
	switch {
	case req.Group == "":
		return "GroupId can't be empty."
	case req.MemberID == "" && (req.Version >= 1 || !joins):
		return "MemberId can't be empty."
	case req.InstanceID != nil && *req.InstanceID == "":
		return "InstanceId can't be empty."
	case req.RackID != nil && *req.RackID == "":
		return "RackId can't be empty."
	case req.MemberEpoch < group.StaticLeaveEpoch:
		return "MemberEpoch is invalid."
	case req.MemberEpoch == group.StaticLeaveEpoch && req.InstanceID == nil:
		return "InstanceId can't be null."
	case joins && req.RebalanceTimeoutMillis < 0:
		return "RebalanceTimeoutMs must be provided in first request."
	case joins && (req.Topics == nil || len(req.Topics) > 0):
		return "TopicPartitions must be empty when (re-)joining."
	case joins && req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
	}
	return ""
}

// beatOf is the heartbeat as the group takes it.
func (co *coordinator) beatOf(c *conn, req *kmsg.ConsumerGroupHeartbeatRequest) group.Beat {
	b := group.Beat{
		Who:   group.Who{MemberID: req.MemberID, InstanceID: wire.Plain(req.InstanceID)},
		Epoch: req.MemberEpoch, Rack: req.RackID, ClientID: bounded(c.clientID), ClientHost: bounded(c.host),
		Rebalance: int64(req.RebalanceTimeoutMillis), Topics: req.SubscribedTopicNames, Regex: req.SubscribedTopicRegex,
		Assignor: req.ServerAssignor,
		Sees:     func(topic string) bool { return co.sees(c, OpDescribe, OnTopic, topic) },
	}
	if b.Who.MemberID == "" {
		b.Who.MemberID = newMemberID(c.clientID)
	}
	if req.Topics != nil {
		owned := []group.Partition{}
		for i := range req.Topics {
			for _, index := range req.Topics[i].Partitions {
				owned = append(owned, group.Partition{Topic: req.Topics[i].TopicID, Index: index})
			}
		}
		b.Owned = new(group.NewPartitions(owned))
	}
	return b
}
