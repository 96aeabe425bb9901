// Package bridge joins the node to other MQTT servers: what is published there comes into the log, and what is in the
// log goes there.
//
// A bridge is two sessions and nothing of its own. At our door it is a client as any other, whose session is a cursor
// in the log and knows which packet identifiers it has received; at the other server it has a session that outlives its
// connections. Package relay passes packets from one to the other. There is no queue: what the other side does not
// take stays in the log.
//
//	b := bridge.New(home)
//	go b.Run(ctx)
//	b.Set(options)
//	for _, s := range b.List() { ... }
package bridge

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"reflect"
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
	metrics metrics

	setting sync.Mutex // who changes all

	mu  sync.Mutex
	all []*Bridge
	ctx context.Context //nolint:containedctx // that of Run; nil: it was not called yet
}

type metrics struct {
	connected, backlog telemetry.Gauges
	connects           telemetry.Counters
	passed, dropped    telemetry.Counters
	missed             telemetry.Counters
}

// New makes what holds the bridges of a node: none, until Set.
func New(home Home) *Bridges {
	return &Bridges{home: home, metrics: metrics{
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
}

// Run runs bridges until ctx ends.
func (b *Bridges) Run(ctx context.Context) error {
	b.mu.Lock()
	b.ctx = ctx
	for _, one := range b.all {
		one.begin(ctx)
	}
	b.mu.Unlock()
	<-ctx.Done()
	b.setting.Lock() // one that Set begins now ends at once
	defer b.setting.Unlock()
	for _, one := range b.every() {
		one.end()
	}
	return nil
}

// Set says which bridges there are from now on; their names differ. One of which nothing has changed goes on and
// notices nothing. Others end first, politely, which takes a few seconds at most; their sessions stay, on both sides,
// and with them what is in flight: a bridge that has changed goes on with it.
func (b *Bridges) Set(all []Options) {
	b.setting.Lock()
	defer b.setting.Unlock()
	before := b.every()
	next, kept := make([]*Bridge, len(all)), map[*Bridge]bool{}
	for i := range all {
		same := func(one *Bridge) bool { return reflect.DeepEqual(one.o, all[i]) }
		if at := slices.IndexFunc(before, same); at >= 0 {
			next[i], kept[before[at]] = before[at], true
		}
	}
	b.finish(slices.DeleteFunc(before, func(one *Bridge) bool { return kept[one] }))
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range next {
		if next[i] == nil {
			next[i] = newBridge(b, all[i])
			if b.ctx != nil {
				next[i].begin(b.ctx)
			}
		}
	}
	b.all = next
}

// finish ends bridges, all at a time.
func (b *Bridges) finish(all []*Bridge) {
	var wg sync.WaitGroup
	for _, one := range all {
		wg.Go(func() {
			one.end()
			b.metrics.connected.Delete(one.o.Name)
			b.metrics.backlog.Delete(one.o.Name)
		})
	}
	wg.Wait()
}

// every is all bridges there are now.
func (b *Bridges) every() []*Bridge {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.all)
}

// List tells of all bridges, in the order of the configuration.
func (b *Bridges) List() []Status {
	all := b.every()
	lines := make([]Status, 0, len(all))
	for _, one := range all {
		lines = append(lines, one.status())
	}
	return lines
}

// Named finds a bridge. Errors: NotFound.
func (b *Bridges) Named(name string) (*Bridge, error) {
	all := b.every()
	i := slices.IndexFunc(all, func(one *Bridge) bool { return one.o.Name == name })
	if i < 0 {
		return nil, fault.New(fault.NotFound, "bridge "+fault.Text(name), "no such bridge").
			WithHint("firth bridge list shows what there is; they are made in the configuration: bridges")
	}
	return all[i], nil
}

// Missed is told of records that retention took before the session of a client at the door had read them.
func (b *Bridges) Missed(client string, records int64) {
	for _, one := range b.every() {
		if one.o.LocalClientID == client {
			one.missed(records)
		}
	}
}
