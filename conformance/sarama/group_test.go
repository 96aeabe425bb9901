package sarama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// crew is a group under test: what each member has, and what all of them have read.
type crew struct {
	t    *testing.T
	mu   sync.Mutex
	read map[string]int // by partition and offset
	has  map[int][]int32
	sets map[int]int // how often each was given partitions
	news chan struct{}
}

func newCrew(t *testing.T) *crew {
	return &crew{
		t: t, read: map[string]int{}, has: map[int][]int32{}, sets: map[int]int{}, news: make(chan struct{}, 1),
	}
}

// member is one consumer of a crew.
type member struct {
	crew *crew
	n    int
	stop context.CancelFunc
	done chan struct{}
}

func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	m.crew.change(func() {
		m.crew.sets[m.n]++
		m.crew.has[m.n] = slices.Concat(slices.Collect(maps.Values(s.Claims()))...)
	})
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.crew.change(func() { delete(m.crew.has, m.n) })
	return nil
}

func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case r, open := <-claim.Messages():
			if !open {
				return nil
			}
			s.MarkMessage(r, "seen")
			m.crew.change(func() { m.crew.read[fmt.Sprint(r.Partition, "@", r.Offset)]++ })
		case <-s.Context().Done():
			return nil
		}
	}
}

func (c *crew) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// until waits for something that is looked at again whenever there is news.
func (c *crew) until(what string, holds func() bool) {
	c.t.Helper()
	late := time.After(patience)
	for {
		c.mu.Lock()
		ok, now := holds(), fmt.Sprint(c.has, len(c.read))
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-c.news:
		case <-late:
			c.t.Fatalf("not in time: %s; the members have %s", what, now)
		}
	}
}

// join has a member consume until it is stopped.
func (c *crew) join(n int, conf *sarama.Config, group, topic string) *member {
	c.t.Helper()
	g, err := sarama.NewConsumerGroup([]string{broker}, group, conf)
	check(c.t, "group", err)
	ctx, stop := context.WithCancel(context.Background())
	m := &member{crew: c, n: n, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); err != nil && !errors.Is(err, context.Canceled) {
				c.t.Errorf("member %d: %v", n, err)
				return
			}
		}
		if err := g.Close(); err != nil {
			c.t.Errorf("member %d: %v", n, err)
		}
	}()
	c.t.Cleanup(m.leave)
	return m
}

// leave stops a member, which commits and leaves the group, and waits until it has.
func (m *member) leave() {
	m.stop()
	<-m.done
}

// count is how many partitions each member has, the fewest first.
func (c *crew) count() []int {
	var all []int
	for _, parts := range c.has {
		all = append(all, len(parts))
	}
	slices.Sort(all)
	return all
}

// groupConfig is for a group that begins at the beginning.
func groupConfig(v sarama.KafkaVersion, s sarama.BalanceStrategy) *sarama.Config {
	c := config(v)
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{s}
	return c
}

// TestGroups has two members share four partitions, by every strategy, and one leave: the other takes over where it had
// committed. [Kafka-Heartbeat] [Kafka-JoinGroup] [Kafka-LeaveGroup] [Kafka-OffsetCommit]
// [Kafka-OffsetFetch] [Kafka-SyncGroup]
func TestGroups(t *testing.T) {
	strategies := []func() sarama.BalanceStrategy{
		sarama.NewBalanceStrategyRange, sarama.NewBalanceStrategySticky, sarama.NewBalanceStrategyRoundRobin,
	}
	for _, strategy := range strategies {
		t.Run(strategy().Name(), func(t *testing.T) {
			t.Parallel()
			each(t, sarama.V0_10_2_0, func(t *testing.T, v sarama.KafkaVersion) {
				admin := administer(t, v)
				name := topic(t, admin, 4)
				c := newCrew(t)
				const each = 50
				for p := range int32(4) {
					fill(t, v, name, p, each)
				}
				first := c.join(1, groupConfig(v, strategy()), name, name)
				c.join(2, groupConfig(v, strategy()), name, name)
				c.until("two partitions each, all read", func() bool {
					return slices.Equal(c.count(), []int{2, 2}) && len(c.read) == 4*each
				})
				first.leave()
				c.until("the other one has all", func() bool { return slices.Equal(c.count(), []int{4}) })
				for p := range int32(4) {
					fill(t, v, name, p, each)
				}
				c.until("all read", func() bool { return len(c.read) == 8*each })
				for at, times := range c.read {
					if times != 1 {
						t.Errorf("%s was read %d times, though each member committed when it left", at, times)
					}
				}
			})
		})
	}
}

// TestStaticMember has a member with an instance id come back: it has its partitions again, and the other keeps its own
// without a rebalance.
func TestStaticMember(t *testing.T) {
	each(t, sarama.V2_3_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		admin := administer(t, v)
		name := topic(t, admin, 4)
		c := newCrew(t)
		conf := func(instance string) *sarama.Config {
			conf := groupConfig(v, sarama.NewBalanceStrategyRange())
			conf.Consumer.Group.InstanceId = instance
			return conf
		}
		first := c.join(1, conf("one"), name, name)
		c.join(2, conf("two"), name, name)
		c.until("two partitions each", func() bool { return slices.Equal(c.count(), []int{2, 2}) })
		c.mu.Lock()
		before, sets := slices.Clone(c.has[1]), c.sets[2]
		c.mu.Unlock()
		first.leave() // a static member that closes does not leave its group
		c.until("one is away", func() bool { return slices.Equal(c.count(), []int{2}) })
		back := c.join(1, conf("one"), name, name)
		c.until("it is back", func() bool { return len(c.has) == 2 })
		c.mu.Lock()
		if after := c.has[1]; !slices.Equal(slices.Sorted(slices.Values(before)), slices.Sorted(slices.Values(after))) {
			t.Errorf("it had %v, and has %v", before, after)
		}
		if c.sets[2] != sets {
			t.Errorf("the other one was rebalanced %d times", c.sets[2]-sets)
		}
		c.mu.Unlock()
		back.leave()
		left, err := admin.RemoveMemberFromConsumerGroup(name, []string{"one"})
		check(t, "remove", err)
		if len(left.Members) != 1 || left.Members[0].Err != sarama.ErrNoError {
			t.Errorf("removed: %+v", left)
		}
		c.until("the other one has all", func() bool { return slices.Equal(c.count(), []int{4}) })
	})
}
