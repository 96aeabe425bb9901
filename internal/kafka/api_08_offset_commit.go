package kafka

import (
	"context"
	"maps"
	"slices"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetCommit, versions 1 to 10.
//
// Answered when the offsets are on stable storage: what a client was told survives a power cut. The connection reads
// on meanwhile, so that commits share a sync and heartbeats are heard. All offsets of a request are one atomic write.
// A member commits in its generation; anybody may commit to a group without members (generation -1, no member id),
// which makes the group. Any number may be committed, as in Kafka: an offset beyond the end of the log, and -1 and -2,
// by which clients say latest and earliest.
//
// Versions: 1 has a time of the client's clock, which is not believed; 2 to 4 may ask for a retention of their
// own; 6 leader epoch; 7 instance id (KIP-345); 8 flexible; 9 the epoch of a member of the consumer protocol, which
// must be its own, or one since which it has had all partitions (STALE_MEMBER_EPOCH, KIP-848, KIP-1251), and
// GROUP_ID_NOT_FOUND; 10 topics by id.
func (co *coordinator) offsetCommit(
	ctx context.Context, c *conn, req *kmsg.OffsetCommitRequest, done func(*kmsg.OffsetCommitResponse),
) {
	resp := kmsg.NewPtrOffsetCommitResponse()
	w := &groupWrite{}
	whole := wire.None
	if len(req.Group) > maxGroupName { // the empty name is allowed here, as in Kafka
		whole = wire.InvalidGroupID
	} else if !co.may(c, OpRead, OnGroup, req.Group) {
		whole = wire.GroupAuthorizationFailed
	}
	view := topicView{co, c, co.log.Topics(), req.Version >= 10}
	for i := range req.Topics {
		resp.Topics = append(resp.Topics, view.commit(req, &req.Topics[i], w))
	}
	switch a, onward := co.moving(c, req, w); {
	case whole != wire.None || len(w.offsets) == 0:
	case a != nil && onward:
		tell := co.opt.telling(c, a)
		co.commit(req, w, func(whole wire.Code) {
			tell(whole)
			done(withCode(resp, whole))
		})
		return
	case a != nil:
		whole = co.alter(ctx, c, *a, func() wire.Code { return co.commitWait(ctx, req, w) })
	default:
		co.commit(req, w, func(whole wire.Code) { done(withCode(resp, whole)) })
		return
	}
	done(withCode(resp, whole))
}

// moving is what the audit is to be told of a commit; nil: nothing. That is what an administrator does to a group
// without members, and whoever takes its offsets back: a consumer that belongs to none only goes on. Onward: so does an
// administrator here, who may be such a consumer, and need not wait for the record.
func (co *coordinator) moving(c *conn, req *kmsg.OffsetCommitRequest, w *groupWrite) (a *alteration, onward bool) {
	if req.Generation >= 0 || req.MemberID != "" || len(w.offsets) == 0 || !co.opt.Audit.On() {
		return nil, false
	}
	before, after := co.offsetsOf(req.Group), places{}
	back, onward := false, true
	for _, o := range w.offsets {
		was, is := before[o.key]
		back = back || is && o.value.At < was
		onward = onward && is && !back
		after[o.key] = o.value.At
	}
	if !back && !co.opt.sees(c, OpDelete, OnGroup, req.Group) {
		return nil, false
	}
	maps.DeleteFunc(before, func(key partitionKey, _ int64) bool { _, is := after[key]; return !is })
	return &alteration{action: "offsets.set", on: groupOf(req.Group), before: before, after: after}, onward
}

// commitWait is commit for who waits.
func (co *coordinator) commitWait(ctx context.Context, req *kmsg.OffsetCommitRequest, w *groupWrite) wire.Code {
	told := make(chan wire.Code, 1)
	co.commit(req, w, func(code wire.Code) { told <- code })
	select {
	case code := <-told:
		return code
	case <-ctx.Done():
		return wire.CoordinatorNotAvailable
	}
}

// withCode gives every partition that has no error of its own that of the whole.
func withCode(resp *kmsg.OffsetCommitResponse, whole wire.Code) *kmsg.OffsetCommitResponse {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == wire.None {
				p.ErrorCode = whole
			}
		}
	}
	return resp
}

// topicView is the topics as one request may see them.
type topicView struct {
	co     *coordinator
	c      *conn
	topics *stream.Topics
	byID   bool // the request names topics by id
}

// find finds a topic by name or id, if the client may know of it.
func (v *topicView) find(op Operation, name string, id [16]byte) (*stream.Topic, wire.Code) {
	if v.byID {
		t := v.topics.ByID(record.UUID(id))
		if t == nil {
			return nil, wire.UnknownTopicID
		}
		name = t.Name
	}
	if !v.co.may(v.c, op, OnTopic, name) {
		return nil, wire.TopicAuthorizationFailed
	}
	t := v.topics.ByName(name)
	if t == nil {
		return nil, wire.UnknownTopicOrPartition
	}
	return t, wire.None
}

