package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
)

// unique is a name that no run before has used.
func (l *kafkaLoad) unique(what string) string {
	return fmt.Sprintf("firth-bench-%s-%s-%d", what, l.Topic, time.Now().UnixNano())
}

// member joins a group and tells what it is given.
func (l *kafkaLoad) member(group string, held *holders) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(l.Topic), kgo.DisableAutoCommit(), kgo.FetchMaxWait(5 * time.Second),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.HeartbeatInterval(heartbeat),
	}
	if l.Protocol == ConsumerProtocol {
		opts = append(opts, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	}
	return l.client(append(opts, held.watch(l.Topic)...)...)
}

// heartbeat is how often members of the classic protocol ask whether there is a rebalance. Those of the consumer
// protocol ask as often as the broker tells them.
const heartbeat = 500 * time.Millisecond

// holders is which members of a group have which partitions, as they were told.
type holders struct {
	mu         sync.Mutex
	partitions map[int32]int // how many members have one
	members    map[*int]int  // how many partitions a member has
	news       chan struct{}
}

func newHolders() *holders {
	return &holders{partitions: map[int32]int{}, members: map[*int]int{}, news: make(chan struct{}, 1)}
}

// watch has a new member of the group tell what it is given of a topic.
func (h *holders) watch(topic string) []kgo.Opt {
	m := new(int) // its identity
	take := func(n int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) { h.change(m, n, topics[topic]) }
	}
	return []kgo.Opt{
		kgo.OnPartitionsAssigned(take(1)), kgo.OnPartitionsRevoked(take(-1)), kgo.OnPartitionsLost(take(-1)),
	}
}

func (h *holders) change(member *int, n int, partitions []int32) {
	h.mu.Lock()
	for _, p := range partitions {
		if h.partitions[p] += n; h.partitions[p] == 0 {
			delete(h.partitions, p)
		}
	}
	if h.members[member] += n * len(partitions); h.members[member] <= 0 {
		delete(h.members, member)
	}
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// stable tells whether so many members share all of so many partitions.
func (h *holders) stable(members, partitions int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.partitions) != partitions || len(h.members) != min(members, partitions) {
		return false
	}
	for _, n := range h.partitions {
		if n != 1 {
			return false
		}
	}
	return true
}

// await waits until it is. Errors: Timeout.
func (h *holders) await(ctx context.Context, members, partitions int) error {
	ctx, cancel := context.WithTimeout(ctx, 6*patience)
	defer cancel()
	for !h.stable(members, partitions) {
		select {
		case <-h.news:
		case <-ctx.Done():
			return fault.New(fault.Timeout, "bench.Group", "%d members do not share %d partitions in %v", members, partitions,
				6*patience)
		}
	}
	return nil
}

// committers joins as many groups as are asked for, of a member each that has all partitions.
func (l *kafkaLoad) committers(ctx context.Context) error {
	name := l.unique("commit")
	join := newCrew(ctx)
	var mu sync.Mutex
	for i := range l.Groups {
		join.run(func(ctx context.Context) error {
			held := newHolders()
			c, err := l.member(fmt.Sprint(name, "-", i), held)
			if err != nil {
				return err
			}
			mu.Lock()
			l.members, l.closers = append(l.members, c), append(l.closers, c.Close)
			mu.Unlock()
			return held.await(ctx, 1, len(l.ends))
		})
	}
	return join.wait()
}

// commit has one member commit its offsets again and again, each when the one before is acknowledged.
func (l *kafkaLoad) commit(ctx context.Context, c *kgo.Client) error {
	var took samples
	defer func() { l.acked(took) }()
	offsets := map[string]map[int32]kgo.EpochOffset{l.Topic: {}}
	for n := int64(1); ctx.Err() == nil && time.Now().Before(l.end); n++ {
		for p := range l.ends {
			offsets[l.Topic][int32(p)] = kgo.EpochOffset{Epoch: -1, Offset: n}
		}
		began := time.Now()
		if err := commitSync(ctx, c, offsets); err != nil {
			return err
		}
		now := time.Now()
		l.total.Add(1)
		if l.within(now) {
			l.messages.Add(1)
			took.add(now.Sub(began))
		}
	}
	return nil
}

