package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// StreamsGroupDescribe (89): v0.
//
// A group that is not there, or is of another kind, is GROUP_ID_NOT_FOUND. A group of which the client may not know all
// topics is TOPIC_AUTHORIZATION_FAILED. Without members that brought it the topology is null; while topics of it are
// missing, its subtopologies are.

// streamsGroupDescribe answers StreamsGroupDescribe.
func (co *coordinator) streamsGroupDescribe(
	_ context.Context, c *conn, req *kmsg.StreamsGroupDescribeRequest,
) (*kmsg.StreamsGroupDescribeResponse, error) {
	resp := kmsg.NewPtrStreamsGroupDescribeResponse()
	for _, id := range req.Groups {
		one := co.describeStreams(c, id)
		if req.IncludeAuthorizedOperations && one.ErrorCode == wire.None {
			one.AuthorizedOperations = co.groupOperations(c, id)
		}
		resp.Groups = append(resp.Groups, one)
	}
	return resp, nil
}

func (co *coordinator) describeStreams(c *conn, id string) kmsg.StreamsGroupDescribeResponseGroup {
	resp := kmsg.NewStreamsGroupDescribeResponseGroup()
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
	g, is := og.mu.g.(*group.Streams)
	if !is || g.IsDead() {
		co.release(og)
		if !is {
			resp.ErrorMessage = new("Group " + id + " is not a streams group.")
		}
		return resp
	}
	g.See(co.topics())
	d := g.Describe()
	co.release(og)
	resp.ErrorCode, resp.ErrorMessage = wire.None, nil
	resp.State, resp.Epoch, resp.AssignmentEpoch = d.State, d.Epoch, d.TargetEpoch
	if d.Topology != nil {
		for _, name := range d.Topology.Topics() {
			if !co.sees(c, OpDescribe, OnTopic, name) {
				resp.ErrorCode = wire.TopicAuthorizationFailed
				resp.ErrorMessage = new("The group has topics that the client is not authorized to describe.")
				return resp
			}
		}
		resp.Topology = describedTopology(&d)
	}
	for i := range d.Members {
		resp.Members = append(resp.Members, describedStreamer(&d.Members[i]))
	}
	return resp
}

func describedTopology(d *group.StreamsDescription) *kmsg.StreamsGroupDescribeResponseGroupTopology {
	t := kmsg.NewStreamsGroupDescribeResponseGroupTopology()
	t.Epoch = d.Topology.Epoch
	for i := range d.Topology.Subtopologies {
		if !d.Fits {
			break
		}
		s := &d.Topology.Subtopologies[i]
		one := kmsg.NewStreamsGroupDescribeResponseGroupTopologySubtopology()
		one.SubtopologyID, one.SourceTopics, one.RepartitionSinkTopics = s.ID, s.Sources, s.Sinks
		one.StateChangelogTopics = topicInfos(s.Changelogs)
		one.RepartitionSourceTopics = topicInfos(s.Repartitions)
		t.Subtopologies = append(t.Subtopologies, one)
	}
	return &t
}

func topicInfos(all []group.InternalTopic) (infos []kmsg.TopicInfo) {
	for i := range all {
		t := &all[i]
		info := kmsg.TopicInfo{Topic: t.Name, NumPartitions: t.Partitions, ReplicationFactor: t.Replication}
		for _, s := range t.Configs {
			info.Configs = append(info.Configs, kmsg.TopicInfoConfig{Key: s.Name, Value: s.Value})
		}
		infos = append(infos, info)
	}
	return infos
}

func describedStreamer(info *group.StreamerInfo) kmsg.StreamsGroupDescribeResponseGroupMember {
	m := kmsg.NewStreamsGroupDescribeResponseGroupMember()
	m.MemberID, m.RackID, m.MemberEpoch = info.ID, wire.Nullable(info.Rack), info.Epoch
	m.ClientID, m.ClientHost, m.ProcessID = info.ClientID, info.ClientHost, info.Process
	m.TopologyEpoch = info.TopologyEpoch
	if e := info.Endpoint; e != nil {
		m.UserEndpoint = &kmsg.StreamsGroupDescribeResponseGroupMemberUserEndpoint{Host: e.Host, Port: e.Port}
	}
	for _, tag := range info.Tags {
		m.ClientTags = append(m.ClientTags, kmsg.StreamsGroupDescribeResponseGroupMemberClientTag{
			Key: tag.Name, Value: tag.Value,
		})
	}
	m.Assignment, m.TargetAssignment = streamsAssignment(info.Assigned), streamsAssignment(info.Target)
	return m
}

func streamsAssignment(s group.TaskSet) kmsg.StreamsAssignment {
	return kmsg.StreamsAssignment{
		ActiveTasks: taskIDs(s.Active), StandbyTasks: taskIDs(s.Standby), WarmupTasks: taskIDs(s.Warmup),
	}
}
