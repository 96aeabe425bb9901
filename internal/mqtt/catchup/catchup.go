// Package catchup reads the log for the members of package fanout that fell behind, so that the workers of live
// delivery never do: one pass over a partition for all its cursors, by a few goroutines.
//
// A member is served in one partition at a time, the one that waited longest first, as far as it takes messages; what
// it does not take stays in the log. When a cursor has reached the head of its partition, the member is handed over
// to the worker there.
//
//	c := catchup.New(f, catchup.Options{})
//	go c.Run(ctx)
package catchup

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
)

// Options of a CatchUp. The zero value is the default.
type Options struct {
	// Readers is how many goroutines read, at most Options.Readers of the fanout, which is the default.
	Readers int
	// Metrics gets the gauge. Default: nobody looks.
	Metrics *telemetry.Set
}

// CatchUp serves cursors. New makes it, Run works. It is a fanout.Behind.
//
// Every cursor is in one place: in laggard.waiting, in its lane (or was taken from there by a pass that has ended) as
// laggard.current, or in lane.parked.
type CatchUp struct {
	opt Options
	f   *fanout.Fanout

	mu struct {
		sync.Mutex
		work     *sync.Cond // the queue is not empty, or it ends
		ended    bool
		lanes    map[stream.PartitionID]*lane
		laggards map[*fanout.Member]*laggard
		queue    queue[*lane] // with ready cursors, that nobody reads
		cursors  int
		caughtUp []*fanout.Member // one for each cursor that was given back, to be told after the unlock
	}
}

// laggard is a member that is behind.
type laggard struct {
	member  *fanout.Member
	waiting queue[*fanout.Cursor]
	current *fanout.Cursor // that is in a lane
	parked  int            // in lanes that are paused
	roomy   bool           // it takes messages, as far as is known
}

// New makes a CatchUp for the members of a fanout.
func New(f *fanout.Fanout, opt Options) *CatchUp {
	if opt.Readers <= 0 {
		opt.Readers = f.Readers()
	}
	c := &CatchUp{opt: opt, f: f}
	c.mu.work = sync.NewCond(&c.mu)
	c.mu.lanes = make(map[stream.PartitionID]*lane)
	c.mu.laggards = make(map[*fanout.Member]*laggard)
	opt.Metrics.GaugeFunc("firth_mqtt_cursors_behind", "Partitions in which sessions are behind, added up.",
		func() float64 { return float64(c.Len()) })
	f.CatchUpWith(c)
	return c
}

// Len is the number of cursors.
func (c *CatchUp) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.cursors
}

// unlock unlocks, and tells the members whose cursors were given back. That is always later than it happened, so that
// a sink never knows of fewer than there are.
func (c *CatchUp) unlock() {
	caughtUp := c.mu.caughtUp
	c.mu.caughtUp = nil
	c.mu.Unlock()
	for _, m := range caughtUp {
		m.CaughtUp()
	}
}

// Run serves cursors until ctx ends. It returns when all readers have ended.
func (c *CatchUp) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.ended = true
		c.mu.work.Broadcast()
	})
	defer stop()
	var wg sync.WaitGroup
	for i := range c.opt.Readers {
		wg.Go(func() { c.run(c.f.NewReader(i)) })
	}
	wg.Wait()
	return nil
}

func (c *CatchUp) run(r *fanout.Reader) {
	var came []*fanout.Cursor
	for {
		l := c.take()
		if l == nil {
			return
		}
		came = c.turn(r, l, came[:0])
		clear(came)
	}
}

// take waits for a lane with ready cursors; nil: it ends.
func (c *CatchUp) take() *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.mu.queue.len() == 0 && !c.mu.ended {
		c.mu.work.Wait()
	}
	if c.mu.ended {
		return nil
	}
	l := c.mu.queue.pop()
	l.queued, l.running = false, true
	return l
}

// Add implements fanout.Behind.
func (c *CatchUp) Add(cursor *fanout.Cursor) {
	c.mu.Lock()
	defer c.unlock()
	c.mu.cursors++
	m := cursor.Member
	one := c.mu.laggards[m]
	if one == nil {
		one = &laggard{member: m}
		c.mu.laggards[m] = one
	}
	one.waiting.push(cursor)
	if one.current == nil && (cursor.Willing || m.TakeRoomy()) { // it was woken since it said Later
		one.roomy = true
	}
	c.serve(one)
}

// Wake implements fanout.Behind. What a member says during a pass may be older than this: then its token stays until
// the pass has ended.
func (c *CatchUp) Wake(m *fanout.Member) {
	c.mu.Lock()
	defer c.unlock()
	one := c.mu.laggards[m]
	if one == nil || one.current != nil {
		return
	}
	m.TakeRoomy()
	one.roomy = true
	c.serve(one)
}

