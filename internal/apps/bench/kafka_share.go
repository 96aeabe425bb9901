package bench

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
)

// sharers joins the members of a share group that begins where the topic does.
func (l *kafkaLoad) sharers(ctx context.Context) error {
	l.group = l.unique("share")
	admin, err := l.client()
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := beginAtStart(ctx, admin, l.group); err != nil {
		return err
	}
	for range l.Members {
		c, err := l.client(kgo.ShareGroup(l.group), kgo.ConsumeTopics(l.Topic))
		if err != nil {
			return err
		}
		l.members, l.closers = append(l.members, c), append(l.closers, c.Close)
	}
	if err := l.countLeft(); err != nil {
		return err
	}
	return l.shared(ctx)
}

// shared waits until every member has partitions and every partition has members. A member hears of its partitions with
// a heartbeat, some seconds after it has joined. Errors: IO; Timeout.
func (l *kafkaLoad) shared(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 6*patience)
	defer cancel()
	for {
		members, partitions, err := assigned(ctx, l.members[0], l.group)
		switch {
		case err != nil && !kerr.IsRetriable(err):
			return fault.Wrap(fault.IO, "bench.Share", err)
		case err == nil && members == l.Members && partitions == len(l.ends):
			return nil
		}
		sleepUntil(time.Now().Add(20 * time.Millisecond))
	}
}

// assigned tells how many members of a share group have partitions, and of how many.
func assigned(ctx context.Context, c *kgo.Client, group string) (members, partitions int, err error) {
	req := kmsg.NewPtrShareGroupDescribeRequest()
	req.GroupIDs = []string{group}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return 0, 0, err
	}
	given := map[int32]bool{}
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return 0, 0, err
		}
		for _, m := range g.Members {
			for _, t := range m.Assignment.TopicPartitions {
				for _, p := range t.Partitions {
					given[p] = true
				}
			}
			if len(m.Assignment.TopicPartitions) > 0 {
				members++
			}
		}
	}
	return members, len(given), nil
}

// beginAtStart sets share.auto.offset.reset of a group before it has a member: one joins as soon as its client is made.
func beginAtStart(ctx context.Context, c *kgo.Client, group string) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res, config := kmsg.NewIncrementalAlterConfigsRequestResource(), kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "share.auto.offset.reset", new("earliest")
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	res.Configs = append(res.Configs, config)
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(ctx, c)
	if err == nil {
		for _, r := range resp.Resources {
			err = kerr.ErrorForCode(r.ErrorCode)
		}
	}
	if err != nil {
		return fault.Wrap(fault.IO, "bench.Share", err)
	}
	return nil
}

// share is one member: it takes records and accepts them with its next poll, until the topic is taken, if that is
// before the time is over.
func (l *kafkaLoad) share(ctx context.Context, c *kgo.Client) error {
	ctx, enough := context.WithDeadline(ctx, l.end)
	defer enough()
	for ctx.Err() == nil && l.left.Load() > 0 {
		fetches := c.PollRecords(ctx, sharePoll)
		if err := fetches.Err(); err != nil && ctx.Err() == nil {
			return fault.Wrap(fault.IO, "bench.Share", err)
		}
		n := int64(fetches.NumRecords())
		l.total.Add(n)
		if l.within(time.Now()) {
			l.messages.Add(n)
		}
		if l.left.Add(-n) <= 0 {
			l.done()
		}
	}
	c.MarkAcks(kgo.AckAccept)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := c.FlushAcks(last); err != nil {
		return fault.Wrap(fault.Timeout, "bench.Share", err)
	}
	return nil
}

// sharePoll is how many records a member takes at a time.
const sharePoll = 2000
