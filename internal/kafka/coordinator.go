package kafka

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/alarm"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// GroupTimes are what may be changed of groups while the node runs. The zero value of each field is its default.
type GroupTimes struct {
	// MinSession and MaxSession bound the session timeout that a member may ask for.
	// Default 6 s and 30 min.
	MinSession, MaxSession time.Duration
	// InitialRebalanceDelay is how long an empty group gathers members before its first generation.
	// Default 0: a group of one starts at once, and each that joins later costs one rebalance.
	InitialRebalanceDelay time.Duration
	// ConsumerSession is the session timeout of members of the consumer protocol, and ConsumerHeartbeat how often they
	// are told to send heartbeats. Default 45 s and 5 s.
	ConsumerSession, ConsumerHeartbeat time.Duration
}

func (t GroupTimes) withDefaults() GroupTimes {
	if t.MinSession <= 0 {
		t.MinSession = 6 * time.Second
	}
	if t.MaxSession <= 0 {
		t.MaxSession = 30 * time.Minute
	}
	if t.ConsumerSession <= 0 {
		t.ConsumerSession = 45 * time.Second
	}
	if t.ConsumerHeartbeat <= 0 {
		t.ConsumerHeartbeat = 5 * time.Second
	}
	return t
}

// GroupOptions bound the consumer groups. The zero value of each field is its default.
type GroupOptions struct {
	GroupTimes
	// MaxMembers is how many members one group may have. Default 10,000.
	MaxMembers int
	// MaxGroups is how many groups there may be. Default 100,000.
	MaxGroups int
	// OffsetsRetention is how long the offsets of a group stay after the group became empty, or were
	// committed if that is later. While a group has members its offsets stay. Default 30 days
	// (Kafka's is 7).
	OffsetsRetention time.Duration
	// MaxOffsetMetadata is how many bytes of metadata one committed offset may have. Default 4096.
	MaxOffsetMetadata int
	// SweepInterval is how often expired offsets and abandoned groups are looked for. Default 1 min.
	SweepInterval time.Duration
}

func (o GroupOptions) withDefaults() GroupOptions {
	if o.MaxGroups <= 0 {
		o.MaxGroups = 100_000
	}
	if o.OffsetsRetention <= 0 {
		o.OffsetsRetention = 30 * 24 * time.Hour
	}
	if o.MaxOffsetMetadata <= 0 {
		o.MaxOffsetMetadata = 4096
	}
	if o.SweepInterval <= 0 {
		o.SweepInterval = time.Minute
	}
	return o
}

// ofGroup is what one group needs to know of the options.
func (co *coordinator) ofGroup(id string) group.Options {
	t, c := co.times.Load(), co.configs.of(id)
	session, streams := cmp.Or(c.consumerSession, t.ConsumerSession), cmp.Or(c.streamsSession, t.ConsumerSession)
	return group.Options{
		MinSessionMillis: t.MinSession.Milliseconds(), MaxSessionMillis: t.MaxSession.Milliseconds(),
		InitialDelayMillis: t.InitialRebalanceDelay.Milliseconds(), MaxMembers: co.limits.MaxMembers,
		ConsumerSessionMillis: session.Milliseconds(), ShareSessionMillis: c.shareSession.Milliseconds(),
		StreamsSessionMillis: streams.Milliseconds(), StreamsDelayMillis: c.streamsDelay.Milliseconds(),
		StandbyReplicas: c.standby,
	}
}

// setTimes puts other times in force, for groups that there are and those to come.
func (co *coordinator) setTimes(t GroupTimes) {
	co.times.Store(&t)
	for _, og := range co.owned() {
		og.mu.Lock()
		og.mu.g.SetOptions(co.ofGroup(og.id))
		og.mu.Unlock()
	}
}

// configure puts what is set for a group in force.
func (co *coordinator) configure(id string) {
	if og := co.enter(id, false); og != nil {
		og.mu.g.SetOptions(co.ofGroup(id))
		co.release(og)
	}
}

