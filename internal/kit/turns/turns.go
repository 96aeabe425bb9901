// Package turns lets a few at a time do what is dear, and has the others wait: the addresses that they come from in
// turn, so that one that asks for much keeps others waiting for one of its own and not for all.
//
//	q := turns.New(2)
//	if err := q.Wait(ctx, address, 10*time.Second); err != nil {
//		return err
//	}
//	defer q.Done()
package turns

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// ErrLate is for who has waited as long as it may.
var ErrLate = errors.New("its turn has not come in time")

// Queue gives turns. It may be used from any goroutine, and has none. Make one with New.
type Queue struct {
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

// New makes a queue for so many turns at a time.
func New(turns int) *Queue { return &Queue{free: turns, waiting: map[netip.Addr][]*place{}} }

// Wait waits for a turn of who comes from an address. Whoever has one says when it is Done. Errors: ErrLate; that of
// ctx when it ends.
func (q *Queue) Wait(ctx context.Context, at netip.Addr, patience time.Duration) error {
	p := q.enter(at)
	if p == nil {
		return nil
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.ready:
		return nil
	case <-ctx.Done():
	case <-late.C:
	}
	switch {
	case !q.leave(p): // its turn came at the same time
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return ErrLate
}

// enter asks for a turn; nil: it has it.
func (q *Queue) enter(at netip.Addr) *place {
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
func (q *Queue) leave(p *place) (ok bool) {
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

// Done gives a turn back, or on to the next.
func (q *Queue) Done() {
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
