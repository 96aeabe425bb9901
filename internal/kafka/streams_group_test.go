package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// streamThread is a member of a streams group, as a client of Kafka Streams is one: it gives up at once what it is told
// to.
type streamThread struct {
	c       *client
	group   string
	id      string
	process string
	epoch   int32

	active, standby []kmsg.TaskIDs
	status          []kmsg.StreamsGroupHeartbeatResponseStatus
}

// countWords is the topology of the word count: a part that reads lines, and one that counts words.
func countWords() *kmsg.StreamsGroupHeartbeatRequestTopology {
	t := kmsg.NewStreamsGroupHeartbeatRequestTopology()
	compact := []kmsg.TopicInfoConfig{{Key: "cleanup.policy", Value: "compact"}}
	t.Subtopologies = []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{
		{SubtopologyID: "0", SourceTopics: []string{"lines"}, RepartitionSinkTopics: []string{"g-words-repartition"}},
		{
			SubtopologyID: "1", RepartitionSourceTopics: []kmsg.TopicInfo{{Topic: "g-words-repartition"}},
			StateChangelogTopics: []kmsg.TopicInfo{{Topic: "g-counts-changelog", Configs: compact}},
		},
	}
	return &t
}

func (m *streamThread) request() *kmsg.StreamsGroupHeartbeatRequest {
	req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = m.group, m.id, m.epoch, -1
	if m.epoch == 0 {
		m.active, m.standby = []kmsg.TaskIDs{}, []kmsg.TaskIDs{}
		req.RebalanceTimeoutMillis, req.Topology, req.ProcessID = 60_000, countWords(), &m.process
	}
	req.ActiveTasks, req.StandbyTasks, req.WarmupTasks = m.active, m.standby, []kmsg.TaskIDs{}
	return req
}

func (m *streamThread) send(req *kmsg.StreamsGroupHeartbeatRequest) *kmsg.StreamsGroupHeartbeatResponse {
	m.c.t.Helper()
	resp := askFor[*kmsg.StreamsGroupHeartbeatResponse](m.c, 0, req)
	if resp.ErrorCode != wire.None {
		return resp
	}
	m.epoch, m.status = resp.MemberEpoch, resp.Status
	if resp.ActiveTasks != nil {
		m.active, m.standby = resp.ActiveTasks, resp.StandbyTasks
	}
	return resp
}

func (m *streamThread) beat() *kmsg.StreamsGroupHeartbeatResponse {
	m.c.t.Helper()
	resp := m.send(m.request())
	wantCode(m.c.t, "heartbeat of "+m.id, resp.ErrorCode, wire.None)
	return resp
}

func countTasks(all []kmsg.TaskIDs) (n int) {
	for i := range all {
		n += len(all[i].Partitions)
	}
	return n
}

func hasTask(all []kmsg.TaskIDs, id string, partition int32) bool {
	return slices.ContainsFunc(all, func(t kmsg.TaskIDs) bool {
		return t.SubtopologyID == id && slices.Contains(t.Partitions, partition)
	})
}

// settleThreads has members heard of until they have so many active tasks in all, each its share.
func settleThreads(t *testing.T, tasks int, ms ...*streamThread) {
	t.Helper()
	until(t, "each thread has its share", func() bool {
		total, least := 0, tasks
		for _, m := range ms {
			m.beat()
			total, least = total+countTasks(m.active), min(least, countTasks(m.active))
		}
		return total == tasks && least >= tasks/len(ms)
	})
}

func describeStreams(c *client, id string) kmsg.StreamsGroupDescribeResponseGroup {
	c.t.Helper()
	req := kmsg.NewPtrStreamsGroupDescribeRequest()
	req.Groups, req.IncludeAuthorizedOperations = []string{id}, true
	return askFor[*kmsg.StreamsGroupDescribeResponse](c, 0, req).Groups[0]
}

