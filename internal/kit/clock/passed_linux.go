package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Passed is the time since the machine was started, the time it slept included.
func Passed() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return sinceStart()
	}
	return time.Duration(t.Nano())
}
