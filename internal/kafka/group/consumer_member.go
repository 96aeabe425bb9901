package group

import (
	"iter"
	"maps"
	"slices"
)

// The epochs by which a member says that it leaves. A static member that will come back has the second one until then.
const (
	LeaveEpoch       = -1
	StaticLeaveEpoch = -2
)

// reconciliation is where a member is on its way to its target, with Kafka's numbers.
type reconciliation int8

const (
	settled   reconciliation = 0 // it has what its epoch says
	revoking  reconciliation = 1 // it was asked to give partitions up and has not said that it did
	unsettled reconciliation = 2 // partitions that it is to have are still with others
)

// consumer is one member of a consumer group.
type consumer struct {
	id         string
	instance   string // "": dynamic
	rack       string
	clientID   string
	clientHost string
	rebalance  int64    // rebalance timeout in milliseconds
	topics     []string // that it subscribes to by name, in order
	regex      string   // that it subscribes to; "": none
	assignor   string   // that it asks for; "": any
	classic    *classicMember
	counted    int64 // its size in Consumer.bytes

	epoch    int32
	previous int32 // epoch: the answer that told it the present one may have been lost
	state    reconciliation
	assigned Partitions
	revoked  Partitions // that it was asked to give up
	target   Partitions
	since    map[Partition]int32 // in which epoch it was given each partition that it has (KIP-1251)

	expires  int64 // when its session ends unless it is heard of
	revokeBy int64 // when it must have given up; 0: it need not
}

// classicMember is what a member of the classic protocol has beside.
type classicMember struct {
	session   int64 // session timeout in milliseconds
	protocols []Protocol
	joinBy    int64 // when it must have joined again; 0: it need not
	syncBy    int64 // when it must have fetched its assignment; 0: it need not
}

// place is what the order of members in ranges goes by.
func (m *consumer) place() string {
	if m.instance != "" {
		return "0" + m.instance
	}
	return "1" + m.id
}

// alive puts the end of the session off.
func (m *consumer) alive(now int64, o *Options) {
	m.expires = now + o.ConsumerSessionMillis
	if m.classic != nil {
		m.expires = now + m.classic.session
	}
}

// deadline is when the member is out unless something happens.
func (m *consumer) deadline() int64 {
	by := m.expires
	sooner := func(t int64) {
		if t != 0 {
			by = min(by, t)
		}
	}
	sooner(m.revokeBy)
	if m.classic != nil {
		sooner(m.classic.joinBy)
		sooner(m.classic.syncBy)
	}
	return by
}

// size is what the member takes.
func (m *consumer) size() int64 {
	const partition = 20 + 48 + 48 // in its sets, in since and in holders
	n := memberOverhead + len(m.id) + len(m.instance) + len(m.rack) + len(m.clientID) + len(m.clientHost) + len(m.regex)
	for _, name := range m.topics {
		n += 16 + len(name)
	}
	n += partition*len(m.assigned) + partition*len(m.revoked) + 20*len(m.target)
	if m.classic != nil {
		n += int(sizeOf(m.classic.protocols))
	}
	return int64(n)
}

func (g *Consumer) recount(m *consumer) {
	g.bytes -= m.counted
	m.counted = m.size()
	g.bytes += m.counted
}

// add makes a member without anything.
func (g *Consumer) add(id, instance string) *consumer {
	m := &consumer{id: id, instance: instance, since: map[Partition]int32{}}
	g.members = append(g.members, m)
	g.byID[id] = m
	if instance != "" {
		g.static[instance] = id
	}
	g.touch(KindMember, id)
	return m
}

// replace gives the place of a static member to its new incarnation.
func (g *Consumer) replace(m *consumer, id string) {
	for _, key := range slices.Concat(g.keysOf(m.id), g.keysOf(id)) {
		g.dirty[key] = struct{}{}
	}
	delete(g.byID, m.id)
	m.id, m.epoch, m.previous = id, 0, 0
	g.byID[id] = m
	g.static[m.instance] = id
}

// seat finds the member of a request. One that joins is made if it is not there, or takes the place of its former
// incarnation, once that has left, or at once in the classic protocol. Codes: UnknownMemberID, FencedInstanceID,
// UnreleasedInstanceID.
func (g *Consumer) seat(who Who, joins, classic bool) (m *consumer, fresh bool, code Code) {
	m = g.byID[who.MemberID]
	if who.InstanceID == "" {
		switch {
		case m == nil && !joins:
			return nil, false, UnknownMemberID
		case m == nil:
			return g.add(who.MemberID, ""), true, None
		}
		return m, false, None
	}
	current, known := g.static[who.InstanceID]
	switch {
	case known && current == who.MemberID:
		return m, false, None
	case !joins && known:
		return nil, false, FencedInstanceID
	case !joins:
		return nil, false, UnknownMemberID
	case known && m != nil: // of another instance
		return nil, false, FencedInstanceID
	case m != nil: // a member that becomes static, or another instance
		delete(g.static, m.instance)
		m.instance = who.InstanceID
		g.static[who.InstanceID] = m.id
		g.touch(KindMember, m.id)
		return m, false, None
	case !known:
		return g.add(who.MemberID, who.InstanceID), true, None
	}
	old := g.byID[current]
	if !classic && old.epoch != StaticLeaveEpoch {
		return nil, false, UnreleasedInstanceID
	}
	g.replace(old, who.MemberID)
	return old, false, None
}