// consumerHeartbeat is how often members of a group of the consumer protocol send heartbeats.
func (co *coordinator) consumerHeartbeat(id string) time.Duration {
	if own := co.configs.of(id).consumerHeartbeat; own > 0 {
		return own
	}
	return co.times.Load().ConsumerHeartbeat
}

// maxGroupName bounds the name of a group, in bytes.
const maxGroupName = 1024

// coordinator keeps the consumer groups: their members, in memory and in __consumer_offsets, and
// their committed offsets, a fold of that topic.
//
// A group belongs to whoever holds its lock. What it decides leaves as effects: answers go to the
// requests that block, records go to the queue of the group, which one goroutine, the writer of
// offsets.go, appends in order. The receipt of the log brings them back in the order of the log, and
// only then they count: what a client was told is on stable storage.
//
// Goroutines: Run's own, which is the clock of all groups, and the writer.
type coordinator struct {
	opt    Options
	limits GroupOptions
	times  atomic.Pointer[GroupTimes]
	log    *store.Store
	// configs are the settings of single groups.
	configs *groupConfigs
	now     func() int64 // milliseconds since 1970, without steps: sessions, rebalances and ages of offsets go by it
	wall    func() int64 // the time of day, milliseconds since 1970
	drift   drift        // the clock's
	turns   atomic.Int64 // looks of the clock
	opened  int64        // when the coordinator was opened, as now tells it
	panics  telemetry.Counter
	short   telemetry.Counters
	lines   *limit.Lines // of the log that clients cause
	writer  *offsetWriter
	budget  *budget // of the door, in which members count
	txns    *transactions
	create  func(ctx context.Context, c *conn, rt *kmsg.CreateTopicsRequestTopic) error // makes a topic for a client
	shares  *shares
	alarms  *alarm.Alarms[*ownedGroup]
	lag     *lagGauge
	starts  *startGauge
	look    time.Duration // how often the clock looks whether topics were deleted: it compares one pointer
	ended   chan struct{} // closed when Run has ended: nobody answers any more
	// damaged is why the groups cannot be read; nil: they can. Then no group is served, for to guess could let
	// committed offsets go back, and everything else goes on.
	damaged error

	mu struct {
		sync.Mutex
		groups map[string]*ownedGroup
	}
}

// told hears the answer of a blocked request, once; ok is false if the group broke and there is none. It does not
// block.
type told func(e group.Effect, ok bool)

// ownedGroup is one group with its committed offsets.
type ownedGroup struct {
	id string

	mu struct {
		sync.Mutex
		g         membership
		offsets   map[partitionKey]committed
		waiting   map[group.Ticket]told    // requests that block
		ticket    group.Ticket             // the last one given
		metadata  int64                    // bytes of it in offsets
		counted   int64                    // what its members and metadata take, in the budget
		queue     []*groupWrite            // for the writer, in order
		flying    map[*groupWrite]struct{} // queued or appended, without a receipt yet
		stored    bool                     // the log has a record of the group itself
		forgotten bool                     // it is no longer in the coordinator's map
	}
}

// openCoordinator reads the groups from the log. Where __consumer_offsets is damaged the coordinator says that
// it is not available. Errors: IO.
func openCoordinator(ctx context.Context, opt Options, log *store.Store, held *budget) (*coordinator, error) {
	co := &coordinator{
		opt: opt, limits: opt.Groups.withDefaults(), log: log, budget: held,
		now: opt.steady, wall: wallMillis, panics: panicsOf(opt.Metrics),
		short: shortOf(opt.Metrics), lines: limit.NewLines(time.Minute, 1),
		ended: make(chan struct{}), alarms: alarm.New[*ownedGroup](), look: time.Second,
	}
	co.opened = co.now()
	times := co.limits.GroupTimes.withDefaults()
	co.times.Store(&times)
	co.mu.groups = map[string]*ownedGroup{}
	var err error
	if co.configs, err = openGroupConfigs(ctx, opt, log); err != nil {
		return nil, err
	}
	co.writer = newOffsetWriter(co)
	co.lag, co.starts = newLagGauge(opt.Metrics), newStartGauge(opt.Metrics)
	err = co.fold(ctx)
	if fault.Is(err, fault.Corrupt) {
		co.damaged = err
		co.opt.Logger.Error("consumer groups are not served: their state is damaged", "error", err, "hint", fault.HintOf(err))
		return co, nil
	}
	if err != nil {
		return nil, err
	}
	return co, nil
}

