// Package fanout delivers what is new in the log to the sessions that subscribed to it.
//
// Live delivery is a read of the log's tail: one reader for a partition, never one for a client. The
// log tells that there is something new (Advanced), a worker reads it, turns each record back into a
// message, finds the subscriptions that match, and offers the message to their sessions. Partitions
// belong to workers, so that the order of a partition is kept without a lock; those that nobody listens
// to are not followed.
//
// A session that cannot take a QoS 1 message now falls behind: it gets a Cursor in that partition and
// reads the log from there by itself, through its own filters, as it can. Package catchup reads for all
// such cursors and hands the member back to the worker when its cursor has reached the head.
//
//	m := f.Join(sink, packet.V5, client)
//	f.Subscribe(m, sub, nil)   // before the SUBACK
//	...
//	f.Leave(m)
//
// A session that was away comes back with Return instead: it is a member that fell behind wherever it stands below live
// delivery. How far that has come, Reached tells; what was sent before and not acknowledged, Again reads.
//
// The package knows nothing of sockets: a Sink is a connection, or a test.
package fanout

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// Verdict is what became of a message that was offered to a Sink.
type Verdict uint8

const (
	// Taken is a message that is on its way, or that the sink has dropped and counted.
	Taken Verdict = iota
	// Later is a message that the sink cannot take now and must not lose: it calls Member.Wake when it
	// can, and gets it again.
	Later
	// Gone is a sink whose connection ended.
	Gone
)

// Sink is a session's way to its client, as the fanout needs it. Its methods must not block.
type Sink interface {
	Offered
	// Behind tells in how many partitions more, or below 0 fewer, the member is behind: what it was told, added up, is
	// never less than it is. It comes from workers and readers, outside of their locks.
	Behind(by int)
}

// Offered is who is offered messages. Its methods must not block.
type Offered interface {
	// Deliver offers messages, and tells what became of the first that was not taken; Taken: all were. They are valid
	// only during the call.
	Deliver(r *Run) Verdict
	// Flush follows the last of some calls of Deliver: what they put together is to be sent.
	Flush()
}

// Misser is a Sink that wants to know what retention took before its member could read it: the offsets [from, to) of a
// partition. It comes as Deliver does.
type Misser interface {
	Missed(p stream.PartitionID, from, to record.Offset)
}

// Options of the fanout. Log and Mapping are needed.
type Options struct {
	Log stream.Log
	// Mapping is the table in force.
	Mapping func() *hinge.Table
	// Metrics gets the counters. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Clock is the wall clock, for message expiry. Default: time.Now.
	Clock func() time.Time
	// Judge is the time by which a message stamped at a time (milliseconds since 1970) is judged at now: earlier than now
	// where the wall clock was set forward since (clock.Clock.For). Default: now.
	Judge func(stamp int64, now time.Time) time.Time
	// Keys has deliveries know the key of their record, for who keeps what belongs together with one reader.
	Keys bool
	// Workers is how many goroutines read the log. Default: the number of CPUs, at most 16.
	Workers int
	// Readers is how many goroutines read for members that fell behind. Default 2, but fewer than CPUs where there are
	// several: reading never has them all.
	Readers int
	// TurnBytes is how much of a partition, or of a cursor, is read before others have their turn.
	// Default 256 KiB.
	TurnBytes int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Judge == nil {
		o.Judge = func(_ int64, now time.Time) time.Time { return now }
	}
	if o.Workers <= 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), 16)
	}
	if o.Readers <= 0 {
		o.Readers = min(max(runtime.GOMAXPROCS(0)-1, 1), 2)
	}
	if o.TurnBytes <= 0 {
		o.TurnBytes = 256 << 10
	}
	return o
}

