// Package cluster keeps the contract of the log on an outside Kafka cluster, by franz-go.
//
// The path of an append: a caller puts its unit into the queue (append.go), where it gets into the lane of its owner or
// into that of all who have none (queue.go). The sender of the lane takes what has gathered and sends it as one
// idempotent batch a partition or, where a unit spans partitions or has an owner, as one transaction for all
// (produce.go; batch.go makes batches, producer.go is what the cluster knows a lane by, verdict.go says what an answer
// means); then it tells watchers and receipts. Scans fetch batches as they lie in the cluster (scan.go), and one long
// poll a broker hears of what is followed (tail.go). docs/design/0006-two-keepers.md says what maps to what, and what a
// cluster cannot promise.
//
// A node that serves a cluster (Options.Instance) is the only one that does (lease.go), or has a place among several
// (place.go), both as a member of a group (member.go), looks whether the cluster can keep what is promised
// (promises.go), and tells whether it is there (health.go).
//
// Goroutines: refresher, follower, pulse, holder of the lease, the member of a place, a sender for units without an
// owner and one for each shard that this node owns, a listener for each broker that leads what is followed, and those
// of the clients; where a group goes to several brokers, one for each of them while it waits for its answer. Locks,
// never two at once except that topicsMu, answerMu and that of the watchers may be held over others: topicsMu over a
// change of the set of topics; the queue's; a partition's own; followMu over who follows what; that of health; the
// lease's over a sign of life; a place's own, over a request of its member; a member's over its client; the watchers'
// while they are told, answerMu while receipts are.
package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Cluster is the log on a Kafka cluster.
type Cluster struct {
	opt     Options
	log     *slog.Logger
	metrics metrics

	client   *kgo.Client // metadata, topics, offsets and scans: nothing that waits at a broker
	listener *kgo.Client // what waits at a broker for news

	topics atomic.Pointer[stream.Topics]
	parts  atomic.Pointer[table]

	brokers atomic.Int32                        // that the cluster has, by the last answer
	id      atomic.Pointer[string]              // of the cluster
	unsafe  atomic.Pointer[map[string][]Breach] // by topic of our own
	room    string                              // max.message.bytes of topics that are created here; "": the cluster's own
	opened  atomic.Bool
	health  health
	lease   *lease     // nil: others are not looked for
	usurped chan error // another node has it

	topicsMu sync.Mutex // serializes changes of the set of topics
	registry registry
	refresh  chan struct{} // somebody has seen that metadata are old

	queue      queue
	secondKind bool // the cluster has transactions of the second kind (KIP-890)

	followMu  sync.Mutex
	followed  map[stream.PartitionID]int // how many watches follow a partition
	allOf     int                        // how many watches want all
	refollow  chan struct{}              // who follows what, or who leads it, has changed
	listeners map[int32]*tail            // the follower's, by broker

	// Watchers are told and receipts are, under answerMu, each of the two one at a time, whichever sender or listener
	// has something to tell.
	watchers stream.Watchers
	answerMu sync.Mutex

	ctx     context.Context //nolint:containedctx // of everything that the cluster does without a caller
	cancel  context.CancelFunc
	senders sync.WaitGroup
	done    sync.WaitGroup // the other goroutines
}

// Open connects to a cluster. Errors: Invalid, IO, Denied, Timeout.
func Open(ctx context.Context, opt Options) (*Cluster, error) {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	c := &Cluster{
		opt: opt, log: opt.Logger,
		refresh: make(chan struct{}, 1), refollow: make(chan struct{}, 1),
		followed: make(map[stream.PartitionID]int), listeners: make(map[int32]*tail), usurped: make(chan error, 1),
	}
	c.watchers.Changed = c.follow
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.topics.Store(stream.NewTopics(nil))
	c.parts.Store(new(table))
	c.unsafe.Store(&map[string][]Breach{})
	c.id.Store(new(string))
	if err := c.connect(ctx); err != nil {
		c.leave()
		c.closeClients()
		return nil, convert("cluster.Open", err)
	}
	c.queue.callers = make(map[stream.Receipt]*caller)
	c.queue.owned = make(map[stream.PartitionID]*lane)
	c.metrics.register(c, opt.Metrics)
	c.senders.Go(func() { c.send(c.queue.anybody) })
	c.done.Go(c.refreshLoop)
	c.done.Go(c.followLoop)
	if opt.Instance != "" {
		c.done.Go(c.pulseLoop)
	}
	if c.lease != nil {
		c.done.Go(c.holdLoop)
	}
	c.opened.Store(true)
	return c, nil
}

