package group

// Join is a JoinGroup request.
type Join struct {
	Ticket       Ticket
	Who          Who
	NewID        string // the id to give if the member has none
	ClientID     string
	ClientHost   string
	ProtocolType string
	Protocols    []Protocol
	Session      int64  // session timeout in milliseconds
	Rebalance    int64  // rebalance timeout in milliseconds; version 0 has only the session's
	Reason       string // why it joins (version 8)
	RequireID    bool   // version 4: a new member is told its id first (KIP-394)
	CanSkip      bool   // version 9: understands SkipAssignment (KIP-814)
	Full         bool   // there is no room for what makes the group larger
}

// Join takes a member into the next generation. The answer comes out now or later, as an Effect.
// Codes: InvalidSessionTimeout, InvalidRequest (too much metadata), InconsistentGroupProtocol,
// UnknownMemberID, MemberIDRequired, FencedInstanceID, GroupMaxSizeReached,
// CoordinatorNotAvailable (deleted, or there is no room: come again).
func (g *Group) Join(now int64, j Join) []Effect {
	if code := g.admits(&j); code != None {
		g.forget(j.Who.MemberID)
		g.refuse(j.Ticket, j.Who.MemberID, code)
		return g.take()
	}
	_, pending := g.pending[j.Who.MemberID]
	switch {
	case j.Who.MemberID == "" && j.Who.InstanceID != "":
		g.joinStatic(now, &j)
	case j.Who.MemberID == "" && j.RequireID:
		g.handOut(j.NewID, now+j.Session)
		g.refuse(j.Ticket, j.NewID, MemberIDRequired)
	case j.Who.MemberID == "":
		m := g.add(now, j.NewID, &j)
		m.untold = true
		g.gather(now, "a member joined")
	case pending && j.Who.InstanceID == "":
		g.forget(j.Who.MemberID)
		g.add(now, j.Who.MemberID, &j)
		g.gather(now, "a member joined")
	default:
		g.rejoin(now, &j)
	}
	return g.take()
}

// admits judges what can be judged before the member is looked at.
func (g *Group) admits(j *Join) Code {
	size, longest := 0, max(len(j.Who.InstanceID), len(j.ProtocolType))
	for i := range j.Protocols {
		size += len(j.Protocols[i].Name) + len(j.Protocols[i].Metadata)
		longest = max(longest, len(j.Protocols[i].Name))
	}
	switch {
	case j.Session < g.opts.MinSessionMillis || j.Session > g.opts.MaxSessionMillis:
		return InvalidSessionTimeout
	case size > g.opts.MaxMetadata || len(j.Protocols) > maxProtocols || longest > maxName:
		return InvalidRequest
	case g.state == Dead:
		return CoordinatorNotAvailable
	case !g.hasRoom(j.Who):
		return GroupMaxSizeReached
	case g.crowds(j):
		return CoordinatorNotAvailable
	case !g.agrees(j.ProtocolType, j.Protocols):
		return InconsistentGroupProtocol
	}
	return None
}

// hasRoom tells whether one more may join. Those who are in stay in, and an id that was handed out
// keeps its room.
func (g *Group) hasRoom(who Who) bool {
	_, replaces := g.static[who.InstanceID]
	if replaces || g.byID[who.MemberID] != nil {
		return true
	}
	if _, pending := g.pending[who.MemberID]; pending {
		return len(g.members) < g.opts.MaxMembers
	}
	return len(g.members)+len(g.pending) < g.opts.MaxMembers
}

// add makes a member of a join.
func (g *Group) add(now int64, id string, j *Join) *member {
	m := &member{id: id, instance: j.Who.InstanceID, fresh: true, joining: j.Ticket}
	if len(g.members) == 0 {
		g.protocolType = j.ProtocolType
		g.leader = id
	}
	g.members = append(g.members, m)
	g.byID[id] = m
	if m.instance != "" {
		g.static[m.instance] = id
	}
	g.describe(m, j)
	m.expires = now + g.opts.NewMemberMillis
	g.newcomer = true
	return m
}

// describe takes over what a join says of its member.
func (g *Group) describe(m *member, j *Join) {
	g.count(m.protocols, -1)
	m.protocols = owned(j.Protocols)
	g.count(m.protocols, 1)
	m.clientID, m.clientHost = j.ClientID, j.ClientHost
	m.session, m.rebalance = j.Session, j.Rebalance
	g.recount(m)
}

