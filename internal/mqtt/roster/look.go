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
	for id := range r.mu.seats {
		if id > after && strings.HasPrefix(id, prefix) {
			ids = append(ids, id)
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
	if seat == nil {
		return false
	}
	seat.mu.Lock()
	defer seat.mu.Unlock()
	if seat.mu.state == nil {
		return false
	}
	look(seat.mu.state, seat.mu.holder)
	return true
}

// Marks are those that the session of a client stands by.
func (r *Roster) Marks(id string) session.Marked { return r.shardOf(id) }

func (r *Roster) seat(id string) *Seat {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.seats[id]
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