// commit judges the partitions of one topic, adds what may be committed to w, and answers.
func (v *topicView) commit(
	req *kmsg.OffsetCommitRequest, rt *kmsg.OffsetCommitRequestTopic, w *groupWrite,
) kmsg.OffsetCommitResponseTopic {
	t, code := v.find(OpRead, rt.Topic, rt.TopicID)
	resp := kmsg.NewOffsetCommitResponseTopic()
	resp.Topic, resp.TopicID = rt.Topic, rt.TopicID
	resp.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, 0, len(rt.Partitions))
	w.offsets = slices.Grow(w.offsets, len(rt.Partitions))
	values, now := make([]committed, len(rt.Partitions)), v.co.now()
	for i := range rt.Partitions {
		rp := &rt.Partitions[i]
		p := kmsg.NewOffsetCommitResponseTopicPartition()
		p.Partition, p.ErrorCode = rp.Partition, code
		if code == wire.None {
			p.ErrorCode = v.co.judgeOffset(t, rp.Partition, rp.Metadata)
		}
		if p.ErrorCode == wire.None {
			values[i] = committed{Offset: offsetOf(req, rp, now), topicID: t.ID}
			w.offsets = append(w.offsets, offsetChange{partitionKey{t.Name, rp.Partition}, &values[i]})
		}
		resp.Partitions = append(resp.Partitions, p)
	}
	return resp
}

// offsetOf is what a request asks to commit for one partition.
func offsetOf(
	req *kmsg.OffsetCommitRequest, p *kmsg.OffsetCommitRequestTopicPartition, now int64,
) group.Offset {
	o := group.Offset{
		At: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: wire.Plain(p.Metadata), Committed: now, Expires: group.NoExpiry,
	}
	if req.Version < 6 {
		o.LeaderEpoch = -1
	}
	if req.Version >= 2 && req.Version <= 4 && req.RetentionTimeMillis >= 0 {
		o.Expires = now + min(req.RetentionTimeMillis, maxRetentionMillis)
	}
	return o
}

// maxRetentionMillis keeps the time at which an offset expires within its field: a thousand years.
const maxRetentionMillis = 1000 * 365 * 24 * 3600 * 1000

// judgeOffset judges what can be judged of an offset without the group.
func (co *coordinator) judgeOffset(t *stream.Topic, index int32, metadata *string) wire.Code {
	switch {
	case index < 0 || int(index) >= len(t.Partitions):
		return wire.UnknownTopicOrPartition
	case len(wire.Plain(metadata)) > co.limits.MaxOffsetMetadata:
		return wire.OffsetMetadataTooLarge
	}
	return wire.None
}

// commit asks the group and writes, and tells the code for all partitions when that is done.
func (co *coordinator) commit(req *kmsg.OffsetCommitRequest, w *groupWrite, told func(wire.Code)) {
	og := co.enter(req.Group, req.Generation < 0)
	if og == nil {
		switch {
		case req.Generation < 0:
			told(wire.CoordinatorNotAvailable) // too many groups
		case req.Version >= 9:
			told(wire.GroupIDNotFound)
		default:
			told(wire.IllegalGeneration) // of a group that was: it was deleted
		}
		return
	}
	who := group.Who{MemberID: req.MemberID, InstanceID: wire.Plain(req.InstanceID)}
	code := wire.None
	func() {
		defer co.release(og)
		code = wire.Code(mayCommit(og.mu.g, co.now(), who, req.Generation, w.parts))
		if req.Version < 9 && og.mu.g.Modern(req.MemberID) {
			code = wire.UnsupportedVersion // it does not know what to do about a stale epoch
		}
		if n := og.grownLocked(w.offsets); code == wire.None && n > 0 && !co.reserveLocked(og, n) {
			code = wire.OffsetMetadataTooLarge // for the memory that there is
		}
		if code == wire.None {
			w.og, w.done = og, func(err error) { told(fate(err)) }
			og.enqueueLocked(w)
		}
	}()
	if code != wire.None {
		told(code)
	}
}

// parts are the partitions of which a write commits offsets.
func (gw *groupWrite) parts(yield func(group.TopicPartition) bool) {
	for i := range gw.offsets {
		c := &gw.offsets[i]
		p := group.TopicPartition{Name: c.key.topic, Partition: group.Partition{Index: c.key.index}}
		if c.value != nil {
			p.Topic = c.value.topicID
		}
		if !yield(p) {
			return
		}
	}
}

// fate is the code for a write of a group, or of a transactional id, that ended so. Clients try again after it, unless
// it can never be written.
func fate(err error) wire.Code {
	switch {
	case err == nil:
		return wire.None
	case fault.Is(err, fault.TooLarge):
		return wire.InvalidCommitOffsetSize
	case fault.Is(err, fault.Invalid):
		return wire.InvalidRequest
	case fault.Is(err, fault.Closed):
		return wire.NotCoordinator
	}
	return wire.CoordinatorNotAvailable
}
