package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shareLife is a share group whose members acknowledge as fast as they are given records, while the server is killed:
// what was answered to be accepted is nobody's any more, and nothing else is lost.
type shareLife struct {
	t     *testing.T
	topic [16]byte

	mu       sync.Mutex
	sent     map[shareOffset]bool // acknowledged to their producer
	tried    map[shareOffset]bool // accepted by a member, whether it was answered or not
	accepted map[shareOffset]bool // and it was answered
	n        struct{ fetches, acks, again int }
}

type shareOffset struct {
	partition int32
	offset    int64
}

// shareWorker is one member, and its session.
type shareWorker struct {
	life           *shareLife
	id             string
	epoch, session int32
	dice           *rand.Rand
}

const sharedPartitions = 3

// TestShareGroupOutlivesKills keeps six members at work over as many kills as -rounds says. No record is accepted
// twice with an answer, and in the end every record was processed.
func TestShareGroupOutlivesKills(t *testing.T) {
	s := newServer(t, "limits.journal_file=1MiB")
	if _, err := s.start(); err != nil {
		t.Fatal(err)
	}
	c, err := dialKafka(s.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	made, err := kadm.NewClient(c).CreateTopic(t.Context(), sharedPartitions, 1, nil, "jobs")
	if err != nil {
		t.Fatal(err)
	}
	life := &shareLife{
		t: t, topic: made.ID, sent: map[shareOffset]bool{}, tried: map[shareOffset]bool{}, accepted: map[shareOffset]bool{},
	}
	life.settings(c, "share.auto.offset.reset", "earliest", "share.delivery.count.limit", "1000",
		"share.record.lock.duration.ms", "3000")
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { life.produce(ctx, s.kafka) })
	for i := range 6 {
		w := &shareWorker{life: life, id: fmt.Sprint("worker", i), dice: rand.New(rand.NewPCG(uint64(i), 5))}
		all.Go(func() { w.run(ctx, s.kafka) })
	}
	for round := 0; round < *roundsFlag && !t.Failed(); round++ {
		<-time.After(time.Duration(100+rand.IntN(900)) * time.Millisecond)
		if !s.kill() {
			t.Fatal("the server had ended before it was killed")
		}
		if _, err := s.start(); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(time.Second)
	cancel()
	all.Wait()
	last := &shareWorker{life: life, id: "last", dice: rand.New(rand.NewPCG(9, 9))}
	end, stop := context.WithTimeout(t.Context(), startLimit)
	defer stop()
	last.until(end, s.kafka, life.finished)
	life.mu.Lock()
	defer life.mu.Unlock()
	for at := range life.sent {
		if !life.tried[at] {
			t.Errorf("record %d of partition %d was lost", at.offset, at.partition)
		}
	}
	if len(life.sent) == 0 || len(life.accepted) == 0 {
		t.Error("nothing was done")
	}
	t.Logf("%d rounds: %d records sent, %d accepted with an answer, %d given again, %d fetches, %d acknowledgements",
		*roundsFlag, len(life.sent), len(life.accepted), life.n.again, life.n.fetches, life.n.acks)
}

func (l *shareLife) settings(c *kgo.Client, pairs ...string) {
	l.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "workers"
	for i := 0; i < len(pairs); i += 2 {
		cfg := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		cfg.Name, cfg.Value = pairs[i], &pairs[i+1]
		rr.Configs = append(rr.Configs, cfg)
	}
	req.Resources = append(req.Resources, rr)
	resp, err := req.RequestWith(l.t.Context(), c)
	if err != nil || resp.Resources[0].ErrorCode != 0 {
		l.t.Fatalf("settings: %v, %+v", err, resp)
	}
}

// finished tells whether every record that was sent was processed, and nothing of them is left.
func (l *shareLife) finished() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.sent {
		if !l.tried[at] {
			return false
		}
	}
	return true
}

func (l *shareLife) produce(ctx context.Context, address string) {
	c, err := dialKafka(address, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.DefaultProduceTopic("jobs"))
	if err != nil {
		l.t.Error(err)
		return
	}
	defer c.Close()
	for i := 0; ctx.Err() == nil; i++ {
		c.Produce(ctx, &kgo.Record{Value: fmt.Append(nil, i)}, func(r *kgo.Record, err error) {
			if err == nil {
				l.mu.Lock()
				l.sent[shareOffset{r.Partition, r.Offset}] = true
				l.mu.Unlock()
			}
		})
		if i%20 == 0 {
			pauseFor(ctx, 5*time.Millisecond)
		}
	}
}

