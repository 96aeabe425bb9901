package group

import (
	"bytes"
	"slices"
)

// rebalance begins to gather the members for the next generation.
func (g *Group) rebalance(now int64, reason string) {
	if g.state == CompletingRebalance {
		g.refuseSyncs(now, RebalanceInProgress)
	}
	g.reason = reason
	g.initial = g.state == Empty
	g.syncBy = 0
	g.become(now, PreparingRebalance)
	if !g.initial {
		g.joinBy = now + g.rebalanceTimeout()
		g.tryCompleteJoin(now)
		return
	}
	delay := min(g.opts.InitialDelayMillis, g.rebalanceTimeout())
	g.remaining = g.rebalanceTimeout() - delay
	g.joinBy = now + delay
	g.newcomer = false
	if delay == 0 {
		g.completeJoin(now)
	}
}

// minWaitMillis is the shortest time that members get to join and to sync, whatever they ask for.
const minWaitMillis = 1000

// rebalanceTimeout is the longest that a member asks for.
func (g *Group) rebalanceTimeout() int64 {
	longest := int64(minWaitMillis)
	for _, m := range g.members {
		longest = max(longest, m.rebalance)
	}
	return longest
}

// tryCompleteJoin makes the next generation as soon as everybody is there. The first generation of
// a group waits for its initial delay instead.
func (g *Group) tryCompleteJoin(now int64) {
	if g.state != PreparingRebalance || g.initial || len(g.pending) > 0 {
		return
	}
	for _, m := range g.members {
		if m.joining == 0 {
			return
		}
	}
	g.completeJoin(now)
}

// joinTimedOut goes on when the time for joining is over.
func (g *Group) joinTimedOut(now int64) {
	if g.initial && g.newcomer && g.remaining > 0 {
		delay := min(g.opts.InitialDelayMillis, g.remaining)
		g.remaining -= delay
		g.joinBy = now + delay
		g.newcomer = false
		return
	}
	g.completeJoin(now)
}

// completeJoin makes the next generation of those who are there. Dynamic members that did not join
// in time are out; static ones keep their place until their session ends.
func (g *Group) completeJoin(now int64) {
	for _, m := range slices.Clone(g.members) {
		if m.joining == 0 && m.instance == "" {
			g.remove(m, UnknownMemberID)
		}
	}
	if len(g.members) > 0 && !g.leaderJoined() {
		// All are static and none is back: there is nobody to lead.
		g.joinBy = now + g.rebalanceTimeout()
		g.initial = false
		return
	}
	g.generation++
	g.initial = false
	if len(g.members) == 0 {
		g.protocol, g.leader = "", ""
		g.become(now, Empty)
		g.store()
		return
	}
	g.protocol = g.elect()
	g.become(now, CompletingRebalance)
	g.syncBy = now + g.rebalanceTimeout()
	for _, m := range g.members {
		g.joined(now, m)
	}
}

// leaderJoined makes sure that the leader is somebody who has joined.
func (g *Group) leaderJoined() bool {
	if m := g.byID[g.leader]; m != nil && m.joining != 0 {
		return true
	}
	i := slices.IndexFunc(g.members, func(m *member) bool { return m.joining != 0 })
	if i < 0 {
		return false
	}
	g.leader = g.members[i].id
	return true
}

// joined tells one member of the new generation.
func (g *Group) joined(now int64, m *member) {
	m.assignment = nil
	g.recount(m)
	if m.joining == 0 {
		return // static and absent
	}
	g.answerJoin(m.joining, g.current(m))
	m.joining, m.fresh, m.untold, m.unsynced = 0, false, false, true
	m.alive(now)
}

// refuseSyncs ends a generation that never got its assignment. Who waited for it was heard of.
func (g *Group) refuseSyncs(now int64, code Code) {
	g.assigning = 0
	for _, m := range g.members {
		m.assignment, m.unsynced = nil, false
		g.recount(m)
		if m.syncing != 0 {
			g.refuseSync(m, code)
			m.alive(now)
		}
	}
}

// Assignment is what the leader gives to one member.
type Assignment struct {
	MemberID string
	Data     []byte // opaque
}

// Sync is a SyncGroup request.
type Sync struct {
	Ticket       Ticket
	Who          Who
	Generation   int32
	ProtocolType string       // "": not given (before version 5)
	Protocol     string       // "": not given
	Assignments  []Assignment // of the leader
	Full         bool         // there is no room for assignments
}

// Sync brings the leader's assignment, or fetches a member's part of it. The answer comes out now
// or, once the assignment is durable, later. Codes: UnknownMemberID, FencedInstanceID,
// IllegalGeneration, InconsistentGroupProtocol, RebalanceInProgress, InvalidRequest (assignments
// too large), CoordinatorNotAvailable (not stored, or there is no room: join again).
func (g *Group) Sync(now int64, s Sync) []Effect {
	m, code := g.checkSync(&s)
	if code != None {
		g.answerSync(s.Ticket, &SyncAnswer{Code: code})
		return g.take()
	}
	m.unsynced = false
	if g.state == Stable {
		m.alive(now)
		g.answerSync(s.Ticket, g.part(m))
		return g.take()
	}
	g.refuseSync(m, RebalanceInProgress) // an older one, whose client has given it up
	m.syncing = s.Ticket
	if m.id == g.leader && g.assigning == 0 {
		g.assign(s.Assignments)
	}
	return g.take()
}

func (g *Group) checkSync(s *Sync) (*member, Code) {
	if g.state == Dead {
		return nil, CoordinatorNotAvailable
	}
	m, code := g.find(s.Who)
	if code != None {
		return nil, code
	}
	size := s.Bytes()
	switch {
	case s.Generation != g.generation:
		return nil, IllegalGeneration
	case s.ProtocolType != "" && s.ProtocolType != g.protocolType,
		s.Protocol != "" && s.Protocol != g.protocol && g.state != PreparingRebalance:
		return nil, InconsistentGroupProtocol
	case g.state == PreparingRebalance:
		return nil, RebalanceInProgress
	case size > int64(g.opts.MaxAssignment):
		return nil, InvalidRequest
	case s.Full && size > 0 && m.id == g.leader && g.state == CompletingRebalance && g.assigning == 0:
		return nil, CoordinatorNotAvailable
	}
	return m, None
}

// assign takes the leader's assignment; members it forgot get an empty one.
func (g *Group) assign(as []Assignment) {
	for i := range as {
		if m := g.byID[as[i].MemberID]; m != nil {
			m.assignment = bytes.Clone(as[i].Data) // the rest of the request need not stay
			g.recount(m)
		}
	}
	g.assigning = g.store()
}

// part is the answer to a member's sync.
func (g *Group) part(m *member) *SyncAnswer {
	return &SyncAnswer{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}
}

// Stored tells that a Store is durable, or was lost: then the members that wait for it are told to
// come again.
func (g *Group) Stored(now int64, seq uint64, lost error) []Effect {
	g.release(seq, lost != nil)
	if lost == nil && seq == g.ending {
		g.former = nil
	}
	switch {
	case g.assigning != seq || g.state != CompletingRebalance:
	case lost != nil:
		g.refuseSyncs(now, CoordinatorNotAvailable)
		g.rebalance(now, "the assignment could not be stored")
	default:
		g.assigning = 0
		g.become(now, Stable)
		for _, m := range g.members {
			if m.syncing != 0 {
				g.answerSync(m.syncing, g.part(m))
				m.syncing = 0
				m.alive(now)
			}
		}
	}
	return g.take()
}
