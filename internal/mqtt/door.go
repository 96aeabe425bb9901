// Package mqtt is the device door: MQTT 3.1, 3.1.1 and 5.0 over TCP, WebSocket and Unix sockets.
//
// A PUBLISH becomes a record of the log and is acknowledged when the log says that it is stored; what
// is new in the log becomes PUBLISH packets for those who subscribed. The door keeps no message itself:
// package packet is the codec, session the state of a client, mapping the hinge to the log, fanout the
// way out, retain the retained messages.
//
//	door, err := mqtt.Open(ctx, mqtt.Options{Log: log, Mapping: table})
//	go door.Run(ctx)
//	go door.Serve(ctx, listener) // or door.Listener(...), for one with limits of its own
//
// Shared subscriptions are served by package groups, to clients of MQTT 3 too.
// Topics that begin with $ do not cross: a PUBLISH to one (but for $delayed) is refused with reason 0x90, in MQTT 3
// acknowledged and dropped; a will to one is not published; a subscription to one is granted and gets nothing,
// but for those below $SYS, and below $sparkplug where the mapping is aware of it.
//
// No client needs to know anything beyond the standard [MQTT-7.0.0-2 of 3.1.1].
package mqtt

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/catchup"
	"github.com/firthmq/firth/internal/mqtt/delay"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/groups"
	"github.com/firthmq/firth/internal/mqtt/members"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Door is the device door of a node.
type Door struct {
	opt      Options
	limits   session.Limits
	metrics  metrics
	mapping  atomic.Pointer[hinge.Table]
	log      stream.Log // to append to: opt.Log, as the retained messages want it
	fanout   *fanout.Fanout
	catchUp  *catchup.CatchUp
	welcomes *welcomes
	retained *retain.Store
	groups   atomic.Pointer[groups.Groups] // nil: they are on another node
	members  *members.Members              // of groups on other nodes, too; nil: nodes do not share sessions
	seats    *roster.Roster
	status   *status
	bans     bans
	delayed  *delay.Store // nil: nothing is
	history  history
	traces   traces

	followers followers

	rewriting atomic.Pointer[Rewriting]
	ways      ways

	opened   time.Time
	count    atomic.Int64  // connections
	accepted atomic.Uint64 // connections ever
	pollers  []*poller
	pushers  []*pusher
	creating chan struct{} // holds a token while a topic is made

	budget *limit.Budget // of what connections make us hold
	// strangers is a part of it: those have that whose CONNECT was not accepted yet. However many they are, they leave
	// the rest to clients.
	strangers *limit.Budget
	lines     *limit.Lines // about clients
	turns     sync.Pool    // *turn
	buffers   buffers

	mu struct {
		sync.Mutex
		conns    map[*conn]struct{}
		draining bool
		empty    chan struct{} // closed when the last connection ends while draining
	}
}

// Open makes a door: it reads the retained messages, and makes their topic if it is not there.
// Errors: Invalid for an option out of range, those of the log.
func Open(ctx context.Context, opt Options) (*Door, error) {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	d := &Door{opt: opt, opened: time.Now(), creating: make(chan struct{}, 1),
		budget: limit.NewBudget(opt.BudgetBytes / overhead), lines: limit.NewLines(time.Minute, maxLines)}
	d.strangers = limit.NewBudget(max(d.budget.Most()/strangersPart, leastStrangers))
	rewriting, err := NewRewriting(opt.Rewrite, opt.AutoSubscribe)
	if err != nil {
		return nil, err
	}
	d.limits = session.Limits{
		ReceiveMaximum: opt.ReceiveMaximum, MaxInflight: uint16(opt.MaxInflight), TopicAliasMaximum: opt.TopicAliasMaximum,
		MaxPacketBytes: opt.MaxPacketBytes, MaxKeepAlive: uint16(opt.MaxKeepAlive / time.Second),
		MaxSubscriptions: opt.MaxSubscriptions, MaxExpiry: maxExpiry(opt.MaxExpiry),
		ResponsePrefix: opt.ResponsePrefix,
	}
	d.mu.conns = make(map[*conn]struct{})
	for range min(runtime.GOMAXPROCS(0), maxPollers) {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		d.pollers, d.pushers = append(d.pollers, p), append(d.pushers, newPusher())
	}
	d.mapping.Store(opt.Mapping)
	d.rewriting.Store(rewriting)
	d.ways.rates = opt.Rates
	d.metrics, d.status = newMetrics(d, opt.Metrics), newStatus(d)
	d.retained, err = retain.Open(ctx, retain.Options{
		Log: opt.Log, Mapping: d.mapping.Load, Metrics: opt.Metrics, Logger: opt.Logger, MaxTopics: opt.RetainedTopics,
		MaxBytes: opt.RetainedBytes,
	})
	if err != nil {
		return nil, err
	}
	if err := d.openDelayed(ctx); err != nil {
		return nil, err
	}
	if err := d.openBans(ctx); err != nil {
		return nil, err
	}
	d.log = d.retained.Log()
	d.fanout = fanout.New(fanout.Options{
		Log: opt.Log, Mapping: d.mapping.Load, Metrics: opt.Metrics, Logger: opt.Logger, Clock: opt.Clock, Judge: opt.Judge,
		Workers: opt.FanoutWorkers, Keys: opt.SharedByKey,
	})
	d.retained.HeardBy(d.fanout)
	d.catchUp = catchup.New(d.fanout, catchup.Options{Metrics: opt.Metrics})
	d.welcomes = newWelcomes(d.fanout)
	sessions := roster.Options{
		Beside: d.besides(), Log: d.opt.Log, Limits: &d.limits, PublishWill: d.publishWill, Reached: d.fanout.Reached,
		Clock: opt.Clock, Metrics: opt.Metrics, Logger: opt.Logger, MaxSessions: opt.MaxSessions, MaxBytes: opt.SessionBytes,
		Interval: opt.CheckpointInterval, Expired: func(id string) { d.note(id, eventExpired, packet.Success, "") },
	}
	d.share(&sessions)
	d.seats, err = roster.Open(ctx, sessions)
	if err != nil {
		return nil, err
	}
	opt.Metrics.GaugeFunc("firth_mqtt_shared_lag",
		"Records that groups of shared subscriptions have not done with: open, or not given out yet.", d.sharedLag)
	return d, nil
}

