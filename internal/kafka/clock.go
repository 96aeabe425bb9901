package kafka

import "time"

// steady is a clock in milliseconds since 1970 that goes on from the wall clock of its beginning without steps:
// durations are measured by it, so that a wall clock that is set ends no wait and no session.
func steady() func() int64 {
	began := time.Now()
	return func() int64 { return began.UnixMilli() + time.Since(began).Milliseconds() }
}

// wallMillis is the time of day, in milliseconds since 1970. It may step.
func wallMillis() int64 { return time.Now().UnixMilli() }

const (
	// stepMillis is by how much the wall clock must have gone another way for it to be worth a line.
	stepMillis = 10_000
	// setMillis is a time in 2001: a stamp from before is of a clock that was not set yet, as of a machine without a
	// battery.
	setMillis = 1_000_000_000_000
)

// drift watches the wall clock against a steady one.
type drift struct{ last int64 }

// step is by how much the wall clock stepped since the last look, 0 if it did not.
func (d *drift) step(wall, now int64) int64 {
	by := wall - now - d.last
	if max(by, -by) < stepMillis {
		return 0
	}
	d.last += by
	return by
}
