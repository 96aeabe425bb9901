package mqtt

import (
	"cmp"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// slowness is since when a client takes less than comes for it. Times are those of the door's uptime; 0: it does not.
type slowness struct {
	late      time.Duration // since when messages wait in the log
	dropping  time.Duration // since when messages of QoS 0 are dropped, again and again
	droppedAt time.Duration // the last one
}

// dropsApart is how long after a dropped message another one is not of the same trouble.
const dropsApart = 30 * time.Second

// waits notes that a message waits in the log because the client is not ready for it.
func (s *slowness) waits(now time.Duration) {
	if s.late == 0 {
		s.late = now
	}
}

// inStep notes that none waits any more.
func (s *slowness) inStep() { s.late = 0 }

// drops notes that a message was dropped.
func (s *slowness) drops(now time.Duration) {
	if s.dropping == 0 || now-s.droppedAt > dropsApart {
		s.dropping = now
	}
	s.droppedAt = now
}

// lag is how long the client has been slow by now; 0: it is not. Held tells whether anything is held back for it.
func (s *slowness) lag(now time.Duration, held bool) (lag time.Duration) {
	if s.late > 0 && held {
		lag = now - s.late
	}
	if s.dropping > 0 && now-s.droppedAt <= dropsApart {
		lag = max(lag, now-s.dropping)
	}
	return lag
}

// inStep notes that the session is behind nowhere. The session is locked.
func (l *link) inStep() {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if s := l.out.seldom; s != nil {
		s.slow.inStep()
	}
}

// SlowLine is a client that takes less than comes for it.
type SlowLine struct {
	Client   string            `json:"client"`
	Remote   string            `json:"remote"`
	LagMs    int64             `json:"lag_ms"`    // how long it has been so
	Waiting  int               `json:"waiting"`   // bytes that wait to be written to it
	InFlight int               `json:"in_flight"` // messages that it has not acknowledged
	Window   int               `json:"window"`    // the most there may be
	Behind   int               `json:"behind"`    // partitions of which messages wait in the log
	Dropped  map[string]uint64 `json:"dropped,omitempty"`
}

// Slow lists clients that have been slow for a time, those that have been so for the longest first.
func (d *Door) Slow(over time.Duration, limit int) []SlowLine {
	lines := []SlowLine{}
	now := d.uptime()
	for _, id := range d.seats.IDs("", "") {
		d.seats.Look(id, func(state *session.State, h roster.Holder) {
			if c, ok := h.(*conn); ok {
				if line, lag := c.link.slowLine(state, now); lag > 0 && lag >= over {
					lines = append(lines, line)
				}
			}
		})
	}
	slices.SortStableFunc(lines, func(a, b SlowLine) int { return cmp.Compare(b.LagMs, a.LagMs) })
	return lines[:min(limit, len(lines))]
}

// slowLine needs the lock of the session.
func (l *link) slowLine(state *session.State, now time.Duration) (line SlowLine, lag time.Duration) {
	w := l.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.out.seldom == nil {
		return SlowLine{}, 0
	}
	behind := state.BehindIn()
	lag = l.out.seldom.slow.lag(now, behind > 0 || w.starved.Load() || state.Out.Full())
	return SlowLine{
		Client: state.ClientID(), Remote: w.remote(), LagMs: lag.Milliseconds(), Waiting: w.sizeLocked(),
		InFlight: state.Out.InFlight(), Window: state.Out.Window(), Behind: behind, Dropped: l.dropped(),
	}, lag
}
