package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	ledger      = "ledger" // the topic of the idempotent producers
	ledgerParts = 6
	groupName   = "torture"
	produceRate = 8 // records of a producer in a burst

	// brief is a topic that keeps little: records are deleted from partition 0, the others are left to retention.
	brief      = "brief"
	briefParts = 2
	briefBytes = 16 << 10 // what it keeps of a partition

	keyed     = "keyed" // a compacted topic of one partition
	keyedKeys = 20
)

// dialKafka makes a client that does not wait long between its attempts.
func dialKafka(address string, opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(address),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.DialTimeout(time.Second),
		kgo.AlwaysRetryEOF(), // a kill ends connections at their first answer, too
	}, opts...)...)
}

// producer is an idempotent producer that lives through all kills: it retries for as long as it takes.
type producer struct {
	name  string
	topic string
	parts int
	words words
	h     *history
	c     *kgo.Client
	seq   int
}

func newProducer(name string, w words, h *history, address string) (*producer, error) {
	c, err := dialKafka(address, kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20))
	return &producer{name: name, topic: ledger, parts: ledgerParts, words: w, h: h, c: c}, err
}

// run produces until ctx is done. Records stay with the client until they are acknowledged.
func (p *producer) run(ctx context.Context) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		for range produceRate {
			p.send()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (p *producer) send() {
	m := &message{actor: p.name, seq: p.seq, topic: p.topic, once: true, value: p.words.next(p.name, p.seq)}
	if p.topic == keyed {
		m.key = fmt.Sprint("key", p.words.IntN(keyedKeys))
	}
	p.seq++
	m.sends.Store(1)
	p.h.add(m)
	r := &kgo.Record{Topic: p.topic, Partition: int32(m.seq % p.parts), Key: []byte(m.key), Value: []byte(m.value)}
	p.c.Produce(context.Background(), r, func(r *kgo.Record, err error) {
		if err != nil {
			p.h.complain("%s gave up record %d: %v", p.name, m.seq, err)
			return
		}
		m.index, m.offset = r.Partition, r.Offset
		m.acked.Store(true)
	})
}

// follow is the consumer group: one member that commits what it was given after every poll, until ctx is done.
func follow(ctx context.Context, h *history, address string, topics []string) error {
	c, err := dialKafka(address, kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(topics...), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		var records []*kgo.Record
		offsets := map[place]int64{}
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			at := place{r.Topic, r.Partition}
			records = append(records, r)
			h.saw(sighting{at, r.Offset, string(r.Value)})
			offsets[at] = r.Offset + 1
		})
		if len(records) == 0 {
			continue
		}
		h.commit(offsets, false)
		limit, cancel := context.WithTimeout(ctx, time.Second)
		if c.CommitRecords(limit, records...) == nil {
			h.commit(offsets, true)
		}
		cancel()
	}
	return nil
}

// create makes one topic after the other until ctx is done, or until one fails: the server is gone. One it deletes
// again, and makes another of that name.
func create(ctx context.Context, h *history, address, prefix string) error {
	c, err := dialKafka(address)
	if err != nil {
		return err
	}
	defer c.Close()
	for n := range 3 {
		name := fmt.Sprintf("%s-%d", prefix, n)
		answer, err := kadm.NewClient(c).CreateTopic(ctx, 2, 1, nil, name)
		if err != nil {
			return nil // it may be there or not
		}
		h.created(name, answer.ID)
		if n != 1 {
			continue
		}
		h.deleting(name)
		gone, err := kadm.NewClient(c).DeleteTopic(ctx, name)
		if err != nil || gone.Err != nil {
			return nil
		}
		h.deleted(name, answer.ID)
		if answer, err = kadm.NewClient(c).CreateTopic(ctx, 1, 1, nil, name); err != nil {
			return nil
		}
		h.created(name, answer.ID)
	}
	return nil
}

// trim deletes records of the brief topic, all but the newest, until ctx is done or the server is gone.
func trim(ctx context.Context, h *history, address string) error {
	c, err := dialKafka(address)
	if err != nil {
		return err
	}
	defer c.Close()
	admin, at := kadm.NewClient(c), place{brief, 0}
	tick := time.NewTicker(20 * pace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		ends, err := admin.ListEndOffsets(ctx, brief)
		if err != nil {
			return nil
		}
		end, _ := ends.Lookup(brief, at.index)
		to := end.Offset - 4*produceRate
		if to <= 0 {
			continue
		}
		h.trim(at, to, false)
		var offsets kadm.Offsets
		offsets.AddOffset(brief, at.index, to, -1)
		answers, err := admin.DeleteRecords(ctx, offsets)
		if err != nil || answers.Error() != nil {
			return nil
		}
		h.trim(at, to, true)
	}
}

// readAll reads every partition of every topic from its start to its end into log, starts and topics. What retention
// removes meanwhile is not in it.
func readAll(ctx context.Context, address string, into *finds) error {
	c, err := dialKafka(address, kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	details, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	into.topics, into.starts, into.log = map[string]topicID{}, map[place]int64{}, snapshot{}
	into.partitions = map[string]int{}
	for _, d := range details {
		into.topics[d.Topic], into.partitions[d.Topic] = d.ID, len(d.Partitions)
		if inTransactions(d.Topic) {
			delete(details, d.Topic)
		}
	}
	starts, err := admin.ListStartOffsets(ctx, details.Names()...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, details.Names()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	left, from := map[place]int64{}, map[string]map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		at := place{o.Topic, o.Partition}
		start, _ := starts.Lookup(o.Topic, o.Partition)
		if start.Offset > 0 {
			into.starts[at] = start.Offset
		}
		if o.Offset == start.Offset {
			return
		}
		left[at] = o.Offset
		if from[o.Topic] == nil {
			from[o.Topic] = map[int32]kgo.Offset{}
		}
		from[o.Topic][o.Partition] = kgo.NewOffset().At(start.Offset)
	})
	c.AddConsumePartitions(from)
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if err := errors.Join(fetches.Err0(), fetchError(fetches)); err != nil {
			return fmt.Errorf("%d partitions left: %w", len(left), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at := place{r.Topic, r.Partition}
			into.log[at] = append(into.log[at], rec{r.Offset, string(r.Key), string(r.Value)})
			if end, ok := left[at]; ok && r.Offset+1 >= end {
				delete(left, at)
			}
		})
	}
	return into.begin(ctx, admin, details.Names())
}

// begin asks where the partitions begin by now, and leaves out what was read before that.
func (f *finds) begin(ctx context.Context, admin *kadm.Client, topics []string) error {
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	starts.Each(func(o kadm.ListedOffset) {
		at := place{o.Topic, o.Partition}
		if o.Offset <= f.starts[at] {
			return
		}
		f.starts[at] = o.Offset
		f.log[at] = slices.DeleteFunc(f.log[at], func(r rec) bool { return r.offset < o.Offset })
	})
	return nil
}

func fetchError(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		return fmt.Errorf("%s/%d: %w", e.Topic, e.Partition, e.Err)
	}
	return nil
}

// commits reads the committed offsets of the group.
func commits(ctx context.Context, address string) (map[place]int64, error) {
	c, err := dialKafka(address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	got, err := kadm.NewClient(c).FetchOffsets(ctx, groupName)
	if err == nil {
		err = got.Error()
	}
	if err != nil {
		return nil, err
	}
	found := map[place]int64{}
	got.Each(func(o kadm.OffsetResponse) {
		if o.At >= 0 {
			found[place{o.Topic, o.Partition}] = o.At
		}
	})
	return found, nil
}
