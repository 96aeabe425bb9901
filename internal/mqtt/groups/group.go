package groups

import (
	"context"
	"slices"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Group is one group.
//
// Invariants:
//
//  1. It is a member of the fanout (presence) if, and only if, one of its members has a connection (takers). coming is
//     held while that changes.
//  2. What is given to a member is acquired before the member is offered it, and retracted if it does not take it.
//  3. Nothing new is given out while something is released.
//  4. It stands, in each partition, at the larger of its mark's offset and the next of its part. A group whose members
//     are gone is pinned to the mark that was the last before the first message was not taken.
type Group struct {
	groups *Groups
	name   name

	coming  sync.Mutex // taken before mu, and held while the fanout is told
	ended   bool       // nobody is subscribed any more, but its records may be stored still; under coming
	removed bool       // nothing of it is left; under coming
	fresh   bool       // it begins with what becomes news; under coming

	room chan struct{} // holds a token: something changed that who reads again may wait for

	mu      sync.Mutex
	subs    map[*session.Subscription]*seat
	lasting int // of them: of sessions that last
	// claims are the shards in which a session is subscribed, where nodes share sessions, and whether that is stored.
	claims   map[int]bool
	takers   []*Member // with a connection; the list never changes, another takes its place
	turn     int       // of the takers: who is next
	numbers  share.Member
	presence *presence
	reading  bool // somebody reads again what is released
	touched  []*Member

	parts   map[uint32]*part
	free    int // released, in all parts
	clogged bool
	mark    uint64 // that it is pinned to; 0: it follows the last
	behind  int    // partitions in which the presence is behind
	since   uint64 // of who was read back: the first mark since which one is subscribed
	// anchored tells that mark is worth something: a subscription of a session that lasts was stored.
	anchored bool
	told     bool // the record of the group is as it should be
	stored   bool // there is one
	erasing  int  // units on their way that remove its records
	life     int  // times that it came to life again after it had ended
	stale    bool // what is stored is of the life before
	letting  bool // it is among those that have let messages go
	noted    bool // a checkpoint will look at it

	held map[uint64]hold // by key, if messages go by key
	keys map[session.Place]uint64
}

// seat is one subscription.
type seat struct {
	lasts  bool
	member *Member // nil: it has no connection
}

// part is one partition.
type part struct {
	share.Partition
	changed bool // since the last checkpoint
	stored  bool // there is a record of it
}

// hold is who has messages of a key in hand.
type hold struct {
	by    *Member
	count int
}

// presence is a group as a member of the fanout, once for each time that somebody is there.
type presence struct {
	group  *Group
	member *fanout.Member
}

func newGroup(g *Groups, n name) *Group {
	return &Group{groups: g, name: n, fresh: true, room: make(chan struct{}, 1),
		subs: make(map[*session.Subscription]*seat), parts: make(map[uint32]*part), claims: make(map[int]bool)}
}

// join adds a member; nil: the group is gone.
func (g *Group) join(sub, old *session.Subscription, j *Joining) *Member {
	g.coming.Lock()
	defer g.coming.Unlock()
	if g.removed {
		return nil
	}
	if g.ended {
		g.revive()
	}
	m, came := g.add(sub, old, j)
	if !came {
		return m
	}
	p := &presence{group: g}
	p.member = g.groups.opt.Fanout.Join(p, packet.V5, "")
	fresh := g.fresh
	g.fresh = false
	g.appear(p, fresh)
	all := &session.Subscription{Filter: g.name.filter, QoS: session.MaxQoS, RetainAsPublished: true}
	if fresh {
		g.groups.opt.Fanout.Subscribe(p.member, all, nil)
		return m
	}
	g.groups.opt.Fanout.Return(p.member, fanout.Returning{
		Subs: []*session.Subscription{all}, At: g.stands, QoS0: g.groups.opt.QoS0,
		Since: func(*session.Subscription, stream.PartitionID) record.Offset { return 0 },
	})
	p.Behind(-1) // as appear began it
	return m
}

// revive begins a group anew that has ended, and whose records are stored still: so nothing removes them that comes
// behind those of the new one. What it knows of the partitions is older than what becomes news.
func (g *Group) revive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended, g.fresh = false, true
	g.mark, g.told, g.anchored, g.clogged, g.free = 0, false, false, false, 0
	g.held, g.keys = nil, nil
	g.life++
	g.stale = g.isStored()
	for _, p := range g.parts {
		p.Begin(p.Next())
		p.changed = true
	}
}

