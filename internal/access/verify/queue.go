package verify

import (
	"net/netip"
	"sync"
)

// queue gives turns: a few at a time, and to the addresses that wait in turn, so that one that sends many passwords
// keeps others waiting for one of its own and not for all. Make one with newQueue.
type queue struct {
	mu      sync.Mutex
	free    int
	waiting map[netip.Addr][]*place
	order   []netip.Addr // whose turn it is, of those in waiting
}

// place is one who waits.
type place struct {
	ready chan struct{} // closed when it has its turn
	gone  bool          // it waits no more
}

func newQueue(turns int) *queue { return &queue{free: turns, waiting: map[netip.Addr][]*place{}} }

// enter asks for a turn; nil: it has it. Whoever has a turn says when it is done.
func (q *queue) enter(at netip.Addr) *place {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free > 0 {
		q.free--
		return nil
	}
	p := &place{ready: make(chan struct{})}
	if len(q.waiting[at]) == 0 {
		q.order = append(q.order, at)
	}
	q.waiting[at] = append(q.waiting[at], p)
	return p
}

// leave waits no more. Not ok: it has its turn by now.
func (q *queue) leave(p *place) (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-p.ready:
		return false
	default:
		p.gone = true
		return true
	}
}

// done gives a turn back, or on to the next.
func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.order) > 0 {
		at := q.order[0]
		q.order = q.order[1:]
		p := q.waiting[at][0]
		switch left := q.waiting[at][1:]; {
		case len(left) == 0:
			delete(q.waiting, at)
		default:
			q.waiting[at], q.order = left, append(q.order, at)
		}
		if !p.gone {
			close(p.ready)
			return
		}
	}
	q.free++
}
