package roster

import (
	"context"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/mqtt/session"
)

// For who looks at sessions from outside.

// IDs are the client identifiers of all sessions that begin with a prefix and come behind one, sorted.
func (r *Roster) IDs(prefix, after string) []string {
	var ids []string
	r.mu.Lock()
	for s := range r.served {
		for id := range s.seats {
			if id > after && strings.HasPrefix(id, prefix) {
				ids = append(ids, id)
			}
		}
	}
	r.mu.Unlock()
	slices.Sort(ids)
	return ids
}

// Look calls look with the session of a client, locked, and the connection that has it, nil: none. False: there is no
// session.
func (r *Roster) Look(id string, look func(state *session.State, h Holder)) bool {
	seat := r.seat(id)
	return seat != nil && seat.Look(look)
}

// Seats are those of all sessions, in no order.
func (r *Roster) Seats() (all []*Seat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.served {
		for _, seat := range s.seats {
			all = append(all, seat)
		}
	}
	return all
}

// Look is that of the Roster.
func (s *Seat) Look(look func(state *session.State, h Holder)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.state == nil {
		return false
	}
	look(s.mu.state, s.mu.holder)
	return true
}

// Marks are those that its session stands by.
func (s *Seat) Marks() session.Marked { return s.shard }

// Marks are those that the session of a client stands by.
func (r *Roster) Marks(id string) session.Marked {
	if s := r.shardOf(id); s != nil {
		return s
	}
	return noMarks{}
}

// noMarks are those of a shard that is not this node's.
type noMarks struct{}

// At implements session.Marked.
func (noMarks) At(uint32, uint64) (offset int64, ok bool) { return 0, false }

func (r *Roster) seat(id string) *Seat {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.shardOf(id); s != nil {
		return s.seats[id]
	}
	return nil
}

// Forget has the session of a client end: with its connection, which the caller ends, or now, with its will. Errors:
// those of the log; the session has ended all the same.
func (r *Roster) Forget(ctx context.Context, id string) error {
	away := false
	if !r.Look(id, func(state *session.State, h Holder) {
		state.EndSoon()
		away = h == nil
	}) || !away {
		return nil
	}
	seat := r.seat(id)
	now := r.opt.Clock().UnixMilli()
	if state, w := seat.dueWill(now); w != nil {
		if err := seat.publishWill(ctx, state, w, false); err != nil {
			r.alarms.Set(seat, now+retryAfter)
			return err
		}
	}
	ended := seat.expire(now)
	if ended == nil {
		return nil
	}
	r.alarms.Cancel(seat)
	return seat.bury(ctx, ended)
}

// DropWills has no will be published any more that is unwanted, whether its client is connected or not. It returns when
// that is durable. Errors: those of the log; then some may be gone.
func (r *Roster) DropWills(ctx context.Context, unwanted func(w *session.Will) bool) error {
	for _, id := range r.IDs("", "") {
		seat := r.seat(id)
		if seat == nil {
			continue
		}
		if state, w := seat.will(); w != nil && unwanted(w) {
			if err := seat.dropWill(ctx, state, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// will is the will of the session; nil: none.
func (s *Seat) will() (*session.State, *session.Will) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.state == nil {
		return nil, nil
	}
	return s.mu.state, s.mu.state.Will()
}

// dropWill takes a will away, from the log too, unless it is published or replaced by then.
func (s *Seat) dropWill(ctx context.Context, state *session.State, w *session.Will) error {
	var stored bool
	done, err := s.shard.write(ctx, func(u *unit) {
		if stored, _ = s.claimWill(state, w, false); stored {
			u.put(session.Key{Kind: session.KindWill, Client: s.id}, nil)
		}
	})
	if err == nil {
		_, err = done.wait(ctx)
	}
	if err != nil && stored {
		s.undropped(state)
	}
	return err
}

// undropped notes that the log still has a will that was taken away: the next checkpoint removes it.
func (s *Seat) undropped(state *session.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.will = true
	if s.mu.state == state {
		state.GiveWill(state.Will()) // there may be another one by now
		s.shard.note(s)
	}
}
