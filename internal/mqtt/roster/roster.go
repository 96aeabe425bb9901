// Package roster owns the seats of all sessions. A seat outlives the connection that has it: whoever connects with its
// client identifier takes it over, and whoever had it before is fenced by the seat's epoch. Nobody waits for anybody.
//
//	term, before := seats.Take(clientID, state, holder)
//	before.Holder.Displaced(before.State)     // if there was one
//	err := term.Append(log, unit, n)          // holder.Settled follows
//	state := term.End()                       // nil: another has the seat
//
// The seat is the receipt of what its session appends: the log tells the seat, and the seat tells the connection that
// has it, if that is still the one that appended.
package roster

import (
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Holder is the connection that has a seat.
type Holder interface {
	// Settled tells what became of a unit that the holder appended, in the order of its Appends. at is nil with an
	// error. It comes from the log's goroutine and must not block. A holder that has lost the seat is told nothing but
	// what was on its way.
	Settled(ticket uint32, at stream.Placed, err error)
	// Displaced tells that another has the seat now, and hands over the session that the holder had. It comes once,
	// from the goroutine of the new holder, and must not wait for the old one's.
	Displaced(state *session.State)
}

// Roster is the seats by client identifier. The zero value is empty.
type Roster struct {
	mu struct {
		sync.Mutex
		seats map[string]*Seat
	}
}

// Seat is where a session is, with or without a connection.
type Seat struct {
	mu struct {
		sync.Mutex
		state  *session.State // nil: no session
		holder Holder         // nil: no connection
		epoch  uint32         // of the holder; raised whenever the seat changes hands
	}
}

// Term is the time in which a holder has a seat: until another takes it, or the holder ends it. The zero Term is over.
type Term struct {
	roster *Roster
	seat   *Seat
	id     string
	epoch  uint32
}

// Displaced is who had a seat before, with the session that ended by the takeover.
type Displaced struct {
	Holder Holder
	State  *session.State
}

// Len is the number of seats.
func (r *Roster) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.seats)
}

// Take gives the seat of a client identifier to a holder, with a session for it, and says who had it before. From here
// on the one before appends nothing and is told nothing more.
func (r *Roster) Take(id string, state *session.State, h Holder) (t Term, before *Displaced) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.seats == nil {
		r.mu.seats = make(map[string]*Seat)
	}
	seat := r.mu.seats[id]
	if seat == nil {
		seat = &Seat{}
		r.mu.seats[id] = seat
	}
	seat.mu.Lock()
	defer seat.mu.Unlock()
	if seat.mu.holder != nil {
		before = &Displaced{Holder: seat.mu.holder, State: seat.mu.state}
	}
	seat.mu.epoch++
	seat.mu.state, seat.mu.holder = state, h
	return Term{roster: r, seat: seat, id: id, epoch: seat.mu.epoch}, before
}

// Lock gives the session, locked, until Unlock; nil, and not locked, when the term is over.
func (t *Term) Lock() *session.State {
	if t.seat == nil {
		return nil
	}
	t.seat.mu.Lock()
	if t.seat.mu.epoch != t.epoch || t.seat.mu.holder == nil {
		t.seat.mu.Unlock()
		return nil
	}
	return t.seat.mu.state
}

// Unlock ends what Lock began.
func (t *Term) Unlock() { t.seat.mu.Unlock() }

// Over tells whether another has the seat.
func (t *Term) Over() bool {
	if t.Lock() == nil {
		return true
	}
	t.Unlock()
	return false
}

// Append appends a unit for the session; with a ticket above 0 the holder's Settled follows.
// Errors: Fenced when the term is over; those of Log.Append.
func (t *Term) Append(log stream.Log, u *stream.Unit, ticket uint32) error {
	if t.Over() {
		return fault.New(fault.Fenced, "mqtt.Append", "another connection has the session")
	}
	if ticket == 0 {
		return log.Append(u, nil, 0)
	}
	return log.Append(u, t.seat, uint64(t.epoch)<<32|uint64(ticket))
}

// Appended implements stream.Receipt.
func (s *Seat) Appended(ticket uint64, at stream.Placed, err error) {
	if h := s.holding(uint32(ticket >> 32)); h != nil {
		h.Settled(uint32(ticket), at, err)
	}
}

// holding is the holder of an epoch, or nil.
func (s *Seat) holding(epoch uint32) Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.epoch != epoch {
		return nil
	}
	return s.mu.holder
}

// End ends the term, and the session with it, and returns the session; nil when another has the seat.
func (t *Term) End() *session.State {
	if t.seat == nil {
		return nil
	}
	r := t.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	state := t.Lock()
	if state == nil {
		return nil
	}
	defer t.Unlock()
	t.seat.mu.epoch++
	t.seat.mu.state, t.seat.mu.holder = nil, nil
	delete(r.mu.seats, t.id)
	return state
}
