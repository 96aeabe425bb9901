package cluster

import (
	"context"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// readCommitted is the isolation level that every read here has (KIP-98).
const readCommitted = 1

// position is a partition and where to read it from.
type position struct {
	p    *part
	from record.Offset
}

// fetching is how a fetch waits, and how much it brings.
type fetching struct {
	wait     time.Duration // for the first bytes; 0: not at all
	maxBytes int           // of a partition, but at least a batch in all
}

// answers goes through what a fetch brought, by position.
type answers func(yield func(position, *kmsg.FetchResponseTopicPartition) bool)

// fetch asks one broker for records of the partitions that it leads. It keeps no fetch session (KIP-227).
func fetch(ctx context.Context, cl *kgo.Client, broker int32, at []position, o fetching) (answers, error) {
	req := kmsg.NewPtrFetchRequest()
	req.IsolationLevel = readCommitted
	req.MaxWaitMillis = int32(o.wait.Milliseconds())
	req.MinBytes = 1
	req.MaxBytes = math.MaxInt32 // the bound of each partition is the one that counts
	asked := newAsked[position](len(at))
	for _, one := range at {
		i, isNew := asked.add(one.p, one)
		if isNew {
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = one.p.topic, one.p.topicID // by name up to version 12, then by id
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = one.p.index, int64(one.from), int32(o.maxBytes)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	got, err := cl.Broker(int(broker)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, _ := got.(*kmsg.FetchResponse) // the response to its request
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	return func(yield func(position, *kmsg.FetchResponseTopicPartition) bool) {
		for i := range resp.Topics {
			t := &resp.Topics[i]
			for j := range t.Partitions {
				found := &t.Partitions[j]
				if one, ok := asked.of(t.TopicID, t.Topic, found.Partition); ok && !yield(one, found) {
					return
				}
			}
		}
	}, nil
}

// retry calls again, until it has an answer, what asks the leader of a partition.
func (c *Cluster) retry(ctx context.Context, op string, p *part, ask func(leader int32) (code int16, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Patience)
	defer cancel()
	for try := 0; ; try++ {
		code, err := kerr.LeaderNotAvailable.Code, error(nil)
		if leader := p.leader.Load(); leader >= 0 {
			if code, err = ask(leader); err == nil && code == 0 {
				return nil
			}
		}
		if err == nil {
			err = kerr.ErrorForCode(code)
			if !passing(code) {
				return convert(op, err)
			}
		}
		if c.parts.Load().find(p.id) == nil {
			return noPartition(op, p.id)
		}
		wake(c.refresh)
		if clock.Pause(ctx, lasting(try)) != nil {
			if c.ctx.Err() != nil {
				return fault.Wrap(fault.Closed, op, err)
			}
			return convert(op, err)
		}
	}
}

// What ListOffsets finds besides a time.
const (
	latest   = -1
	earliest = -2
)

// unreplicated stands in place of an isolation level: with what the leader has and not all replicas yet.
const unreplicated = -1

// listOffset looks an offset up by time, or one of the ends. It gives -1 and -1 where there is none.
func (c *Cluster) listOffset(ctx context.Context, op string, p *part, at int64, isolation int8) (
	offset record.Offset, unixMillis int64, err error,
) {
	err = c.retry(ctx, op, p, func(leader int32) (int16, error) {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID, req.IsolationLevel = -1, isolation
		if isolation == unreplicated { // as a replica asks
			req.ReplicaID, req.IsolationLevel = leader, 0
		}
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = p.topic
		one := kmsg.NewListOffsetsRequestTopicPartition()
		one.Partition, one.Timestamp = p.index, at
		t.Partitions = append(t.Partitions, one)
		req.Topics = append(req.Topics, t)
		got, err := c.client.Broker(int(leader)).Request(ctx, req)
		if err != nil {
			return 0, err
		}
		resp, _ := got.(*kmsg.ListOffsetsResponse) // the response to its request
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return kerr.UnknownServerError.Code, nil
		}
		found := &resp.Topics[0].Partitions[0]
		offset, unixMillis = record.Offset(found.Offset), found.Timestamp
		return found.ErrorCode, nil
	})
	return offset, unixMillis, err
}
