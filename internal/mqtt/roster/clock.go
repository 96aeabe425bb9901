package roster

import (
	"context"
	"math"
	"time"

	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// The clocks of sessions without a connection: wills that are due, and the end.

// maxSleep bounds how long the clock is not looked at: it may be set.
const maxSleep = 30 * time.Second

// retryAfter is after how many milliseconds something is tried again that the log did not take.
const retryAfter = 1000

// arm sets the alarm of a session without a connection. It needs the lock of the seat.
func (s *Seat) arm() {
	at := s.mu.state.Ends()
	if w := s.mu.state.Will(); w != nil {
		at = min(at, w.Due)
	}
	if at != math.MaxInt64 {
		s.roster.alarms.Set(s, at)
	}
}

// ring does what is due by the clock, and tells when the next is.
func (r *Roster) ring(ctx context.Context) (next time.Duration) {
	for ctx.Err() == nil {
		now := r.opt.Clock().UnixMilli()
		seat, due, at, waits := r.alarms.Due(now)
		switch {
		case due:
			r.alarmed(ctx, seat, now)
		case waits:
			return min(time.Duration(at-now)*time.Millisecond, maxSleep)
		default:
			return maxSleep
		}
	}
	return 0
}

// alarmed publishes a will that is due, and ends a session that has expired.
func (r *Roster) alarmed(ctx context.Context, seat *Seat, now int64) {
	if state, w := seat.dueWill(now); w != nil {
		if err := seat.publishWill(ctx, state, w, false); err != nil {
			r.complain("will", "a will could not be published, trying again", "error", err)
			r.alarms.Set(seat, now+retryAfter)
			return
		}
	}
	ended := seat.expire(now)
	if ended == nil {
		return
	}
	r.metrics.expired.Inc()
	r.opt.Expired(seat.id)
	if err := seat.bury(ctx, ended); err != nil {
		r.complain("expire", "a session that has expired could not be removed, trying again", "error", err)
	}
}

// bury removes the records of a session that has ended, and then, behind them in the log, what rests on it.
func (s *Seat) bury(ctx context.Context, ended *session.State) error {
	err := s.storeLater(ctx)
	s.roster.ended(ended)
	return err
}

// dueWill is the will that is due, of a session without a connection; nil: none.
func (s *Seat) dueWill(now int64) (*session.State, *session.Will) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.mu.state
	if state == nil || s.mu.holder != nil || s.shard.leaving.Load() {
		return nil, nil
	}
	if w := state.Will(); w != nil && (w.Due <= now || state.Ends() <= now) {
		return state, w
	}
	return nil, nil
}

// expire ends the session if its time has come, and gives it; otherwise it sets the alarm anew [MQTT-4.1.0-2].
func (s *Seat) expire(now int64) (ended *session.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.mu.state
	if state == nil || s.mu.holder != nil || s.shard.leaving.Load() {
		return nil
	}
	if state.Ends() > now {
		s.arm()
		return nil
	}
	s.uncount()
	s.mu.epoch++
	s.mu.state = nil
	s.ended(state)
	return state
}

// publishWill publishes the will of a session [MQTT-3.1.2-8], and takes it out of the log in the same unit, if it is
// there; then it waits for that. Taken tells that the session has it no more: the caller took it. Otherwise whoever
// comes first publishes it. Errors: those of the log; Timeout when ctx ends, which the unit may be stored after.
func (s *Seat) publishWill(ctx context.Context, state *session.State, w *session.Will, taken bool) error {
	done, err := s.appendWill(ctx, state, w, taken)
	if err != nil {
		s.unpublished(state, w)
		return err
	}
	f := &fate{done: done, told: tellings{func(stored bool) {
		if !stored {
			s.unpublished(state, w)
		}
	}}}
	known, err := f.settle(ctx)
	if !known { // who gives the will back now has it told twice
		s.shard.await(f)
	}
	return err
}

// appendWill has the session forget its will, so that no record of it is written behind that which removes it. Done is
// nil where nobody needs to wait.
func (s *Seat) appendWill(
	ctx context.Context, state *session.State, w *session.Will, taken bool,
) (done *receipt, err error) {
	s.shard.writing.Lock()
	defer s.shard.writing.Unlock()
	stored, ours := s.claimWill(state, w, taken)
	switch {
	case !ours:
		return nil, nil
	case stored && s.shard.gone:
		return nil, errGone()
	}
	u := &unit{shard: s.shard}
	var to stream.Receipt
	if stored {
		u = s.shard.unit()
		u.put(session.Key{Kind: session.KindWill, Client: s.id}, nil)
		done = newReceipt(s.shard)
		to = done
	}
	if err = s.roster.opt.PublishWill(ctx, state, w, &u.stream, to); err == nil {
		s.roster.metrics.wills.Inc()
	} else if stored {
		s.shard.heed(err)
	}
	return done, err
}

// claimWill takes the will, and tells whether the log has it. Not ours: it was published.
func (s *Seat) claimWill(state *session.State, w *session.Will, taken bool) (stored, ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !taken {
		if s.mu.state != state || state.Will() != w {
			return false, false
		}
		state.TakeWill()
		s.weigh()
	}
	stored = s.mu.will
	s.mu.will = false
	return stored, true
}

// unpublished gives a will back that the log did not take, unless the client is back, and has it tried again.
func (s *Seat) unpublished(state *session.State, w *session.Will) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.state == state && s.mu.holder == nil && state.Will() == nil {
		state.GiveWill(w)
		s.weigh()
		s.shard.note(s)
		if !s.shard.leaving.Load() {
			s.roster.alarms.Set(s, s.roster.opt.Clock().UnixMilli()+retryAfter)
		}
	}
}
