// Package node builds every room in order and closes them in reverse. It also owns the tree of options
// (Config): where each value may come from, its bounds, and the sentence that explains it.
//
// It holds no logic of MQTT, Kafka or the log; it is the only room that knows them all.
//
//	c := node.Default()
//	c.Data, c.Listen.MQTT = dir, "127.0.0.1:0"
//	n, err := node.Start(ctx, c)
//	...
//	addr := n.Addresses().MQTT
//	err = n.Close()
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/access/enrol"
	"github.com/firthmq/firth/internal/access/keys"
	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/apps/bridge"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/erasure"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/mqtt"
)

// Node is one running Firth: the log and its doors.
type Node struct {
	log       *slog.Logger
	metrics   *telemetry.Set
	hour      *telemetry.Past
	crowded   telemetry.Counters // connections that were refused, by door
	fs        vfs.FS
	folder    string // of fs, absolute; "" for one that was given
	keeper    keeper
	store     *store.Store // nil: the log is a Kafka cluster
	keys      *atrest.Ring // nil: nothing is encrypted
	access    *access.Access
	authority *authority.Authority
	audit     *audit.Trail // nil: nothing is written down
	guards    guards       // what the doors ask
	guard     adminGuard   // what is asked about who administers
	clocks    clocks
	desk      *enrol.Desk
	people    *people.Desk
	issuers   *keys.Metrics  // of the keys of issuers of tokens
	proxies   []netip.Prefix // that tell for whom they ask
	refusals  *limit.Lines   // of enrolments, and of files of webhooks
	token     string         // of this start, for commands of the same user; "": none
	kafka     *kafka.Door    // nil: Kafka clients connect to the brokers
	mqtt      *mqtt.Door
	api       *api.API
	erasures  *erasure.Erasures
	mapping   atomic.Pointer[hinge.Table]
	sockets   map[string][]socket       // by kind of door; what is off is not in it
	ways      map[string]*mqtt.Listener // into the device door, by label
	guests    *mqtt.Listener            // by which those come who have no connection
	bridges   *bridge.Bridges
	inside    *inside // by which they connect
	tls       secured
	rooms     []room // in the order of opening

	instanceName string    // of a gateway, in the cluster
	standing     *standing // nil: it is no gateway among others
	began        time.Time
	servedSince  atomic.Pointer[time.Time]

	draining atomic.Bool
	failed   chan error // the first room that ended by itself

	imaging    sync.Mutex // one backup at a time
	diagnosing sync.Mutex
	lines      *lastLines // nil: nobody keeps them
	closing    sync.Once
	closed     error // what Close returns

	mu          sync.Mutex
	cfg         *Config
	stopBridges func(context.Context) error // nil: there never was a bridge
}

// clocks tell the time, and how much of it has passed. Tests put theirs there.
type clocks struct {
	wall   func() time.Time
	passed func() time.Duration
}

// room is something that is open: its name for the log, and how it is closed. ctx bounds how long it
// may take to be polite.
type room struct {
	name  string
	close func(ctx context.Context) error
}

// Addresses are where the doors listen now, as host:port; empty for one that is off. One that listens on localhost
// has its IPv4 address here, where the machine has one.
type Addresses struct {
	MQTT  string `json:"mqtt,omitempty"`
	WS    string `json:"ws,omitempty"`
	Kafka string `json:"kafka,omitempty"`
	HTTP  string `json:"http,omitempty"`

	MQTTS  string `json:"mqtts,omitempty"` // with TLS, as all that follow
	WSS    string `json:"wss,omitempty"`
	Kafkas string `json:"kafkas,omitempty"`
	HTTPS  string `json:"https,omitempty"`
}

// Start opens the data directory, the log and the doors, in this order, and returns when all of them
// serve. ctx bounds the start only; Close ends the node. Errors: Exists (another process uses the data
// directory, or an address is taken), Invalid, and those of the log. Nothing stays open then.
func Start(ctx context.Context, c *Config) (*Node, error) { return newNode(c).start(ctx) }

func newNode(c *Config) *Node {
	n := &Node{
		log: c.Logger, lines: c.lines, metrics: telemetry.New(), cfg: c, guards: catalogGuards, began: time.Now(),
		clocks:   clocks{time.Now, clock.Passed},
		refusals: limit.NewLines(time.Minute, 1000),
		sockets:  map[string][]socket{}, ways: map[string]*mqtt.Listener{}, failed: make(chan error, 1),
	}
	n.crowded = n.metrics.Counter("firth_connections_refused_total",
		"Connections closed at once because too few open files are left.", "door")
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	return n
}

