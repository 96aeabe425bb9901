// Package kafka is the back-end door: it serves Kafka clients from the log.
//
// One goroutine reads a connection. Produce requests are appended as they come, so that several of
// them share a commit of the log, and are answered in order when their receipts are in. A Fetch with
// nothing to say parks: the log's news ends the wait, not a poll. Every other request is answered
// before the next is read. Record bytes go from the frame into the log and from the log to the socket
// as they are.
//
// One file for each API, api_NN_name.go, says what it serves. The consumer groups are in coordinator.go.
// The door never sees MQTT; both meet in the log.
package kafka

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Options of the door. The zero value of each field is its default.
type Options struct {
	// Store is the log that is served. It must be set.
	Store *store.Store
	// Advertise is the "host:port" that clients are told to connect to. Empty or "auto": the local
	// address of the socket that the client reached.
	Advertise string
	// AdvertiseTLS is the same for clients that came by TLS. Empty or "auto": the name that the client asked for (SNI),
	// or else the local address.
	AdvertiseTLS string
	// ClusterID is the identity of the log as clients are told it: the same after a restart. Default: none.
	ClusterID string
	// NodeID is the broker id of this node. Default 1.
	NodeID int32
	// DisableAutoCreate refuses to create a topic that a client only asks the metadata of.
	DisableAutoCreate bool
	// MaxRequestBytes is the largest Produce request. Default 100 MiB; other requests have smaller
	// bounds of their own.
	MaxRequestBytes int
	// MaxConnections is how many connections may be open at once. Default 10,000.
	MaxConnections int
	// HeldBytes is how much requests and answers of all connections together may take in memory. Near it the largest
	// are slowed, and refused at last. Default 512 MiB.
	HeldBytes int64
	// SASL is how clients may authenticate. Default: nobody can.
	SASL SASL
	// Rules are what clients may see and change of who may do what. Nil: they may not.
	Rules Rules
	// Credentials are those of users that clients may manage. Nil: they may not.
	Credentials Credentials
	// Delegations are the delegation tokens that clients may ask for. Nil: there are none.
	Delegations *access.Delegations
	// Logins knows who clients are, and Guard decides what they may do. Nil: everybody may do everything.
	Logins Logins
	Guard  Guard
	// Audit is told who comes, what is refused and what is changed. Nil: nobody is told.
	Audit *audit.Trail
	// TopicDefaults and DefaultPartitions are what the log was opened with, to show them. Default: none,
	// and 1.
	TopicDefaults     map[string]string
	DefaultPartitions int
	// LogDir is the name of the log's folder, to show it. Default "firth-data".
	LogDir string
	// Groups bound the consumer groups.
	Groups GroupOptions
	// Shares bound the share groups.
	Shares ShareOptions
	// Transactions bound the transactions.
	Transactions TxnOptions
	// Metrics receives the metrics of the door. Nil: nobody looks.
	Metrics *telemetry.Set
	// Logger receives the log lines of the door. Nil: none.
	Logger *slog.Logger

	steady func() int64 // the clock of sessions, locks and transactions; nil: that of the machine
}