// wait makes a known member wait for the next generation; an older join of the same member, whose
// client has given it up, is told to try again.
func (g *Group) wait(now int64, m *member, j *Join) {
	g.refuseJoin(m, RebalanceInProgress)
	g.describe(m, j)
	m.joining = j.Ticket
	if m.fresh {
		m.expires = now + g.opts.NewMemberMillis
	}
}

// rejoin is a join of somebody who says that he is a member.
func (g *Group) rejoin(now int64, j *Join) {
	m, code := g.find(j.Who)
	if code != None {
		g.refuse(j.Ticket, j.Who.MemberID, code)
		return
	}
	m.untold = false
	switch g.state {
	case CompletingRebalance:
		// It joined and may have lost the answer: the same words get the same answer.
		if m.offers(j.Protocols) {
			g.answerJoin(j.Ticket, g.current(m))
			return
		}
		g.wait(now, m, j)
		g.gather(now, "a member changed its metadata")
	case Stable:
		switch {
		case g.leader == m.id:
			g.wait(now, m, j)
			g.gather(now, because(j, "the leader joined again"))
		case !m.offers(j.Protocols):
			g.wait(now, m, j)
			g.gather(now, because(j, "a member changed its metadata"))
		default:
			m.alive(now)
			g.answerJoin(j.Ticket, g.current(m))
		}
	default:
		g.wait(now, m, j)
		g.tryCompleteJoin(now)
	}
}

func because(j *Join, reason string) string {
	if j.Reason == "" {
		return reason
	}
	return reason + ": " + j.Reason[:min(len(j.Reason), 255)]
}

// gather begins a rebalance, or goes on with the one that is under way.
func (g *Group) gather(now int64, reason string) {
	if g.state != PreparingRebalance {
		g.rebalance(now, reason)
		return
	}
	g.tryCompleteJoin(now)
}

// current answers a join with the generation that is.
func (g *Group) current(m *member) *JoinAnswer {
	a := &JoinAnswer{
		MemberID: m.id, Generation: g.generation, Leader: g.leader,
		ProtocolType: g.protocolType, Protocol: g.protocol,
	}
	if g.leader == m.id {
		a.Members = g.infos()
	}
	return a
}

// joinStatic is a join of an instance that does not know its member id: it is new, or it was
// restarted and takes its own place again (KIP-345).
func (g *Group) joinStatic(now int64, j *Join) {
	old, known := g.static[j.Who.InstanceID]
	if !known {
		g.add(now, j.NewID, j)
		g.gather(now, "a static member joined")
		return
	}
	leaderBefore := g.leader
	m := g.replace(old, j.NewID)
	g.describe(m, j)
	m.alive(now)
	switch {
	case g.state == Stable && g.elect() == g.protocol:
		g.keepPlace(m, j, leaderBefore)
	case g.state == PreparingRebalance:
		m.joining = j.Ticket
		g.tryCompleteJoin(now)
	default:
		m.joining = j.Ticket
		g.rebalance(now, "a static member came back with other metadata")
	}
}

// replace gives the place of a static member to its new incarnation and fences the old one.
func (g *Group) replace(old, id string) *member {
	m := g.byID[old]
	g.refuseJoin(m, FencedInstanceID)
	g.refuseSync(m, FencedInstanceID)
	delete(g.byID, old)
	m.id = id
	g.byID[id] = m
	g.static[m.instance] = id
	g.recount(m)
	if g.leader == old {
		g.leader = id
	}
	return m
}

// keepPlace answers a static member that came back to a stable group without a rebalance, once its
// new id is durable. A leader that understands it is told to skip the assignment; an older one is
// told that its former incarnation leads, so that it only fetches its own assignment.
func (g *Group) keepPlace(m *member, j *Join, leaderBefore string) {
	a := g.current(m)
	if j.CanSkip {
		a.SkipAssignment = g.leader == m.id
	} else {
		a.Leader, a.Members = leaderBefore, nil
	}
	seq := g.store()
	g.held[seq] = append(g.held[seq], Effect{To: j.Ticket, Join: a})
}