func (n *Node) start(ctx context.Context) (*Node, error) {
	v := BuildVersion()
	n.metrics.Gauge("firth_build_info", "Always 1; the labels say what this binary is.", "version", "revision", "go").
		With(v.Version, v.Revision, v.Go).Set(1)
	steps := []func(context.Context) error{
		n.openFolder, n.openLog, n.openAudit, n.openAccess, n.runAudit, n.openAuthority, n.openDesk, n.openKafka,
		n.openMQTT, n.openErasures, n.openPeople, n.openTLS, n.keepCertificates,
		n.bind, n.serveHTTP, n.serveKafka, n.serveMQTT, n.serveWS, n.openBridges, n.serveShards,
	}
	for _, open := range steps {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, n.closeRooms(ctx))
		}
	}
	n.servedSince.Store(new(time.Now()))
	n.warnOfStrangers()
	return n, nil
}

func (n *Node) opened(name string, end func(context.Context) error) {
	n.rooms = append(n.rooms, room{name, end})
}

func (n *Node) openFolder(context.Context) error {
	if n.fs = n.cfg.FS; n.fs != nil {
		return nil
	}
	folder, err := vfs.NewDisk(n.cfg.Data)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	n.fs, n.folder = folder, folder.Root()
	return nil
}

// naming gives the log the MQTT topic names of records by one mapping, for the index of a sealed file.
type naming struct {
	table   *hinge.Table
	message hinge.Message
	log     *slog.Logger
	failed  bool // a record was too much for the mapping
}

func (n *Node) naming() store.Naming { return &naming{table: n.mapping.Load(), log: n.log} }

// TopicName implements store.Naming. A record over which we panic has no name: it is not delivered to devices either.
func (n *naming) TopicName(logTopic string, v *record.View) (name []byte, ok bool) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if name, ok = nil, false; !n.failed {
			n.failed = true
			n.log.Error("a record has no MQTT name: please report this",
				"topic", logTopic, "offset", v.Offset, "panic", cause)
		}
	}()
	if !n.table.Message(logTopic, v, &n.message) {
		return nil, false
	}
	return n.message.Topic, true
}

// Fingerprint implements store.Naming.
func (n *naming) Fingerprint() uint64 { return n.table.Fingerprint() }

func (n *Node) openKafka(ctx context.Context) (err error) {
	if n.store == nil {
		return nil
	}
	_, backEnds, _ := n.guards(n.access)
	n.kafka, err = kafka.Open(ctx, kafka.Options{
		Store: n.store, ClusterID: n.store.ClusterID(), Logins: n.access,
		Guard: backEnds, Rules: n.access, Credentials: n.access, Delegations: n.access.Delegations(), Audit: n.audit,
		SASL: kafka.SASL{
			Mechanisms: append(kafka.PasswordMechanisms(n.access.Passwords(), n.access, n.access,
				n.access.Delegations()), kafka.Bearer(n.access)),
			MaxLifetime: max(n.cfg.Access.Session, 0), BareAnywhere: n.cfg.Access.Bare,
		},
		Advertise: n.cfg.Advertise, AdvertiseTLS: n.cfg.AdvertiseTLS, DisableAutoCreate: !n.cfg.Topics.AutoCreate,
		MaxRequestBytes: int(n.cfg.Limits.Request), MaxConnections: n.cfg.Limits.KafkaConnections,
		TopicDefaults: n.cfg.Topics.Defaults.settings(), DefaultPartitions: n.cfg.Topics.Defaults.Partitions,
		LogDir: n.cfg.Data, Metrics: n.metrics, Logger: n.log, HeldBytes: n.cfg.Limits.KafkaBytes,
		Groups: kafka.GroupOptions{GroupTimes: n.cfg.Groups.times()},
		Transactions: kafka.TxnOptions{
			MaxTimeout: n.cfg.Transactions.MaxTimeout, IDExpiry: n.cfg.Transactions.IDExpiry,
		},
	})
	if err != nil {
		return err
	}
	n.opened("kafka groups", n.run("kafka groups", n.kafka.Run))
	return nil
}