func (o Options) withDefaults() Options {
	if o.NodeID == 0 {
		o.NodeID = 1
	}
	if o.MaxRequestBytes <= 0 {
		o.MaxRequestBytes = 100 << 20
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 10_000
	}
	if o.HeldBytes <= 0 {
		o.HeldBytes = 512 << 20
	}
	if o.DefaultPartitions <= 0 {
		o.DefaultPartitions = 1
	}
	if o.LogDir == "" {
		o.LogDir = "firth-data"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.steady == nil {
		o.steady = steady()
	}
	return o
}

// appender takes the batches of producers: the log.
type appender interface {
	AppendBatch(w store.BatchWrite, to stream.Receipt, ticket uint64) error
}

// Door serves Kafka clients. Make one with Open.
type Door struct {
	opt      Options
	log      *store.Store
	produce  appender // the log, or what stands for it where the cost of the door is measured
	groups   *coordinator
	txns     *transactions
	shares   *shares
	apis     table
	versions []wire.API // what ApiVersions announces
	told     address    // from Options.Advertise; no host: each connection's own
	toldTLS  address    // from Options.AdvertiseTLS

	purgatory purgatory
	scratches sync.Pool // of *record.Scratch, to look into compressed batches
	windows   sync.Pool // of *[windowBytes]byte, to read requests through
	wide      sync.Pool // of *wideFetch
	chunks    chunks    // of stored records on their way to a socket
	budget    *budget
	sessions  *fetchSessions
	quotas    *quotas
	clients   *clientMetrics
	refused   atomic.Int64 // connections that are too many for their address, and held for a moment
	settings  settings
	lines     *limit.Lines // of the log that clients cause
	opened    time.Time
	large     chan struct{} // a place for each large request that is being served by kmsg
	clock     atomic.Uint32 // ticks of the watchdog
	running   chan struct{} // closed when Run is under way

	bytesIn, bytesOut            atomic.Uint64
	metrics                      metrics
	produceSeconds, fetchSeconds stopwatch

	mu struct {
		sync.Mutex
		conns     map[*conn]struct{}
		listeners map[net.Listener]struct{}
		draining  bool
	}
	left *sync.Cond // the last connection is gone
}

// Open makes a door on a log. It reads what the groups have stored, and listens nowhere yet.
// Errors: Invalid (an address to advertise that is none), and those of reading the log.
func Open(ctx context.Context, opt Options) (*Door, error) {
	opt = opt.withDefaults()
	told, err := parseAdvertise(opt.Advertise)
	if err != nil {
		return nil, err
	}
	toldTLS, err := parseAdvertise(opt.AdvertiseTLS)
	if err != nil {
		return nil, err
	}
	held := &budget{limit: opt.HeldBytes, patience: budgetPatience}
	groups, err := openCoordinator(ctx, opt, opt.Store, held)
	if err != nil {
		return nil, err
	}
	txns, err := openTransactions(ctx, opt, groups)
	if err != nil {
		return nil, err
	}
	groups.txns = txns
	d := &Door{
		opt: opt, log: opt.Store, produce: opt.Store, groups: groups, txns: txns, apis: table{}, told: told,
		toldTLS: toldTLS,
		large:   make(chan struct{}, 4), chunks: newChunks(), running: make(chan struct{}), opened: time.Now(),
		lines: limit.NewLines(time.Minute, 1000), budget: held,
	}
	d.budget.told = d.slowed
	groups.create = func(ctx context.Context, c *conn, rt *kmsg.CreateTopicsRequestTopic) error {
		return d.createTopic(ctx, c, rt, creation{}, new(kmsg.CreateTopicsResponseTopic))
	}
	d.quotas = newQuotas(d.now)
	d.clients = newClientMetrics(d.now)
	d.sessions = newFetchSessions(held, opt.MaxConnections, d.now)
	d.scratches.New = func() any { return new(record.Scratch) }
	d.windows.New = func() any { return new([windowBytes]byte) }
	d.left = sync.NewCond(&d.mu)
	d.mu.conns, d.mu.listeners = map[*conn]struct{}{}, map[net.Listener]struct{}{}
	if d.shares, err = openShares(ctx, opt, groups, &d.purgatory); err != nil {
		return nil, err
	}
	groups.shares = d.shares
	d.register(d.apis)
	groups.register(d.apis)
	d.shares.register(d.apis)
	txns.register(d.apis)
	d.versions = d.apis.versions()
	d.measure()
	if err := d.openSettings(ctx); err != nil {
		return nil, err
	}
	if err := d.openQuotas(ctx); err != nil {
		return nil, err
	}
	if err := d.openSubscriptions(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// now is how long the door is open: a clock that does not step.
func (d *Door) now() time.Duration { return time.Since(d.opened) }

// Run keeps what the door needs alive until ctx ends: the groups, the news of the log, the limits of
// time. It must run while Serve does, once.
func (d *Door) Run(ctx context.Context) error {
	watch := d.log.Watch(&d.purgatory, stream.AllPartitions)
	defer watch.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var keepers sync.WaitGroup
	keepers.Go(func() { d.watchConns(ctx) })
	keepers.Go(func() { d.txns.run(ctx) })
	keepers.Go(func() { d.shares.run(ctx) })
	if d.opt.Delegations != nil {
		keepers.Go(func() { d.opt.Delegations.Run(ctx) })
	}
	close(d.running)
	err := d.groups.Run(ctx)
	cancel()
	keepers.Wait()
	return err
}
