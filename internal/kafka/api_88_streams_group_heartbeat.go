package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// StreamsGroupHeartbeat (88): v0.
//
// The one request by which a thread of an application of Kafka Streams (KIP-1071) joins its group (epoch 0, with the
// topology), says what it has, is told its tasks, and leaves (epoch -1).
//
// Behaviour
//   - The group cuts the topology into tasks and assigns them by the sticky assignor; standby tasks as many as the
//     group setting streams.num.standby.replicas says. Warm-up tasks are not given, as Kafka 4.3 does not.
//   - Internal topics that are missing are made, as the client would have to be allowed to; the answer says
//     MISSING_INTERNAL_TOPICS, and why where they could not be made. Other statuses: STALE_TOPOLOGY,
//     MISSING_SOURCE_TOPICS, INCORRECTLY_PARTITIONED_TOPICS, SHUTDOWN_APPLICATION, ASSIGNMENT_DELAYED.
//   - A topology is taken from the first member; one that says another gets INVALID_REQUEST, unless nobody is in the
//     group. STREAMS_INVALID_TOPOLOGY: it contradicts itself, or has topics that cannot be.
//   - Static members and regular expressions are refused with INVALID_REQUEST, as Kafka 4.3 does; offsets of tasks are
//     read over.
//   - It is answered when what it tells is on stable storage. While a group is not in its places, or waits for topics,
//     members are told a shorter interval of heartbeats.

// streamsGroupHeartbeat answers StreamsGroupHeartbeat.
func (co *coordinator) streamsGroupHeartbeat(
	ctx context.Context, c *conn, req *kmsg.StreamsGroupHeartbeatRequest,
) (*kmsg.StreamsGroupHeartbeatResponse, error) {
	resp := kmsg.NewPtrStreamsGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = req.MemberID, req.MemberEpoch
	refuse := func(code wire.Code, why string) (*kmsg.StreamsGroupHeartbeatResponse, error) {
		resp.ErrorCode, resp.ErrorMessage = code, wire.Nullable(why)
		return resp, nil
	}
	if code := co.mayGroup(c, OpRead, req.Group); code != wire.None && req.Group != "" {
		return refuse(code, "")
	}
	if why := misfitStreams(req); why != "" {
		return refuse(wire.InvalidRequest, why)
	}
	beat := streamsBeatOf(c, req)
	if code, why := co.judgeTopology(c, beat.Topology); code != wire.None {
		return refuse(code, why)
	}
	og := co.enter(req.Group, req.MemberEpoch == 0)
	switch {
	case og == nil && req.MemberEpoch == 0:
		return refuse(wire.CoordinatorNotAvailable, "there are too many groups")
	case og == nil:
		return refuse(wire.GroupIDNotFound, "Group "+req.Group+" not found.")
	}
	ticket, answer := og.blockLocked()
	beat.Ticket = ticket
	beat.Full = !co.reserveLocked(og, beat.Bytes())
	co.act(og, func(membership) []group.Effect { return co.streamsLocked(og, &beat) })
	e, err := co.await(ctx, og, ticket, answer)
	if err != nil {
		return nil, err
	}
	if e.Streams.Code != group.None {
		return refuse(wire.Code(e.Streams.Code), e.Streams.Message)
	}
	co.fillStreams(resp, req.Group, e.Streams)
	if unmade := co.makeInternal(ctx, c, e.Streams.Missing); unmade != "" {
		for i := range resp.Status {
			if s := &resp.Status[i]; s.StatusCode == int8(group.MissingInternalTopics) {
				s.StatusDetail += "; " + unmade
			}
		}
	}
	return resp, nil
}