// register adds the group APIs.
func (co *coordinator) register(t table) {
	if co.damaged != nil {
		t.add(wire.FindCoordinator, handle(co.findCoordinator))
		for _, key := range groupAPIs {
			t.add(key, func(context.Context, *conn, kmsg.Request) (kmsg.Response, error) { return nil, co.damaged })
		}
		return
	}
	t.addLater(wire.OffsetCommit, later(co.offsetCommit), false)
	t.add(wire.OffsetFetch, handle(co.offsetFetch))
	t.add(wire.FindCoordinator, handle(co.findCoordinator))
	t.add(wire.JoinGroup, handle(co.joinGroup))
	t.addLater(wire.Heartbeat, later(co.heartbeat), true)
	t.addLater(wire.LeaveGroup, later(co.leaveGroup), true)
	t.add(wire.SyncGroup, handle(co.syncGroup))
	t.add(wire.DescribeGroups, handle(co.describeGroups))
	t.add(wire.ListGroups, handle(co.listGroups))
	t.add(wire.DeleteGroups, handle(co.deleteGroups))
	t.add(wire.OffsetDelete, handle(co.offsetDelete))
	t.addLater(wire.ConsumerGroupHeartbeat, later(co.consumerGroupHeartbeat), true)
	t.add(wire.ConsumerGroupDescribe, handle(co.consumerGroupDescribe))
	t.add(wire.StreamsGroupHeartbeat, handle(co.streamsGroupHeartbeat))
	t.add(wire.StreamsGroupDescribe, handle(co.streamsGroupDescribe))
}

// groupAPIs are the APIs of the coordinator besides FindCoordinator. While the groups are damaged they end the
// connection: who asks was not sent here by FindCoordinator.
var groupAPIs = []int16{
	wire.OffsetCommit, wire.OffsetFetch, wire.JoinGroup, wire.Heartbeat, wire.LeaveGroup, wire.SyncGroup,
	wire.DescribeGroups, wire.ListGroups, wire.DeleteGroups, wire.OffsetDelete,
	wire.ConsumerGroupHeartbeat, wire.ConsumerGroupDescribe, wire.StreamsGroupHeartbeat, wire.StreamsGroupDescribe,
}

// Run lets time pass for the groups and writes what they decide, until ctx ends. Requests that still
// block then are refused.
func (co *coordinator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { co.writer.run(ctx) })
	co.clock(ctx)
	wg.Wait()
	close(co.ended)
	return nil
}

func newOwned(id string, g membership) *ownedGroup {
	og := &ownedGroup{id: id}
	og.mu.g = g
	og.mu.offsets = map[partitionKey]committed{}
	og.mu.waiting = map[group.Ticket]told{}
	og.mu.flying = map[*groupWrite]struct{}{}
	return og
}

// enter locks a group; exit or release must follow. Nil: there is no such group and, if it was to be made,
// there are too many.
func (co *coordinator) enter(id string, create bool) *ownedGroup {
	for {
		co.mu.Lock()
		og := co.mu.groups[id]
		if og == nil && create && len(co.mu.groups) < co.limits.MaxGroups {
			og = newOwned(id, group.New(id, co.ofGroup(id), co.now()))
			co.mu.groups[id] = og
		}
		co.mu.Unlock()
		if og == nil {
			return nil
		}
		og.mu.Lock()
		if !og.mu.forgotten {
			return og
		}
		og.mu.Unlock()
		co.drop(og) // whoever forgot it is about to
	}
}

