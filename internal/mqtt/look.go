package mqtt

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
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
}

// SubscriptionLine is one subscription.
type SubscriptionLine struct {
	Filter            string `json:"filter"`
	QoS               byte   `json:"qos"`
	ID                uint32 `json:"id,omitempty"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	RetainHandling    byte   `json:"retain_handling,omitempty"`
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

// Session tells of one session. Errors: NotFound.
func (d *Door) Session(id string) (*SessionDetail, error) {
	var s SessionDetail
	found := d.seats.Look(id, func(state *session.State, h roster.Holder) {
		s = SessionDetail{SessionLine: sessionLine(state, h), Window: state.Out.Window(), Filters: []SubscriptionLine{}}
		if w := state.Will(); w != nil {
			s.Will = string(w.Message.Topic)
		}
		if c, ok := h.(*conn); ok {
			s.KeepAlive = c.link.agreed.KeepAlive()
		}
		for sub := range state.All {
			s.Filters = append(s.Filters, SubscriptionLine{Filter: sub.Filter, QoS: sub.QoS, ID: sub.ID, NoLocal: sub.NoLocal,
				RetainAsPublished: sub.RetainAsPublished, RetainHandling: sub.RetainHandling})
		}
	})
	if !found {
		return nil, noSession(id)
	}
	slices.SortFunc(s.Filters, func(a, b SubscriptionLine) int { return cmp.Compare(a.Filter, b.Filter) })
	return &s, nil
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
		if err := d.seats.Forget(ctx, id); err != nil {
			return nil, err
		}
	}
	if holder != nil {
		holder.disconnect(packet.AdministrativeAction)
	}
	return &Kicked{Client: id, Connected: holder != nil, Forgotten: forget}, nil
}
