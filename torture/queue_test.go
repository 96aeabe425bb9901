package torture

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// queueHistory is what the members of a share group (KIP-932) were given, and what they have accepted.
type queueHistory struct {
	name  string
	topic string
	calm  atomic.Bool // members stay: one that lives for less than a heartbeat hears of no partition that others leave

	mu        sync.Mutex
	given     []queueDelivery
	delivered map[place]map[int64]bool
	accepted  map[place]map[int64]time.Duration // when the acceptance was confirmed
}

// queueDelivery is one record with one member.
type queueDelivery struct {
	member string
	came   time.Duration // since when the member lives: it has nothing that was given out before
	at     place
	offset int64
	value  string
}

func newQueueHistory(name, topic string) *queueHistory {
	return &queueHistory{
		name: name, topic: topic, delivered: map[place]map[int64]bool{}, accepted: map[place]map[int64]time.Duration{},
	}
}

// seenAll tells the first record of a log that no member was given, "" if there is none.
func (q *queueHistory) seenAll(log snapshot) (missing string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return firstUnseen(q.delivered, log)
}

// queueMember takes records, accepts most and gives the others back. It takes no more at a time than it is given by a
// poll, so that what it was sent is what it knows of.
type queueMember struct {
	name  string
	queue *queueHistory
	h     *history
	words words

	mu     sync.Mutex
	failed map[place]bool // what it could not acknowledge since the last flush
}

// run is one life after the other, until ctx ends.
func (m *queueMember) run(ctx context.Context, address string) {
	for ctx.Err() == nil {
		life, cancel := context.WithCancel(ctx)
		if !m.queue.calm.Load() {
			cancel()
			life, cancel = context.WithTimeout(ctx, time.Duration(1000+m.words.IntN(3000))*time.Millisecond)
		}
		m.live(life, address)
		cancel()
	}
}

func (m *queueMember) live(ctx context.Context, address string) {
	came := m.h.now()
	c, err := dialKafka(address, kgo.ShareGroup(m.queue.name), kgo.ConsumeTopics(m.queue.topic), kgo.ShareMaxRecords(200),
		kgo.ShareMaxRecordsStrict(), kgo.FetchMaxWait(100*time.Millisecond), kgo.ShareAckCallback(m.acknowledged))
	if err != nil {
		m.h.complain("%s: %v", m.name, err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		fetches := c.PollRecords(ctx, 200)
		if fetches.NumRecords() > 0 {
			m.take(ctx, c, fetches.Records(), came)
		}
	}
}

// acknowledged is called with what became of acknowledgements.
func (m *queueMember) acknowledged(_ *kgo.Client, results kgo.ShareAckResults) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range results {
		if r.Err != nil {
			m.failed[place{r.Topic, r.Partition}] = true
		}
	}
}

// take notes what it was given, and acknowledges it.
func (m *queueMember) take(ctx context.Context, c *kgo.Client, records []*kgo.Record, came time.Duration) {
	m.mu.Lock()
	m.failed = map[place]bool{}
	m.mu.Unlock()
	var accepted []*kgo.Record
	m.queue.mu.Lock()
	for _, r := range records {
		at := place{r.Topic, r.Partition}
		m.queue.given = append(m.queue.given, queueDelivery{m.name, came, at, r.Offset, string(r.Value)})
		if m.queue.delivered[at] == nil {
			m.queue.delivered[at], m.queue.accepted[at] = map[int64]bool{}, map[int64]time.Duration{}
		}
		m.queue.delivered[at][r.Offset] = true
		if m.words.IntN(10) == 0 && r.DeliveryCount() < 3 {
			r.Ack(kgo.AckRelease)
			continue
		}
		r.Ack(kgo.AckAccept)
		accepted = append(accepted, r)
	}
	m.queue.mu.Unlock()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if c.FlushAcks(limit) != nil {
		return // nobody knows
	}
	now := m.h.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue.mu.Lock()
	defer m.queue.mu.Unlock()
	for _, r := range accepted {
		if at := (place{r.Topic, r.Partition}); !m.failed[at] {
			m.queue.accepted[at][r.Offset] = now
		}
	}
}

// startQueue has a share group begin where its topic does.
func startQueue(ctx context.Context, address, group string) error {
	c, err := dialKafka(address)
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res, config := kmsg.NewIncrementalAlterConfigsRequestResource(), kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "share.auto.offset.reset", new("earliest")
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	res.Configs = append(res.Configs, config)
	req.Resources = append(req.Resources, res)
	_, err = req.RequestWith(ctx, c)
	return err
}

// checkQueues wants what was given out to be in the log, and nothing that was accepted to be given to a member that
// came later.
func checkQueues(v *verdict, h *history, now finds) {
	for _, q := range h.queues {
		for _, d := range q.given {
			switch r := now.log.at(d.at, d.offset); {
			case r == nil:
				v.add("gone", "%s of %s, %s at %d: %q was given to it", d.member, q.name, d.at, d.offset, d.value)
			case r.value != d.value:
				v.add("moved", "%s of %s, %s at %d: %q, it was given %q", d.member, q.name, d.at, d.offset, r.value, d.value)
			}
			if at, ok := q.accepted[d.at][d.offset]; ok && at < d.came {
				v.add("again", "%s of %s, %s at %d: it came %v after this was accepted", d.member, q.name, d.at, d.offset,
					d.came-at)
			}
		}
	}
}
