package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareGroupDescribe, version 1.
//
// A group that is not there, or is of another kind, is GROUP_ID_NOT_FOUND. A group of which the client may not know all
// topics is TOPIC_AUTHORIZATION_FAILED.
func (co *coordinator) shareGroupDescribe(
	_ context.Context, c *conn, req *kmsg.ShareGroupDescribeRequest,
) (*kmsg.ShareGroupDescribeResponse, error) {
	resp := kmsg.NewPtrShareGroupDescribeResponse()
	for _, id := range req.GroupIDs {
		one := co.describeShare(c, id)
		if req.IncludeAuthorizedOperations && one.ErrorCode == wire.None {
			one.AuthorizedOperations = co.groupOperations(c, id)
		}
		resp.Groups = append(resp.Groups, one)
	}
	return resp, nil
}

func (co *coordinator) describeShare(c *conn, id string) kmsg.ShareGroupDescribeResponseGroup {
	resp := kmsg.NewShareGroupDescribeResponseGroup()
	resp.GroupID = id
	if !co.may(c, OpDescribe, OnGroup, id) {
		resp.ErrorCode = wire.GroupAuthorizationFailed
		return resp
	}
	if resp.ErrorCode = co.shares.available(); resp.ErrorCode != wire.None {
		return resp
	}
	resp.ErrorCode, resp.ErrorMessage = wire.GroupIDNotFound, new("Group "+id+" not found.")
	og := co.enter(id, false)
	if og == nil {
		return resp
	}
	g, is := og.mu.g.(*group.Share)
	if !is || g.IsDead() {
		co.release(og)
		if !is {
			resp.ErrorMessage = new("Group " + id + " is not a share group.")
		}
		return resp
	}
	d := g.Describe()
	co.release(og)
	resp.ErrorCode, resp.ErrorMessage = wire.None, nil
	resp.GroupState, resp.GroupEpoch, resp.AssignmentEpoch = d.State, d.Epoch, d.Epoch
	resp.Assignor = group.AssignorSimple
	view := assignmentView{co: co, c: c, topics: co.topics()}
	for i := range d.Members {
		m := &d.Members[i]
		one := kmsg.NewShareGroupDescribeResponseGroupMember()
		one.MemberID, one.RackID, one.MemberEpoch = m.ID, wire.Nullable(m.Rack), m.Epoch
		one.ClientID, one.ClientHost, one.SubscribedTopicNames = m.ClientID, m.ClientHost, m.Topics
		for _, t := range view.named(m.Assigned) {
			part := kmsg.NewShareGroupDescribeResponseGroupMemberAssignmentTopicPartition()
			part.TopicID, part.Topic, part.Partitions = t.TopicID, t.Topic, t.Partitions
			one.Assignment.TopicPartitions = append(one.Assignment.TopicPartitions, part)
		}
		resp.Members = append(resp.Members, one)
	}
	if view.hidden {
		resp.Members = nil
		resp.ErrorCode = wire.TopicAuthorizationFailed
		resp.ErrorMessage = new("The group has topics that the client is not authorized to describe.")
	}
	return resp
}
