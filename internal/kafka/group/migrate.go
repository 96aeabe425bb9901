package group

import (
	"math"
	"slices"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Upgrade makes the consumer group that a classic group becomes by the first member of the consumer protocol that
// comes to it. Members keep their ids, their generation as epoch, and their partitions; who blocks is told to join
// again. Nil: the newcomer is refused, and nothing has changed: the members are not consumers, their metadata cannot
// be read, or the heartbeat is none that a new member may send.
func (g *Group) Upgrade(now int64, topics Topics, b Beat) (*Consumer, []Effect) {
	if g.state == Dead && b.Epoch == 0 {
		return nil, []Effect{{To: b.Ticket, Beat: &BeatAnswer{Code: CoordinatorNotAvailable}}}
	}
	c := g.asConsumer(now, topics)
	if c == nil || b.Epoch != 0 {
		why := "Group " + g.id + " is not a consumer group."
		return nil, []Effect{{To: b.Ticket, Beat: &BeatAnswer{Code: GroupIDNotFound, Message: why}}}
	}
	if !c.beat(now, &b) {
		return nil, c.out
	}
	for _, key := range slices.Concat(g.former, c.Keys()) {
		c.dirty[key] = struct{}{}
	}
	c.touch(KindClassic, "")
	return c, slices.Concat(g.yield(), c.take())
}

// asConsumer is the group as a consumer group; nil: it cannot be one.
func (g *Group) asConsumer(now int64, topics Topics) *Consumer {
	if len(g.members) > 0 && g.protocolType != consumerType || g.state == Dead {
		return nil
	}
	c := NewConsumer(g.id, g.opts, g.since)
	c.topics, c.seen, c.seq = topics, topics, g.seq
	if len(g.members) > 0 {
		c.epoch, c.targetEpoch = g.generation, g.generation
	}
	for _, m := range g.members {
		if !c.adopt(now, m, g.protocol) {
			return nil
		}
	}
	c.hash = c.hashTopics()
	return c
}

// adopt takes a member of a classic group over, and tells whether it could.
func (g *Consumer) adopt(now int64, m *member, protocol string) bool {
	said := subscription(m.said(protocol))
	if said == nil {
		return false
	}
	c := g.add(m.id, m.instance)
	c.topics, c.rack = ownedNames(said.Topics), wire.Plain(said.Rack)
	c.clientID, c.clientHost, c.rebalance = m.clientID, m.clientHost, m.rebalance
	c.classic = &classicMember{session: m.session, protocols: m.protocols}
	c.epoch, c.previous = g.epoch, g.epoch
	assigned := g.readAssignment(m.assignment).where(func(p Partition) bool { return g.holders[p] == nil })
	c.target = assigned
	g.hold(c, assigned, nil)
	c.alive(now, &g.opts)
	return true
}

// assignmentShape is the shape of a ConsumerMemberAssignment behind its version.
var assignmentShape = wire.ParseShape("[ s *4 ] Y")

// readAssignment is what a leader of the classic protocol assigned, of the topics that there are.
func (g *Consumer) readAssignment(b []byte) Partitions {
	var a kmsg.ConsumerMemberAssignment
	if !fits(assignmentShape, b, math.MaxInt16) || a.ReadFrom(b) != nil {
		return nil
	}
	var all []Partition
	for i := range a.Topics {
		t, is := g.topics.ByName(a.Topics[i].Topic)
		if !is {
			continue
		}
		for _, index := range a.Topics[i].Partitions {
			if index >= 0 && index < t.Partitions {
				all = append(all, Partition{t.ID, index})
			}
		}
	}
	return NewPartitions(all)
}

// yield ends a classic group that has become a consumer group: who blocks joins again, and meets that one.
func (g *Group) yield() []Effect {
	for _, m := range g.members {
		g.refuseJoin(m, RebalanceInProgress)
		g.refuseSync(m, RebalanceInProgress)
	}
	for seq := range g.held {
		g.release(seq, true)
	}
	g.state = Dead
	return g.take()
}

// Downgrade makes the classic group that a consumer group becomes when all its members are of the classic protocol, or
// when it has none and one of these comes. What waits to be durable goes with it. The members are called to join again,
// for the partitions of those who left. What is to be done for that comes out of Effects, or of the next call. Nil: the
// group has members of the consumer protocol.
func (g *Consumer) Downgrade(now int64) *Group {
	for _, m := range g.members {
		if m.classic == nil {
			return nil
		}
	}
	if g.deleted {
		return nil
	}
	c := New(g.id, g.opts, g.since)
	c.outbox = g.outbox
	c.former = g.Keys()
	for seq := range g.written {
		c.former = append(c.former, g.written[seq]...)
	}
	c.former = distinct(c.former)
	c.generation = g.targetEpoch // that of the members who are where they should be: they are called, not fenced
	for _, m := range g.members {
		o := &member{
			id: m.id, instance: m.instance, clientID: m.clientID, clientHost: m.clientHost, session: m.classic.session,
			rebalance: m.rebalance, protocols: m.classic.protocols, assignment: g.classicAssignment(m), expires: m.expires,
		}
		c.seat(o)
	}
	if len(c.members) == 0 {
		return c
	}
	c.protocolType, c.leader = consumerType, c.members[0].id
	c.protocol = c.elect()
	s := c.Snapshot()
	s.Leader = "" // a restart calls them too
	c.write(&s)
	c.state = Stable
	c.rebalance(now, "the last member of the consumer protocol left")
	return c
}

// Effects hands out what Downgrade has left to be done.
func (g *Group) Effects() []Effect { return g.take() }
