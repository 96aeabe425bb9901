package group

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumerType is the protocol type of consumers.
const consumerType = "consumer"

// Join is a JoinGroup of a member of the classic protocol: it stands for a heartbeat, the generation in its answer is
// the member's epoch, and there is no leader. It does not wait for others. Codes: those of Group.Join.
func (g *Consumer) Join(now int64, j Join) []Effect {
	said, code := g.admitsJoin(&j)
	if code != None {
		g.refuse(j.Ticket, j.Who.MemberID, code)
		return g.take()
	}
	joins, who := j.Who.MemberID == "", j.Who
	if joins {
		who.MemberID = j.NewID
	}
	if joins && j.RequireID && who.InstanceID == "" {
		g.refuse(j.Ticket, j.NewID, MemberIDRequired)
		return g.take()
	}
	// A dynamic member joins under the id that it was told: nothing is kept of it until then.
	m, fresh, code := g.seat(who, joins || who.InstanceID == "", true)
	if code != None {
		g.refuse(j.Ticket, j.Who.MemberID, code)
		return g.take()
	}
	changed := g.describeClassic(m, &j, said)
	g.refresh(now, changed || fresh)
	g.aim()
	has := g.ownedBy(m, said)
	g.reconcile(now, m, &has, changed)
	m.classic.joinBy, m.classic.syncBy = 0, now+max(m.rebalance, minWaitMillis)
	m.alive(now, &g.opts)
	g.answerJoin(j.Ticket, &JoinAnswer{
		MemberID: m.id, Generation: m.epoch, ProtocolType: consumerType, Protocol: m.classic.protocols[0].Name,
	})
	return g.take()
}

// admitsJoin judges what can be judged before the member is looked at, and reads what the member subscribes to.
func (g *Consumer) admitsJoin(j *Join) (*kmsg.ConsumerMemberMetadata, Code) {
	size, longest := int(sizeOf(j.Protocols)), max(len(j.Who.InstanceID), len(j.Who.MemberID))
	known := g.byID[j.Who.MemberID] != nil || g.static[j.Who.InstanceID] != ""
	switch {
	case g.deleted:
		return nil, CoordinatorNotAvailable
	case j.Session < g.opts.MinSessionMillis || j.Session > g.opts.MaxSessionMillis:
		return nil, InvalidSessionTimeout
	case size > g.opts.MaxMetadata || len(j.Protocols) > maxProtocols || longest > maxName:
		return nil, InvalidRequest
	case !known && len(g.members) >= g.opts.MaxMembers:
		return nil, GroupMaxSizeReached
	case j.Full:
		return nil, CoordinatorNotAvailable
	case j.ProtocolType != consumerType || !g.supports(j.Protocols):
		return nil, InconsistentGroupProtocol
	}
	said := subscription(j.Protocols[0].Metadata)
	if said == nil || len(said.Topics) > maxTopics {
		return nil, InconsistentGroupProtocol
	}
	return said, None
}

// supports tells whether some protocol of ps is offered by all members of the classic protocol, so that the group could
// become a classic one.
func (g *Consumer) supports(ps []Protocol) bool {
	return slices.ContainsFunc(ps, func(p Protocol) bool {
		same := func(o Protocol) bool { return o.Name == p.Name }
		return !slices.ContainsFunc(g.members, func(m *consumer) bool {
			return m.classic != nil && !slices.ContainsFunc(m.classic.protocols, same)
		})
	})
}

// subscription reads what a member of the classic protocol says under one of its protocols; nil: it cannot be read.
func subscription(metadata []byte) *kmsg.ConsumerMemberMetadata {
	var said kmsg.ConsumerMemberMetadata
	if !fits(subscriptionShape, metadata, math.MaxInt16) || said.ReadFrom(metadata) != nil ||
		slices.ContainsFunc(said.Topics, func(name string) bool { return !utf8.ValidString(name) }) {
		return nil
	}
	return &said
}

// describeClassic takes over what a join says of its member, and tells whether that changes what it subscribes to.
func (g *Consumer) describeClassic(m *consumer, j *Join, said *kmsg.ConsumerMemberMetadata) (changed bool) {
	topics := ownedNames(said.Topics)
	changed = m.regex != "" || !slices.Equal(m.topics, topics)
	g.forgetRegex(m.regex)
	m.topics, m.regex, m.assignor, m.rack = topics, "", "", strings.Clone(wire.Plain(said.Rack))
	m.clientID, m.clientHost, m.rebalance = j.ClientID, j.ClientHost, j.Rebalance
	m.classic = &classicMember{session: j.Session, protocols: owned(j.Protocols)}
	g.touch(KindMember, m.id)
	g.recount(m)
	return changed
}

