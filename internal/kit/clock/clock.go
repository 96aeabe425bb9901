// Package clock is the wall clock of a node that knows by how much it was set.
//
// A record carries the time of the wall clock. How old it is, is a question of how much time has passed: a clock that
// is set forward (from 1970 to now, when a small machine has found its time server) makes no record older.
//
//	c := clock.New(time.Now, clock.Passed)
//	record.Timestamp = c.Now().UnixMilli()
//	age := c.For(record.Timestamp, c.Now()).Sub(time.UnixMilli(record.Timestamp))
package clock

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// leastStep is by how much the wall clock must jump to have been set. Slewing stays far below between two looks.
	leastStep = time.Second
	// maxSteps is how many steps are remembered; of more the oldest are forgotten.
	maxSteps = 16
)

// Clock is a wall clock. Its methods may be called from any goroutine.
type Clock struct {
	wall   func() time.Time
	passed func() time.Duration
	steps  atomic.Pointer[[]step] // forward ones, the oldest first; nil: none

	mu struct {
		sync.Mutex
		wall   time.Time // as it was looked at last
		passed time.Duration
	}
}

// step is one setting forward of the clock.
type step struct {
	before int64 // what it would have said at that moment, in milliseconds since 1970
	by     time.Duration
}

// New watches a wall clock. passed tells how much time has passed since some fixed moment, by a clock that is never
// set.
func New(wall func() time.Time, passed func() time.Duration) *Clock {
	c := &Clock{wall: wall, passed: passed}
	now, at := c.look()
	c.mu.wall, c.mu.passed = now.Round(0), at
	return c
}

// look reads both clocks at one moment. Where the process stood still between them they are read again, for that would
// look as if the wall clock had been set.
func (c *Clock) look() (now time.Time, passed time.Duration) {
	for range 10 {
		before := c.passed()
		if now, passed = c.wall(), c.passed(); passed-before < leastStep/4 {
			break
		}
	}
	return now, passed
}

// Now is what the wall clock says. A step since the last call is noted.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, passed := c.look()
	should := c.mu.wall.Add(passed - c.mu.passed)
	if by := now.Round(0).Sub(should); by >= leastStep {
		var steps []step
		if had := c.steps.Load(); had != nil {
			steps = slices.Clone(*had)
		}
		steps = append(steps, step{before: should.UnixMilli(), by: by})
		steps = steps[max(0, len(steps)-maxSteps):]
		c.steps.Store(&steps)
	}
	c.mu.wall, c.mu.passed = now.Round(0), passed
	return now
}

// For is the time by which something stamped at a time (milliseconds since 1970) is judged at now: earlier than now by
// the steps forward since. What was stamped before a step back is judged late by it, and never early.
func (c *Clock) For(stamp int64, now time.Time) time.Time {
	steps := c.steps.Load()
	if steps == nil {
		return now
	}
	for _, s := range *steps {
		if stamp <= s.before {
			now = now.Add(-s.by)
		}
	}
	return now
}
