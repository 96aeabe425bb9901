package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupDescribe, versions 0 and 1.
//
// A group that is not there, or is a classic one, is GROUP_ID_NOT_FOUND. A group of which the client may not know all
// topics is TOPIC_AUTHORIZATION_FAILED.
//
// Versions: 1 type of each member: of the classic or the consumer protocol (KIP-1099).
func (co *coordinator) consumerGroupDescribe(
	_ context.Context, c *conn, req *kmsg.ConsumerGroupDescribeRequest,
) (*kmsg.ConsumerGroupDescribeResponse, error) {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	for _, id := range req.Groups {
		one := co.describeConsumers(c, id)
		if req.IncludeAuthorizedOperations && one.ErrorCode == wire.None {
			one.AuthorizedOperations = co.groupOperations(c, id)
		}
		resp.Groups = append(resp.Groups, one)
	}
	return resp, nil
}

func (co *coordinator) describeConsumers(c *conn, id string) kmsg.ConsumerGroupDescribeResponseGroup {
	resp := kmsg.NewConsumerGroupDescribeResponseGroup()
	resp.Group = id
	if !co.may(c, OpDescribe, OnGroup, id) {
		resp.ErrorCode = wire.GroupAuthorizationFailed
		return resp
	}
	resp.ErrorCode, resp.ErrorMessage = wire.GroupIDNotFound, new("Group "+id+" not found.")
	og := co.enter(id, false)
	if og == nil {
		return resp
	}
	g, is := og.mu.g.(*group.Consumer)
	if !is || g.IsDead() {
		co.release(og)
		if !is {
			resp.ErrorMessage = new("Group " + id + " is not a consumer group.")
		}
		return resp
	}
	d := g.Describe()
	co.release(og)
	resp.ErrorCode, resp.ErrorMessage = wire.None, nil
	resp.State, resp.Epoch, resp.AssignmentEpoch = d.State.String(), d.Epoch, d.TargetEpoch
	resp.AssignorName = d.Assignor
	view := assignmentView{co: co, c: c, topics: co.topics()}
	for i := range d.Members {
		resp.Members = append(resp.Members, view.member(&d.Members[i]))
	}
	if view.hidden {
		resp.Members = nil
		resp.ErrorCode = wire.TopicAuthorizationFailed
		resp.ErrorMessage = new("The group has topics that the client is not authorized to describe.")
	}
	return resp
}

// assignmentView shows assignments with the names of topics.
type assignmentView struct {
	co     *coordinator
	c      *conn
	topics group.Topics
	hidden bool // the client may not know of some topic
}

// The types of a member.
const (
	memberOfClassic  = 0
	memberOfConsumer = 1
)

func (v *assignmentView) member(info *group.ConsumerInfo) kmsg.ConsumerGroupDescribeResponseGroupMember {
	m := kmsg.NewConsumerGroupDescribeResponseGroupMember()
	m.MemberID, m.InstanceID, m.RackID = info.ID, wire.Nullable(info.InstanceID), wire.Nullable(info.Rack)
	m.MemberEpoch, m.ClientID, m.ClientHost = info.Epoch, info.ClientID, info.ClientHost
	m.SubscribedTopics, m.SubscribedTopicRegex = info.Topics, wire.Nullable(info.Regex)
	m.Assignment.TopicPartitions = v.named(info.Assigned)
	m.TargetAssignment.TopicPartitions = v.named(info.Target)
	m.MemberType = memberOfConsumer
	if info.Classic {
		m.MemberType = memberOfClassic
	}
	return m
}

// named lists partitions by the topics that there are.
func (v *assignmentView) named(s group.Partitions) (all []kmsg.AssignmentTopicPartition) {
	s.ByTopic(func(id group.TopicID, indexes []int32) {
		t, is := v.topics.ByID(id)
		if !is {
			return
		}
		v.hidden = v.hidden || !v.co.sees(v.c, OpDescribe, OnTopic, t.Name)
		one := kmsg.NewAssignmentTopicPartition()
		one.TopicID, one.Topic, one.Partitions = id, t.Name, indexes
		all = append(all, one)
	})
	return all
}
