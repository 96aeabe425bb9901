package kafka

import (
	"context"
	"math"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListOffsets (2): v1-11.
//
// Behaviour
//   - By time: the first record stamped that time or later, -1 if there is none.
//   - -1 latest (the high watermark, which with no transactions is also the last stable offset), -2
//     earliest, -3 the record with the largest stamp (v7+, KIP-734), -4 earliest on local disk (v8+),
//     which is the earliest, -5 latest tiered (v9+) and -6 earliest to be tiered (v11+), which are -1:
//     nothing is tiered. Another negative time is UNSUPPORTED_VERSION.
//   - The answer has the leader epoch of the record that it names, or, where none is there yet, the current one.
//   - The leader epoch of the client is checked (KIP-320). A partition named twice is INVALID_REQUEST.
//
//   - For a reader of committed records the log ends at the last stable offset.
//
// Versions: 2 isolation, 4 leader epochs, 6 flexible, 10 timeout (not used: nothing is far away).

// The times that are not times, and the versions that know them.
const (
	timeLatest       = -1
	timeEarliest     = -2
	timeMax          = -3
	timeLocal        = -4
	timeTiered       = -5
	timeEarliestTier = -6
)

// listOffsets answers ListOffsets.
func (d *Door) listOffsets(
	ctx context.Context, c *conn, req *kmsg.ListOffsetsRequest,
) (*kmsg.ListOffsetsResponse, error) {
	resp := kmsg.NewPtrListOffsetsResponse()
	topics := d.log.Topics()
	type place struct {
		topic string
		index int32
	}
	seen := map[place]int{}
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			seen[place{req.Topics[i].Topic, req.Topics[i].Partitions[j].Partition}]++
		}
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		t, code := d.topic(c, topics, rt.Topic, OpDescribe)
		answer := kmsg.NewListOffsetsResponseTopic()
		answer.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.Offset, p.Timestamp, p.LeaderEpoch = rp.Partition, -1, -1, -1
			id, code := partition(t, code, rp.Partition)
			switch {
			case seen[place{rt.Topic, rp.Partition}] > 1:
				p.ErrorCode = wire.InvalidRequest
			case code != wire.None:
				p.ErrorCode = code
			default:
				d.listOffset(ctx, id, rp, req, &p)
			}
			answer.Partitions = append(answer.Partitions, p)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

// listOffset answers for one partition.
func (d *Door) listOffset(
	ctx context.Context, id stream.PartitionID, rp *kmsg.ListOffsetsRequestTopicPartition,
	req *kmsg.ListOffsetsRequest, p *kmsg.ListOffsetsResponseTopicPartition,
) {
	version, end := req.Version, record.Offset(math.MaxInt64)
	if p.ErrorCode = d.epochCode(rp.CurrentLeaderEpoch); p.ErrorCode != wire.None {
		return
	}
	bounds, err := d.log.Bounds(id)
	if err != nil {
		p.ErrorCode = code(err)
		return
	}
	if req.IsolationLevel == 1 {
		end = bounds.Stable
	}
	var off record.Offset = -1
	switch ts := rp.Timestamp; {
	case ts == timeLatest:
		off, p.LeaderEpoch = min(bounds.High, end), d.log.Epoch()
	case ts == timeEarliest, ts == timeLocal && version >= 8:
		off = bounds.Start
		p.LeaderEpoch = d.epochAt(id, off)
	case ts == timeMax && version >= 7:
		off, p.Timestamp, err = d.log.MaxTime(ctx, id)
	case ts == timeTiered && version >= 9, ts == timeEarliestTier && version >= 11:
	case ts < 0:
		p.ErrorCode = wire.UnsupportedVersion
		return
	default:
		off, p.Timestamp, err = d.log.FirstSince(ctx, id, ts)
	}
	if named := rp.Timestamp < 0 && rp.Timestamp != timeMax; off > end || off == end && !named {
		off, p.Timestamp = -1, -1 // nobody who reads committed records comes to it
	}
	if err != nil {
		p.ErrorCode, p.Timestamp = code(err), -1
		return
	}
	p.Offset = int64(off)
	if off >= 0 && p.LeaderEpoch < 0 {
		p.LeaderEpoch = d.epochAt(id, off)
	}
}

// epochAt is the leader epoch of the record at an offset; where there is none yet, that in which it will be written.
func (d *Door) epochAt(id stream.PartitionID, off record.Offset) int32 {
	if epoch, err := d.log.EpochAt(id, off); err == nil && epoch >= 0 {
		return epoch
	}
	return d.log.Epoch()
}