// ownedBy is what a join says that its member holds. What it held in another generation than its own does not count.
func (g *Consumer) ownedBy(m *consumer, said *kmsg.ConsumerMemberMetadata) Partitions {
	if said.Generation >= 0 && said.Generation != m.epoch {
		return Partitions{}
	}
	var all []Partition
	for i := range said.OwnedPartitions {
		if t, is := g.topics.ByName(said.OwnedPartitions[i].Topic); is {
			for _, index := range said.OwnedPartitions[i].Partitions {
				all = append(all, Partition{t.ID, index})
			}
		}
	}
	return NewPartitions(all)
}

// ofClassic finds the member of a request of the classic protocol. Codes: UnknownMemberID, FencedInstanceID,
// IllegalGeneration.
func (g *Consumer) ofClassic(who Who, generation int32) (*consumer, Code) {
	m, _, code := g.seat(who, false, true)
	switch {
	case code != None:
		return nil, code
	case m.classic == nil:
		return nil, UnknownMemberID
	case m.epoch != generation:
		return nil, IllegalGeneration
	}
	return m, None
}

// Sync tells a member of the classic protocol what it has been assigned. Codes: UnknownMemberID, FencedInstanceID,
// IllegalGeneration, InconsistentGroupProtocol, RebalanceInProgress (join again), CoordinatorNotAvailable.
func (g *Consumer) Sync(now int64, s Sync) []Effect {
	m, code := g.ofClassic(s.Who, s.Generation)
	switch {
	case g.deleted:
		code = CoordinatorNotAvailable
	case code != None:
	case s.ProtocolType != "" && s.ProtocolType != consumerType,
		s.Protocol != "" && s.Protocol != m.classic.protocols[0].Name:
		code = InconsistentGroupProtocol
	case m.epoch < g.epoch && m.state != revoking:
		g.recall(now, m)
		code = RebalanceInProgress
	}
	if code != None {
		g.answerSync(s.Ticket, &SyncAnswer{Code: code})
		return g.take()
	}
	m.classic.syncBy = 0
	m.alive(now, &g.opts)
	g.answerSync(s.Ticket, &SyncAnswer{
		ProtocolType: consumerType, Protocol: m.classic.protocols[0].Name, Assignment: g.classicAssignment(m),
	})
	return g.take()
}

// recall gives a member of the classic protocol its rebalance timeout to join again.
func (g *Consumer) recall(now int64, m *consumer) {
	if m.classic.joinBy == 0 {
		m.classic.joinBy = now + max(m.rebalance, minWaitMillis)
	}
}

// classicAssignment is what a member has, as the classic protocol says it.
func (g *Consumer) classicAssignment(m *consumer) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	m.assigned.ByTopic(func(id TopicID, indexes []int32) {
		if t, is := g.topics.ByID(id); is {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: t.Name, Partitions: indexes})
		}
	})
	return a.AppendTo(nil)
}

// Heartbeat keeps the session of a member of the classic protocol alive. Codes: UnknownMemberID, FencedInstanceID,
// IllegalGeneration, RebalanceInProgress: it is to join again, because members or topics have changed, it has
// partitions to give up, or gets some that have become free.
func (g *Consumer) Heartbeat(now int64, who Who, generation int32) Code {
	if g.deleted {
		return CoordinatorNotAvailable
	}
	m, code := g.ofClassic(who, generation)
	if code != None {
		return code
	}
	m.alive(now, &g.opts)
	g.refresh(now, false)
	if m.epoch < g.epoch || m.state == revoking || m.state == unsettled && !g.waits(m) {
		g.recall(now, m)
		return RebalanceInProgress
	}
	return None
}

// Leave removes members of the classic protocol, and by an instance id alone any static member, as an administrator
// does. Codes: UnknownMemberID, FencedInstanceID, CoordinatorNotAvailable.
func (g *Consumer) Leave(now int64, whos []Who, _ string) ([]Code, []Effect) {
	codes := make([]Code, len(whos))
	left := false
	for i, who := range whos {
		byHand := who.MemberID == "" && who.InstanceID != ""
		if byHand {
			who.MemberID = g.static[who.InstanceID]
		}
		m, _, code := g.seat(who, false, true)
		switch {
		case g.deleted:
			code = CoordinatorNotAvailable
		case code == None && m.classic == nil && !byHand:
			code = UnknownMemberID
		case code == None:
			g.remove(now, m)
			left = true
		}
		codes[i] = code
	}
	if left {
		g.bump(now)
	}
	return codes, g.take()
}

// Seat finds a member as Leave does; is: it is there.
func (g *Consumer) Seat(who Who) (s Seat, is bool) {
	if who.MemberID == "" && who.InstanceID != "" {
		who.MemberID = g.static[who.InstanceID]
	}
	m, _, code := g.seat(who, false, true)
	if code != None {
		return Seat{}, false
	}
	return Seat{m.id, m.instance, m.clientID, m.clientHost}, true
}

// Gone tells that the client of a blocked request is away. It has its session to come back.
func (g *Consumer) Gone(int64, Ticket) []Effect { return nil }