// Fanout is the delivery of one node. New makes it, Run works.
type Fanout struct {
	opt       Options
	metrics   metrics
	lines     *limit.Lines
	workers   []*worker
	listening *listening
	behind    Behind

	// epoch counts subscriptions. News carries the epoch in which it came, a subscription the epoch in
	// which it was made: it gets what came in its epoch or later, and nothing before.
	epoch atomic.Uint64
	count atomic.Int64  // subscriptions
	moves atomic.Uint64 // of all cursors of live delivery, see Reached
	// lively is when messages last went out live, nanoseconds since 1970; 0: never.
	lively atomic.Int64

	uptime func() time.Duration // never goes back
	sleep  func(time.Duration)

	subs struct {
		sync.RWMutex
		trie names.Trie[*subscription]
	}
	version atomic.Uint64 // raised by every change of the trie, under the lock of subs
}

// subscription is one filter of one member.
type subscription struct {
	*session.Subscription
	member *Member
	epoch  uint64
	at     int // its place in member.subs
}

type metrics struct {
	expired   telemetry.Counter
	retention telemetry.Counter
	corrupt   telemetry.Counter
	poisoned  telemetry.Counter
	catchUps  telemetry.Counter
}

// New makes a fanout. It delivers what becomes news after that. CatchUpWith must follow, before Run.
func New(opt Options) *Fanout {
	f := &Fanout{opt: opt.withDefaults(), lines: limit.NewLines(time.Minute, 16), sleep: time.Sleep}
	opened := time.Now()
	f.uptime = func() time.Duration { return time.Since(opened) }
	dropped := f.opt.Metrics.Counter("firth_mqtt_fanout_dropped_total",
		"Messages that no session got, by reason.", "reason")
	f.metrics = metrics{
		expired: dropped.With("expired"), retention: dropped.With("retention"), corrupt: dropped.With("corrupt"),
		poisoned: dropped.With("panic"),
		catchUps: f.opt.Metrics.Counter("firth_mqtt_catch_ups_total",
			"Times that a session fell behind the tail of a partition.").With(),
	}
	for i := range f.opt.Workers {
		f.workers = append(f.workers, newWorker(f, i))
	}
	f.epoch.Store(unheard)
	f.listening = newListening(f)
	return f
}

// CatchUpWith names who serves the members that fall behind.
func (f *Fanout) CatchUpWith(b Behind) { f.behind = b }

func (f *Fanout) worker(p stream.PartitionID) *worker { return f.workers[int(p)%len(f.workers)] }

// Run delivers until ctx ends. It returns when all workers have ended.
func (f *Fanout) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range f.workers {
		wg.Go(func() { w.run(ctx) })
	}
	wg.Go(func() { f.listening.run(ctx) })
	wg.Wait()
	f.listening.watch.Stop()
	return nil
}

// Advanced implements stream.Watcher: it marks the partition and wakes its worker.
func (f *Fanout) Advanced(p stream.PartitionID, stable record.Offset) {
	f.worker(p).advanced(p, stable)
}

// TopicsChanged implements stream.TopicWatcher: topics that somebody waits for are followed.
func (f *Fanout) TopicsChanged() { f.listening.wake() }

// Remap prepares for another mapping: when it returns, what that asks for is followed. It is to be called before
// Options.Mapping gives the new table.
func (f *Fanout) Remap(table *hinge.Table) { f.listening.remap(table) }

// Subscriptions is the number of subscriptions of all members.
func (f *Fanout) Subscriptions() int { return int(f.count.Load()) }

// Subscribe puts a subscription in force: the member gets everything that becomes news after this
// call, and nothing older. old is the subscription of the same filter that it replaces, or nil: then
// nothing is lost or doubled in between [MQTT-3.8.4-4]. For a member that has left it does nothing.
func (f *Fanout) Subscribe(m *Member, s, old *session.Subscription) {
	sub := &subscription{Subscription: s, member: m}
	if old != nil && f.replace(sub, old) {
		return // it is listened to already
	}
	f.listening.add(s.Filter)
	if !f.subscribe(sub) {
		f.listening.remove(s.Filter)
	}
}

// subscribe is false for a member that has left.
func (f *Fanout) subscribe(sub *subscription) bool {
	f.subs.Lock()
	defer f.subs.Unlock()
	m := sub.member
	if m.gone.Load() {
		return false
	}
	sub.at = len(m.subs)
	m.subs = append(m.subs, sub)
	if m.index != nil {
		m.index[sub.Subscription] = sub
	}
	sub.epoch = f.epoch.Add(1)
	f.count.Add(1)
	f.subs.trie.Add(sub.Filter, sub)
	f.version.Add(1)
	return true
}