// add adds a member. Came tells that nobody was there.
func (g *Group) add(sub, old *session.Subscription, j *Joining) (m *Member, came bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.subs[sub]
	if before := g.subs[old]; before != nil && old != nil {
		delete(g.subs, old)
		g.subs[sub] = before
		if before.member != nil {
			before.member.sub = sub
			return before.member, false
		}
		s = before
	}
	if s == nil {
		s = &seat{lasts: j.Lasts}
		g.subs[sub] = s
		if j.Lasts {
			g.lasting++
		}
	}
	g.numbers++
	m = &Member{group: g, sub: sub, link: j.Link, version: j.Version, share: j.Share, hash: hashOf(j.Client),
		number: g.numbers, lasts: j.Lasts}
	s.member = m
	g.takers = append(slices.Clip(g.takers), m)
	g.readAgain()
	g.poke()
	return m, g.presence == nil
}

// appear makes a presence that of the group.
func (g *Group) appear(p *presence, fresh bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.presence, g.behind = p, 0
	if !fresh {
		g.behind = 1
	}
	g.note()
}

// unsubscribe ends a subscription, and the group with the last one.
func (g *Group) unsubscribe(sub *session.Subscription) {
	g.coming.Lock()
	defer g.coming.Unlock()
	g.mu.Lock()
	s := g.subs[sub]
	if s == nil {
		g.ended = g.ended || !g.needed()
		g.mu.Unlock()
		g.finish()
		return
	}
	delete(g.subs, sub)
	if s.lasts {
		g.lasting--
		g.anchored = g.anchored && g.kept()
	}
	g.ended = !g.needed()
	p := g.withdraw(s.member)
	if g.ended {
		g.release(s.member)
	}
	g.mu.Unlock()
	g.vanish(p)
	g.finish()
}

// finish forgets the group if it has ended, once nothing of it is stored. It needs coming.
func (g *Group) finish() {
	if !g.ended || g.removed {
		return
	}
	g.mu.Lock()
	g.removed = !g.isStored()
	if !g.removed {
		g.noteAnyway()
	}
	g.mu.Unlock()
	if g.removed {
		g.groups.remove(g)
	}
}

// isStored tells whether there are records of it, or may be. It needs the lock.
func (g *Group) isStored() bool {
	if g.stored || g.erasing > 0 {
		return true
	}
	for _, p := range g.parts {
		if p.stored {
			return true
		}
	}
	return false
}

// subscriptions is how many sessions are subscribed.
func (g *Group) subscriptions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.subs)
}

func (g *Group) subscribed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.needed()
}

// needed tells whether a session is subscribed. It needs the lock, as kept does.
func (g *Group) needed() bool { return len(g.subs) > 0 || len(g.claims) > 0 }

// kept tells whether what it does is stored.
func (g *Group) kept() bool { return g.lasting > 0 || len(g.claims) > 0 }

// withdraw takes a member out of the takers. It gives the presence that ends with the last one; nil: none does. It
// needs the lock.
func (g *Group) withdraw(m *Member) *presence {
	if m == nil {
		return nil
	}
	g.takers = without(g.takers, m)
	g.poke()
	if len(g.takers) > 0 || g.presence == nil {
		return nil
	}
	p := g.presence
	// From here on nothing is taken: what the workers pass over now, the mark that is the last now does not hold.
	g.presence, g.behind, g.told = nil, 0, false
	if g.mark == 0 {
		g.mark = g.groups.marks.Last()
	}
	g.note()
	return p
}

// vanish ends a presence. It needs coming.
func (g *Group) vanish(p *presence) {
	if p != nil {
		g.groups.opt.Fanout.Leave(p.member)
	}
}

// leave takes a member out whose connection ended: what it has is the next to be given out. Last tells that nobody is
// left.
func (g *Group) leave(m *Member) (last bool) {
	g.coming.Lock()
	defer g.coming.Unlock()
	g.mu.Lock()
	if s := g.subs[m.sub]; s != nil && s.member == m {
		s.member = nil
	}
	m.left = true
	if m.busy == 0 {
		g.release(m)
	}
	p := g.withdraw(m)
	g.mu.Unlock()
	g.vanish(p)
	return p != nil
}

// release gives back all that a member has. It needs the lock, as those below do.
func (g *Group) release(m *Member) {
	if m == nil {
		return
	}
	for _, p := range g.parts {
		if n := p.ReleaseAll(m.number); n > 0 {
			p.changed = true
			g.free += n
		}
	}
	for place, key := range g.keys {
		if g.held[key].by == m {
			delete(g.keys, place)
			delete(g.held, key)
		}
	}
	g.note()
	g.readAgain()
}

// part is the partition, made if it is not there.
func (g *Group) part(partition uint32) *part {
	p := g.parts[partition]
	if p == nil {
		p = &part{}
		g.parts[partition] = p
	}
	return p
}

// poke tells who reads again that something has changed.
func (g *Group) poke() {
	select {
	case g.room <- struct{}{}:
	default: // a token is there
	}
}

// note has the next checkpoint look at the group, if any of it is kept.
func (g *Group) note() {
	if g.kept() || g.stored {
		g.noteAnyway()
	}
}

func (g *Group) noteAnyway() {
	if !g.noted {
		g.noted = true
		g.groups.note(g)
	}
}

