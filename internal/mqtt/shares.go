package mqtt

import (
	"context"
	"sync"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/mqtt/groups"
	"github.com/firthmq/firth/internal/mqtt/members"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// membership is a connection as a member of a group: of one that is here, or that is on the node with the groups.
type membership interface {
	Leave(ctx context.Context)
	Roomy()
	Acknowledge(from ...session.Place)
	LetGo(from session.Place) bool
	Unclog()
	Settle(ctx context.Context) error
	Durable(since uint64, reached []session.Place)
}

var (
	_ membership = (*groups.Member)(nil)
	_ membership = (*members.Member)(nil)
)

// shares are the groups in which a connection is a member, by the number that it gives each: what came by them carries
// it (session.Place), so that its end is told to the group.
type shares struct {
	mu struct {
		sync.Mutex
		members map[uint16]membership
		bySub   map[*session.Subscription]uint16 // those that are subscribed still
		last    uint16
		ended   bool
	}
}

// May implements groups.Link.
func (c *conn) May(topic []byte, size int) bool {
	return size <= c.link.agreed.MaxPacket() && c.link.door.may(&c.link.principal, rule.Read, topic)
}

// joinShare makes the client a member of the group of a shared subscription; old is the one that it replaces, or nil.
func (l *link) joinShare(sub, old *session.Subscription) {
	s := l.shares.Load()
	if s == nil {
		s = &shares{}
		s.mu.members = make(map[uint16]membership)
		s.mu.bySub = make(map[*session.Subscription]uint16)
		l.shares.Store(s)
	}
	number := s.number(old)
	if number == 0 {
		return // it ended, or has more than it can have
	}
	m := l.shareOf(sub, old, number)
	if !s.put(number, sub, old, m) {
		l.leave(m)
	}
}

// shareOf makes the client a member.
func (l *link) shareOf(sub, old *session.Subscription, number uint16) membership {
	d, id := l.door, l.principal.ClientID
	if d.members == nil {
		return d.groups.Load().Join(sub, old, groups.Joining{
			Link: l.driver, Client: id, Version: l.version, Share: number, Lasts: l.lasts,
		})
	}
	window := 1
	if state := l.term.Lock(); state != nil { // else it leaves at once
		window = state.Out.Window()
		l.term.Unlock()
	}
	return d.members.Join(sub, old, members.Joining{
		Link: l.driver, Client: id, Shard: d.ShardOf(id), Version: l.version, Share: number, Window: window,
		MaxPacket: l.agreed.MaxPacket(),
	})
}

// leave ends one membership with the connection.
func (l *link) leave(m membership) {
	ctx, cancel := context.WithTimeout(context.Background(), l.door.opt.ConnectTimeout)
	defer cancel()
	m.Leave(ctx)
}

// number is that of a subscription, or one that is free; 0: there is none.
func (s *shares) number(old *session.Subscription) uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.mu.bySub[old]; n > 0 {
		return n
	}
	if s.mu.ended || len(s.mu.members) == 0xffff {
		return 0
	}
	for s.mu.last++; s.mu.last == 0 || s.mu.members[s.mu.last] != nil; s.mu.last++ {
	}
	return s.mu.last
}

// put is false when the connection has ended meanwhile.
func (s *shares) put(number uint16, sub, old *session.Subscription, m membership) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.bySub, old)
	s.mu.members[number], s.mu.bySub[sub] = m, number
	return !s.mu.ended
}

// leaveShare ends shared subscriptions. What their client has in hand is its own until the connection ends.
func (l *link) leaveShare(subs ...*session.Subscription) {
	for _, sub := range subs {
		l.door.unshare(sub)
		if s := l.shares.Load(); s != nil {
			s.mu.Lock()
			delete(s.mu.bySub, sub)
			s.mu.Unlock()
		}
	}
}

// leaveShares ends the memberships with the connection: what was not acknowledged goes to others.
func (l *link) leaveShares() {
	s := l.shares.Load()
	if s == nil {
		return
	}
	for _, m := range s.all(true) {
		l.leave(m)
	}
}

func (s *shares) all(end bool) []membership {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.ended = s.mu.ended || end
	all := make([]membership, 0, len(s.mu.members))
	for _, m := range s.mu.members {
		all = append(all, m)
	}
	return all
}

// letShareGo implements roster.Holder.
func (l *link) letShareGo(from session.Place) bool {
	s := l.shares.Load()
	if s == nil {
		return false
	}
	m := s.member(from.Share)
	return m != nil && m.LetGo(from)
}

// unclogShares follows letShareGo, without the lock of the seat.
func (l *link) unclogShares() {
	if s := l.shares.Load(); s != nil {
		for _, m := range s.all(false) {
			m.Unclog()
		}
	}
}

// wakeShares tells the groups that there is room.
func (l *link) wakeShares() {
	if s := l.shares.Load(); s != nil {
		for _, m := range s.all(false) {
			m.Roomy()
		}
	}
}

// sharesDone tells the groups of messages with which the client has done.
func (l *link) sharesDone(from []session.Place) {
	s := l.shares.Load()
	for s != nil && len(from) > 0 {
		n := 1
		for n < len(from) && from[n].Share == from[0].Share {
			n++
		}
		if m := s.member(from[0].Share); m != nil {
			m.Acknowledge(from[:n]...)
		}
		from = from[n:]
	}
}

func (s *shares) member(number uint16) membership {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.members[number]
}

// settleShares comes before shared subscriptions are stored.
func (l *link) settleShares(ctx context.Context, made []*session.Subscription) error {
	s := l.shares.Load()
	if s == nil {
		return nil
	}
	for _, sub := range made {
		if m, _ := s.kept(l, sub); m != nil {
			if err := m.Settle(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepShares tells the groups since when the subscriptions are kept that were stored, and how far live delivery was.
func (l *link) keepShares(made []*session.Subscription, reached map[*session.Subscription][]session.Place) {
	s := l.shares.Load()
	if s == nil {
		return
	}
	for _, sub := range made {
		if m, since := s.kept(l, sub); m != nil {
			m.Durable(since, reached[sub])
		}
	}
}

func (s *shares) kept(l *link, sub *session.Subscription) (m membership, since uint64) {
	state := l.term.Lock()
	if state == nil {
		return nil, 0
	}
	since = sub.Since
	l.term.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.members[s.mu.bySub[sub]], since
}

// splitShares takes the shared ones out of some subscriptions, and puts them in force.
func (l *link) splitShares(subs []*session.Subscription) (own []*session.Subscription) {
	for _, sub := range subs {
		if sub.Shared() {
			l.joinShare(sub, nil)
		} else {
			own = append(own, sub)
		}
	}
	return own
}

var _ groups.Link = (*conn)(nil)