// replace puts a subscription in the place of one of the same filter; false: that one is not in force.
func (f *Fanout) replace(sub *subscription, old *session.Subscription) bool {
	f.subs.Lock()
	defer f.subs.Unlock()
	m := sub.member
	before := m.find(old)
	if before == nil {
		return false
	}
	sub.at, sub.epoch = before.at, before.epoch
	m.subs[sub.at] = sub
	if m.index != nil {
		delete(m.index, old)
		m.index[sub.Subscription] = sub
	}
	f.subs.trie.Remove(sub.Filter, before)
	f.subs.trie.Add(sub.Filter, sub)
	f.version.Add(1)
	return true
}

// Epoch is the epoch of a subscription in force; 0 for one that is not. It gets live what is Heard in this epoch or a
// later one, and nothing else.
func (f *Fanout) Epoch(m *Member, s *session.Subscription) uint64 {
	f.subs.Lock()
	defer f.subs.Unlock()
	if sub := m.find(s); sub != nil {
		return sub.epoch
	}
	return 0
}

// Heard is the epoch in which a record became news, to be asked when that was just now. It is 0 for one that nobody
// gets live, because its partition is not followed, but for a topic that was made after the last look (Follow), or was
// not when it became readable. One behind an open transaction is news to come: everybody who subscribes before that
// gets it.
func (f *Fanout) Heard(p stream.PartitionID, offset record.Offset) uint64 {
	w := f.worker(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	part := w.mu.parts[p]
	if part == nil || !part.started || offset < part.first {
		return 0
	}
	if offset >= part.stable {
		return math.MaxUint64
	}
	return part.epochs.at(offset)
}

// Follow has all be followed that some subscription wants, also topics that were made just now. It may wait for the
// log.
func (f *Fanout) Follow() { f.listening.remap(f.opt.Mapping()) }

// judge is the time by which the expiry of a message is judged at now.
func (f *Fanout) judge(m *hinge.Message, now time.Time) time.Time {
	if !m.HasExpiry {
		return now
	}
	return f.opt.Judge(m.Timestamp, now)
}

// match calls visit with every subscription that matches a name.
func (f *Fanout) match(name []byte, visit func(*subscription)) {
	f.subs.RLock()
	defer f.subs.RUnlock()
	f.subs.trie.Match(name, visit)
}

// Unsubscribe ends a subscription: no message whose delivery has not begun comes by it any more.
func (f *Fanout) Unsubscribe(m *Member, s *session.Subscription) {
	f.subs.Lock()
	sub := m.find(s)
	if sub != nil {
		f.remove(sub)
	}
	f.subs.Unlock()
	if sub != nil {
		f.listening.remove(s.Filter)
	}
}

// remove needs the lock of subs.
func (f *Fanout) remove(sub *subscription) {
	m := sub.member
	last := len(m.subs) - 1
	m.subs[sub.at] = m.subs[last]
	m.subs[sub.at].at = sub.at
	m.subs[last] = nil
	m.subs = m.subs[:last]
	if delete(m.index, sub.Subscription); last == 0 {
		m.index = nil
	}
	f.subs.trie.Remove(sub.Filter, sub)
	f.version.Add(1)
	f.count.Add(-1)
}

// Leave ends all subscriptions of a member and forgets it. Its sink may be offered what a worker has
// in hand, and nothing after that.
func (f *Fanout) Leave(m *Member) {
	var filters []string
	f.subs.Lock()
	for len(m.subs) > 0 {
		last := m.subs[len(m.subs)-1]
		filters = append(filters, last.Filter)
		f.remove(last)
	}
	m.gone.Store(true)
	f.subs.Unlock()
	for _, filter := range filters {
		f.listening.remove(filter)
	}
	if m.apart.Load() > 0 {
		for _, w := range f.workers {
			w.look()
		}
	}
	m.Wake() // its cursors are dropped
}