// act has a locked group decide, unlocks it, and does what came out of it. A group that breaks on the way begins anew,
// with its offsets: it must not hold up the others, nor be locked for ever. The panic goes on.
func (co *coordinator) act(og *ownedGroup, decide func(g membership) []group.Effect) {
	done := false
	defer func() {
		if !done {
			co.renew(og)
		}
	}()
	og.mu.g.See(co.topics())
	effects := decide(og.mu.g)
	effects = append(effects, co.downgradeLocked(og)...)
	done = true
	co.exit(og, effects)
}

// renew puts an empty group in the place of a locked one that broke, and unlocks it. Its members are told so by their
// next request, those that block by the end of their connection.
func (co *coordinator) renew(og *ownedGroup) {
	switch og.mu.g.(type) {
	case *group.Consumer:
		og.mu.g = group.NewConsumer(og.id, co.ofGroup(og.id), co.now())
	case *group.Share:
		og.mu.g = group.NewShare(og.id, co.ofGroup(og.id), co.now())
	case *group.Streams:
		og.mu.g = group.NewStreams(og.id, co.ofGroup(og.id), co.now())
	default:
		og.mu.g = group.New(og.id, co.ofGroup(og.id), co.now())
	}
	waiting := og.mu.waiting
	og.mu.waiting = map[group.Ticket]told{}
	co.release(og)
	for _, to := range waiting {
		to(group.Effect{}, false)
	}
}

