package clock

import "time"

var start = time.Now()

// sinceStart goes by the monotonic clock that Go keeps in a time.
func sinceStart() time.Duration { return time.Since(start) }