// An application of Kafka Streams has its internal topics made, shares its tasks among its threads, commits by its
// epochs, and is the same after a restart. [Kafka-StreamsGroupHeartbeat] [Kafka-StreamsGroupDescribe].
func TestStreamsGroup(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	c := h.dial()
	a, b := &streamThread{c: c, group: "g", id: "a"}, &streamThread{c: c, group: "g", id: "b"}
	a.process, b.process = "p1", "p2"
	a.beat()
	if len(a.status) != 1 || a.status[0].StatusCode != int8(group.MissingSourceTopics) {
		t.Fatalf("without topics: %+v", a.status)
	}
	if d := describeStreams(c, "g"); d.State != "NotReady" || d.Topology == nil || len(d.Topology.Subtopologies) > 0 {
		t.Fatalf("without topics: %+v", d)
	}
	h.topic("lines", 4)
	a.beat()
	if len(a.status) != 1 || a.status[0].StatusCode != int8(group.MissingInternalTopics) {
		t.Fatalf("without internal topics: %+v", a.status)
	}
	for _, name := range []string{"g-words-repartition", "g-counts-changelog"} {
		if made := h.store.Topics().ByName(name); made == nil || len(made.Partitions) != 4 {
			t.Fatalf("%s: %+v", name, made)
		}
	}
	settleThreads(t, 8, a)
	early := a.epoch
	settleThreads(t, 8, a, b)
	if len(a.status) > 0 {
		t.Fatalf("with all topics: %+v", a.status)
	}
	d := describeStreams(c, "g")
	if d.State != "Stable" || len(d.Members) != 2 || len(d.Topology.Subtopologies) != 2 || d.Epoch != d.AssignmentEpoch ||
		countTasks(d.Members[0].Assignment.ActiveTasks) != 4 || d.Members[0].ProcessID != "p1" {
		t.Fatalf("%+v", d)
	}
	list := askFor[*kmsg.ListGroupsResponse](c, 5, &kmsg.ListGroupsRequest{TypesFilter: []string{"streams"}})
	if len(list.Groups) != 1 || list.Groups[0].GroupType != "streams" || list.Groups[0].ProtocolType != "streams" {
		t.Fatalf("%+v", list.Groups)
	}
	wantCode(t, "commit", commitAs(c, "a", a.epoch), wire.None)
	wantCode(t, "commit of another epoch", commitAs(c, "a", a.epoch+1), wire.StaleMemberEpoch)
	wantCode(t, "commit of a stranger", commitAs(c, "x", a.epoch), wire.UnknownMemberID)
	has := map[bool]wire.Code{true: wire.None, false: wire.StaleMemberEpoch}[hasTask(a.active, "0", 0)]
	wantCode(t, "commit of an earlier epoch", commitAs(c, "a", early), has)
	h.stop()

	h = openHouseOn(t, disk, Options{})
	c = h.dial()
	a.c, b.c = c, c
	epoch := a.epoch
	a.beat()
	b.beat()
	if a.epoch != epoch || countTasks(a.active) != 4 || countTasks(b.active) != 4 {
		t.Fatalf("after a restart: %+v, %+v", a, b)
	}
	del := askFor[*kmsg.DeleteGroupsResponse](c, 2, &kmsg.DeleteGroupsRequest{Groups: []string{"g"}})
	wantCode(t, "delete", del.Groups[0].ErrorCode, wire.NonEmptyGroup)
	for _, m := range []*streamThread{a, b} {
		m.epoch = group.LeaveEpoch
		m.beat()
	}
	del = askFor[*kmsg.DeleteGroupsResponse](c, 2, &kmsg.DeleteGroupsRequest{Groups: []string{"g"}})
	wantCode(t, "delete", del.Groups[0].ErrorCode, wire.None)
	wantCode(t, "describe", describeStreams(c, "g").ErrorCode, wire.GroupIDNotFound)
	h.stop()

	h = openHouseOn(t, disk, Options{})
	if all := h.door.groups.owned(); len(all) != 0 {
		t.Errorf("%d groups after it was deleted", len(all))
	}
}

// commitAs commits an offset of the group g as a member.
func commitAs(c *client, memberID string, epoch int32) wire.Code {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation, req.Topics = "g", memberID, epoch, commitOf("lines", 0, 1)
	return askFor[*kmsg.OffsetCommitResponse](c, 9, req).Topics[0].Partitions[0].ErrorCode
}

// A heartbeat that says nonsense is told so.
func TestStreamsGroupHeartbeatIsChecked(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("lines", 1)
	c := h.dial()
	some := []kmsg.TaskIDs{{SubtopologyID: "0", Partitions: []int32{0}}}
	for _, k := range []struct {
		why  string
		code wire.Code
		edit func(*kmsg.StreamsGroupHeartbeatRequest)
	}{
		{"GroupId", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.Group = "" }},
		{"MemberId", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.MemberID = "" }},
		{"Static", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.InstanceID = new("i") }},
		{"Static", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.MemberEpoch = -2 }},
		{"MemberEpoch", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.MemberEpoch = -3 }},
		{"RackId", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.RackID = new("") }},
		{"Rebalance", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = -1 }},
		{"Topology must", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.Topology = nil }},
		{"Topology can", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.MemberEpoch = 5 }},
		{"ActiveTasks", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.ActiveTasks = some }},
		{"StandbyTasks", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.StandbyTasks = some }},
		{"WarmupTasks", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.WarmupTasks = some }},
		{"task-type", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) { r.StandbyTasks = nil }},
		{"prohibited", wire.StreamsInvalidTopology, func(r *kmsg.StreamsGroupHeartbeatRequest) {
			r.Topology.Subtopologies[0].SourceTopics = []string{"__consumer_offsets"}
		}},
		{"valid topic", wire.StreamsInvalidTopology, func(r *kmsg.StreamsGroupHeartbeatRequest) {
			r.Topology.Subtopologies[0].RepartitionSinkTopics = []string{"a b"}
		}},
		{"Regular", wire.InvalidRequest, func(r *kmsg.StreamsGroupHeartbeatRequest) {
			r.Topology.Subtopologies[0].SourceTopicRegex = []string{".*"}
		}},
		{"not found", wire.GroupIDNotFound, func(r *kmsg.StreamsGroupHeartbeatRequest) {
			r.Topology, r.MemberEpoch, r.Group = nil, 5, "nobody"
		}},
	} {
		req := (&streamThread{group: "g", id: "a", process: "p"}).request()
		k.edit(req)
		resp := askFor[*kmsg.StreamsGroupHeartbeatResponse](c, 0, req)
		if resp.ErrorCode != k.code || resp.ErrorMessage == nil || !strings.Contains(*resp.ErrorMessage, k.why) {
			t.Errorf("%s: %d, %v", k.why, resp.ErrorCode, resp.ErrorMessage)
		}
	}
	if n := len(h.door.groups.owned()); n != 0 {
		t.Errorf("%d groups", n)
	}
}

