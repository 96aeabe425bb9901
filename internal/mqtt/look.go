package mqtt

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Sessions as people see them.

// SessionQuery says which sessions to list: by client identifier those behind After that begin with Prefix, Limit of
// them at most. State is connected, away or empty: all.
type SessionQuery struct {
	After, Prefix, State string
	Limit                int
}

// The states of a session.
const (
	stateConnected = "connected"
	stateAway      = "away"
)

// SessionLine is what a list says of a session.
type SessionLine struct {
	Client        string     `json:"client"`
	State         string     `json:"state"`            // connected or away
	Since         *time.Time `json:"since,omitempty"`  // connected or away since then
	Remote        string     `json:"remote,omitempty"` // address of the client
	Listener      string     `json:"listener,omitempty"`
	User          string     `json:"user,omitempty"`
	Version       string     `json:"version"`          // of MQTT: 3.1, 3.1.1 or 5
	Expiry        *uint32    `json:"expiry,omitempty"` // seconds that it lasts without a connection; none: for ever
	Subscriptions int        `json:"subscriptions"`
	InFlight      int        `json:"in_flight"` // messages sent above QoS 0 and not over
	Behind        int        `json:"behind"`    // partitions that it reads by itself now
}

// SessionDetail is all that is said of one session.
type SessionDetail struct {
	SessionLine
	KeepAlive uint16             `json:"keep_alive"`     // seconds; 0: none
	Window    int                `json:"window"`         // most messages in flight
	Will      string             `json:"will,omitempty"` // its topic
	Filters   []SubscriptionLine `json:"filters"`
	Lag       []LagLine          `json:"lag"`             // where it is behind what is stored
	Drops     map[string]uint64  `json:"drops,omitempty"` // messages that this connection did not get or that were refused
}

// LagLine is how far a session is behind in a partition.
type LagLine struct {
	Filter    string        `json:"filter,omitempty"` // of a subscription that begins in the past, which stands by itself
	Topic     string        `json:"topic"`            // of the log
	Partition int32         `json:"partition"`
	Next      record.Offset `json:"next"` // all below was taken, or is not for it
	End       record.Offset `json:"end"`
	Lag       int64         `json:"lag"` // records between them, whether they are for it or not
}

