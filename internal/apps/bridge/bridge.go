// Package bridge joins the node to other MQTT servers: what is published there comes into the log, and what is in the
// log goes there.
//
// A bridge is two sessions and nothing of its own. At our door it is a client as any other, whose session is a cursor
// in the log and knows which packet identifiers it has received; at the other server it has a session that outlives its
// connections. Package relay passes packets from one to the other. There is no queue: what the other side does not
// take stays in the log.
//
//	b := bridge.New(home, options)
//	go b.Run(ctx)
//	for _, s := range b.List() { ... }
package bridge

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/apps/bridge/relay"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Home is the node as bridges see it.
type Home struct {
	// ID marks what goes out, so that it is known when it comes back.
	ID string
	// Dial connects to the device door, where the user name of a CONNECT is believed.
	Dial func(ctx context.Context) (net.Conn, error)
	// Session tells of a session at the door. Errors: NotFound.
	Session func(client string) (Session, error)
	// Writable tells why the log takes nothing now; nil: it does.
	Writable func() error

	Metrics *telemetry.Set
	Logger  *slog.Logger
}

// Session is what the door knows of one.
type Session struct {
	Filters []string // of its subscriptions
	Backlog int64    // records between where it stands and what is stored, whether they are for it or not
}

// Start says when a bridge connects.
type Start byte

// The ways to start.
const (
	Automatic Start = iota // at once, and again whenever a connection is lost
	Lazy                   // when as much waits as Options.Threshold says, until nothing has passed for Options.Idle
	Once                   // at once, and not again
)

// Options are one bridge.
type Options struct {
	Name      string
	Addresses []string // host:port, the first one preferred
	// RoundRobin has a lost connection be followed by one to the next address; without it the first one that answers is
	// taken, and the first of all again once it does.
	RoundRobin bool

	Version       packet.Version
	ClientID      string // at the other server
	LocalClientID string // at our door
	User          string // whose rights it has here; empty: those of anonymous clients
	RemoteUser    string
	PasswordFile  string // of RemoteUser; empty: none
	Clean         bool   // the other server forgets the session with each connection
	SessionExpiry time.Duration
	KeepAlive     time.Duration
	NoPrivate     bool // MQTT 3.1.1: does not say that it is a bridge
	TLS           *TLS // nil: plain TCP

	Topics       []relay.Topic
	MaxHops      int
	NoRetain     bool    // what goes out is not retained there
	MaxInflight  int     // messages above QoS 0 without an acknowledgement, each way
	OutRate      float64 // messages a second that go out; 0: no bound
	Announce     [2]bool // by relay.Side: whether it is told of the state of the bridge
	AnnounceName string  // the topic of that; empty: Mosquitto's

	Start     Start
	Threshold int64         // records
	Idle      time.Duration // without a message
	// RestartMin and RestartMax bound the time before it connects again.
	RestartMin, RestartMax time.Duration
}

// state is the topic that tells of the state of a bridge.
func (o *Options) state() string {
	return cmp.Or(o.AnnounceName, "$SYS/broker/connection/"+o.ClientID+"/state")
}

// States of a bridge.
const (
	StateConnecting = "connecting"
	StateConnected  = "connected"
	StateWaiting    = "waiting" // before it tries again
	StateIdle       = "idle"    // Lazy, and too little waits
	StatePaused     = "paused"
	StateEnded      = "ended" // Once, and it was
)

// Status is how a bridge stands.
type Status struct {
	Name     string            `json:"name"`
	State    string            `json:"state"`
	Since    time.Time         `json:"since"`
	Address  string            `json:"address,omitempty"` // where it is connected, or was last
	Version  string            `json:"version"`
	Topics   []string          `json:"topics"`
	In       uint64            `json:"in"`  // messages, since the node started
	Out      uint64            `json:"out"` // the same
	Dropped  map[string]uint64 `json:"dropped,omitempty"`
	Backlog  int64             `json:"backlog"` // records that wait to go out, whether they are for it or not
	Missed   uint64            `json:"missed"`  // records that retention took before they could go out
	Problem  string            `json:"problem,omitempty"`
	Refused  []string          `json:"refused,omitempty"` // filters, and who does not grant them
	Attempts int               `json:"attempts,omitempty"`
}

// Bridges are all bridges of a node.
type Bridges struct {
	home    Home
	all     []*Bridge
	metrics metrics
}

type metrics struct {
	connected, backlog telemetry.Gauges
	connects           telemetry.Counters
	passed, dropped    telemetry.Counters
	missed             telemetry.Counters
}

// New makes bridges; Run runs them. Their names differ.
func New(home Home, all []Options) *Bridges {
	b := &Bridges{home: home, metrics: metrics{
		connected: home.Metrics.Gauge("firth_bridge_connected", "Whether a bridge is connected, 1 or 0.", "bridge"),
		backlog: home.Metrics.Gauge("firth_bridge_backlog_records",
			"Records of the log between where a bridge stands and what is stored, whether they are for it or not.", "bridge"),
		connects: home.Metrics.Counter("firth_bridge_connects_total",
			"Attempts of bridges to connect, by their result: ok or failed.", "bridge", "result"),
		passed: home.Metrics.Counter("firth_bridge_messages_total",
			"Messages that bridges passed on, by direction: in or out.", "bridge", "direction"),
		dropped: home.Metrics.Counter("firth_bridge_dropped_total",
			"Messages that bridges did not pass on, by reason.", "bridge", "reason"),
		missed: home.Metrics.Counter("firth_bridge_missed_records_total",
			"Records that retention took before a bridge had read them, whether they were for it or not.", "bridge"),
	}}
	for _, o := range all {
		b.all = append(b.all, newBridge(b, o))
	}
	return b
}

// Run runs all bridges until ctx ends.
func (b *Bridges) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, one := range b.all {
		wg.Go(func() { one.run(ctx) })
	}
	wg.Wait()
	return nil
}

// List tells of all bridges, in the order of the configuration.
func (b *Bridges) List() []Status {
	lines := make([]Status, 0, len(b.all))
	for _, one := range b.all {
		lines = append(lines, one.status())
	}
	return lines
}

// Named finds a bridge. Errors: NotFound.
func (b *Bridges) Named(name string) (*Bridge, error) {
	i := slices.IndexFunc(b.all, func(one *Bridge) bool { return one.o.Name == name })
	if i < 0 {
		return nil, fault.New(fault.NotFound, "bridge "+fault.Text(name), "no such bridge").
			WithHint("firth bridge list shows what there is")
	}
	return b.all[i], nil
}

// Missed is told of records that retention took before the session of a client at the door had read them.
func (b *Bridges) Missed(client string, records int64) {
	for _, one := range b.all {
		if one.o.LocalClientID == client {
			one.missed(records)
		}
	}
}
