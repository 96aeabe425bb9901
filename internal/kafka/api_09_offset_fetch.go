package kafka

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetFetch, versions 1 to 10.
//
// Only durable offsets are told. A partition without one, and every partition of a group that is not
// there, has offset -1 and no error. Offsets committed for a topic that was deleted are not told for
// the one made later with its name.
//
// Versions: 2 null topics ask for all, and an error of the whole group; 5 leader epoch; 6 flexible;
// 7 RequireStable (KIP-447): UNSTABLE_OFFSET_COMMIT for what a transaction that is under way will commit; 8 several
// groups; 9 member id and epoch, which must be its own in a consumer group (STALE_MEMBER_EPOCH, KIP-848) and say
// nothing in a classic one; 10 topics by id.
func (co *coordinator) offsetFetch(
	_ context.Context, c *conn, req *kmsg.OffsetFetchRequest,
) (*kmsg.OffsetFetchResponse, error) {
	resp := kmsg.NewPtrOffsetFetchResponse()
	if req.Version >= 8 {
		for i := range req.Groups {
			resp.Groups = append(resp.Groups, co.fetchOffsets(c, req, &req.Groups[i]))
		}
		return resp, nil
	}
	one := kmsg.NewOffsetFetchRequestGroup()
	one.Group = req.Group
	if req.Topics != nil {
		one.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for i := range req.Topics {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = req.Topics[i].Topic, req.Topics[i].Partitions
		one.Topics = append(one.Topics, t)
	}
	answer := co.fetchOffsets(c, req, &one)
	resp.ErrorCode = answer.ErrorCode
	for i := range answer.Topics {
		resp.Topics = append(resp.Topics, singleGroupTopic(&answer.Topics[i], answer.ErrorCode, req.Version))
	}
	return resp, nil
}

// singleGroupTopic is a topic in the form before version 8. Version 1 has no place for an error of the
// whole group: each partition carries it.
func singleGroupTopic(
	t *kmsg.OffsetFetchResponseGroupTopic, whole wire.Code, version int16,
) kmsg.OffsetFetchResponseTopic {
	old := kmsg.NewOffsetFetchResponseTopic()
	old.Topic = t.Topic
	for j := range t.Partitions {
		from := &t.Partitions[j]
		p := kmsg.NewOffsetFetchResponseTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = from.Partition, from.Offset, from.LeaderEpoch
		p.Metadata, p.ErrorCode = from.Metadata, from.ErrorCode
		if version < 2 && whole != wire.None {
			p.ErrorCode = whole
		}
		old.Partitions = append(old.Partitions, p)
	}
	return old
}

// fetchOffsets answers for one group.
func (co *coordinator) fetchOffsets(
	c *conn, whole *kmsg.OffsetFetchRequest, req *kmsg.OffsetFetchRequestGroup,
) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = req.Group
	if !co.may(c, OpDescribe, OnGroup, req.Group) {
		resp.ErrorCode = wire.GroupAuthorizationFailed
	}
	var offsets map[partitionKey]committed
	var pending map[partitionKey]int
	if whole.RequireStable {
		pending = co.txns.unstable(req.Group)
	}
	if resp.ErrorCode == wire.None {
		offsets, resp.ErrorCode = co.committedOf(req)
	}
	view := topicView{co, c, co.log.Topics(), whole.Version >= 10}
	asked := req.Topics
	if asked == nil && resp.ErrorCode == wire.None {
		asked = view.all(offsets)
	}
	for i := range asked {
		t := view.fetch(&asked[i], offsets)
		if whole.RequireStable {
			co.unstable(pending, &t)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// unstable has a client ask again for what a transaction will commit (KIP-447).
func (co *coordinator) unstable(pending map[partitionKey]int, t *kmsg.OffsetFetchResponseGroupTopic) {
	name := t.Topic
	if named := co.log.Topics().ByID(record.UUID(t.TopicID)); name == "" && named != nil {
		name = named.Name
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.ErrorCode == wire.None && pending[partitionKey{name, p.Partition}] > 0 {
			p.ErrorCode = wire.UnstableOffsetCommit
			p.Offset, p.LeaderEpoch, p.Metadata = -1, -1, new("")
		}
	}
}

// committedOf is a copy of the committed offsets of a group, empty if there is none. A member that says who it is must
// be of its epoch.
func (co *coordinator) committedOf(req *kmsg.OffsetFetchRequestGroup) (map[partitionKey]committed, wire.Code) {
	og := co.enter(req.Group, false)
	if og == nil {
		return nil, wire.None
	}
	defer co.release(og)
	if req.MemberID != nil || req.MemberEpoch >= 0 {
		if code := og.mu.g.CheckFetch(wire.Plain(req.MemberID), req.MemberEpoch); code != group.None {
			return nil, wire.Code(code)
		}
	}
	all := make(map[partitionKey]committed, len(og.mu.offsets))
	maps.Copy(all, og.mu.offsets)
	return all, wire.None
}

// all asks for every partition that has an offset of a topic that the client may see.
func (v *topicView) all(offsets map[partitionKey]committed) []kmsg.OffsetFetchRequestGroupTopic {
	byName := map[string]*kmsg.OffsetFetchRequestGroupTopic{}
	for key, at := range offsets {
		t := v.topics.ByName(key.topic)
		if t == nil || t.ID != at.topicID || !v.co.may(v.c, OpDescribe, OnTopic, key.topic) {
			continue
		}
		if byName[key.topic] == nil {
			rt := kmsg.NewOffsetFetchRequestGroupTopic()
			rt.Topic, rt.TopicID = t.Name, t.ID
			byName[key.topic] = &rt
		}
		byName[key.topic].Partitions = append(byName[key.topic].Partitions, key.index)
	}
	all := make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(byName))
	for _, rt := range byName {
		slices.Sort(rt.Partitions)
		all = append(all, *rt)
	}
	slices.SortFunc(all, func(a, b kmsg.OffsetFetchRequestGroupTopic) int { return strings.Compare(a.Topic, b.Topic) })
	return all
}

// fetch answers for one topic.
func (v *topicView) fetch(
	req *kmsg.OffsetFetchRequestGroupTopic, offsets map[partitionKey]committed,
) kmsg.OffsetFetchResponseGroupTopic {
	resp := kmsg.NewOffsetFetchResponseGroupTopic()
	resp.Topic, resp.TopicID = req.Topic, req.TopicID
	t, code := v.find(OpDescribe, req.Topic, req.TopicID)
	if code == wire.UnknownTopicOrPartition {
		code = wire.None // there is just no offset
	}
	var name string
	var id record.UUID
	if t != nil {
		name, id = t.Name, t.ID
	}
	for _, index := range req.Partitions {
		p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = index, -1, -1, new(""), code
		if at, is := offsets[partitionKey{name, index}]; is && at.topicID == id {
			p.Offset, p.LeaderEpoch, p.Metadata = at.At, at.LeaderEpoch, new(at.Metadata)
		}
		resp.Partitions = append(resp.Partitions, p)
	}
	return resp
}