// serve puts the next cursor of a member into its lane, if it takes messages and none is there. It needs the lock, as
// do those below.
func (c *CatchUp) serve(one *laggard) {
	if one.member.Gone() {
		for one.waiting.len() > 0 {
			c.forget(one.waiting.pop())
		}
	}
	for one.roomy && one.current == nil && one.waiting.len() > 0 {
		cursor := one.waiting.pop()
		l := c.lane(cursor.Partition)
		if l.paused {
			l.parked = append(l.parked, cursor)
			one.parked++
			continue
		}
		one.current, cursor.Verdict = cursor, fanout.Taken
		l.add(cursor)
		c.enqueue(l)
	}
	if one.current == nil && one.waiting.len() == 0 && one.parked == 0 {
		delete(c.mu.laggards, one.member)
	}
}

func (c *CatchUp) forget(cursor *fanout.Cursor) {
	cursor.Forget()
	c.gaveBack(cursor)
}

func (c *CatchUp) gaveBack(cursor *fanout.Cursor) {
	c.mu.cursors--
	c.mu.caughtUp = append(c.mu.caughtUp, cursor.Member)
}

func (c *CatchUp) lane(p stream.PartitionID) *lane {
	l := c.mu.lanes[p]
	if l == nil {
		l = &lane{partition: p}
		c.mu.lanes[p] = l
	}
	return l
}

// enqueue has somebody read a lane, unless nobody waits there or somebody will.
func (c *CatchUp) enqueue(l *lane) {
	if l.queued || l.running || l.paused || l.empty() {
		return
	}
	l.queued = true
	c.mu.queue.push(l)
	c.mu.work.Signal()
}

// nearHead is how many records before the head are near it: to read them costs little.
const nearHead = 1000

// turn makes one pass over a lane.
func (c *CatchUp) turn(r *fanout.Reader, l *lane, came []*fanout.Cursor) []*fanout.Cursor {
	c.mu.Lock()
	pass := l.begin(l.head() - nearHead)
	c.mu.Unlock()
	end, later := r.Pass(pass)

	c.mu.Lock()
	came = l.ended(end, came)
	c.mu.Unlock()
	for some := range slices.Chunk(came, atOnce) {
		c.afterPass(some)
	}
	c.mu.Lock()
	defer c.unlock()
	l.running = false
	if later {
		c.pause(l)
	} else {
		l.pause = 0
	}
	if c.enqueue(l); l.empty() && !l.paused {
		delete(c.mu.lanes, l.partition)
	}
	return came
}

// atOnce bounds the cursors that are dealt with under the lock, so that live delivery does not wait for many.
const atOnce = 256

// afterPass decides what becomes of some cursors of a pass that has ended.
func (c *CatchUp) afterPass(some []*fanout.Cursor) {
	c.mu.Lock()
	defer c.unlock()
	below := record.Offset(-1) // no cursor there has reached the head
	for _, cursor := range some {
		c.after(cursor, &below)
	}
}

// after decides what becomes of a cursor when a pass that came to it has ended.
func (c *CatchUp) after(cursor *fanout.Cursor, below *record.Offset) {
	one := c.mu.laggards[cursor.Member]
	one.current = nil
	switch {
	case cursor.Verdict == fanout.Gone: // or its partition is
		c.forget(cursor)
	case cursor.Verdict == fanout.Later:
		one.roomy = one.member.TakeRoomy()
		one.waiting.push(cursor)
	case cursor.At > *below && cursor.HandOver():
		c.gaveBack(cursor)
	default:
		*below = max(*below, cursor.At)
		one.waiting.push(cursor)
	}
	c.serve(one)
}

// pause leaves a lane alone for a while, because it could not be read. Its members go on elsewhere meanwhile.
func (c *CatchUp) pause(l *lane) {
	l.paused, l.pause = true, fanout.NextPause(l.pause)
	for _, cursor := range l.drain() {
		one := c.mu.laggards[cursor.Member]
		one.current = nil
		one.waiting.push(cursor)
		c.serve(one)
	}
	time.AfterFunc(l.pause, func() {
		c.mu.Lock()
		defer c.unlock()
		c.resume(l)
	})
}

// resume gives the members of a lane that was paused their cursors back.
func (c *CatchUp) resume(l *lane) {
	parked := l.parked
	l.paused, l.parked = false, nil
	for _, cursor := range parked {
		one := c.mu.laggards[cursor.Member]
		one.parked--
		one.waiting.push(cursor)
		c.serve(one)
	}
	if l.empty() && !l.running {
		delete(c.mu.lanes, l.partition)
	}
}