// guarded survives a panic of what a goroutine of the coordinator does, so that it costs no more than that.
func (co *coordinator) guarded(what string, do func()) {
	defer func() {
		if v := recover(); v != nil {
			co.panics.Inc()
			co.opt.Logger.Error("kafka: "+what+" broke", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	do()
}

// exit unlocks a group and does what came out of it.
func (co *coordinator) exit(og *ownedGroup, effects []group.Effect) {
	type answer struct {
		to     told
		effect group.Effect
	}
	var answers []answer
	var left []string
	for _, e := range effects {
		if e.Left != "" {
			left = append(left, e.Left)
			continue
		}
		if e.Store != nil {
			og.enqueueLocked(&groupWrite{og: og, snapshot: e.Store.Snapshot, changes: e.Store.Changes, seq: e.Store.Seq})
			continue
		}
		if to, waits := og.mu.waiting[e.To]; waits {
			delete(og.mu.waiting, e.To)
			answers = append(answers, answer{to, e})
		}
	}
	next := og.mu.g.Next()
	co.release(og)

	for _, member := range left {
		co.shares.left(og.id, member)
	}
	for _, a := range answers {
		a.to(a.effect, true)
	}
	if next != 0 {
		co.alarms.Set(og, next)
	}
}

// reserveLocked makes room for what a request may make a group larger by, until release counts what it did. It
// tells whether there was room.
func (co *coordinator) reserveLocked(og *ownedGroup, n int64) bool {
	if n > 0 && !co.budget.reserve(og.mu.counted, n) {
		co.short.With("group_refused").Inc()
		if held, ok := co.lines.Pass("full"); ok {
			co.opt.Logger.Warn("kafka: what members say and commit takes all the memory that groups may have",
				"group", og.id, "more", held, "hint", "raise limits.kafka_bytes, a quarter of which is theirs")
		}
		return false
	}
	og.mu.counted += n
	return true
}

// release unlocks a group of which nobody joined or left: then no alarm of it comes sooner than the one
// that is set.
func (co *coordinator) release(og *ownedGroup) {
	queued := len(og.mu.queue) > 0
	og.mu.forgotten = og.traceless()
	forgotten := og.mu.forgotten
	grown := og.bytesLocked() - og.mu.counted
	og.mu.counted += grown
	og.mu.Unlock()
	co.budget.keep(grown)
	if queued {
		co.writer.wake(og)
	}
	if forgotten {
		co.drop(og)
	}
}

// bytesLocked is what its clients make the group take.
func (og *ownedGroup) bytesLocked() int64 { return og.mu.g.Bytes() + og.mu.metadata }

// traceless tells whether nothing is known of a group but its name: it was made by a request that
// failed, or it was deleted and the log has that.
func (og *ownedGroup) traceless() bool {
	m := &og.mu
	return !m.stored && len(m.offsets) == 0 && len(m.flying) == 0 && len(m.waiting) == 0 &&
		(m.g.Vacant() || m.g.IsDead())
}

// drop takes a forgotten group out of the map.
func (co *coordinator) drop(og *ownedGroup) {
	co.mu.Lock()
	defer co.mu.Unlock()
	if co.mu.groups[og.id] == og {
		delete(co.mu.groups, og.id)
	}
}

// owned lists the groups that there are now, unlocked and in no order.
func (co *coordinator) owned() []*ownedGroup {
	co.mu.Lock()
	defer co.mu.Unlock()
	all := make([]*ownedGroup, 0, len(co.mu.groups))
	for _, og := range co.mu.groups {
		all = append(all, og)
	}
	return all
}

// waitLocked makes a ticket for a request whose answer is to be told.
func (og *ownedGroup) waitLocked(to told) group.Ticket {
	og.mu.ticket++
	og.mu.waiting[og.mu.ticket] = to
	return og.mu.ticket
}

// blockLocked makes a ticket for a request that waits for its answer.
func (og *ownedGroup) blockLocked() (group.Ticket, <-chan group.Effect) {
	answer := make(chan group.Effect, 1)
	return og.waitLocked(func(e group.Effect, ok bool) {
		if ok {
			answer <- e // holds one, and gets one
		}
		close(answer)
	}), answer
}

// await waits for the answer of a blocked request. Errors: Closed, when the client or the door goes
// away first.
func (co *coordinator) await(
	ctx context.Context, og *ownedGroup, t group.Ticket, answer <-chan group.Effect,
) (group.Effect, error) {
	select {
	case e, ok := <-answer:
		if !ok {
			return e, fault.New(fault.Internal, "kafka.group", "the group broke and began anew")
		}
		return e, nil
	case <-co.ended:
		return group.Effect{}, fault.New(fault.Closed, "kafka.group", "the door closes")
	case <-ctx.Done():
	}
	og.mu.Lock()
	delete(og.mu.waiting, t)
	co.act(og, func(g membership) []group.Effect { return g.Gone(co.now(), t) })
	return group.Effect{}, fault.Wrap(fault.Closed, "kafka.group", ctx.Err())
}

// may asks the guard; without one everything is allowed.
func (co *coordinator) may(c *conn, op Operation, on Resource, name string) bool {
	return co.opt.may(c, op, on, name)
}

// sees is may where nothing is refused: what a client may not see is left out.
func (co *coordinator) sees(c *conn, op Operation, on Resource, name string) bool {
	return co.opt.sees(c, op, on, name)
}

// alter makes a change of a group that the audit has been told of.
func (co *coordinator) alter(ctx context.Context, c *conn, a alteration, do func() wire.Code) (done wire.Code) {
	err := co.opt.alter(ctx, c, a, func() error {
		if done = do(); done != wire.None {
			return coded{fault.New(fault.Internal, "kafka."+a.action, "error code %d", done), done}
		}
		return nil
	})
	if err != nil && done == wire.None {
		return fate(err)
	}
	return done
}

// mayGroup judges the name of a group and the right to it; wire.None: go on.
func (co *coordinator) mayGroup(c *conn, op Operation, id string) wire.Code {
	switch {
	case id == "" || len(id) > maxGroupName:
		return wire.InvalidGroupID
	case !co.may(c, op, OnGroup, id):
		return wire.GroupAuthorizationFailed
	}
	return wire.None
}

// newMemberID is an id for a new member: what its client calls itself and something unique.
func newMemberID(prefix string) string {
	var unique [16]byte
	_, _ = rand.Read(unique[:]) // never fails: crypto/rand
	return bounded(prefix) + "-" + hex.EncodeToString(unique[:])
}

// bounded cuts what a client says of itself to what is stored of it.
func bounded(s string) string { return strings.Clone(s[:min(len(s), 255)]) }
