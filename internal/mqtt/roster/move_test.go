package roster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/mqtt/tenure"
)

// node is a roster that serves some shards.
type node struct {
	*roster.Roster
	log   stream.Keeper
	wills *wills

	mu    sync.Mutex
	moved []string
}

func (n *node) note(shard int, serves bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.moved = append(n.moved, fmt.Sprint(shard, serves, fault.Is(err, fault.Fenced)))
}

// last is what it was told last.
func (n *node) last() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.moved) == 0 {
		return ""
	}
	return n.moved[len(n.moved)-1]
}

// sharded runs a roster without shards until the end of the test.
func sharded(t *testing.T, log stream.Keeper, change func(*roster.Options)) *node {
	t.Helper()
	n := &node{log: log, wills: &wills{log: log}}
	opt := roster.Options{Log: log, Limits: &limits, PublishWill: n.wills.publish, Logger: logtest.New(t),
		Sharded: true, Moved: n.note, Grace: time.Hour, Interval: 10 * time.Millisecond}
	if change != nil {
		change(&opt)
	}
	var err error
	if n.Roster, err = roster.Open(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n
}

// gain gives a node a shard, and waits until it serves.
func (n *node) gain(t *testing.T, shard int) {
	t.Helper()
	n.Gain(shard)
	n.awaits(t, shard, tenure.Serving)
}

func (n *node) awaits(t *testing.T, shard int, s tenure.State) {
	t.Helper()
	until(t, "the shard is "+s.String(), func() bool { return n.State(shard) == s })
}

// withShards makes the topic of the sessions with so many partitions.
func withShards(t *testing.T, log stream.Keeper, shards int) {
	t.Helper()
	_, err := log.CreateTopic(t.Context(), stream.TopicSpec{Name: roster.TopicName, Partitions: shards,
		Config: map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"}})
	if err != nil {
		t.Fatal(err)
	}
}

// onDisk is a log with so many shards.
func onDisk(t *testing.T, shards int) stream.Keeper {
	t.Helper()
	log, err := store.Open(context.Background(), store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	withShards(t, log, shards)
	return log
}

// high is where a shard ends in the log.
func high(t *testing.T, log stream.Log, shard int) record.Offset {
	t.Helper()
	b, err := log.Bounds(log.Topics().ByName(roster.TopicName).Partitions[shard])
	if err != nil {
		t.Fatal(err)
	}
	return b.High
}

// TestShardsAreMade: a roster makes as many shards as it is told where there are none, and leaves those that there are.
func TestShardsAreMade(t *testing.T) {
	log := onDisk(t, 3)
	if n := sharded(t, log, func(o *roster.Options) { o.Shards = 5 }); n.Shards() != 3 {
		t.Errorf("%d shards where there were 3", n.Shards())
	}
	fresh, err := store.Open(context.Background(), store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fresh.Close(); err != nil {
			t.Error(err)
		}
	})
	if n := sharded(t, fresh, func(o *roster.Options) { o.Shards = 5 }); n.Shards() != 5 {
		t.Errorf("%d shards where there were none", n.Shards())
	}
}

// in gives a client identifier that begins so, whose session is in a shard.
func (n *node) in(shard int, begins string) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint(begins, "-", i); n.ShardOf(id) == shard {
			return id
		}
	}
}

// willing is the CONNECT of a session that lasts 1000 s, whose will is due at once when its connection is lost.
func willing(id string) *session.Opening { return withWill(id, 1, 0) }

// TestMove: a shard that is let go of takes its sessions along: their connections are told, write nothing more and
// cost nothing, no will is published, and the next node has the sessions as they were.
func TestMove(t *testing.T) {
	log := onDisk(t, 4)
	set := telemetry.New()
	a, b := sharded(t, log, func(o *roster.Options) { o.Metrics = set }), sharded(t, log, nil)
	id, h := a.in(2, "device"), &holder{}
	var term roster.Term
	if _, err := a.Take(willing(id), h, &term); !errors.Is(err, roster.ErrElsewhere) {
		t.Fatalf("before it has the shard: %v", err)
	}
	a.gain(t, 2)
	a.gain(t, 1)
	stays, _ := take(t, a.Roster, willing(a.in(1, "stays")), &holder{})
	term, _ = take(t, a.Roster, willing(id), h)
	away, _ := take(t, a.Roster, opening(a.in(2, "away"), 1000, false), &holder{})
	leave(t, &away)
	take(t, a.Roster, opening(a.in(2, "fleeting"), 0, true), &holder{})
	sub := &session.Subscription{Filter: "f", ID: 7}
	term.Lock().Resubscribe(sub)
	term.Unlock()
	nowhere := func(func(stream.PartitionID, record.Offset)) {}
	if err := term.StoreFilters(t.Context(), []*session.Subscription{sub}, nil, nowhere); err != nil {
		t.Fatal(err)
	}
	a.Lose(2)
	a.awaits(t, 2, tenure.Absent)
	before := high(t, log, 2)
	if !h.isMoved() || !term.Over() || term.Leave() != nil || a.last() != "2 false false" {
		t.Errorf("the connection was told: %v; the term is over: %v; %s", h.isMoved(), term.Over(), a.last())
	}
	if err := term.Append(log, &stream.Unit{}, 1); !fault.Is(err, fault.Fenced) {
		t.Errorf("it appends: %v", err)
	}
	if err := term.Store(t.Context()); err != nil && !fault.Is(err, fault.Fenced) {
		t.Error(err)
	}
	if after := high(t, log, 2); after != before {
		t.Errorf("it is written to: up to %d, then %d", before, after)
	}
	if _, err := a.Take(willing(id), h, &term); !errors.Is(err, roster.ErrElsewhere) {
		t.Errorf("after it has lost the shard: %v", err)
	}
	if stays.Over() || a.Present() != 1 || a.Len() != 1 {
		t.Error("the session of another shard has gone too")
	}
	b.gain(t, 2)
	found := b.Look(id, func(state *session.State, holds roster.Holder) {
		for sub := range state.All {
			if sub.Filter != "f" || sub.ID != 7 {
				t.Errorf("it is subscribed to %+v", sub)
			}
		}
		if state.Subscriptions() != 1 || state.Will() == nil || holds != nil {
			t.Errorf("%d subscriptions, will %v", state.Subscriptions(), state.Will())
		}
	})
	if _, got := take(t, b.Roster, willing(id), &holder{}); !found || !got.Present {
		t.Error("the session has not come along")
	}
	leave(t, &stays)
	a.Lose(1)
	a.awaits(t, 1, tenure.Absent)
	if a.Len() != 0 || a.Present() != 0 {
		t.Errorf("%d sessions are left, %d present", a.Len(), a.Present())
	}
	if n := a.wills.count() + b.wills.count(); n != 1 { // of the one that left
		t.Errorf("%d wills", n)
	}
}

// TestFenced: who does not know that another node has a shard finds out by his next write there, and lets go of it.
func TestFenced(t *testing.T) {
	log := onDisk(t, 2)
	a, b := sharded(t, log, nil), sharded(t, log, nil)
	a.gain(t, 0)
	h := &holder{}
	term, _ := take(t, a.Roster, willing(a.in(0, "a")), h)
	b.gain(t, 0)
	if _, got := take(t, b.Roster, opening(a.in(0, "a"), 1000, false), &holder{}); !got.Present {
		t.Error("the session has not come along")
	}
	sub := &session.Subscription{Filter: "f"}
	err := term.StoreFilters(t.Context(), []*session.Subscription{sub}, nil,
		func(func(stream.PartitionID, record.Offset)) {})
	if !fault.Is(err, fault.Fenced) && !term.Over() {
		t.Errorf("its write: %v", err)
	}
	a.awaits(t, 0, tenure.Absent)
	if !h.isMoved() || a.last() != "0 false true" || a.Len() != 0 {
		t.Errorf("told: %v, %s, %d sessions", h.isMoved(), a.last(), a.Len())
	}
	b.Look(a.in(0, "a"), func(state *session.State, _ roster.Holder) {
		if state.Subscriptions() != 0 {
			t.Error("the write is there")
		}
	})
	a.gain(t, 0) // it may come back
	b.Checkpoint(t.Context())
	if n := a.wills.count() + b.wills.count(); n != 0 {
		t.Errorf("%d wills", n)
	}
}

// TestClocksMove: what is due by the clock is done by the node that has the shard, from when it has it; the will of a
// session that was connected when its shard moved has its grace.
func TestClocksMove(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	log := onDisk(t, 1)
	timed := func(o *roster.Options) { o.Clock, o.Grace = clock, time.Minute }
	a, b := sharded(t, log, timed), sharded(t, log, timed)
	a.gain(t, 0)
	expires, _ := take(t, a.Roster, opening("expires", 10, false), &holder{})
	leave(t, &expires)
	delayed, _ := take(t, a.Roster, withWill("delayed", 1, 20), &holder{})
	leave(t, &delayed)
	take(t, a.Roster, willing("stays away"), &holder{})
	take(t, a.Roster, willing("comes back"), &holder{})
	a.Lose(0)
	a.awaits(t, 0, tenure.Absent)
	mu.Lock()
	now = now.Add(30 * time.Second)
	mu.Unlock()
	b.gain(t, 0)
	until(t, "one has expired and one will is told", func() bool { return b.Len() == 3 && b.wills.count() == 1 })
	if b.wills.from[0] != "delayed" {
		t.Errorf("the will of %s", b.wills.from[0])
	}
	if _, got := take(t, b.Roster, willing("comes back"), &holder{}); !got.Present {
		t.Error("the session has gone")
	}
	mu.Lock()
	now = now.Add(61 * time.Second)
	mu.Unlock()
	b.Changed() // it looks at the clock
	until(t, "the grace is over", func() bool { return b.wills.count() == 2 })
	if b.wills.from[1] != "stays away" || a.wills.count() != 0 {
		t.Errorf("the will of %s; %d on the node before", b.wills.from[1], a.wills.count())
	}
}

// slowOwn is a log on which to own something takes until it is let.
type slowOwn struct {
	stream.Keeper
	let chan struct{}
}

func (l *slowOwn) Own(ctx context.Context, p stream.PartitionID) (stream.Owner, error) {
	select {
	case <-l.let:
		return l.Keeper.Own(ctx, p)
	case <-ctx.Done():
		return stream.Owner{}, fault.Wrap(fault.Timeout, "log.Own", ctx.Err())
	}
}

// TestTakenWhileItComes: a shard that is taken again while it is claimed does not come, without a word of failure.
func TestTakenWhileItComes(t *testing.T) {
	log := &slowOwn{onDisk(t, 1), make(chan struct{})}
	n := sharded(t, log, nil)
	n.Gain(0)
	n.awaits(t, 0, tenure.Claiming)
	n.Lose(0)
	n.awaits(t, 0, tenure.Absent)
	if n.last() != "0 false false" {
		t.Errorf("told %s", n.last())
	}
	n.Gain(0)
	n.Lose(0)
	n.Gain(0)
	close(log.let)
	n.awaits(t, 0, tenure.Serving)
	n.Gain(7) // there is none
	n.Lose(-1)
}

// world is nodes between which shards move while clients connect to whichever has them.
type world struct {
	nodes  []*node
	shards int
}

// move gives a shard to a node; asked tells that the others let go of it before.
func (w *world) move(shard, to int, asked bool) {
	for i, n := range w.nodes {
		if asked && i != to {
			n.Lose(shard)
		}
	}
	w.nodes[to].Gain(shard)
}

// client is a device that stores a number with its subscription, higher each time, and knows which are stored.
type client struct {
	id             string
	stored, called uint32
	term           roster.Term // of its connection, if it has one
}

// hangUp ends the connection of a client that has one, without its will.
func (c *client) hangUp() error {
	state := c.term.Lock()
	if state == nil {
		return nil
	}
	err := state.Disconnect(&packet.Disconnect{})
	c.term.Unlock()
	if left := c.term.Leave(); left != nil && err == nil {
		_ = left.Settle(context.Background()) // where it is stored, the next turn looks
	}
	return err
}

// turn connects to one of the nodes and, if that has the session, stores the next number. Errors: what must not be.
func (c *client) turn(w *world, random *rand.Rand) error {
	if err := c.hangUp(); err != nil {
		return err
	}
	term := &c.term
	got, err := tryTake(w.nodes[random.IntN(len(w.nodes))].Roster, willing(c.id), &holder{}, term)
	if err != nil {
		return nil //nolint:nilerr // it is elsewhere, or on its way there
	}
	state := term.Lock()
	if state == nil {
		return nil
	}
	var is uint32
	for sub := range state.All {
		is = sub.ID
	}
	term.Unlock()
	if is < c.stored || is > c.called || !got.Present && c.stored > 0 {
		if term.Over() { // of a node that had lost the shard before
			return nil
		}
		return fmt.Errorf("%s: %d was stored, %d begun, and there is %d", c.id, c.stored, c.called, is)
	}
	c.called++
	number := c.called
	sub := &session.Subscription{Filter: "f", ID: number}
	if state = term.Lock(); state == nil {
		return nil
	}
	state.Resubscribe(sub)
	term.Unlock()
	err = term.StoreFilters(context.Background(), []*session.Subscription{sub}, nil,
		func(func(stream.PartitionID, record.Offset)) {})
	if err == nil && !term.Over() {
		c.stored = number
	}
	return nil // it stays connected, until its shard moves or it comes again
}

// play has clients take turns while shards move, and looks at the end that one node has all that was stored.
func (w *world) play(t *testing.T, clients, turns, moves int) {
	t.Helper()
	for shard := range w.shards {
		w.move(shard, shard%len(w.nodes), true)
	}
	var work sync.WaitGroup
	all := make([]*client, clients)
	for i := range all {
		all[i] = &client{id: fmt.Sprintf("c%d", i)}
		work.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range turns {
				if err := all[i].turn(w, random); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(2, 2))
	for range moves {
		shard, to := random.IntN(w.shards), random.IntN(len(w.nodes))
		w.move(shard, to, random.IntN(2) > 0)
		if random.IntN(2) > 0 {
			until(t, "it has come, or is gone again", func() bool {
				s := w.nodes[to].State(shard)
				return s == tenure.Serving || s == tenure.Absent
			})
		}
	}
	work.Wait()
	w.end(t, all)
}

// end gives all shards to the first node.
func (w *world) end(t *testing.T, all []*client) {
	t.Helper()
	for shard := range w.shards {
		for _, n := range w.nodes {
			n.Lose(shard)
		}
	}
	for _, n := range w.nodes {
		until(t, "nothing is left", func() bool { return n.Len() == 0 && n.Present() == 0 })
		for shard := range w.shards {
			n.awaits(t, shard, tenure.Absent)
		}
	}
	first := w.nodes[0]
	for shard := range w.shards {
		first.gain(t, shard)
	}
	for _, c := range all {
		var is uint32
		first.Look(c.id, func(state *session.State, _ roster.Holder) {
			for sub := range state.All {
				is = sub.ID
			}
		})
		if is < c.stored || is > c.called {
			t.Errorf("%s: %d was stored, %d begun, and there is %d", c.id, c.stored, c.called, is)
		}
	}
	for i, n := range w.nodes {
		if n.wills.count() > 0 {
			t.Errorf("node %d has told the wills of %v", i, n.wills.from)
		}
	}
}

// TestMoves: whatever shards move, asked or not, under clients that connect everywhere, what a client knows to be
// stored is stored, and nobody is said to be dead.
func TestMoves(t *testing.T) {
	w := &world{shards: 8}
	log := onDisk(t, w.shards)
	for range 3 {
		w.nodes = append(w.nodes, sharded(t, log, nil))
	}
	w.play(t, 20, 60, 200)
}

// TestMovesInACluster is TestMoves on gateways before a cluster, which fences by its transactions.
func TestMovesInACluster(t *testing.T) {
	f, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	w := &world{shards: 4}
	for i := range 2 {
		log, err := cluster.Open(context.Background(), cluster.Options{Seeds: f.ListenAddrs(), Logger: logtest.New(t),
			RefreshInterval: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			withShards(t, log, w.shards)
		} else {
			until(t, "the topic is known", func() bool { return log.Topics().ByName(roster.TopicName) != nil })
		}
		w.nodes = append(w.nodes, sharded(t, log, nil))
	}
	w.play(t, 8, 20, 30)
}