// misfitStreams is what is wrong with a request by itself; "": nothing.
func misfitStreams(req *kmsg.StreamsGroupHeartbeatRequest) string {
	joins := req.MemberEpoch == 0
	some := func(tasks []kmsg.TaskIDs) bool { return tasks == nil || len(tasks) > 0 }
	said := func(tasks []kmsg.TaskIDs) bool { return tasks != nil }
	switch {
	case req.Group == "":
		return "GroupId can't be empty."
	case req.MemberID == "":
		return "MemberId can't be empty."
	case req.InstanceID != nil || req.MemberEpoch == group.StaticLeaveEpoch:
		return "Static membership is not yet supported."
	case req.RackID != nil && *req.RackID == "":
		return "RackId can't be empty."
	case req.MemberEpoch < group.StaticLeaveEpoch:
		return fmt.Sprintf("MemberEpoch is %d, but must be greater than or equal to -2.", req.MemberEpoch)
	case len(req.WarmupTasks) > 0:
		return "WarmupTasks are not supported yet."
	case said(req.ActiveTasks) != said(req.StandbyTasks) || said(req.ActiveTasks) != said(req.WarmupTasks):
		return "If one task-type is non-null, all must be non-null."
	case joins && req.RebalanceTimeoutMillis < 0:
		return "RebalanceTimeoutMs must be provided in first request."
	case joins && req.Topology == nil:
		return "Topology must be non-null when (re-)joining."
	case !joins && req.Topology != nil:
		return "Topology can only be provided when (re-)joining."
	case joins && slices.ContainsFunc(req.Topology.Subtopologies, readsByRegex):
		return "Regular expressions for source topics are not supported yet."
	case joins && some(req.ActiveTasks):
		return "ActiveTasks must be empty when (re-)joining."
	case joins && some(req.StandbyTasks):
		return "StandbyTasks must be empty when (re-)joining."
	}
	return ""
}

func readsByRegex(s kmsg.StreamsGroupHeartbeatRequestTopologySubtopology) bool {
	return len(s.SourceTopicRegex) > 0
}

// streamsBeatOf is the heartbeat as the group takes it.
func streamsBeatOf(c *conn, req *kmsg.StreamsGroupHeartbeatRequest) group.StreamsBeat {
	b := group.StreamsBeat{
		MemberID: req.MemberID, Epoch: req.MemberEpoch, Endpoints: req.EndpointInformationEpoch, Rack: req.RackID,
		ClientID: bounded(c.clientID), ClientHost: bounded(c.host), Rebalance: int64(req.RebalanceTimeoutMillis),
		Process: req.ProcessID, Shutdown: req.ShutdownApplication, Topology: topologyOf(req.Topology),
	}
	if req.ActiveTasks != nil {
		b.Owned = &group.TaskSet{
			Active: tasksOf(req.ActiveTasks), Standby: tasksOf(req.StandbyTasks), Warmup: tasksOf(req.WarmupTasks),
		}
	}
	if e := req.UserEndpoint; e != nil {
		b.Endpoint = &group.Endpoint{Host: e.Host, Port: e.Port}
	}
	if req.ClientTags != nil {
		b.Tags = []group.Setting{}
		for _, tag := range req.ClientTags {
			b.Tags = append(b.Tags, group.Setting{Name: strings.Clone(tag.Key), Value: strings.Clone(tag.Value)})
		}
	}
	return b
}

func tasksOf(all []kmsg.TaskIDs) group.Tasks {
	tasks := []group.Task{}
	for i := range all {
		id := strings.Clone(all[i].SubtopologyID)
		for _, p := range all[i].Partitions {
			tasks = append(tasks, group.Task{Subtopology: id, Partition: p})
		}
	}
	return group.NewTasks(tasks)
}

// topologyOf is a topology as groups keep it; nil: there is none.
func topologyOf(said *kmsg.StreamsGroupHeartbeatRequestTopology) *group.Topology {
	if said == nil {
		return nil
	}
	t := &group.Topology{Epoch: said.Epoch}
	for i := range said.Subtopologies {
		s := &said.Subtopologies[i]
		one := group.Subtopology{
			ID: strings.Clone(s.SubtopologyID), Sources: cloned(s.SourceTopics), Sinks: cloned(s.RepartitionSinkTopics),
			Changelogs: internalOf(s.StateChangelogTopics), Repartitions: internalOf(s.RepartitionSourceTopics),
			Regexes: cloned(s.SourceTopicRegex),
		}
		for _, g := range s.CopartitionGroups {
			one.Together = append(one.Together, group.Copartition{
				Sources: slices.Clone(g.SourceTopics), Repartitions: slices.Clone(g.RepartitionSourceTopics),
			})
		}
		t.Subtopologies = append(t.Subtopologies, one)
	}
	slices.SortStableFunc(t.Subtopologies, func(a, b group.Subtopology) int { return strings.Compare(a.ID, b.ID) })
	return t
}

// cloned is a copy of names that keeps nothing of the request alive.
func cloned(names []string) (all []string) {
	for _, name := range names {
		all = append(all, strings.Clone(name))
	}
	return all
}

