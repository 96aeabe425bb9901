package group

import "slices"

// Leave removes members; each has a code of its own. Without a member id, an instance id alone
// removes the static member, as an administrator does. Codes: UnknownMemberID, FencedInstanceID,
// CoordinatorNotAvailable.
func (g *Group) Leave(now int64, whos []Who, reason string) ([]Code, []Effect) {
	codes := make([]Code, len(whos))
	left := 0
	for i, who := range whos {
		codes[i] = g.leave(who, &left)
	}
	if left > 0 {
		g.settle(now, because(&Join{Reason: reason}, "a member left"))
	}
	return codes, g.take()
}

func (g *Group) leave(who Who, left *int) Code {
	if g.state == Dead {
		return CoordinatorNotAvailable
	}
	if who.InstanceID == "" {
		if _, pending := g.pending[who.MemberID]; pending {
			g.forget(who.MemberID)
			*left++
			return None
		}
	}
	if who.InstanceID != "" && who.MemberID == "" {
		who.MemberID = g.static[who.InstanceID]
	}
	m, code := g.find(who)
	if code == None {
		g.remove(m, UnknownMemberID)
		*left++
	}
	return code
}

// Seat is a member as Leave finds it, and whose it is.
type Seat struct{ ID, InstanceID, ClientID, ClientHost string }

// Seat finds a member as Leave does; is: it is there.
func (g *Group) Seat(who Who) (s Seat, is bool) {
	if who.InstanceID != "" && who.MemberID == "" {
		who.MemberID = g.static[who.InstanceID]
	}
	m, code := g.find(who)
	if code != None {
		return Seat{}, false
	}
	return Seat{m.id, m.instance, m.clientID, m.clientHost}, true
}

// Gone tells that the client of a blocked request is away: nobody will read the answer. A member
// that never learned its id cannot come back and is removed; any other one has its session to do
// so.
func (g *Group) Gone(now int64, t Ticket) []Effect {
	i := slices.IndexFunc(g.members, func(m *member) bool { return m.joining == t || m.syncing == t })
	if i < 0 || t == 0 {
		return nil
	}
	m := g.members[i]
	if m.syncing == t {
		m.syncing = 0
		m.alive(now)
		return nil
	}
	m.joining = 0
	m.alive(now)
	if m.untold {
		g.remove(m, UnknownMemberID)
		g.settle(now, "a member went away")
	}
	return g.take()
}

// Next is when Tick must be called, in milliseconds; 0: not at all. It may come out too early: a
// Tick before its time does nothing.
func (g *Group) Next() int64 {
	next := int64(0)
	sooner := func(t int64) {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	for _, t := range g.pending {
		sooner(t)
	}
	for _, m := range g.members {
		if !m.waiting() || m.fresh {
			sooner(m.expires)
		}
	}
	if g.state == PreparingRebalance {
		sooner(g.joinBy)
	}
	sooner(g.syncBy)
	return next
}

// Tick lets time pass: ids that were handed out and sessions lapse, rebalances go on without the
// absent.
func (g *Group) Tick(now int64) []Effect {
	lapsed := 0
	for id, by := range g.pending {
		if by <= now {
			g.forget(id)
			lapsed++
		}
	}
	for _, m := range slices.Clone(g.members) {
		if m.expires <= now && (!m.waiting() || m.fresh && m.joining != 0) {
			g.remove(m, UnknownMemberID)
			lapsed++
		}
	}
	if lapsed > 0 {
		g.settle(now, "a session timed out")
	}
	if g.state == PreparingRebalance && g.joinBy <= now {
		g.joinTimedOut(now)
	}
	if g.syncBy != 0 && g.syncBy <= now {
		g.syncTimedOut(now)
	}
	return g.take()
}

// syncTimedOut removes who joined this generation and never asked for his part.
func (g *Group) syncTimedOut(now int64) {
	g.syncBy = 0
	late := slices.DeleteFunc(slices.Clone(g.members), func(m *member) bool { return !m.unsynced })
	for _, m := range late {
		g.remove(m, UnknownMemberID)
	}
	if len(late) > 0 {
		g.settle(now, "a member did not sync in time")
	}
}