// run joins, fetches and acknowledges until ctx ends, and begins anew whenever that fails.
func (w *shareWorker) run(ctx context.Context, address string) {
	w.until(ctx, address, func() bool { return false })
}

func (w *shareWorker) until(ctx context.Context, address string, enough func() bool) {
	for ctx.Err() == nil && !enough() {
		c, err := dialKafka(address, kgo.RequestRetries(0))
		if err != nil {
			pauseFor(ctx, 20*time.Millisecond)
			continue
		}
		w.epoch, w.session = 0, 0
		for ctx.Err() == nil && !enough() && w.step(ctx, c) {
		}
		c.Close()
		pauseFor(ctx, 20*time.Millisecond)
	}
}

// step fetches once and acknowledges what came. It is false when the member has to begin anew.
func (w *shareWorker) step(ctx context.Context, c *kgo.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if w.epoch == 0 {
		beat := kmsg.NewPtrShareGroupHeartbeatRequest()
		beat.GroupID, beat.MemberID, beat.SubscribedTopicNames = "workers", w.id, []string{"jobs"}
		resp, err := beat.RequestWith(ctx, c)
		if err != nil || resp.ErrorCode != 0 {
			return false
		}
		w.epoch = resp.MemberEpoch
	}
	req := kmsg.NewPtrShareFetchRequest()
	req.GroupID, req.MemberID, req.ShareSessionEpoch = new("workers"), &w.id, w.session
	req.MaxWaitMillis, req.MinBytes, req.MaxRecords = 200, 1, 1+w.dice.Int32N(300)
	rt := kmsg.NewShareFetchRequestTopic()
	rt.TopicID = w.life.topic
	for index := range int32(sharedPartitions) {
		rp := kmsg.NewShareFetchRequestTopicPartition()
		rp.Partition = index
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c)
	if err != nil || resp.ErrorCode != 0 {
		return false
	}
	w.session++
	return w.acknowledge(ctx, c, resp)
}

// acknowledge accepts most of what a fetch brought, and releases the rest.
func (w *shareWorker) acknowledge(ctx context.Context, c *kgo.Client, got *kmsg.ShareFetchResponse) bool {
	const accepts, releases = 1, 2
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.GroupID, req.MemberID, req.ShareSessionEpoch = new("workers"), &w.id, w.session
	rt := kmsg.NewShareAcknowledgeRequestTopic()
	rt.TopicID = w.life.topic
	mine := map[int32][]shareOffset{}
	w.life.mu.Lock()
	w.life.n.fetches++
	for _, p := range got.Topics {
		for _, p := range p.Partitions {
			rp := kmsg.NewShareAcknowledgeRequestTopicPartition()
			rp.Partition = p.Partition
			for _, a := range p.AcquiredRecords {
				b := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
				b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = a.FirstOffset, a.LastOffset, []int8{accepts}
				if a.DeliveryCount > 1 {
					w.life.n.again += int(a.LastOffset - a.FirstOffset + 1)
				}
				if w.dice.IntN(10) == 0 {
					b.AcknowledgeTypes[0] = releases
				}
				for offset := a.FirstOffset; offset <= a.LastOffset && b.AcknowledgeTypes[0] == accepts; offset++ {
					at := shareOffset{p.Partition, offset}
					mine[p.Partition] = append(mine[p.Partition], at)
					w.life.tried[at] = true
				}
				rp.AcknowledgementBatches = append(rp.AcknowledgementBatches, b)
			}
			if len(rp.AcknowledgementBatches) > 0 {
				rt.Partitions = append(rt.Partitions, rp)
			}
		}
	}
	w.life.mu.Unlock()
	if len(rt.Partitions) == 0 {
		return true
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c)
	if err != nil || resp.ErrorCode != 0 {
		return false
	}
	w.session++
	w.life.mu.Lock()
	defer w.life.mu.Unlock()
	for _, p := range resp.Topics[0].Partitions {
		w.life.n.acks++
		for _, at := range mine[p.Partition] {
			if p.ErrorCode == 0 && w.life.accepted[at] {
				w.life.t.Errorf("record %d of partition %d was accepted twice", at.offset, at.partition)
			}
			w.life.accepted[at] = w.life.accepted[at] || p.ErrorCode == 0
		}
	}
	return true
}
