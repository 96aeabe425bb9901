//go:build !linux

package clock

import "time"

// Passed is the time since the process was started.
func Passed() time.Duration { return sinceStart() }