func (n *Node) openMQTT(ctx context.Context) (err error) {
	l, wall := n.cfg.Limits, clock.New(n.clocks.wall, n.clocks.passed)
	devices, _, _ := n.guards(n.access)
	mechanisms := mqtt.SCRAM(n.access.Passwords(), n.access)
	maps.Copy(mechanisms, mqtt.Bearer(n.access))
	n.mqtt, err = mqtt.Open(ctx, mqtt.Options{
		Enrolment: n.desk,
		Log:       n.keeper, Mapping: n.mapping.Load(), Metrics: n.metrics, Logger: n.log, Clock: wall.Now, Judge: wall.For,
		Logins: n.access, Guard: devices, Audit: n.audit, Mechanisms: mechanisms,
		MaxPacketBytes: int(l.Packet), MaxConnections: l.Connections, MaxDeviceTopics: n.cfg.Topics.MaxFromDevices,
		MaxSubscriptions: l.Subscriptions, ReceiveMaximum: uint16(l.ReceiveMaximum), MaxInflight: l.Inflight,
		OutboxBytes: int(l.OutboxBytes), BudgetBytes: l.MQTTBytes, ConnectTimeout: l.ConnectTimeout,
		RetainedTopics: l.Retained, RetainedBytes: l.RetainedBytes, MaxSessions: l.Sessions, SessionBytes: l.SessionBytes,
		TopicAliases: orNone(n.cfg.MQTT.TopicAliases), ResponsePrefix: n.cfg.MQTT.ResponsePrefix,
		ServerReference: n.cfg.MQTT.ServerReference, Redirect: n.cfg.MQTT.redirect(),
		MaxExpiry: max(n.cfg.Sessions.MaxExpiry, 0), QueueQoS0: n.cfg.Sessions.QueueQoS0,
		Rewrite: n.cfg.Rewrite, AutoSubscribe: n.cfg.AutoSubscribe,
		MaxDelayed: n.mostDelayed(), Sharding: n.sharding(), Rates: l.Rates.options(),
		Flapping: mqtt.Flapping{Disconnects: max(n.cfg.Flapping.Disconnects, 0), Window: n.cfg.Flapping.Window,
			Ban: n.cfg.Flapping.Ban},
		SharedBans:       n.sharedBans(),
		SharedByKey:      n.cfg.Sessions.SharedOrder == "key",
		WebSocketOrigins: splitList(n.cfg.WSOrigins),
		Mark:             n.keeper.ClusterID(),
		Version:          BuildVersion().Version, SysInterval: orNone(n.cfg.MQTT.SysInterval),
	})
	if err != nil {
		return err
	}
	n.opened("mqtt delivery", n.run("mqtt delivery", n.mqtt.Run))
	n.access.Watch(n.recheck)
	return n.openWays()
}

// orNone is n, or below 0 for none of an option whose 0 is its default.
func orNone[N int | time.Duration](n N) N {
	if n == 0 {
		return -1
	}
	return n
}

// openWays makes the ways into the device door, each with its limits.
func (n *Node) openWays() error {
	for _, d := range n.cfg.doors() {
		opt := mqtt.ListenerOptions{Name: d.label()}
		if d.own != nil {
			opt = d.own.options()
		}
		if n.ways[d.label()] != nil || d.name != "mqtt" && d.name != "ws" {
			continue
		}
		opt.MaxPacketBytes = min(opt.MaxPacketBytes, int(n.cfg.Limits.Packet))
		way, err := n.mqtt.Listener(opt)
		if err != nil {
			return err
		}
		n.ways[d.label()] = way
	}
	var err error
	n.guests, err = n.mqtt.Listener(mqtt.ListenerOptions{Name: "http"})
	return err
}

func (n *Node) serveKafka(context.Context) error {
	ls := n.sockets["kafka"]
	if len(ls) == 0 {
		return nil
	}
	stop := n.run("kafka", func(ctx context.Context) error {
		return serveAll(ctx, ls, func(ctx context.Context, s socket) error {
			return n.kafka.ServeBy(ctx, s.Listener, s.door.label())
		})
	})
	n.opened("kafka", func(ctx context.Context) error { return errors.Join(n.kafka.Drain(ctx), stop(ctx)) })
	return nil
}

func (n *Node) serveMQTT(context.Context) error {
	stop := func(context.Context) error { return nil }
	if ls := n.sockets["mqtt"]; len(ls) > 0 {
		stop = n.run("mqtt", func(ctx context.Context) error {
			return serveAll(ctx, ls, func(ctx context.Context, s socket) error {
				return n.ways[s.door.label()].Serve(ctx, s.Listener)
			})
		})
	}
	// Drain ends WebSocket connections too, so it is there even if no MQTT socket is.
	n.opened("mqtt", func(ctx context.Context) error { return errors.Join(stop(ctx), n.mqtt.Drain(ctx)) })
	return nil
}

