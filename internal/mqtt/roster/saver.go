package roster

import (
	"context"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Exactly once to a client: what a session is sent with QoS 2, and that the client has it, is stored before the packet
// leaves. The holder keeps those packets aside, and Save has the places of the session stored, those of many sessions
// together.

// Save has what changed of the session stored soon; then the holder is told by Saved. It needs the lock of the session.
func (t *Term) Save() {
	seat := t.seat
	if seat.mu.saving {
		return
	}
	seat.mu.saving = true
	s := seat.shard
	s.mu.Lock()
	s.mu.saves = append(s.mu.saves, seat)
	s.mu.Unlock()
	select {
	case s.roster.saves <- struct{}{}:
	default: // a token is there
	}
}

// runSaver stores what Save asks for, until ctx ends.
func (r *Roster) runSaver(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-r.saves:
			for s := range r.served {
				s.save(ctx)
			}
		case <-ctx.Done():
		}
	}
}

// saved is a seat whose places are on their way.
type saved struct {
	seat  *Seat
	epoch uint32
	bytes int // that the holder had aside
}

// save stores the places of all seats that asked for it, in units one after the other.
func (s *shard) save(ctx context.Context) {
	for {
		seats := s.takeSaves()
		if len(seats) == 0 {
			return
		}
		for len(seats) > 0 {
			n, some, told, done, err := s.saveSome(ctx, seats)
			seats = seats[n:]
			if err == nil {
				_, err = done.wait(ctx)
			}
			told.tell(err == nil)
			for _, one := range some {
				one.tell(err)
			}
			if err != nil && ctx.Err() == nil && !fault.Is(err, fault.Closed) {
				s.roster.complain("save", "what sessions are sent with QoS 2 could not be stored", "error", err)
			}
		}
	}
}

func (s *shard) takeSaves() []*Seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	seats := s.mu.saves
	s.mu.saves = nil
	return seats
}

// saveSome appends the places of the first seats, as many as go into a unit.
// Told is of what groups have let go.
func (s *shard) saveSome(
	ctx context.Context, seats []*Seat,
) (n int, some []saved, told tellings, done *receipt, err error) {
	done, err = s.write(ctx, func(u *unit) {
		for n < len(seats) && u.size < maxUnit {
			if one, ok := seats[n].collectSave(u); ok {
				some = append(some, one)
			}
			n++
		}
		told = s.roster.collectLetGo(u)
	})
	return n, some, told, done, err
}

// collectSave puts the places of a seat into a unit. Not ok: it has no connection any more, or its session does not
// last.
func (s *Seat) collectSave(u *unit) (one saved, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.saving = false
	if s.mu.holder == nil || !s.mu.state.Lasts() {
		return saved{}, false
	}
	if s.mu.state.Owed() {
		s.mu.state.TakeOver(s.mu.holder.LetGo)
	}
	s.mu.state.Save(func(p uint32, r *session.PlaceRecord) bool { return s.putPlace(u, p, r) })
	s.mu.state.SaveReplays(replaysOf{s, u})
	return saved{seat: s, epoch: s.mu.epoch, bytes: s.mu.holder.Aside()}, true
}

// tell tells the holder what became of a save. One that had nothing aside has not asked for it: another, who had the
// seat before, did.
func (one *saved) tell(err error) {
	if err != nil {
		one.seat.unsaved(one.epoch)
	}
	if h := one.seat.holding(one.epoch); h != nil && one.bytes > 0 {
		h.Saved(one.bytes, err)
	}
}

// unsaved notes that the places of a session were not stored.
func (s *Seat) unsaved(epoch uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.epoch == epoch && s.mu.state != nil {
		s.mu.state.Unstored()
		s.shard.note(s)
	}
}
