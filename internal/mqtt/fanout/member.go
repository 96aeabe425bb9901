package fanout

import (
	"sync/atomic"

	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// Member is a session as the fanout sees it.
type Member struct {
	sink Sink
	f    *Fanout
	gone atomic.Bool
	subs []*subscription // guarded by f.subs, as index
	at   []standing      // by worker
	own  own
	// index finds a subscription of a member that has many, once one was looked for; nil otherwise.
	index map[*session.Subscription]*subscription
}

// many is the number of subscriptions of a member from which a search is not worth while.
const many = 32

// standing is what one worker knows of a member. Only that worker touches it.
type standing struct {
	seen    uint64 // the match in which the member was last found
	hit     int32  // and its place in the list of hits
	lags    int32  // partitions in which it has a cursor of its own
	touched bool   // it is in the list to flush
}

// Join makes a member without subscriptions.
func (f *Fanout) Join(sink Sink) *Member {
	return &Member{sink: sink, f: f, at: make([]standing, len(f.workers))}
}

// Wake says that the sink, which had answered Later, can take messages again. It may be called from
// any goroutine and does not block; the caller holds no lock that Deliver needs.
func (m *Member) Wake() {
	for _, w := range m.f.workers {
		w.ready(m)
	}
}

// find needs the lock of f.subs.
func (m *Member) find(s *session.Subscription) *subscription {
	if s == nil {
		return nil
	}
	if m.index != nil {
		return m.index[s]
	}
	if len(m.subs) > many {
		m.index = make(map[*session.Subscription]*subscription, len(m.subs))
		for _, sub := range m.subs {
			m.index[sub.Subscription] = sub
		}
		return m.index[s]
	}
	for _, sub := range m.subs {
		if sub.Subscription == s {
			return sub
		}
	}
	return nil
}

// matching calls visit with the subscriptions of the member that match a name: all are tried or, if they are
// many, the trie tells. It needs a read lock of f.subs.
func (m *Member) matching(name []byte, visit func(*subscription)) {
	if len(m.subs) > many {
		m.f.subs.trie.Match(name, func(sub *subscription) {
			if sub.member == m {
				visit(sub)
			}
		})
		return
	}
	for _, sub := range m.subs {
		if names.Match(sub.Filter, name) {
			visit(sub)
		}
	}
}