// run starts a goroutine for a room and gives the function that ends it and waits. A room that ends by
// itself with an error ends the node.
func (n *Node) run(name string, work func(context.Context) error) (stop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		if err = work(ctx); errors.Is(err, context.Canceled) {
			err = nil
		}
		if ctx.Err() == nil && !n.draining.Load() {
			n.fail(fmt.Errorf("%s ended: %w", name, cause(err)))
		}
	}()
	return func(context.Context) error {
		cancel()
		<-done
		return err
	}
}

func cause(err error) error {
	if err == nil {
		return fault.New(fault.Internal, "node.Run", "it returned without being asked")
	}
	return err
}

func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // somebody failed before
	}
}

// Failed gives the error of a room that ended by itself; the node should be closed then.
func (n *Node) Failed() <-chan error { return n.failed }

// Addresses tells where the doors listen.
func (n *Node) Addresses() Addresses {
	at := func(kind string, tls bool) string {
		if s := n.first(kind, tls); s != nil {
			return s.address()
		}
		return ""
	}
	return Addresses{MQTT: at("mqtt", false), WS: at("ws", false), Kafka: at("kafka", false), HTTP: at("http", false),
		MQTTS: at("mqtt", true), WSS: at("ws", true), Kafkas: at("kafka", true), HTTPS: at("http", true)}
}

// first is the first address of a kind of door, with or without TLS; nil: there is none.
func (n *Node) first(kind string, tls bool) *socket {
	all := n.sockets[kind]
	if i := slices.IndexFunc(all, func(s socket) bool { return s.door.tls == tls }); i >= 0 {
		return &all[i]
	}
	return nil
}

// Address is one more address that a door listens on.
type Address struct {
	Name    string `json:"name"` // as in the configuration
	Kind    string `json:"kind"` // "mqtt", "ws", "kafka" or "http"
	TLS     bool   `json:"tls,omitempty"`
	Address string `json:"address"`
}

// more are the addresses besides those that Addresses tells.
func (n *Node) more() (all []Address) {
	for _, kind := range []string{"mqtt", "ws", "kafka", "http"} {
		var last door
		for _, s := range n.sockets[kind] {
			if s.door != last && n.first(kind, s.door.tls).door != s.door { // one may have two sockets, on localhost
				all = append(all, Address{Name: s.door.label(), Kind: kind, TLS: s.door.tls, Address: s.address()})
			}
			last = s.door
		}
	}
	return all
}

// listening is every address that the node listens on, door by door.
func (n *Node) listening() (all []door) {
	for _, name := range []string{"mqtt", "ws", "kafka", "http"} {
		for _, s := range n.sockets[name] {
			all = append(all, door{name: name, key: s.door.key, address: s.address(), tls: s.door.tls, own: s.door.own})
		}
	}
	return all
}

func (a Addresses) list() []door {
	all := []door{{name: "mqtt", address: a.MQTT}, {name: "ws", address: a.WS}, {name: "kafka", address: a.Kafka},
		{name: "http", address: a.HTTP}}
	for _, d := range []door{
		{name: "mqtt", address: a.MQTTS}, {name: "ws", address: a.WSS}, {name: "kafka", address: a.Kafkas},
		{name: "http", address: a.HTTPS},
	} {
		if d.tls = true; d.address != "" {
			all = append(all, d)
		}
	}
	return all
}

// Log is the log of the node on its disk, for what runs beside the doors in the same process; nil: it is in Kafka.
func (n *Node) Log() *store.Store { return n.store }

// Close drains the doors for at most shutdown.timeout, then closes the log. It returns what went wrong;
// clients that took too long are no error. Another call waits for the first and returns the same.
func (n *Node) Close() error {
	n.closing.Do(func() {
		n.mu.Lock()
		patience := n.cfg.Shutdown.Timeout
		n.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		n.closed = n.closeRooms(ctx)
	})
	return n.closed
}

// closeRooms closes what is open, the last opened first.
func (n *Node) closeRooms(ctx context.Context) error {
	n.draining.Store(true)
	var errs []error
	for _, r := range slices.Backward(n.rooms) {
		begin := time.Now()
		err := r.close(ctx)
		switch {
		case fault.Is(err, fault.Timeout):
			n.log.Warn("closed "+r.name+" without waiting for all clients", "took", since(begin), "error", err)
		case err != nil:
			n.log.Error("closed "+r.name, "took", since(begin), "error", err)
			errs = append(errs, fmt.Errorf("closing %s: %w", r.name, err))
		default:
			n.log.Info("closed "+r.name, "took", since(begin))
		}
	}
	for _, l := range n.everySocket() { // those that no room has taken over
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func since(begin time.Time) time.Duration { return time.Since(begin).Round(10 * time.Microsecond) }
