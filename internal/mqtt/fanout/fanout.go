// Package fanout delivers what is new in the log to the sessions that subscribed to it.
//
// Live delivery is a read of the log's tail: one reader for a partition, never one for a client. The
// log tells that a high watermark moved (Advanced), a worker reads the new batches, turns each record
// back into a message, finds the subscriptions that match, and offers the message to their sessions.
// Partitions belong to workers, so that the order of a partition is kept without a lock.
//
// A session that cannot take a QoS 1 message now falls behind: it gets a cursor in that partition and
// reads the log from there by itself, through its own filters, as it can; when the cursor has reached
// the head of the partition it is live again. Cursor and head are moved by the same worker, so that
// there is no gap, no duplicate and no other order at the hand-over.
//
//	m := f.Join(sink)
//	f.Subscribe(m, sub, nil)   // before the SUBACK
//	...
//	f.Leave(m)
//
// The package knows nothing of sockets: a Sink is a connection, or a test.
package fanout

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/hinge"
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

// Delivery says how a message goes to one session.
type Delivery struct {
	QoS     byte          // 0 or 1: the smaller of the message's and the highest one granted
	Retain  bool          // the RETAIN flag to send [MQTT-3.3.1-12] [MQTT-3.3.1-13]
	CatchUp bool          // it comes from a cursor, which can wait: it need not be dropped
	IDs     []uint32      // subscription identifiers of all that match; not to be kept
	From    session.Place // where it can be read again
}

// Sink is a session's way to its client. Its methods must not block.
type Sink interface {
	// Deliver offers a message. The message is valid only during the call.
	Deliver(m *Message, d *Delivery) Verdict
	// Flush follows the last of a run of Deliver: what they put together is to be sent.
	Flush()
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
	// Workers is how many goroutines read the log. Default: the number of CPUs, at most 16.
	Workers int
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
	if o.Workers <= 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), 16)
	}
	if o.TurnBytes <= 0 {
		o.TurnBytes = 256 << 10
	}
	return o
}

// Fanout is the delivery of one node. New makes it, Run works.
type Fanout struct {
	opt     Options
	metrics metrics
	workers []*worker
	watch   stream.Watching

	// epoch counts subscriptions. News carries the epoch in which it came, a subscription the epoch in
	// which it was made: it gets what came in its epoch or later, and nothing before.
	epoch atomic.Uint64
	// count is the number of subscriptions; it is raised before a subscription is visible.
	count atomic.Int64

	subs struct {
		sync.RWMutex
		trie     names.Trie[*subscription]
		interest interest
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
	catchUps  telemetry.Counter
}

// New makes a fanout that begins at the end of every partition there is.
// Errors: those of Log.Bounds.
func New(opt Options) (*Fanout, error) {
	f := &Fanout{opt: opt.withDefaults()}
	dropped := f.opt.Metrics.Counter("firth_mqtt_fanout_dropped_total",
		"Messages that no session got, by reason.", "reason")
	f.metrics = metrics{
		expired: dropped.With("expired"), retention: dropped.With("retention"), corrupt: dropped.With("corrupt"),
		catchUps: f.opt.Metrics.Counter("firth_mqtt_catch_ups_total",
			"Times that a session fell behind the tail of a partition.").With(),
	}
	f.subs.interest.filters = make(map[string]int)
	for i := range f.opt.Workers {
		f.workers = append(f.workers, newWorker(f, i))
	}
	return f, f.begin()
}

// begin puts the cursor of every partition at its end and starts to watch. What is appended between
// the look at a partition and the watch is told by the second look; a partition made in between is
// read from its start.
func (f *Fanout) begin() error {
	log := f.opt.Log
	for _, t := range log.Topics().All() {
		for _, p := range t.Partitions {
			bounds, err := log.Bounds(p)
			if err != nil {
				return err
			}
			w := f.worker(p)
			w.mu.parts[p] = &part{id: p, high: bounds.Stable, cursor: bounds.Stable}
		}
	}
	f.watch = log.Watch(f, stream.AllPartitions)
	for _, t := range log.Topics().All() {
		for _, p := range t.Partitions {
			bounds, err := log.Bounds(p)
			if err != nil {
				f.watch.Stop()
				return err
			}
			if bounds.Stable > 0 {
				f.Advanced(p, bounds.Stable)
			}
		}
	}
	return nil
}

func (f *Fanout) worker(p stream.PartitionID) *worker { return f.workers[int(p)%len(f.workers)] }

// Run delivers until ctx ends or the log is closed. It returns when all workers have ended.
func (f *Fanout) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range f.workers {
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
	f.watch.Stop()
	return nil
}

// Advanced implements stream.Watcher: it marks the partition and wakes its worker.
func (f *Fanout) Advanced(p stream.PartitionID, high record.Offset) {
	f.worker(p).advanced(p, high)
}

// Subscriptions is the number of subscriptions of all members.
func (f *Fanout) Subscriptions() int { return int(f.count.Load()) }

// Subscribe puts a subscription in force: the member gets everything whose watermark moves after this
// call, and nothing older. old is the subscription of the same filter that it replaces, or nil: then
// nothing is lost or doubled in between [MQTT-3.8.4-4].
func (f *Fanout) Subscribe(m *Member, s, old *session.Subscription) {
	f.count.Add(1)
	sub := &subscription{Subscription: s, member: m}
	f.subs.Lock()
	defer f.subs.Unlock()
	replaced := m.find(old)
	if replaced != nil {
		f.remove(replaced)
	}
	sub.at = len(m.subs)
	m.subs = append(m.subs, sub)
	if m.index != nil {
		m.index[s] = sub
	}
	f.subs.trie.Add(s.Filter, sub)
	f.subs.interest.add(s.Filter)
	f.version.Add(1)
	if replaced != nil {
		sub.epoch = replaced.epoch
		return
	}
	sub.epoch = f.epoch.Add(1)
}

// Unsubscribe ends a subscription: no message whose delivery has not begun comes by it any more.
func (f *Fanout) Unsubscribe(m *Member, s *session.Subscription) {
	f.subs.Lock()
	defer f.subs.Unlock()
	if sub := m.find(s); sub != nil {
		f.remove(sub)
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
	f.subs.interest.remove(sub.Filter)
	f.version.Add(1)
	f.count.Add(-1)
}

// Leave ends all subscriptions of a member and forgets it. Its sink may be offered what a worker has
// in hand, and nothing after that.
func (f *Fanout) Leave(m *Member) {
	f.subs.Lock()
	for len(m.subs) > 0 {
		f.remove(m.subs[len(m.subs)-1])
	}
	f.subs.Unlock()
	m.gone.Store(true)
	m.Wake() // the workers drop its cursors
}
