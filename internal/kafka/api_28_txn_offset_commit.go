package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TxnOffsetCommit (28): v0-6.
//
// Behaviour
//   - Offsets of a group that count when the transaction commits, in the same frame. Until then they are part of the
//     durable state of the transactional id: it is answered when they are on stable storage, and they are there after
//     a crash.
//   - A member commits in its generation, as in OffsetCommit, also while the group rebalances; without a member id and
//     generation anybody may.
//   - Up to version 4 AddOffsetsToTxn has to come first; from version 5 on the offsets bring the group into the
//     transaction (KIP-890), and what does not fit into it is TRANSACTION_ABORTABLE.
//
// Versions: 2 leader epoch, 3 flexible and members (KIP-447), 4 TRANSACTION_ABORTABLE, 5 no AddOffsetsToTxn, 6 topics
// by id (KIP-1319).

// txnOffsetCommit answers TxnOffsetCommit.
func (ts *transactions) txnOffsetCommit(
	ctx context.Context, c *conn, req *kmsg.TxnOffsetCommitRequest,
) (*kmsg.TxnOffsetCommitResponse, error) {
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	whole := ts.mayTxn(c, OpWrite, req.TransactionalID)
	if whole == wire.None {
		whole = ts.groups.mayGroup(c, OpRead, req.Group)
	}
	view := topicView{ts.groups, c, ts.log.Topics(), req.Version >= 6}
	var offsets []txn.Offset
	for i := range req.Topics {
		resp.Topics = append(resp.Topics, view.commitInTxn(req, &req.Topics[i], &offsets))
	}
	if whole == wire.None && len(offsets) > 0 {
		whole = ts.commitOffsets(ctx, req, offsets)
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == wire.None {
				p.ErrorCode = whole
			}
		}
	}
	return resp, nil
}

// commitInTxn judges the partitions of one topic and adds what may be committed to offsets.
func (v *topicView) commitInTxn(
	req *kmsg.TxnOffsetCommitRequest, rt *kmsg.TxnOffsetCommitRequestTopic, offsets *[]txn.Offset,
) kmsg.TxnOffsetCommitResponseTopic {
	t, code := v.find(OpRead, rt.Topic, rt.TopicID)
	resp := kmsg.NewTxnOffsetCommitResponseTopic()
	resp.Topic, resp.TopicID = rt.Topic, rt.TopicID
	for i := range rt.Partitions {
		rp := &rt.Partitions[i]
		p := kmsg.NewTxnOffsetCommitResponseTopicPartition()
		p.Partition, p.ErrorCode = rp.Partition, code
		if code == wire.None {
			p.ErrorCode = v.co.judgeOffset(t, rp.Partition, rp.Metadata)
		}
		if p.ErrorCode == wire.None {
			o := txn.Offset{
				Group: req.Group, Topic: t.Name, TopicID: t.ID, Index: rp.Partition, At: rp.Offset, LeaderEpoch: -1,
				Metadata: wire.Plain(rp.Metadata),
			}
			if req.Version >= 2 {
				o.LeaderEpoch = rp.LeaderEpoch
			}
			*offsets = append(*offsets, o)
		}
		resp.Partitions = append(resp.Partitions, p)
	}
	return resp
}

// commitOffsets makes offsets part of the transaction.
func (ts *transactions) commitOffsets(
	ctx context.Context, req *kmsg.TxnOffsetCommitRequest, offsets []txn.Offset,
) wire.Code {
	who := group.Who{MemberID: req.MemberID, InstanceID: wire.Plain(req.InstanceID)}
	// They are pending before the group is asked: who takes the partitions over from here on waits for their fate.
	early := &txn.Announced{Offsets: offsets}
	ts.announce(early, 1)
	if code := ts.groups.mayCommitInTxn(req.Group, who, req.Generation, offsets); code != wire.None {
		ts.announce(early, -1)
		return code
	}
	ot, err := ts.enter(ctx, req.TransactionalID, false)
	if ot == nil || err != nil {
		ts.announce(early, -1)
		return wire.InvalidProducerIDMapping
	}
	producer := txn.Who{ProducerID: req.ProducerID, Epoch: req.ProducerEpoch}
	next, code := ot.value.Load().CommitOffsets(producer, req.Version >= 5, offsets, ts.now())
	if code != wire.None {
		ts.announce(early, -1)
		ts.leave(ot)
		if code == wire.InvalidTxnState && req.Version >= 4 {
			return wire.TransactionAbortable
		}
		return fencedCode(code, 0, 1) // this request has never known PRODUCER_FENCED
	}
	return fate(ts.commit(ctx, &txnChange{ot: ot, next: next, early: early}))
}

// mayCommitInTxn judges whether a member, or a client outside the group, may commit offsets in a transaction.
func (co *coordinator) mayCommitInTxn(
	id string, who group.Who, generation int32, offsets []txn.Offset,
) wire.Code {
	if generation < 0 && who.MemberID == "" && who.InstanceID == "" {
		return wire.None
	}
	og := co.enter(id, false)
	if og == nil {
		return wire.IllegalGeneration
	}
	defer co.release(og)
	parts := func(yield func(group.TopicPartition) bool) {
		for i := range offsets {
			o := &offsets[i]
			p := group.Partition{Topic: o.TopicID, Index: o.Index}
			if !yield(group.TopicPartition{Name: o.Topic, Partition: p}) {
				return
			}
		}
	}
	switch code := wire.Code(mayCommit(og.mu.g, co.now(), who, generation, parts)); code {
	case wire.RebalanceInProgress:
		return wire.None
	case wire.StaleMemberEpoch: // this request has never known it
		return wire.IllegalGeneration
	default:
		return code
	}
}

// offsetIn is an offset that a transaction commits.
func offsetIn(o *txn.Offset, now int64) group.Offset {
	return group.Offset{
		At: o.At, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata, Committed: now, Expires: group.NoExpiry,
	}
}
