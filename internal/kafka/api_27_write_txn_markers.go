package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// WriteTxnMarkers (27): v1-2.
//
// Behaviour
//   - What an operator uses to end a transaction that hangs in a partition (Admin.abortTransaction, KIP-664): a marker,
//     whatever the transactional id says. Here none hangs, so it is for what came from elsewhere.
//   - A producer without an open transaction in the partition, or with a newer epoch: INVALID_PRODUCER_EPOCH.
//
// Versions: 2 KIP-1228, the version of the transaction: it says nothing here.

// writeTxnMarkers answers WriteTxnMarkers.
func (ts *transactions) writeTxnMarkers(
	ctx context.Context, c *conn, req *kmsg.WriteTxnMarkersRequest,
) (*kmsg.WriteTxnMarkersResponse, error) {
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	allowed := ts.groups.sees(c, OpClusterAction, OnCluster, ClusterResource) ||
		ts.groups.may(c, OpAlter, OnCluster, ClusterResource)
	for i := range req.Markers {
		m := &req.Markers[i]
		answer := kmsg.NewWriteTxnMarkersResponseMarker()
		answer.ProducerID = m.ProducerID
		for _, t := range m.Topics {
			topic := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			topic.Topic = t.Topic
			for _, index := range t.Partitions {
				p := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				p.Partition = index
				if p.ErrorCode = wire.ClusterAuthorizationFailed; allowed {
					p.ErrorCode = ts.markBy(ctx, c, m, place{topic: t.Topic, index: index})
				}
				topic.Partitions = append(topic.Partitions, p)
			}
			answer.Topics = append(answer.Topics, topic)
		}
		resp.Markers = append(resp.Markers, answer)
	}
	return resp, nil
}

// marked is a marker as the audit has it.
type marked struct {
	Producer  int64 `json:"producer"`
	Epoch     int16 `json:"epoch"`
	Committed bool  `json:"committed"`
}

// markBy is mark for a client that asks for it.
func (ts *transactions) markBy(
	ctx context.Context, c *conn, m *kmsg.WriteTxnMarkersRequestMarker, at place,
) wire.Code {
	a := alteration{action: "transaction.end", on: chain.Resource{Kind: "partition", Name: at.String()},
		after: marked{m.ProducerID, m.ProducerEpoch, m.Committed}}
	return ts.groups.alter(ctx, c, a, func() wire.Code { return ts.mark(ctx, m, at) })
}

// mark writes one marker.
func (ts *transactions) mark(ctx context.Context, m *kmsg.WriteTxnMarkersRequestMarker, at place) wire.Code {
	t := ts.log.Topics().ByName(at.topic)
	if t == nil || at.index < 0 || int(at.index) >= len(t.Partitions) {
		return wire.UnknownTopicOrPartition
	}
	id := t.Partitions[at.index]
	known, err := ts.log.ProducersOf(id)
	if err != nil {
		return code(err)
	}
	for i := range known {
		if p := &known[i]; p.ProducerID == m.ProducerID && p.Began >= 0 && p.Epoch <= m.ProducerEpoch {
			return ts.markNow(ctx, &store.Unit{Markers: []store.Marker{{
				Partition: id, ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch,
				CoordinatorEpoch: m.CoordinatorEpoch, Commit: m.Committed,
			}}})
		}
	}
	return wire.InvalidProducerEpoch
}

func (ts *transactions) markNow(ctx context.Context, u *store.Unit) wire.Code {
	done := make(settled, 1)
	if err := ts.log.CommitWait(ctx, u, done, 0); err != nil {
		return code(err)
	}
	select {
	case err := <-done:
		return code(err)
	case <-ctx.Done():
		return wire.RequestTimedOut
	}
}
