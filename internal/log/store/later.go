package store

import (
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// later is when work that failed is tried again, so that it does not hold up other work of its kind meanwhile. The zero
// value is due.
type later struct {
	tries int
	until time.Time
}

// latest is how many times the first pause the longest one is.
const latest = 64

// failed puts the work off: for a first pause, and each time for twice as long. It tells whether that was the first
// time.
func (l *later) failed(first time.Duration) bool {
	l.until = time.Now().Add(min(first<<min(l.tries, 6), latest*first))
	l.tries++
	return l.tries == 1
}

func (l later) waits() bool { return time.Now().Before(l.until) }

// ofItself tells whether work failed for a reason that lies in the files it is about: on a full disk, or when the log
// closes, other work would fail as well.
func ofItself(err error) bool {
	return err != nil && !fault.Is(err, fault.Full) && !fault.Is(err, fault.Closed)
}
