package clock

import (
	"testing"
	"time"
)

// set is a machine whose wall clock a test sets.
type set struct {
	wall   time.Time
	passed time.Duration
}

func (s *set) pass(d time.Duration) { s.wall, s.passed = s.wall.Add(d), s.passed+d }

func (s *set) clock() *Clock {
	return New(func() time.Time { return s.wall }, func() time.Duration { return s.passed })
}

// TestAgeIsTimeThatPassed: whatever the wall clock is set to, nothing gets older by more than the time that passed.
func TestAgeIsTimeThatPassed(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, steps := range map[string][]time.Duration{
		"none":               {},
		"10 s forward":       {10 * time.Second},
		"from 1970 to now":   {56 * year},
		"forward twice":      {time.Minute, time.Hour},
		"back and forward":   {-10 * time.Second, 20 * time.Second},
		"more than are kept": {5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9},
	} {
		s := &set{wall: time.UnixMilli(0)}
		c := s.clock()
		var stamps []int64
		var when []time.Duration
		for _, step := range append(steps, 0) {
			stamps, when = append(stamps, c.Now().UnixMilli()), append(when, s.passed)
			s.pass(30 * time.Second)
			s.wall = s.wall.Add(step)
		}
		for i, stamp := range stamps {
			age := c.For(stamp, c.Now()).Sub(time.UnixMilli(stamp))
			back := time.Duration(0)
			for _, step := range steps[min(i, len(steps)):] {
				back += min(step, 0)
			}
			if passed := s.passed - when[i]; age > passed || age < passed+back {
				t.Errorf("%s: stamp %d is %v old, %v have passed", name, i, age, passed)
			}
		}
	}
}

// TestOldStampsStayOld: what an earlier life of the node stamped with the right time is as old as it is.
func TestOldStampsStayOld(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &set{wall: time.UnixMilli(0)}
	c := s.clock()
	s.pass(time.Second)
	s.wall = now
	stamp := now.Add(-time.Hour).UnixMilli()
	if age := c.For(stamp, c.Now()).Sub(time.UnixMilli(stamp)); age != time.Hour {
		t.Errorf("it is %v old, want an hour", age)
	}
}

// TestStandstillIsNoStep: a process that stands still while it looks at its clocks, in whatever order, has not seen the
// wall clock set.
func TestStandstillIsNoStep(t *testing.T) {
	s := &set{wall: time.UnixMilli(0)}
	pause := func() {}
	c := New(func() time.Time { pause(); w := s.wall; pause(); return w }, func() time.Duration { return s.passed })
	stamp := c.Now().UnixMilli()
	for stop := range 2 { // before and behind the look at the wall clock
		pauses := 0
		pause = func() {
			if pauses++; pauses == stop+1 {
				s.pass(time.Minute)
			}
		}
		c.Now()
	}
	pause = func() {}
	if age := c.For(stamp, c.Now()).Sub(time.UnixMilli(stamp)); age != 2*time.Minute {
		t.Errorf("it is %v old, 2 minutes have passed", age)
	}
}

func TestPassedGoesOn(t *testing.T) {
	before := Passed()
	time.Sleep(2 * time.Millisecond)
	if d := Passed() - before; d < time.Millisecond || d > time.Minute {
		t.Errorf("%v have passed in 2 ms", d)
	}
}
