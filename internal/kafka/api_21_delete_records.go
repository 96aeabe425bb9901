package kafka

import (
	"context"
	"strconv"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords (21): v0-2.
//
// Behaviour
//   - Moves the log start of a partition; -1 means up to the high watermark. The answer holds the log
//     start after it. An offset above the high watermark or below -1 is OFFSET_OUT_OF_RANGE.
//   - A topic that is compacted and not deleted keeps its records: POLICY_VIOLATION. The log's own
//     topics: INVALID_TOPIC_EXCEPTION.
//   - Records younger than firth.retention.floor.ms go by who has ALTER on the cluster only:
//     CLUSTER_AUTHORIZATION_FAILED.
//
// Versions: 2 flexible.

// deleteRecords answers DeleteRecords.
func (d *Door) deleteRecords(
	ctx context.Context, c *conn, req *kmsg.DeleteRecordsRequest,
) (*kmsg.DeleteRecordsResponse, error) {
	resp := kmsg.NewPtrDeleteRecordsResponse()
	topics := d.log.Topics()
	for i := range req.Topics {
		rt := &req.Topics[i]
		t, topicCode := d.topic(c, topics, rt.Topic, OpDelete)
		switch {
		case topicCode != wire.None:
		case t.Internal():
			topicCode = wire.InvalidTopic
		case !t.Settings.Delete:
			topicCode = wire.PolicyViolation
		}
		answer := kmsg.NewDeleteRecordsResponseTopic()
		answer.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewDeleteRecordsResponseTopicPartition()
			p.Partition, p.LowWatermark = rp.Partition, -1
			id, code := partition(t, topicCode, rp.Partition)
			if p.ErrorCode = code; code == wire.None {
				p.LowWatermark, p.ErrorCode = d.trim(ctx, c, t, place{t.Name, rp.Partition, id}, rp.Offset)
			}
			answer.Partitions = append(answer.Partitions, p)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

// place is a partition that somebody asks about.
type place struct {
	topic string
	index int32
	id    stream.PartitionID
}

// String implements fmt.Stringer.
func (p place) String() string { return p.topic + "-" + strconv.Itoa(int(p.index)) }

// trimmed is how far a partition is trimmed, as the audit has it.
type trimmed struct {
	Start int64 `json:"start"`
}

// trim moves the log start of a partition and says where it is.
func (d *Door) trim(ctx context.Context, c *conn, t *stream.Topic, at place, off int64) (int64, wire.Code) {
	bounds, err := d.log.Bounds(at.id)
	if err != nil {
		return -1, code(err)
	}
	if off == -1 {
		off = int64(bounds.High)
	}
	if off < 0 || off > int64(bounds.High) {
		return -1, wire.OffsetOutOfRange
	}
	if off <= int64(bounds.Start) {
		return int64(bounds.Start), wire.None
	}
	if err := d.mayTake(ctx, c, t, at.id, record.Offset(off)); err != nil {
		return -1, createCode(err)
	}
	start := bounds.Start
	a := alteration{action: "records.delete", on: chain.Resource{Kind: "partition", Name: at.String()},
		before: trimmed{int64(bounds.Start)}, after: trimmed{off}}
	err = d.opt.alter(ctx, c, a, func() (err error) {
		start, err = d.log.TrimTo(ctx, at.id, record.Offset(off))
		return err
	})
	if err != nil {
		return -1, code(err)
	}
	return int64(start), wire.None
}