// Internal topics that a client may not make, or that cannot be, are named with the reason.
func TestStreamsInternalTopicsRefused(t *testing.T) {
	h := openHouse(t, Options{Guard: judges{noCreating{}}})
	h.topic("lines", 1)
	m := &streamThread{c: h.dial(), group: "g", id: "a", process: "p"}
	m.beat()
	if len(m.status) != 1 || !strings.Contains(m.status[0].StatusDetail, "Unable to create topics g-counts-changelog") {
		t.Fatalf("%+v", m.status)
	}
}

type noCreating struct{}

func (noCreating) may(_ string, op Operation, _ Resource, _ string) bool { return op != OpCreate }

// A group without members becomes one of another kind by the first member of that; with members it does not.
func TestStreamsGroupBecomesAnother(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	h.topic("lines", 1)
	h.topic("t", 1)
	c := h.dial()
	thread := func() *streamThread { return &streamThread{c: c, group: "g", id: "a", process: "p"} }
	beatConsumer := func(epoch int32) wire.Code {
		req := (&consumer{group: "g", id: "c", epoch: 0}).request()
		if req.MemberEpoch = epoch; epoch < 0 {
			req.SubscribedTopicNames = nil
		}
		return askFor[*kmsg.ConsumerGroupHeartbeatResponse](c, 1, req).ErrorCode
	}
	m := thread()
	m.beat()
	wantCode(t, "a consumer beside threads", beatConsumer(0), wire.GroupIDNotFound)
	join := askFor[*kmsg.JoinGroupResponse](c, 3, joinRequest("g"))
	wantCode(t, "a classic member beside threads", join.ErrorCode, wire.InconsistentGroupProtocol)
	m.epoch = group.LeaveEpoch
	m.beat()
	wantCode(t, "a consumer", beatConsumer(0), wire.None)
	wantCode(t, "a thread beside consumers", thread().send(thread().request()).ErrorCode, wire.GroupIDNotFound)
	wantCode(t, "the consumer leaves", beatConsumer(-1), wire.None)
	m = thread()
	m.beat()
	m.epoch = group.LeaveEpoch
	m.beat()
	join = askFor[*kmsg.JoinGroupResponse](c, 3, joinRequest("g"))
	wantCode(t, "a classic member", join.ErrorCode, wire.None)
	sync := kmsg.NewPtrSyncGroupRequest() // then the log has it
	sync.Group, sync.MemberID, sync.Generation = "g", join.MemberID, join.Generation
	wantCode(t, "its assignment", askFor[*kmsg.SyncGroupResponse](c, 2, sync).ErrorCode, wire.None)
	h.stop()

	h = openHouseOn(t, disk, Options{})
	if all := h.door.groups.owned(); len(all) != 1 || groupType(all[0].mu.g) != "classic" {
		t.Errorf("after a restart: %v", all)
	}
}

func joinRequest(id string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = id, "consumer", 60_000, 60_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}
	return req
}

// Many threads settle, and each task is with one of them.
func TestStreamsGroupOfMany(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("lines", 16)
	c := h.dial()
	var all []*streamThread
	for i := range 8 {
		all = append(all, &streamThread{c: c, group: "g", id: fmt.Sprint(i), process: fmt.Sprint("p", i/2)})
	}
	all[0].beat()
	settleThreads(t, 32, all...)
}

// The settings of a group say how many standby tasks there are, and when its members are to be heard of.
func TestStreamsGroupSettings(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("lines", 4)
	c := h.dial()
	a, b := &streamThread{c: c, group: "g", id: "a"}, &streamThread{c: c, group: "g", id: "b"}
	a.process, b.process = "p1", "p2"
	a.beat()
	settleThreads(t, 8, a, b)
	set := kmsg.NewPtrIncrementalAlterConfigsRequest()
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "g"
	for name, value := range map[string]string{
		"streams.num.standby.replicas": "1", "streams.heartbeat.interval.ms": "70", "streams.session.timeout.ms": "60000",
	} {
		rr.Configs = append(rr.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Value: &value})
	}
	set.Resources = append(set.Resources, rr)
	code := askFor[*kmsg.IncrementalAlterConfigsResponse](c, 1, set).Resources[0].ErrorCode
	wantCode(t, "settings", code, wire.None)
	until(t, "each task with state has a standby task", func() bool {
		a.beat()
		b.beat()
		return countTasks(a.standby)+countTasks(b.standby) == 4
	})
	if ms := a.beat().HeartbeatIntervalMillis; ms > 70 {
		t.Errorf("heartbeats each %d ms", ms)
	}
}
