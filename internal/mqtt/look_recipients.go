package mqtt

import (
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// Which sessions a message is for, and which of them have it.

// Recipient is a session with a subscription that a message is for.
type Recipient struct {
	Client string
	State  string // connected or away
	Filter string // of the subscription
	QoS    byte
	Stage  Stage
	Next   record.Offset // where it stands in the partition of the message; -1: it is not known
}

// Stage is how far a message has come to a session.
type Stage string

// The stages, from the last back to the first.
const (
	StageHas      Stage = "has"       // it was acknowledged; of QoS 0, handed to the connection
	StageInFlight Stage = "in_flight" // it was sent, and the exchange is not over
	StageWaits    Stage = "waits"     // the session has not come so far
	StageShared   Stage = "shared"    // one of the members of its group gets it
	StageBefore   Stage = "before"    // it is older than the subscription
)

// Sought is a message of the log.
type Sought struct {
	Name      string // its topic name
	Partition stream.PartitionID
	Offset    record.Offset
	Time      int64 // in milliseconds since 1970; 0: it is not known
}

// EachRecipient visits the sessions with a subscription that a message is for, in no order. Each is visited once, with
// the subscription by which the message came farthest.
func (d *Door) EachRecipient(of Sought, visit func(Recipient)) {
	// It is asked for before the sessions: who is behind nowhere later has all below it.
	reached, followed := d.fanout.ReachedIn(of.Partition)
	if !followed {
		reached = -1
	}
	look := passage{of: &of, reached: reached}
	for _, seat := range d.seats.Seats() {
		var best Recipient
		seat.Look(func(state *session.State, h roster.Holder) {
			for sub := range state.All {
				if !names.Match(sub.Served().Filter, of.Name) {
					continue
				}
				look.marks = seat.Marks()
				if one := look.to(state, h, sub); best.Stage == "" || one.Stage.beyond(best.Stage) {
					best = one
				}
			}
		})
		if best.Stage != "" {
			visit(best)
		}
	}
}

// passage is the way of a message to sessions.
type passage struct {
	of      *Sought
	reached record.Offset // live delivery has offered all below
	marks   session.Marked
}

// beyond tells whether a stage is farther than another.
func (s Stage) beyond(other Stage) bool {
	for _, one := range []Stage{StageHas, StageInFlight, StageWaits, StageShared, StageBefore} {
		if one == s || one == other {
			return one == s && s != other
		}
	}
	return false
}

// to is how far the message has come by a subscription. It needs the lock of the session.
func (w *passage) to(state *session.State, h roster.Holder, sub *session.Subscription) Recipient {
	r := Recipient{Client: state.ClientID(), State: stateAway, Filter: sub.Filter, QoS: sub.QoS, Next: -1}
	c, connected := h.(*conn)
	if connected {
		r.State = stateConnected
	}
	partition := uint32(w.of.Partition)
	switch {
	case sub.Shared():
		r.Stage = StageShared
		return r
	case sub.Replay != nil:
		next, _ := sub.Replay.Stands(partition, w.marks)
		r.Next = record.Offset(next)
	case connected && state.BehindIn() == 0:
		r.Next = max(record.Offset(state.Stands(partition, w.marks)), w.reached)
	default:
		r.Next = record.Offset(state.Stands(partition, w.marks))
	}
	switch {
	case w.inFlight(state):
		r.Stage = StageInFlight
	case sub.Replay == nil && w.isBefore(state, c, sub):
		r.Stage = StageBefore
	case r.Next > w.of.Offset:
		r.Stage = StageHas
	default:
		r.Stage = StageWaits
	}
	return r
}

func (w *passage) inFlight(state *session.State) bool {
	for f := range state.Out.Flights {
		if f.From.Partition == uint32(w.of.Partition) && f.From.Offset == int64(w.of.Offset) {
			return true
		}
	}
	return false
}

// isBefore tells whether a message is older than a subscription. Of a session that ends with its connection no mark
// says so: its subscriptions are younger than the connection.
func (w *passage) isBefore(state *session.State, c *conn, sub *session.Subscription) bool {
	if !state.Lasts() {
		return c != nil && w.of.Time > 0 && w.of.Time < c.link.since
	}
	return int64(w.of.Offset) < state.Since(sub, uint32(w.of.Partition), w.marks)
}
