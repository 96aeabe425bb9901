package turns

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestQueueIsFair: who comes from an address where nobody waits has the next turn but one, however many wait elsewhere.
func TestQueueIsFair(t *testing.T) {
	q := New(1)
	many, one := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	if q.enter(many) != nil {
		t.Fatal("the first waits")
	}
	var crowd []*place
	for range 100 {
		crowd = append(crowd, q.enter(many))
	}
	late := q.enter(one)
	has := func(p *place) bool {
		select {
		case <-p.ready:
			return true
		default:
			return false
		}
	}
	if !q.leave(crowd[0]) {
		t.Error("it cannot leave")
	}
	for range 3 { // who left takes no turn
		q.Done()
	}
	if !has(late) || !has(crowd[1]) || !has(crowd[2]) || has(crowd[0]) || has(crowd[3]) {
		t.Errorf("the late one: %v, the crowd: %v %v %v %v", has(late), has(crowd[0]), has(crowd[1]), has(crowd[2]),
			has(crowd[3]))
	}
	if q.leave(late) {
		t.Error("who has its turn left without giving it back")
	}
	for range 100 {
		q.Done()
	}
	if len(q.waiting) != 0 || len(q.order) != 0 || q.free == 0 || q.enter(one) != nil {
		t.Errorf("%d wait in the end, %d turns are free", len(q.waiting), q.free)
	}
}

// TestWait: who has waited long enough is told so, who leaves leaves, and neither keeps a turn.
func TestWait(t *testing.T) {
	q, at := New(1), netip.MustParseAddr("192.0.2.1")
	if err := q.Wait(t.Context(), at, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := q.Wait(t.Context(), at, time.Millisecond); !errors.Is(err, ErrLate) {
		t.Errorf("who waits too long: %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := q.Wait(gone, at, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves: %v", err)
	}
	waits := make(chan error)
	go func() { waits <- q.Wait(t.Context(), at, time.Hour) }()
	q.Done()
	if err := <-waits; err != nil {
		t.Error(err)
	}
}