// open is how many messages are open.
func (g *Group) open() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		n += p.Open()
	}
	return n
}

// Member is a client of a group that has a connection.
type Member struct {
	group   *Group
	link    Link
	version packet.Version
	share   uint16
	hash    uint64
	number  share.Member
	lasts   bool

	// Guarded by group.mu.
	sub     *session.Subscription
	full    bool   // it said Later, and was not woken since
	wakes   uint64 // times that it was woken
	busy    int    // offers to it under way
	left    bool   // its connection ended
	touched bool   // it is in Group.touched
}

// Leave ends the member: its connection ended. What the last one leaves is stored at once, as that of a session is. It
// may wait for room in the log, until ctx ends.
func (m *Member) Leave(ctx context.Context) {
	if !m.group.leave(m) || m.group.groups.ends() { // at the end all is stored once more
		return
	}
	if err := m.group.groups.marks.StoreBeside(ctx); err != nil {
		m.group.groups.opt.Logger.Warn("where a shared subscription stands was not stored", "error", err)
	}
}

// Roomy tells that the client takes messages again, after its link said Later. It may be called from any goroutine.
func (m *Member) Roomy() {
	g := m.group
	g.mu.Lock()
	m.wakes++
	m.full = false
	p := g.presence
	g.poke()
	g.mu.Unlock()
	if p != nil {
		p.member.Wake()
	}
}

// Acknowledge tells that the client has done with messages, or does not want them [MQTT-4.8.2-6].
func (m *Member) Acknowledge(from ...session.Place) {
	g := m.group
	g.mu.Lock()
	done := false
	for _, place := range from {
		if p := g.parts[place.Partition]; p != nil && p.Acknowledge(place.Offset, m.number) {
			p.changed, done = true, true
			g.letGo(place)
		}
	}
	p := g.presence
	wake := done && g.clogged && p != nil
	if done {
		g.clogged = false
		g.note()
	}
	g.mu.Unlock()
	if wake {
		p.member.Wake()
	}
}

// Refuse tells that the client may not have a message that it was offered: it is for another.
func (m *Member) Refuse(from session.Place) {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.parts[from.Partition]; p != nil && p.Release(from.Offset, m.number) {
		p.changed = true
		g.free++
		g.letGo(from)
		g.note()
		g.readAgain()
	}
}

// LetGo has the group let a message of QoS 2 go, which is the session's from here on. The record of the group is to
// be in the unit that stores that: Groups.CollectLetGo. It is false if the member does not have it any more.
func (m *Member) LetGo(from session.Place) bool {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.parts[from.Partition]
	if p == nil || !p.Acknowledge(from.Offset, m.number) {
		return false
	}
	p.changed = true
	g.letGo(from)
	if !g.letting {
		g.letting = true
		g.groups.dirty.Lock()
		g.groups.dirty.letGo = append(g.groups.dirty.letGo, g)
		g.groups.dirty.Unlock()
	}
	g.note()
	return true
}

// Unclog has what is new go on after LetGo, where as much was open as may be.
func (m *Member) Unclog() {
	g := m.group
	g.mu.Lock()
	p := g.presence
	clogged := g.clogged && p != nil
	g.clogged = g.clogged && !clogged
	g.mu.Unlock()
	if clogged {
		p.member.Wake()
	}
}

// Settle has nothing be stored any more of a group of the same name that has ended: it comes before the subscription of
// a session that lasts is stored. Errors: those of the log; Timeout.
func (m *Member) Settle(ctx context.Context) error {
	if !m.group.isStale() {
		return nil
	}
	err := m.group.groups.marks.SettleBeside(ctx)
	if err == nil && m.group.isStale() {
		err = fault.New(fault.IO, "groups.Settle", "what a shared subscription of before left was not removed")
	}
	return err
}

func (g *Group) isStale() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stale
}

// placedAtOnce is in how many partitions a group gets places when it begins. Where it wants more, its mark has to do,
// which may be thinned out.
const placedAtOnce = 64

// Durable tells that the subscription of a session that lasts is stored, since which mark, and how far live delivery
// had come then. The first of them is since when anything is kept for the group: what is older is not for it. The mark
// may be of another shard than those of the groups: then it stands for one of theirs that is older, never for one to
// come.
func (m *Member) Durable(since uint64, reached []session.Place) {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.anchored {
		return
	}
	if len(reached) > placedAtOnce {
		reached = nil
	}
	g.anchor(min(since, g.groups.marks.Highest()), reached)
	g.note()
}

// anchor says from where on anything is kept for the group. It needs the lock.
func (g *Group) anchor(since uint64, reached []session.Place) {
	g.anchored, g.told = true, false
	if g.mark == 0 {
		g.mark = since
	}
	if g.presence == nil || g.behind > 0 {
		return
	}
	for _, at := range reached {
		p := g.part(at.Partition)
		p.Pass(at.Offset)
		p.changed = true
	}
}
