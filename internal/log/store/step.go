package store

import "time"

// largeStep is by how much the wall clock must jump to be mistrusted. Slewing and a lazy timer stay far below.
const largeStep = 10 * time.Minute

// stepWatch notices that the wall clock was set: it moved by more or less than the time that passed. What is removed by
// its age waits then, so that one wrong clock does not empty a log.
type stepWatch struct {
	wall   time.Time // what the wall clock said when it was looked at last
	passed time.Duration
	begun  bool
	until  time.Duration // removal by age waits until so much time has passed
}

// look takes what the wall clock says, and how much time has passed since some fixed moment by a clock that is never
// set. It tells by how much the wall clock was set since the last look, if that is much.
func (w *stepWatch) look(wall time.Time, passed, wait time.Duration) (step time.Duration) {
	if w.begun {
		step = wall.Round(0).Sub(w.wall) - (passed - w.passed)
	}
	w.wall, w.passed, w.begun = wall.Round(0), passed, true
	if step.Abs() < largeStep {
		return 0
	}
	w.until = passed + wait
	return step
}

// waits tells whether removal by age waits.
func (w *stepWatch) waits() bool { return w.passed < w.until }
