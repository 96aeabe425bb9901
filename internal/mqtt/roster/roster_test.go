package roster_test

import (
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// holder is a connection that notes what it is told.
type holder struct {
	mu        sync.Mutex
	settled   []uint32
	displaced []*session.State
}

func (h *holder) Settled(ticket uint32, _ stream.Placed, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = append(h.settled, ticket)
}

func (h *holder) Displaced(s *session.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.displaced = append(h.displaced, s)
}

// log notes the receipts that it is given.
type log struct {
	stream.Log
	to      []stream.Receipt
	tickets []uint64
}

func (l *log) Append(_ *stream.Unit, to stream.Receipt, ticket uint64) error {
	l.to, l.tickets = append(l.to, to), append(l.tickets, ticket)
	return nil
}

func (l *log) tell(i int) { l.to[i].Appended(l.tickets[i], nil, nil) }

// TestTakeover: whoever takes a seat fences the one before at once: it appends nothing, is told nothing of what it had
// appended, sees no session, and ends nothing.
func TestTakeover(t *testing.T) {
	var seats roster.Roster
	var l log
	var unit stream.Unit
	first, second := &holder{}, &holder{}
	one, two := &session.State{}, &session.State{}
	old, before := seats.Take("a", one, first)
	if before != nil || old.Over() || seats.Len() != 1 {
		t.Fatal("the seat was not free")
	}
	if err := old.Append(&l, &unit, 7); err != nil {
		t.Fatal(err)
	}
	if err := old.Append(&l, &unit, 8); err != nil {
		t.Fatal(err)
	}
	l.tell(0)
	fresh, before := seats.Take("a", two, second)
	if before == nil || before.Holder != first || before.State != one {
		t.Fatalf("before: %+v", before)
	}
	l.tell(1)
	if err := old.Append(&l, &unit, 9); !fault.Is(err, fault.Fenced) {
		t.Errorf("the old one appends: %v", err)
	}
	if old.Lock() != nil || old.End() != nil {
		t.Error("the old one still has the session")
	}
	if len(first.settled) != 1 || first.settled[0] != 7 {
		t.Errorf("the old one was told %v", first.settled)
	}
	if err := fresh.Append(&l, &unit, 1); err != nil {
		t.Fatal(err)
	}
	l.tell(2)
	if len(second.settled) != 1 || fresh.Lock() != two {
		t.Error("the new one has not got the session")
	}
	fresh.Unlock()
	if fresh.End() != two || !fresh.Over() || seats.Len() != 0 {
		t.Error("the session did not end")
	}
	if err := fresh.Append(&l, &unit, 1); !fault.Is(err, fault.Fenced) {
		t.Errorf("after the end: %v", err)
	}
	l.tell(2)
	if len(second.settled) != 1 {
		t.Error("told after the end")
	}
	if again, before := seats.Take("a", &session.State{}, first); before != nil || again.Over() {
		t.Error("the seat is not free again")
	}
}

// TestStorm: however many take a seat at a time, each session ends exactly once, by displacement or by its own end, and
// no seat is left.
func TestStorm(t *testing.T) {
	var seats roster.Roster
	var wg sync.WaitGroup
	var mu sync.Mutex
	ended := map[*session.State]int{}
	note := func(s *session.State) {
		mu.Lock()
		defer mu.Unlock()
		ended[s]++
	}
	const takers, each = 8, 500
	for range takers {
		wg.Go(func() {
			for range each {
				term, before := seats.Take("storm", &session.State{}, &holder{})
				if before != nil {
					note(before.State)
				}
				if s := term.End(); s != nil {
					note(s)
				}
			}
		})
	}
	wg.Wait()
	if len(ended) != takers*each || seats.Len() != 0 {
		t.Errorf("%d of %d sessions ended, %d seats are left", len(ended), takers*each, seats.Len())
	}
	for _, n := range ended {
		if n != 1 {
			t.Fatalf("a session ended %d times", n)
		}
	}
}

func TestZeroTermIsOver(t *testing.T) {
	var term roster.Term
	if term.Lock() != nil || term.End() != nil || !term.Over() {
		t.Error("the zero Term is not over")
	}
}
