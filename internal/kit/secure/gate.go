package secure

import (
	"runtime"
	"time"
)

// Gate bounds the handshakes of all listeners that share it: their number, and the processors they take. What a
// handshake computes is bounded to half of the processors, so that those who are connected keep theirs.
type Gate struct {
	slots  chan struct{} // one for each handshake under way
	tokens chan struct{} // one for each that computes
}

// NewGate makes a gate for so many handshakes at a time, 1 or more.
func NewGate(pending int) *Gate {
	return &Gate{
		slots:  make(chan struct{}, pending),
		tokens: make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)),
	}
}

// compute waits for a processor; false: not before the deadline.
func (g *Gate) compute(deadline time.Time) bool {
	select {
	case g.tokens <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case g.tokens <- struct{}{}:
		return true
	case <-t.C:
		return false
	}
}

func (g *Gate) rest() { <-g.tokens }
