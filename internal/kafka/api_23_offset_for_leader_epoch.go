package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch (23): v2-4.
//
// Behaviour
//   - Where an epoch ended: the largest epoch not above the one asked and the offset behind its last
//     record; the current epoch ends at the high watermark. -1 and -1 if none is known, or the epoch is one to come
//     (KIP-101).
//   - The leader epoch of the client is checked (KIP-320).
//
// Versions: 3 replica id (not used), 4 flexible.

// offsetForLeaderEpoch answers OffsetForLeaderEpoch.
func (d *Door) offsetForLeaderEpoch(
	_ context.Context, c *conn, req *kmsg.OffsetForLeaderEpochRequest,
) (*kmsg.OffsetForLeaderEpochResponse, error) {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	topics := d.log.Topics()
	for i := range req.Topics {
		rt := &req.Topics[i]
		t, code := d.topic(c, topics, rt.Topic, OpDescribe)
		answer := kmsg.NewOffsetForLeaderEpochResponseTopic()
		answer.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition, p.LeaderEpoch, p.EndOffset = rp.Partition, -1, -1
			id, code := partition(t, code, rp.Partition)
			if code == wire.None {
				code = d.epochCode(rp.CurrentLeaderEpoch)
			}
			if p.ErrorCode = code; code == wire.None {
				d.endOfEpoch(id, rp.LeaderEpoch, &p)
			}
			answer.Partitions = append(answer.Partitions, p)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

func (d *Door) endOfEpoch(id stream.PartitionID, epoch int32, p *kmsg.OffsetForLeaderEpochResponseTopicPartition) {
	found, end, err := d.log.EndOfEpoch(id, epoch)
	if err != nil {
		p.ErrorCode = code(err)
		return
	}
	switch now := d.log.Epoch(); {
	case epoch == now: // it goes on, also where nothing was written in it yet
		found = epoch
	case epoch > now: // nobody knows yet
		found, end = -1, -1
	}
	p.LeaderEpoch, p.EndOffset = found, int64(end)
}
