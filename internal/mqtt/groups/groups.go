// Package groups serves shared subscriptions, $share/{share}/{filter} (MQTT 5.0, section 4.8.2): each message goes to
// one member of a group.
//
// A group is a seat without a socket (docs/design/0008): as long as one of its members has a connection it is one
// member of the fanout, whose sink hands what it is offered to those members in turn. What it has given out and what
// of that is not acknowledged it knows for each partition (package share). A group lives as long as a session is
// subscribed to it, and so does what is published for it.
//
//	seats, err := roster.Open(ctx, roster.Options{Beside: func(m roster.Marks) roster.Beside {
//		g = groups.New(groups.Options{Fanout: f}, m)
//		return g
//	}, ...})
//	m := g.Join(sub, nil, groups.Joining{Link: link, ...})   // before the SUBACK
//	m.Acknowledge(from)
//	m.Leave(ctx)                                             // the connection ended
//	g.End()
//
// Where nodes share sessions, the one with the first shard has all groups, and the others have members by links
// (ServeLink). A group lives then as long as a shard claims it: one in which a session is subscribed.
package groups

import (
	"context"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// Options of Groups. Fanout is needed.
type Options struct {
	Fanout *fanout.Fanout
	// ByKey keeps messages with one key in order: they go to one member, as long as it has one of them in hand and is
	// there. Fanout needs its Keys.
	ByKey bool
	// QoS0 keeps messages of QoS 0, too, while no member is there.
	QoS0 bool
	// Sharded is how many shards of sessions there are where nodes share them; 0: they do not.
	Sharded int
	// Metrics gets the counters. Default: nobody looks.
	Metrics *Metrics
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Groups are all groups of a node. It is the roster's Beside.
type Groups struct {
	opt     Options
	metrics *Metrics
	marks   roster.Marks
	ctx     context.Context //nolint:containedctx // of goroutines that have no caller
	end     context.CancelFunc
	working sync.WaitGroup // goroutines that read again, and links
	scratch sync.Pool

	mu struct {
		sync.Mutex
		groups map[name]*Group
		shards map[int]announced // by number
		links  map[*link]struct{}
		served bool
		closed bool
	}
	dirty struct { // a leaf
		sync.Mutex
		list  []*Group
		letGo []*Group // those that have let messages go
	}
}

var _ roster.Beside = (*Groups)(nil)

// name is the name of a group: a share of what matches a filter.
type name struct{ share, filter string }

// Metrics are the counters of groups, whoever has them.
type Metrics struct {
	again    telemetry.Counter
	nobody   telemetry.Counter
	overflow telemetry.Counter
	gone     telemetry.Counter
}

// NewMetrics makes the counters, and the gauges of the groups that are here now: nil if there are none.
func NewMetrics(set *telemetry.Set, now func() *Groups) *Metrics {
	dropped := set.Counter("firth_mqtt_shared_dropped_total",
		"Messages that no member of a shared subscription got, by reason.", "reason")
	set.GaugeFunc("firth_mqtt_shared_groups", "Groups of shared subscriptions now.",
		func() float64 { return float64(now().Len()) })
	set.GaugeFunc("firth_mqtt_shared_open", "Messages of shared subscriptions that wait for an acknowledgement.",
		func() float64 { return float64(now().open()) })
	return &Metrics{
		again: set.Counter("firth_mqtt_shared_again_total",
			"Messages of shared subscriptions that were given to another member, or again.").With(),
		nobody: dropped.With("nobody_may"), overflow: dropped.With("outbox_full"), gone: dropped.With("gone"),
	}
}

// New makes groups that go by some marks. Serve must follow, and End.
func New(opt Options, marks roster.Marks) *Groups {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Metrics == nil {
		opt.Metrics = NewMetrics(nil, func() *Groups { return nil })
	}
	g := &Groups{opt: opt, metrics: opt.Metrics, marks: marks}
	g.ctx, g.end = context.WithCancel(context.Background())
	g.mu.groups, g.mu.shards, g.mu.links = make(map[name]*Group), make(map[int]announced), make(map[*link]struct{})
	g.scratch.New = func() any { return new(scratch) }
	return g
}

// Len is the number of groups to which a session is subscribed.
func (g *Groups) Len() (n int) {
	for _, one := range g.all() {
		if one.subscribed() {
			n++
		}
	}
	return n
}

// Subscriptions is the number of subscriptions of sessions to all groups.
func (g *Groups) Subscriptions() (n int) {
	for _, one := range g.all() {
		n += one.subscriptions()
	}
	return n
}

// open is how many messages are open in all groups.
func (g *Groups) open() (n int) {
	for _, one := range g.all() {
		n += one.open()
	}
	return n
}

// all are the groups; none of Groups that are not here.
func (g *Groups) all() []*Group {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*Group, 0, len(g.mu.groups))
	for _, one := range g.mu.groups {
		all = append(all, one)
	}
	return all
}

// Serve implements roster.Beside: all records and sessions were read. Groups without a session are removed.
func (g *Groups) Serve() {
	for _, one := range g.all() {
		one.start()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.served = true
}

// End implements roster.Beside. It returns when nothing is given out any more, and all members by links have left.
func (g *Groups) End() {
	g.mu.Lock()
	g.mu.closed = true
	for l := range g.mu.links {
		_ = l.conn.Close() // its reader sees it
	}
	g.mu.Unlock()
	g.end()
	g.working.Wait()
}

// goRead starts a goroutine of a group, unless it ends.
func (g *Groups) goRead(read func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mu.closed {
		g.working.Go(read)
	}
	return !g.mu.closed
}

// Link is a member's way to its client. Its methods must not block.
type Link interface {
	fanout.Offered
	// May tells whether the client may see a message and takes one of its size.
	May(topic []byte, size int) bool
}

// Joining is a member with a connection.
type Joining struct {
	Link    Link
	Client  string // its identifier
	Version packet.Version
	Share   uint16 // the number that the connection gives the subscription; not 0
	Lasts   bool   // its session outlives the connection: then it is to LetGo what it is sent with QoS 2
}

// Join makes the client of a connection, which is subscribed, a member. A group that was not there gets what becomes
// news after this call; one that was goes on where it stands. old is the subscription that sub replaces, or nil: its
// member stays who it is.
func (g *Groups) Join(sub, old *session.Subscription, j Joining) *Member {
	for {
		if m := g.get(sub).join(sub, old, &j); m != nil {
			return m
		}
	}
}

// get is the group of a subscription, made if there is none.
func (g *Groups) get(sub *session.Subscription) *Group {
	share, filter, _ := names.SplitShare(sub.Filter)
	return g.named(name{share, filter})
}

func (g *Groups) named(n name) *Group {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.mu.groups[n]
	if one == nil {
		one = newGroup(g, n)
		g.mu.groups[n] = one
	}
	return one
}

// Unsubscribe ends a subscription. What its member has in hand stays there until its connection ends [MQTT-3.10.4-3].
func (g *Groups) Unsubscribe(sub *session.Subscription) {
	g.get(sub).unsubscribe(sub)
}

// Ended implements roster.Beside.
func (g *Groups) Ended(state *session.State) {
	for sub := range state.All {
		if sub.Shared() {
			g.Unsubscribe(sub)
		}
	}
}

// remove forgets a group that has ended, of which nothing is stored.
func (g *Groups) remove(one *Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.groups[one.name] == one {
		delete(g.mu.groups, one.name)
	}
}

// note has the next checkpoint look at a group. It may be locked.
func (g *Groups) note(one *Group) {
	g.dirty.Lock()
	g.dirty.list = append(g.dirty.list, one)
	g.dirty.Unlock()
	g.marks.Changed()
}

// Dirty implements roster.Beside.
func (g *Groups) Dirty() bool {
	g.dirty.Lock()
	defer g.dirty.Unlock()
	return len(g.dirty.list) > 0
}

// Collect implements roster.Beside.
func (g *Groups) Collect(w roster.Writing) (told func(stored bool), ok bool) {
	g.dirty.Lock()
	if len(g.dirty.list) == 0 {
		g.dirty.list = nil
		g.dirty.Unlock()
		return nil, false
	}
	one := g.dirty.list[0]
	g.dirty.list = g.dirty.list[1:]
	g.dirty.Unlock()
	return one.collect(w), true
}

// CollectLetGo implements roster.Beside.
func (g *Groups) CollectLetGo(w roster.Writing) (told func(stored bool), ok bool) {
	g.dirty.Lock()
	if len(g.dirty.letGo) == 0 {
		g.dirty.letGo = nil
		g.dirty.Unlock()
		return nil, false
	}
	one := g.dirty.letGo[0]
	g.dirty.letGo = g.dirty.letGo[1:]
	g.dirty.Unlock()
	return one.collect(w), true
}

// Restored implements roster.Beside.
func (g *Groups) Restored(state *session.State) {
	for sub := range state.All {
		if sub.Shared() {
			g.get(sub).restored(sub)
		}
	}
}

// Fold implements roster.Beside.
func (g *Groups) Fold(key *session.Key, partition uint32, value []byte) error {
	one := g.named(name{key.Client, key.Filter})
	if key.Kind == session.KindGroup {
		if value == nil {
			one.foldGroup(nil)
			return nil
		}
		r, err := session.ParseGroup(value)
		if err == nil {
			one.foldGroup(&r)
		}
		return err
	}
	if value == nil {
		one.foldPart(partition, nil)
		return nil
	}
	p, err := share.Parse(value)
	if err == nil {
		one.foldPart(partition, p)
	}
	return err
}

// hashOf is a number for a client, the same on every connection.
func hashOf(client string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(client)) // never fails
	return h.Sum64()
}

// without is a list without one of its members: a new list.
func without(list []*Member, m *Member) []*Member {
	return slices.DeleteFunc(slices.Clone(list), func(one *Member) bool { return one == m })
}
