package bench

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
)

// sharers joins the members of a share group that begins where the topic does.
func (l *kafkaLoad) sharers(ctx context.Context) error {
	l.group = l.unique("share")
	for i := range l.Members {
		c, err := l.client(kgo.ShareGroup(l.group), kgo.ConsumeTopics(l.Topic))
		if err != nil {
			return err
		}
		l.members, l.closers = append(l.members, c), append(l.closers, c.Close)
		if i > 0 {
			continue
		}
		if err := beginAtStart(ctx, c, l.group); err != nil {
			return err
		}
	}
	return l.countLeft()
}

// beginAtStart sets share.auto.offset.reset of a group, which has no members yet.
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
