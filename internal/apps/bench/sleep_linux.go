package bench

import (
	"syscall"
	"time"
)

// sleepUntil blocks a thread rather than the goroutine: timers of the Go runtime are late by up to a
// millisecond when the process is idle, which would be measured as the broker's latency.
func sleepUntil(t time.Time) {
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // a signal cuts it short: the loop asks the clock again
	}
}