// connect finds out what the cluster is and has, and takes its lease and its first lane.
func (c *Cluster) connect(ctx context.Context) (err error) {
	if c.client, err = c.opt.client(); err != nil {
		return err
	}
	if c.listener, err = c.opt.client(); err != nil {
		return err
	}
	if err := c.insist(ctx, c.versions); err != nil {
		return err
	}
	if c.opt.Instance != "" && c.opt.Place == nil {
		if err := c.takeLease(ctx); err != nil {
			return err
		}
	}
	if err := c.insist(ctx, c.loadAll); err != nil {
		return err
	}
	if err := c.insist(ctx, c.promise); err != nil {
		return err
	}
	if c.opt.Instance == "" {
		c.queue.anybody, err = c.newLane(unitsPrefix + nonce())
		return err
	}
	if c.queue.anybody, err = c.newLane(unitsPrefix + c.opt.Instance); err != nil {
		return err
	}
	return c.insist(ctx, c.endLeftovers)
}

// insist does something again until it succeeds, it cannot, or Options.Patience is over: a broker to begin with may be
// down, and a cluster that has just begun has no coordinators.
func (c *Cluster) insist(ctx context.Context, do func(context.Context) error) error {
	patience := time.Now().Add(c.opt.Patience)
	for try := 0; ; try++ {
		err := do(ctx)
		if err == nil || !mayPass(err) || time.Now().After(patience) || clock.Pause(ctx, lasting(try)) != nil {
			return err
		}
	}
}

// Close sends what was appended, for as long as Options.Patience, and ends. Errors: Timeout, when units were lost;
// their receipts have told who.
func (c *Cluster) Close() error {
	turns, first := c.queue.close()
	if !first {
		return nil
	}
	c.health.close()
	callTurns(turns)
	late := time.AfterFunc(c.opt.Patience, c.cancel)
	c.senders.Wait() // to the others they owe who leads a partition
	inTime := late.Stop()
	c.cancel()
	c.done.Wait()
	c.leave()
	c.closeClients()
	if !inTime {
		return fault.New(fault.Timeout, "cluster.Close", "units were not taken by the cluster in %v", c.opt.Patience)
	}
	return nil
}

// newLane makes a lane whose transactions have that id.
func (c *Cluster) newLane(name string) (*lane, error) {
	cl, err := c.opt.producer(c.secondKind)
	if err != nil {
		return nil, err
	}
	return &lane{
		work: make(chan struct{}, 1), client: cl, plain: producer{client: cl},
		transactional: producer{client: cl, name: name, timeout: c.opt.TransactionTimeout, second: c.secondKind},
	}, nil
}

// closeClients ends the connections; those of lanes end with their senders.
func (c *Cluster) closeClients() {
	c.cancel()
	for _, cl := range []*kgo.Client{c.client, c.listener} {
		if cl != nil {
			cl.Close()
		}
	}
}

// wake has a loop look again, as soon as it has time.
func wake(wakeup chan struct{}) {
	select {
	case wakeup <- struct{}{}:
	default:
	}
}

// lasting is how long to wait before something is tried again: from 5 ms, twice as long each time, to 200 ms.
func lasting(try int) time.Duration {
	const first, last, doubles = 5 * time.Millisecond, 200 * time.Millisecond, 10
	return min(first<<min(try, doubles), last)
}

// nonce is part of a name that nobody else has.
func nonce() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// table is the partitions by number.
type table []*part

func (t *table) find(id stream.PartitionID) *part {
	if int64(id) >= int64(len(*t)) {
		return nil
	}
	return (*t)[id]
}

// part is what this node knows of a partition.
type part struct {
	id      stream.PartitionID
	topic   string
	topicID record.UUID
	index   int32
	limit   atomic.Int64 // max.message.bytes
	leader  atomic.Int32 // -1: none

	told record.Offset // the last stable offset that watchers heard of; inside Watchers.Tell

	mu     sync.Mutex
	bounds stream.Bounds // as far as heard of
	fresh  bool          // a listener keeps bounds up to date
}

// see takes in what a broker said of where the partition ends; -1 is what it did not say.
func (p *part) see(start, stable, high record.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := &p.bounds
	b.Stable = max(b.Stable, stable)
	b.High = max(b.High, high, b.Stable)
	b.Start = min(max(b.Start, start), b.Stable)
}

func (p *part) now() (b stream.Bounds, fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bounds, p.fresh
}

// listen says whether a listener keeps the bounds up to date.
func (p *part) listen(fresh bool) {
	p.mu.Lock()
	p.fresh = fresh
	p.mu.Unlock()
}

// restart forgets what was heard: the partition has lost its end (an unclean election).
func (p *part) restart(b stream.Bounds) {
	p.mu.Lock()
	p.bounds = b
	p.mu.Unlock()
}

func noPartition(op string, id stream.PartitionID) error {
	return fault.New(fault.NotFound, op, "no partition %d", id)
}

// Topics implements stream.Log.
func (c *Cluster) Topics() *stream.Topics { return c.topics.Load() }