// commitEncoded is commit on a plain socket, which knows the member and its generation from the client that joined.
func (l *kafkaLoad) commitEncoded(ctx context.Context, c *kgo.Client) error {
	s, err := l.socket(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	_ = s.SetReadDeadline(l.end.Add(patience))
	req := l.commitRequest(c)
	var took samples
	defer func() { l.acked(took) }()
	var frame []byte
	for n := int64(1); ctx.Err() == nil && time.Now().Before(l.end); n++ {
		for p := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[p].Offset = n
		}
		frame = formatter.AppendRequest(frame[:0], req, int32(n))
		began := time.Now()
		if _, err := s.Write(frame); err != nil {
			return fault.Wrap(fault.IO, "bench.Commit", err)
		}
		if err := s.committed(int32(n)); err != nil {
			return err
		}
		now := time.Now()
		l.total.Add(1)
		if l.within(now) {
			l.messages.Add(1)
			took.add(now.Sub(began))
		}
	}
	return nil
}

// commitRequest commits all partitions in the name of a member.
func (l *kafkaLoad) commitRequest(c *kgo.Client) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.SetVersion(commitVersion)
	req.Group, _ = c.OptValue(kgo.ConsumerGroup).(string)
	req.MemberID, req.Generation = c.GroupMetadata()
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = l.Topic
	for p := range l.ends {
		part := kmsg.NewOffsetCommitRequestTopicPartition()
		part.Partition = int32(p)
		t.Partitions = append(t.Partitions, part)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// committed reads the response to an OffsetCommit and wants all of it stored.
func (s *socket) committed(want int32) error {
	correlation, body, err := s.response()
	if err != nil {
		return err
	}
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.SetVersion(commitVersion)
	if err := resp.ReadFrom(body); err != nil || correlation != want {
		return fault.New(fault.Invalid, "bench.Commit", "response %d where %d is due: %v", correlation, want, err)
	}
	if err := refused(resp); err != nil {
		return fault.Wrap(fault.IO, "bench.Commit", err)
	}
	return nil
}

// refused is what was not committed, and why.
func refused(r *kmsg.OffsetCommitResponse) (err error) {
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	return err
}

// commitSync commits and waits for the answer. Errors: IO, and what the broker says.
func commitSync(ctx context.Context, c *kgo.Client, offsets map[string]map[int32]kgo.EpochOffset) (err error) {
	c.CommitOffsetsSync(ctx, offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse, failed error) {
			if err = failed; err == nil {
				err = refused(r)
			}
		})
	if err != nil {
		return fault.Wrap(fault.IO, "bench.Commit", err)
	}
	return nil
}

// rebalancers joins the members of one group.
func (l *kafkaLoad) rebalancers(ctx context.Context) error {
	l.group, l.held = l.unique("rebalance"), newHolders()
	l.closers = append(l.closers, func() {
		var leaving sync.WaitGroup
		for _, c := range l.members {
			leaving.Go(c.Close)
		}
		leaving.Wait()
	})
	for range l.Members {
		if err := l.join(); err != nil {
			return err
		}
	}
	return l.held.await(ctx, l.Members, len(l.ends))
}

func (l *kafkaLoad) join() error {
	c, err := l.member(l.group, l.held)
	if err == nil {
		l.members = append(l.members, c)
	}
	return err
}

// rebalance has a member leave and another one join, each when the group is stable again: all partitions are with one
// member each, and every member has some. A message is both, a latency the time until the group was stable behind
// either, together: of a cooperative group they differ by a rebalance, and a median of such samples would be that of
// whichever came more often.
func (l *kafkaLoad) rebalance(ctx context.Context) error {
	var took samples
	defer func() { l.acked(took) }()
	for ctx.Err() == nil && time.Now().Before(l.end) {
		began := time.Now()
		l.members[0].Close()
		l.members = l.members[1:]
		if err := l.held.await(ctx, len(l.members), len(l.ends)); err != nil {
			return err
		}
		if err := l.join(); err != nil {
			return err
		}
		if err := l.held.await(ctx, len(l.members), len(l.ends)); err != nil {
			return err
		}
		l.total.Add(1)
		if !began.Before(l.begin) {
			l.messages.Add(1)
			took.add(time.Since(began))
		}
	}
	return nil
}