// SubscriptionLine is one subscription.
type SubscriptionLine struct {
	Filter            string `json:"filter"`
	QoS               byte   `json:"qos"`
	ID                uint32 `json:"id,omitempty"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	RetainHandling    byte   `json:"retain_handling,omitempty"`
	From              string `json:"from,omitempty"`  // where it began, if in the past
	Where             bool   `json:"where,omitempty"` // deliveries say where they are
}

// Sessions lists sessions. Errors: Invalid.
func (d *Door) Sessions(q SessionQuery) ([]SessionLine, error) {
	if q.State != "" && q.State != stateConnected && q.State != stateAway {
		return nil, fault.New(fault.Invalid, "mqtt.Sessions", "state %q is not %s or %s", q.State, stateConnected, stateAway)
	}
	lines := []SessionLine{}
	for _, id := range d.seats.IDs(q.Prefix, q.After) {
		if len(lines) == q.Limit {
			break
		}
		d.seats.Look(id, func(state *session.State, h roster.Holder) {
			if line := sessionLine(state, h); q.State == "" || line.State == q.State {
				lines = append(lines, line)
			}
		})
	}
	return lines, nil
}

// EachSession visits the sessions, in no order, with how many messages their connections of now did not get or were
// refused.
func (d *Door) EachSession(visit func(line SessionLine, dropped uint64)) {
	for _, seat := range d.seats.Seats() {
		var line SessionLine
		dropped := uint64(0)
		found := seat.Look(func(state *session.State, h roster.Holder) {
			line = sessionLine(state, h)
			if c, ok := h.(*conn); ok {
				for _, n := range c.link.dropped() {
					dropped += n
				}
			}
		})
		if found {
			visit(line, dropped)
		}
	}
}

// Session tells of one session. Errors: NotFound, those of the log.
func (d *Door) Session(id string) (*SessionDetail, error) {
	var s SessionDetail
	var standing []stands
	found := d.seats.Look(id, func(state *session.State, h roster.Holder) {
		s = SessionDetail{SessionLine: sessionLine(state, h), Window: state.Out.Window(), Filters: []SubscriptionLine{}}
		if w := state.Will(); w != nil {
			s.Will = string(w.Message.Topic)
		}
		if c, ok := h.(*conn); ok {
			s.KeepAlive, s.Drops = c.link.agreed.KeepAlive(), c.link.dropped()
		}
		standing = standingOf(state, h != nil)
		for sub := range state.All {
			s.Filters = append(s.Filters, SubscriptionLine{Filter: sub.Filter, QoS: sub.QoS, ID: sub.ID, NoLocal: sub.NoLocal,
				RetainAsPublished: sub.RetainAsPublished, RetainHandling: sub.RetainHandling,
				Where: sub.Where, From: fromName(sub)})
		}
	})
	if !found {
		return nil, noSession(id)
	}
	slices.SortFunc(s.Filters, func(a, b SubscriptionLine) int { return cmp.Compare(a.Filter, b.Filter) })
	var err error
	s.Lag, err = d.Backlogs().lines(id, standing)
	return &s, err
}

func fromName(sub *session.Subscription) string {
	if sub.Replay == nil {
		return ""
	}
	return sub.Replay.From.String()
}

// stands is a subscription whose lag is to be told; replay is nil for those that stand where the session does.
type stands struct {
	filter string // as it is served
	name   string
	replay *session.Replay
}

// standingOf are the subscriptions of a session that may be behind. It needs the lock of the session.
func standingOf(state *session.State, connected bool) (all []stands) {
	behind := !connected || state.BehindIn() > 0
	for sub := range state.All {
		if behind && !sub.Shared() { // its group stands by itself
			all = append(all, stands{sub.Served().Filter, sub.Filter, sub.Replay})
		}
	}
	return all
}

func noSession(id string) error {
	return fault.New(fault.NotFound, "session "+fault.Text(id), "no such session").
		WithHint("firth session list shows what there is")
}

// sessionLine needs the lock of the session.
func sessionLine(state *session.State, h roster.Holder) SessionLine {
	line := SessionLine{
		Client: state.ClientID(), State: stateAway, Version: versionName(state.Version()),
		Subscriptions: state.Subscriptions(), InFlight: state.Out.InFlight(), Behind: state.BehindIn(),
	}
	since := state.Away()
	if c, ok := h.(*conn); ok {
		line.State, line.Remote, line.Listener = stateConnected, c.wire.remote(), c.listener.opt.Name
		line.User, since = c.link.principal.UserName, c.link.since
	}
	if since > 0 {
		at := time.UnixMilli(since).UTC()
		line.Since = &at
	}
	if expiry := state.Expiry(); expiry != session.Never {
		line.Expiry = &expiry
	}
	return line
}

func versionName(v packet.Version) string {
	switch v {
	case packet.V31:
		return "3.1"
	case packet.V311:
		return "3.1.1"
	}
	return "5"
}

// Kicked is what became of a session that was kicked.
type Kicked struct {
	Client    string `json:"client"`
	Connected bool   `json:"connected"` // it had a connection, which ends
	Forgotten bool   `json:"forgotten"` // the session ends, too
}

// Kick ends the connection of a session with reason 0x98, and publishes its will; with forget the session ends too.
// Errors: NotFound, those of the log.
func (d *Door) Kick(ctx context.Context, id string, forget bool) (*Kicked, error) {
	var holder *conn
	if !d.seats.Look(id, func(_ *session.State, h roster.Holder) { holder, _ = h.(*conn) }) {
		return nil, noSession(id)
	}
	if forget {
		d.note(id, eventForgotten, packet.Success, "by an administrator")
		if err := d.seats.Forget(ctx, id); err != nil {
			return nil, err
		}
	}
	if holder != nil {
		d.note(id, eventKicked, packet.AdministrativeAction, "by an administrator")
		holder.disconnect(packet.AdministrativeAction)
	}
	return &Kicked{Client: id, Connected: holder != nil, Forgotten: forget}, nil
}
