//go:build !linux

package bench

import "time"

// sleepUntil is as exact as the timers of the Go runtime.
func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
