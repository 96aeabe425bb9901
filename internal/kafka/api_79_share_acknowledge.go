package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareAcknowledge, versions 1 and 2.
//
// Behaviour
//   - A member of a share group says what became of records that it has: accepted (1), to be given out again (2),
//     rejected (3), or that it needs them longer (4, version 2); 0 says that there is none. All of a partition is
//     taken, or none: INVALID_RECORD_STATE, where it does not have one of them any more; INVALID_REQUEST, for what was
//     never given out, for batches out of order, and for renewals where share.renew.acknowledge.enable is false.
//   - It is answered once it is on stable storage. What lies below the start offset is done with already.
//   - A record that is released after share.delivery.count.limit deliveries is not given out again.
//   - Sessions are those of ShareFetch. Epoch 0 is INVALID_SHARE_SESSION_EPOCH.
//
// Versions: 2 renewals (KIP-1222).
func (s *shares) shareAcknowledge(
	ctx context.Context, c *conn, req *kmsg.ShareAcknowledgeRequest,
) (*kmsg.ShareAcknowledgeResponse, error) {
	resp := kmsg.NewPtrShareAcknowledgeResponse()
	who := shareMember{wire.Plain(req.GroupID), wire.Plain(req.MemberID)}
	resp.AcquisitionLockTimeoutMillis = int32(s.groups.configs.of(who.group).lock.Milliseconds())
	topics := acknowledgedTopics(req)
	code := s.judge(c, who, req.ShareSessionEpoch)
	var session *shareSession
	switch {
	case code != wire.None:
	case req.ShareSessionEpoch == shareOpens:
		code = wire.InvalidShareSessionEpoch
	default:
		session, code = s.session(who, req.ShareSessionEpoch)
	}
	if code != wire.None {
		resp.ErrorCode = code
		return resp, nil
	}
	acks := s.acknowledge(c, session, topics, req.Version >= 2 && req.IsRenewAck)
	if req.ShareSessionEpoch == shareCloses {
		s.close(session)
	}
	var last *kmsg.ShareAcknowledgeResponseTopic
	for _, a := range acks {
		if last == nil || last.TopicID != a.topic {
			t := kmsg.NewShareAcknowledgeResponseTopic()
			t.TopicID = a.topic
			resp.Topics = append(resp.Topics, t)
			last = &resp.Topics[len(resp.Topics)-1]
		}
		p := kmsg.NewShareAcknowledgeResponseTopicPartition()
		p.Partition, p.ErrorCode = a.index, a.code(ctx)
		p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = -1, -1
		last.Partitions = append(last.Partitions, p)
	}
	return resp, nil
}

// acknowledgedTopics is what a request says of topics.
func acknowledgedTopics(req *kmsg.ShareAcknowledgeRequest) []sharedTopic {
	all := make([]sharedTopic, len(req.Topics))
	for i := range req.Topics {
		rt := &req.Topics[i]
		all[i] = sharedTopic{id: rt.TopicID, partitions: make([]sharedPartition, len(rt.Partitions))}
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			one := &all[i].partitions[j]
			one.index = rp.Partition
			for _, b := range rp.AcknowledgementBatches {
				one.acks = append(one.acks, shareAcks{b.FirstOffset, b.LastOffset, b.AcknowledgeTypes})
			}
		}
	}
	return all
}

// shareAck is what became of the acknowledgements of one partition.
type shareAck struct {
	topic  record.UUID
	index  int32
	fault  wire.Code
	landed func(context.Context) error // nil: there is nothing to wait for
}

// code waits until the acknowledgements are on stable storage, and tells how they ended.
func (a *shareAck) code(ctx context.Context) wire.Code {
	if a.fault != wire.None || a.landed == nil {
		return a.fault
	}
	return shareCode(a.landed(ctx))
}

// acknowledge takes the acknowledgements of a request.
func (s *shares) acknowledge(c *conn, session *shareSession, topics []sharedTopic, renewal bool) (all []*shareAck) {
	for i := range topics {
		t := s.log.Topics().ByID(topics[i].id)
		for j := range topics[i].partitions {
			asked := &topics[i].partitions[j]
			if len(asked.acks) == 0 {
				continue
			}
			a := &shareAck{topic: topics[i].id, index: asked.index}
			all = append(all, a)
			switch {
			case t == nil:
				a.fault = wire.UnknownTopicID
			case !s.groups.may(c, OpRead, OnTopic, t.Name):
				a.fault = wire.TopicAuthorizationFailed
			case asked.index < 0 || int(asked.index) >= len(t.Partitions):
				a.fault = wire.UnknownTopicOrPartition
			default:
				s.acknowledgeOne(a, session, asked.acks, renewal)
			}
		}
	}
	return all
}

// acknowledgeOne takes the acknowledgements of one partition.
func (s *shares) acknowledgeOne(a *shareAck, session *shareSession, batches []shareAcks, renewal bool) {
	acks, ok := shapely(batches, renewal)
	if !ok {
		a.fault = wire.InvalidRequest
		return
	}
	p := s.find(shareKey{session.group, a.topic, a.index})
	if p == nil { // nothing was ever given out
		a.fault = wire.InvalidRecordState
		return
	}
	rules := s.rules(s.groups.configs.of(session.group))
	p.mu.Lock()
	defer p.mu.Unlock()
	freed, code := p.mu.q.Acknowledge(session.member, acks, rules)
	switch {
	case p.mu.gone || code == share.NotHeld:
		a.fault = wire.InvalidRecordState
		return
	case code != share.OK:
		a.fault = wire.InvalidRequest
		return
	}
	s.count(acks)
	s.watchLocked(p)
	if !freed { // only locks have changed, which are not stored
		return
	}
	a.landed = p.landingLocked()
	s.changedLocked(p)
	p.wakeLocked()
}

// shapely makes acknowledgements of what a request says, if it is in order: rising, and with a kind for each offset or
// one for all.
func shapely(batches []shareAcks, renewal bool) ([]share.Ack, bool) {
	most := share.Reject
	if renewal {
		most = share.Renew
	}
	acks := make([]share.Ack, 0, len(batches))
	end := int64(-1)
	for _, b := range batches {
		if b.first <= end || b.first > b.last || len(b.kinds) == 0 ||
			len(b.kinds) > 1 && int64(len(b.kinds)) != b.last-b.first+1 {
			return nil, false
		}
		end = b.last
		one := share.Ack{Span: share.Span{First: b.first, Last: b.last}, Kinds: make([]share.Kind, len(b.kinds))}
		for i, k := range b.kinds {
			if one.Kinds[i] = share.Kind(k); one.Kinds[i] < share.Gap || one.Kinds[i] > most {
				return nil, false
			}
		}
		acks = append(acks, one)
	}
	return acks, true
}

// count counts acknowledgements by their kind.
func (s *shares) count(acks []share.Ack) {
	var n [share.Renew + 1]int64
	for i := range acks {
		if a := &acks[i]; len(a.Kinds) == 1 {
			n[a.Kinds[0]] += a.Last - a.First + 1
		} else {
			for _, k := range a.Kinds {
				n[k]++
			}
		}
	}
	for kind, name := range [...]string{"gap", "accept", "release", "reject", "renew"} {
		if n[kind] > 0 {
			s.metrics.acks.With(name).Add(float64(n[kind]))
		}
	}
}