func internalOf(said []kmsg.TopicInfo) (all []group.InternalTopic) {
	for i := range said {
		t := group.InternalTopic{
			Name: strings.Clone(said[i].Topic), Partitions: said[i].NumPartitions, Replication: said[i].ReplicationFactor,
		}
		for _, cfg := range said[i].Configs {
			t.Configs = append(t.Configs, group.Setting{Name: strings.Clone(cfg.Key), Value: strings.Clone(cfg.Value)})
		}
		all = append(all, t)
	}
	return all
}

// judgeTopology judges the topics of a topology: what they may be called, and whether the client may know of them.
func (co *coordinator) judgeTopology(c *conn, t *group.Topology) (code wire.Code, why string) {
	if t == nil {
		return wire.None, ""
	}
	for _, name := range t.Topics() {
		switch {
		case stream.Reserved(name):
			return wire.StreamsInvalidTopology, "Use of Kafka internal topics " + name +
				" in a Kafka Streams topology is prohibited."
		case stream.CheckTopicName(name) != nil:
			return wire.StreamsInvalidTopology, "Internal topic names " + name + " are not valid topic names."
		case !co.may(c, OpDescribe, OnTopic, name):
			return wire.TopicAuthorizationFailed, ""
		}
	}
	return wire.None, ""
}

// fillStreams says in a response what the group answers.
func (co *coordinator) fillStreams(resp *kmsg.StreamsGroupHeartbeatResponse, id string, a *group.StreamsAnswer) {
	resp.MemberID, resp.MemberEpoch = a.MemberID, a.Epoch
	pace := group.BeatAnswer{Waits: a.Waits, Quiet: a.Quiet, Members: a.Members}
	interval := cmp.Or(co.configs.of(id).streamsHeartbeat, co.times.Load().ConsumerHeartbeat)
	resp.HeartbeatIntervalMillis = int32(beatInterval(interval, &pace).Milliseconds())
	resp.EndpointInformationEpoch = a.Endpoints
	for _, s := range a.Statuses {
		resp.Status = append(resp.Status, kmsg.StreamsGroupHeartbeatResponseStatus{
			StatusCode: int8(s.Code), StatusDetail: s.Detail,
		})
	}
	if a.Assigned {
		resp.ActiveTasks, resp.StandbyTasks, resp.WarmupTasks = taskIDs(a.Tasks.Active), taskIDs(a.Tasks.Standby),
			taskIDs(a.Tasks.Warmup)
	}
	if a.Info == nil {
		return
	}
	resp.PartitionsByUserEndpoint = []kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpoint{}
	for _, info := range a.Info {
		one := kmsg.NewStreamsGroupHeartbeatResponsePartitionsByUserEndpoint()
		one.UserEndpoint.Host, one.UserEndpoint.Port = info.Host, info.Port
		for _, name := range sortedNames(info.Active) {
			one.ActivePartitions = append(one.ActivePartitions,
				kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpointActivePartition{
					Topic: name, Partitions: info.Active[name],
				})
		}
		for _, name := range sortedNames(info.Standby) {
			one.StandbyPartitions = append(one.StandbyPartitions,
				kmsg.StreamsGroupHeartbeatResponsePartitionsByUserEndpointStandbyPartition{
					Topic: name, Partitions: info.Standby[name],
				})
		}
		resp.PartitionsByUserEndpoint = append(resp.PartitionsByUserEndpoint, one)
	}
}

// taskIDs are tasks as an answer has them: an empty list is not null, which would say that nothing has changed.
func taskIDs(s group.Tasks) []kmsg.TaskIDs {
	all := []kmsg.TaskIDs{}
	s.BySubtopology(func(id string, partitions []int32) {
		all = append(all, kmsg.TaskIDs{SubtopologyID: id, Partitions: partitions})
	})
	return all
}

// makeInternal makes the internal topics that a group misses, and tells which could not be made and why.
func (co *coordinator) makeInternal(ctx context.Context, c *conn, missing []group.InternalTopic) string {
	var unmade []string
	for i := range missing {
		t := &missing[i]
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.Name, t.Partitions, -1
		if t.Replication != 0 {
			rt.ReplicationFactor = t.Replication
		}
		for _, s := range t.Configs {
			cfg := kmsg.NewCreateTopicsRequestTopicConfig()
			cfg.Name, cfg.Value = s.Name, &s.Value
			rt.Configs = append(rt.Configs, cfg)
		}
		if err := co.create(ctx, c, &rt); err != nil && createCode(err) != wire.TopicAlreadyExists {
			unmade = append(unmade, t.Name+" ("+err.Error()+")")
		}
	}
	if len(unmade) == 0 {
		return ""
	}
	return "Unable to create topics " + strings.Join(unmade, ", ")
}
