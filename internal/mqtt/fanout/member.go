package fanout

import (
	"sync/atomic"

	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// Member is a session as the fanout sees it.
type Member struct {
	sink    Sink
	version packet.Version
	client  string // identifier; empty: it has no subscription with No Local
	f       *Fanout
	gone    atomic.Bool
	subs    []*subscription // guarded by f.subs, as index
	at      []standing      // by worker, then by reader
	// apart is how many workers have not joined it yet, of one that came back.
	apart atomic.Int32
	// roomy says that the sink can take messages again, to who serves its cursors.
	roomy   atomic.Bool
	cursors atomic.Int32 // partitions that it reads by itself
	// index finds a subscription of a member that has many, once one was looked for; nil otherwise.
	index map[*session.Subscription]*subscription
}

// many is the number of subscriptions of a member from which a search is not worth while.
const many = 32

// standing is what one worker, or one reader of cursors, knows of a member. Only that one touches it.
type standing struct {
	seen    uint64 // the record for which the member was last found
	hit     int32  // and its place in the list of hits
	behind  int32  // partitions of the worker that it reads by itself, and one more while it is apart
	touched bool   // it is in the list to flush
	apart   bool   // it came back, and the worker has not joined it yet
	first   int32  // its first and its last share of the batch in hand, one too high; 0: none
	last    int32
	cursor  *Cursor // of the pass that the reader is in
}

// Join makes a member without subscriptions, whose client speaks a version of MQTT. Its identifier is for subscriptions
// with No Local; who has none may leave it empty.
func (f *Fanout) Join(sink Sink, version packet.Version, client string) *Member {
	return &Member{sink: sink, version: version, client: client, f: f, at: make([]standing, len(f.workers)+f.opt.Readers)}
}

// Wake says that the sink, which had answered Later, can take messages again. It may be called from
// any goroutine and does not block; the caller holds no lock that Deliver needs.
func (m *Member) Wake() {
	m.roomy.Store(true)
	if m.cursors.Load() > 0 {
		m.f.behind.Wake(m)
	}
}

// TakeRoomy tells whether Wake was called since the last TakeRoomy.
func (m *Member) TakeRoomy() bool { return m.roomy.Swap(false) }

// CaughtUp tells the sink that the member reads a partition less by itself. It follows each HandOver and Forget of its
// cursors, outside of all locks.
func (m *Member) CaughtUp() { m.sink.Behind(-1) }

// Gone tells whether the member left.
func (m *Member) Gone() bool { return m.gone.Load() }

// NoLocal tells whether a No Local subscription of the member matches a topic name.
func (m *Member) NoLocal(name []byte) (found bool) {
	m.f.subs.RLock()
	defer m.f.subs.RUnlock()
	m.matching(name, func(sub *subscription) { found = found || sub.NoLocal })
	return found
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
