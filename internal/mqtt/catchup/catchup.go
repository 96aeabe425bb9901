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
	// Readers is how many goroutines read, at most Options.Readers of the fanout. Default 2.
	Readers int
	// Metrics gets the gauge. Default: nobody looks.
	Metrics *telemetry.Set
}

// CatchUp serves cursors. New makes it, Run works. It is a fanout.Behind.
//
// Every cursor is in one place: in laggard.waiting, in lane.ready (or a pass that was taken from there) as
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
		queue    []*lane // with ready cursors, that nobody reads
		cursors  int
	}
}

// laggard is a member that is behind.
type laggard struct {
	member  *fanout.Member
	waiting []*fanout.Cursor // the one that waited longest first
	current *fanout.Cursor   // that is in a lane
	parked  int              // in lanes that are paused
	roomy   bool             // it takes messages, as far as is known
}

// New makes a CatchUp for the members of a fanout.
func New(f *fanout.Fanout, opt Options) *CatchUp {
	if opt.Readers <= 0 {
		opt.Readers = 2
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
	var pass []*fanout.Cursor
	for {
		l := c.take()
		if l == nil {
			return
		}
		pass = c.turn(r, l, pass[:0])
		clear(pass)
	}
}

// take waits for a lane with ready cursors; nil: it ends.
func (c *CatchUp) take() *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.mu.queue) == 0 && !c.mu.ended {
		c.mu.work.Wait()
	}
	if c.mu.ended {
		return nil
	}
	l := c.mu.queue[0]
	c.mu.queue = c.mu.queue[:copy(c.mu.queue, c.mu.queue[1:])]
	l.queued, l.running = false, true
	return l
}

// Add implements fanout.Behind.
func (c *CatchUp) Add(cursor *fanout.Cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.cursors++
	m := cursor.Member
	one := c.mu.laggards[m]
	if one == nil {
		one = &laggard{member: m}
		c.mu.laggards[m] = one
	}
	one.waiting = append(one.waiting, cursor)
	if one.current == nil && m.TakeRoomy() { // it was woken since it said Later
		one.roomy = true
	}
	c.serve(one)
}

// Wake implements fanout.Behind. What a member says during a pass may be older than this: then its token stays until
// the pass has ended.
func (c *CatchUp) Wake(m *fanout.Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
		for _, cursor := range one.waiting {
			c.forget(cursor)
		}
		one.waiting = nil
	}
	for one.roomy && one.current == nil && len(one.waiting) > 0 {
		cursor := one.waiting[0]
		one.waiting = one.waiting[:copy(one.waiting, one.waiting[1:])]
		l := c.lane(cursor.Partition)
		if l.paused {
			l.parked = append(l.parked, cursor)
			one.parked++
			continue
		}
		one.current = cursor
		l.add(cursor)
		c.enqueue(l)
	}
	if one.current == nil && len(one.waiting) == 0 && one.parked == 0 {
		delete(c.mu.laggards, one.member)
	}
}

func (c *CatchUp) forget(cursor *fanout.Cursor) {
	cursor.Forget()
	c.mu.cursors--
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
	if l.queued || l.running || len(l.ready) == 0 {
		return
	}
	l.queued = true
	c.mu.queue = append(c.mu.queue, l)
	c.mu.work.Signal()
}

// turn makes one pass over a lane.
func (c *CatchUp) turn(r *fanout.Reader, l *lane, pass []*fanout.Cursor) []*fanout.Cursor {
	c.mu.Lock()
	pass = l.next(pass)
	c.mu.Unlock()
	end, later := r.Pass(pass)

	c.mu.Lock()
	defer c.mu.Unlock()
	l.passed, l.running = end, false
	if later {
		c.pause(l)
	} else {
		l.pause = 0
	}
	for _, cursor := range pass {
		c.after(cursor, end)
	}
	if c.enqueue(l); len(l.ready) == 0 && !l.paused {
		delete(c.mu.lanes, l.partition)
	}
	return pass
}

// after decides what becomes of a cursor when a pass has ended at an offset.
func (c *CatchUp) after(cursor *fanout.Cursor, end record.Offset) {
	one := c.mu.laggards[cursor.Member]
	one.current = nil
	switch {
	case cursor.Verdict == fanout.Gone: // or its partition is
		c.forget(cursor)
	case cursor.Verdict == fanout.Later:
		one.roomy = one.member.TakeRoomy()
		one.waiting = append(one.waiting, cursor)
	case cursor.At > end: // the pass did not come to it
		one.waiting = slices.Insert(one.waiting, 0, cursor)
	case cursor.HandOver():
		c.mu.cursors--
	default:
		one.waiting = append(one.waiting, cursor)
	}
	c.serve(one)
}

// pause leaves a lane alone for a while, because it could not be read. Its members go on elsewhere meanwhile.
func (c *CatchUp) pause(l *lane) {
	l.paused, l.pause = true, fanout.NextPause(l.pause)
	for _, cursor := range l.next(nil) {
		one := c.mu.laggards[cursor.Member]
		one.current = nil
		one.waiting = append(one.waiting, cursor)
		c.serve(one)
	}
	time.AfterFunc(l.pause, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
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
		one.waiting = append(one.waiting, cursor)
		c.serve(one)
	}
	if len(l.ready) == 0 && !l.running {
		delete(c.mu.lanes, l.partition)
	}
}
