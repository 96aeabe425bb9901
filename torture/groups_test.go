package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupLife is a consumer group of KIP-848 whose members send heartbeats as fast as they are answered, while the server
// is killed: what a member was told holds behind a kill, and nobody is told that it has what another one has.
type groupLife struct {
	t  *testing.T
	mu sync.Mutex
	of map[partition]*groupMember // who believes that it has what
	n  struct{ beats, given, fenced int }
}

type partition struct {
	topic [16]byte
	index int32
}

// groupMember is one member. It gives up what it is told to with its next heartbeat.
type groupMember struct {
	life     *groupLife
	name     string
	instance *string
	epoch    int32
	assigned map[partition]bool
	unheard  int // answers in a row that did not come
	lives    int
}

// TestGroupsOutliveKills keeps a group of eight members at work, half of them static, which come and go, over as many
// kills as -rounds says. A member's epoch and partitions are those that it was told; commits in its epoch are taken.
func TestGroupsOutliveKills(t *testing.T) {
	const members, partitions = 8, 24
	s := newServer(t, "limits.journal_file=1MiB")
	if _, err := s.start(); err != nil {
		t.Fatal(err)
	}
	c, err := dialKafka(s.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), partitions, 1, nil, "work"); err != nil {
		t.Fatal(err)
	}
	life := &groupLife{t: t, of: map[partition]*groupMember{}}
	var all []*groupMember
	for n := range members {
		m := &groupMember{life: life, name: fmt.Sprintf("m%d", n), assigned: map[partition]bool{}}
		if n%2 == 0 {
			m.instance = new(m.name)
		}
		all = append(all, m)
	}
	for round := range *roundsFlag {
		ctx, cancel := context.WithCancel(t.Context())
		var working sync.WaitGroup
		for _, m := range all {
			working.Go(func() { m.run(ctx, s.kafka) })
		}
		time.Sleep(time.Duration(100+rand.IntN(600)) * time.Millisecond) // so long it lives
		if !s.kill() {
			t.Error("the server had ended before it was killed")
		}
		cancel()
		working.Wait()
		took, err := s.start()
		if err != nil {
			t.Fatal(err)
		}
		life.mu.Lock()
		t.Logf("round %d: %d heartbeats, %d times a partition was given, %d times fenced; up again in %v", round+1,
			life.n.beats, life.n.given, life.n.fenced, took)
		life.mu.Unlock()
	}
	life.settle(s.kafka, all, partitions)
	if life.n.given < partitions {
		t.Errorf("only %d partitions were given out in all the time", life.n.given)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}

// run sends heartbeats until the server is gone.
func (m *groupMember) run(ctx context.Context, address string) {
	c, err := dialKafka(address, kgo.RequestRetries(0))
	if err != nil {
		m.life.t.Error(err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		switch dice := rand.IntN(100); {
		case dice == 0 && m.epoch > 0:
			m.leave(ctx, c)
		case dice < 5 && m.epoch > 0:
			m.commit(ctx, c)
		default:
			m.beat(ctx, c)
		}
	}
}

func (m *groupMember) id() string { return fmt.Sprintf("%s-%d", m.name, m.lives) }

func (m *groupMember) request() *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = "life", m.id(), m.epoch, m.instance
	req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 60_000, []string{"work"}
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for p := range m.assigned {
		t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		t.TopicID, t.Partitions = p.topic, []int32{p.index}
		req.Topics = append(req.Topics, t)
	}
	return req
}

// beat sends one heartbeat. It says whether it was answered.
func (m *groupMember) beat(ctx context.Context, c *kgo.Client) bool {
	resp, err := m.request().RequestWith(ctx, c)
	if err != nil {
		m.unheard++
		return false
	}
	l := m.life
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n.beats++
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil:
		m.unheard = 0
		m.epoch = resp.MemberEpoch
		if resp.Assignment != nil {
			l.take(m, resp.Assignment.Topics)
		}
	case errors.Is(err, kerr.CoordinatorNotAvailable), errors.Is(err, kerr.NotCoordinator):
	case errors.Is(err, kerr.FencedMemberEpoch) && m.unheard > 1: // two epochs may have gone by unheard
		l.n.fenced++
		l.take(m, nil)
		m.epoch = 0
	default:
		l.t.Errorf("%s in epoch %d, with %d answers unheard: %v", m.id(), m.epoch, m.unheard, err)
		l.take(m, nil)
		m.epoch = 0
	}
	return true
}

// take takes over what a member was told that it has.
func (l *groupLife) take(m *groupMember, topics []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic) {
	now := map[partition]bool{}
	for _, t := range topics {
		for _, index := range t.Partitions {
			p := partition{t.TopicID, index}
			now[p] = true
			if holder := l.of[p]; holder != nil && holder != m {
				l.t.Errorf("%s was told that it has partition %d, which %s has", m.id(), index, holder.id())
			}
			if !m.assigned[p] {
				l.n.given++
			}
			l.of[p] = m
		}
	}
	for p := range m.assigned {
		if !now[p] && l.of[p] == m {
			delete(l.of, p)
		}
	}
	m.assigned = now
}

// leave has the member leave, a static one for a moment. Until it knows that it did, it may be in.
func (m *groupMember) leave(ctx context.Context, c *kgo.Client) {
	m.life.mu.Lock() // it stops work before it says so
	m.life.take(m, nil)
	m.life.mu.Unlock()
	req := m.request()
	req.MemberEpoch = -1
	if m.instance != nil {
		req.MemberEpoch = -2
	}
	resp, err := req.RequestWith(ctx, c)
	if err == nil && resp.ErrorCode == 0 {
		m.lives++ // and comes back as another one
	} else if err == nil && !errors.Is(kerr.ErrorForCode(resp.ErrorCode), kerr.CoordinatorNotAvailable) {
		m.life.t.Errorf("%s leaves: %v", m.id(), kerr.ErrorForCode(resp.ErrorCode))
	}
	m.epoch, m.unheard = 0, 0
}

// commit commits an offset in the member's epoch, which is its own as long as every answer was heard.
func (m *groupMember) commit(ctx context.Context, c *kgo.Client) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = "life", m.id(), m.epoch
	t, p := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	t.Topic, p.Offset = "work", 1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	req.Version = 9
	resp, err := req.RequestWith(ctx, c)
	if err != nil || len(resp.Topics) == 0 {
		return
	}
	err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	stale := errors.Is(err, kerr.StaleMemberEpoch) && m.unheard > 0
	if err != nil && !stale && !errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.NotCoordinator) &&
		!errors.Is(err, kerr.UnknownTopicID) {
		m.life.t.Errorf("%s commits in epoch %d: %v", m.id(), m.epoch, err)
	}
}

// settle lets everybody be heard until each has its share.
func (l *groupLife) settle(address string, all []*groupMember, partitions int) {
	c, err := dialKafka(address)
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	share := func() bool {
		for _, m := range all {
			if len(m.assigned) != partitions/len(all) {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(startLimit); !share(); {
		if time.Now().After(deadline) {
			for _, m := range all {
				l.t.Logf("%s epoch %d has %d", m.id(), m.epoch, len(m.assigned))
			}
			l.t.Fatal("the group does not settle")
		}
		for _, m := range all {
			m.beat(l.t.Context(), c)
		}
	}
}
