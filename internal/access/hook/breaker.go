package hook

import "time"

// outcome is what came of a request.
type outcome uint8

const (
	answered outcome = iota
	missed           // there was no answer
	dropped          // who asked could not wait for it: that says nothing about the service
)

const (
	missesToOpen = 3  // one after the other
	longestPause = 32 // times the first
)

// breaker keeps a service that does not answer from being asked: after some misses for a pause, then but one request
// finds out whether it is back, and if it is not, the next pause is twice as long. It is pure, and not safe for
// concurrent use. The zero breaker with a pause is closed: everything may pass.
type breaker struct {
	pause  time.Duration // the first
	misses int           // one after the other
	now    time.Duration // the pause of the moment; 0: it is closed
	until  time.Time
	trying bool // one request is under way that finds out
}

// isOpen tells whether nothing may pass.
func (b *breaker) isOpen(now time.Time) bool { return b.now > 0 && (b.trying || now.Before(b.until)) }

// enter lets a request pass, or not. What came of it is settled.
func (b *breaker) enter(now time.Time) bool {
	if b.isOpen(now) {
		return false
	}
	b.trying = b.now > 0
	return true
}

// settle notes what came of a request; turned tells that it opened or closed by that. An answer closes it, also one to
// a request that had passed before.
func (b *breaker) settle(o outcome, now time.Time) (turned bool) {
	switch o {
	case dropped:
		b.trying = false
		return false
	case answered:
		turned = b.now > 0
		*b = breaker{pause: b.pause}
		return turned
	}
	b.misses++
	switch {
	case b.now == 0 && b.misses >= missesToOpen:
		b.now, turned = b.pause, true
	case b.now > 0 && b.trying && !now.Before(b.until):
		b.now = min(2*b.now, longestPause*b.pause)
	default: // closed still, or it had passed before it opened
		return false
	}
	b.until, b.trying = now.Add(b.now), false
	return turned
}