// hold changes what a member has and what it was asked to give up. What is new to it is its own since the epoch of the
// target.
func (g *Consumer) hold(m *consumer, assigned, revoked Partitions) {
	for _, s := range []Partitions{m.assigned, m.revoked} {
		for _, p := range s {
			delete(g.holders, p)
		}
	}
	m.assigned, m.revoked = assigned, revoked
	for _, s := range []Partitions{assigned, revoked} {
		for _, p := range s {
			g.holders[p] = m
			if _, had := m.since[p]; !had {
				m.since[p] = g.targetEpoch
			}
		}
	}
	maps.DeleteFunc(m.since, func(p Partition, _ int32) bool { return g.holders[p] != m })
	g.recount(m)
}

// Had tells whether a member has each of parts since an epoch before its present one, or an earlier one: nobody else
// can have committed for it since, and what it commits in that epoch counts (KIP-1251).
func (g *Consumer) Had(memberID string, epoch int32, parts iter.Seq[TopicPartition]) bool {
	m := g.byID[memberID]
	if m == nil || m.classic != nil || epoch > m.epoch {
		return false
	}
	for p := range parts {
		if since, has := m.since[p.Partition]; !has || epoch < since {
			return false
		}
	}
	return true
}

// free tells whether nobody but the member holds a partition.
func (g *Consumer) free(m *consumer, p Partition) bool {
	holder := g.holders[p]
	return holder == nil || holder == m
}

// holding is what a member says it has; nil: it does not say.
type holding *Partitions

// holds tells whether the member may still have something of s.
func holds(has holding, s Partitions) bool {
	return has == nil && len(s) > 0 || has != nil && s.meets(*has)
}

// reconcile brings a member as far towards its target as can be. narrowed: it has changed what it subscribes to.
func (g *Consumer) reconcile(now int64, m *consumer, has holding, narrowed bool) {
	was := *m
	wants := g.wanted(m)
	switch {
	case m.state == revoking && (has == nil || holds(has, m.revoked)),
		m.state == settled && m.epoch == g.targetEpoch:
		if narrowed {
			g.narrow(m, has, wants)
		}
	default:
		g.advance(m, has, wants)
	}
	if m.epoch == was.epoch && m.state == was.state && m.assigned.equal(was.assigned) && m.revoked.equal(was.revoked) {
		return
	}
	g.touch(KindCurrent, m.id)
	m.revokeBy = 0
	if m.state == revoking {
		m.revokeBy = now + max(m.rebalance, minWaitMillis)
	}
}

// wanted is a predicate: whether the member subscribes to the topic of a partition.
func (g *Consumer) wanted(m *consumer) func(Partition) bool {
	ids := map[TopicID]bool{}
	for _, t := range g.subscribedTopics(m) {
		ids[t.ID] = true
	}
	return func(p Partition) bool { return ids[p.Topic] }
}

// narrow takes away what the member does not subscribe to any more, without waiting for a new target.
func (g *Consumer) narrow(m *consumer, has holding, wants func(Partition) bool) {
	keep := m.assigned.where(wants)
	if len(keep) == len(m.assigned) {
		return
	}
	revoked := m.revoked.with(m.assigned.without(keep))
	if holds(has, revoked) {
		m.state = revoking
		g.hold(m, keep, revoked)
		return
	}
	g.hold(m, keep, nil)
}

// advance asks the member to give up what is not in its target, or, once it has, gives it what is free of it.
func (g *Consumer) advance(m *consumer, has holding, wants func(Partition) bool) {
	target := m.target.where(wants)
	keep := m.assigned.where(target.Has)
	giveUp := m.assigned.without(keep)
	if holds(has, giveUp) {
		m.state = revoking
		g.hold(m, keep, giveUp)
		return
	}
	free := target.where(func(p Partition) bool { return g.free(m, p) })
	g.hold(m, free, nil)
	m.state = settled
	if len(free) < len(target) {
		m.state = unsettled
	}
	if m.epoch != g.targetEpoch {
		m.previous, m.epoch = m.epoch, g.targetEpoch
	}
}

// waits tells whether some partition that the member is to have is still with another.
func (g *Consumer) waits(m *consumer) bool {
	return slices.ContainsFunc(m.target, func(p Partition) bool { return !m.assigned.Has(p) && !g.free(m, p) })
}