// maxExpiry is a bound on session expiry intervals in seconds.
func maxExpiry(d time.Duration) uint32 {
	if s := int64(d / time.Second); s > 0 && s < session.Never {
		return uint32(s)
	}
	return session.Never
}

// overhead is how many bytes a byte costs that we hold: the garbage collector lets as much again gather before it runs.
const overhead = 2

const (
	// strangersPart is the part of the budget that those may hold together whose CONNECT was not accepted yet.
	strangersPart = 8
	// leastStrangers is how much they may hold at least: one CONNECT finds room, which doubles up to the largest: what
	// more it takes then is no more than half of what is free.
	leastStrangers = 2 * maxConnect
)

// maxLines is for how many clients and reasons lines are counted apart.
const maxLines = 10_000

// maxPollers bounds the goroutines that drive plain connections, and those that write acknowledgements.
const maxPollers = 16

// Run drives connections and delivers messages until ctx ends, or until one of the workers fails: then it ends all of
// them, for a door without one of its pollers would be deaf to a part of its clients. It returns when all have ended.
func (d *Door) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := []func(context.Context) error{
		d.fanout.Run, d.catchUp.Run, d.retained.Run, d.runGroups, d.seats.Run, d.status.run,
	}
	if d.members != nil {
		work = append(work, d.members.Run)
	}
	if d.delayed != nil {
		work = append(work, d.delayed.Run)
	}
	if d.bans.replica != nil {
		work = append(work, d.bans.replica.Run)
	}
	for _, p := range d.pollers {
		work = append(work, p.run)
	}
	for _, p := range d.pushers {
		work = append(work, p.run)
	}
	errs := make([]error, len(work))
	var wg sync.WaitGroup
	for i, run := range work {
		wg.Go(func() {
			if errs[i] = run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// uptime is the time since the door was opened. It never goes back.
func (d *Door) uptime() time.Duration { return time.Since(d.opened) }

// SetMapping swaps the mapping. Messages under way go by the old one or the new one.
func (d *Door) SetMapping(t *hinge.Table) {
	d.fanout.Remap(t)
	d.mapping.Store(t)
}

// add counts a connection in, unless there are too many or the door closes.
func (d *Door) add(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.draining || len(d.mu.conns) >= d.opt.MaxConnections || !c.listener.enter() {
		return false
	}
	d.mu.conns[c] = struct{}{}
	d.count.Add(1)
	d.metrics.connections.Inc()
	return true
}

// remove counts a connection out. The second time it does nothing.
func (d *Door) remove(c *conn) {
	c.closeAccounts()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, is := d.mu.conns[c]; !is {
		return
	}
	delete(d.mu.conns, c)
	c.listener.leave()
	c.peer.Forget()
	if c.wire.sock != nil {
		c.poller.remove(c)
	}
	d.count.Add(-1)
	if d.mu.draining && len(d.mu.conns) == 0 {
		signal(&d.mu.empty)
	}
}

// Drain ends all connections: what was received is stored and acknowledged, MQTT 5 clients are told
// that the server shuts down (0x8B), wills are published. New connections are refused from now on. It
// returns when all are closed, or when ctx ends: then they are cut. Errors: Timeout.
func (d *Door) Drain(ctx context.Context) error {
	d.mu.Lock()
	d.mu.draining = true
	conns := make([]*conn, 0, len(d.mu.conns))
	for c := range d.mu.conns {
		conns = append(conns, c)
	}
	empty := make(chan struct{})
	if len(conns) == 0 {
		close(empty)
	} else {
		d.mu.empty = empty
	}
	d.mu.Unlock()
	d.followers.look()
	for _, c := range conns {
		c.disconnect(packet.ServerShuttingDown)
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	for _, c := range conns {
		c.close()
	}
	return fault.New(fault.Timeout, "mqtt.Drain", "connections were cut: %w", ctx.Err())
}

// Stats is the state of the door for people.
type Stats struct {
	Connections   int // sockets
	Clients       int // sessions with a connection
	Away          int // sessions without one
	Subscriptions int
	SharedGroups  int // of shared subscriptions
	Retained      int // topic names with a retained message
}

// Stats is the state of the door now.
func (d *Door) Stats() Stats {
	return Stats{
		Connections: int(d.count.Load()), Clients: d.seats.Present(), Away: d.seats.Len() - d.seats.Present(),
		Subscriptions: d.fanout.Subscriptions(), SharedGroups: d.groups.Load().Len(), Retained: d.retained.Len(),
	}
}
