package limit

import "time"

// Bucket is a token bucket: rate tokens come a second, and those of one second at most gather. Time comes in as an
// argument, as a duration since any fixed moment; it never goes back. The zero Bucket lets everything through. It is
// not safe for concurrent use.
type Bucket struct {
	rate   float64 // tokens a second; 0: no bound
	tokens float64 // that are there; below 0: taken before they came
	at     time.Duration
}

// NewBucket makes a bucket of so many tokens a second, which is full; 0: one that lets everything through.
func NewBucket(rate int64) Bucket { return Bucket{rate: float64(rate), tokens: float64(rate)} }

// Bounds tells whether the bucket holds anything back.
func (b *Bucket) Bounds() bool { return b.rate > 0 }

// maxDebt is what may be taken before it comes, as the time in which it comes: who has waited for so long has waited
// enough, for what one large thing costs or many others owe.
const maxDebt = time.Minute

// Take takes n tokens, there or not, and says how long it is until they have come: maxDebt at the most.
func (b *Bucket) Take(n int64, now time.Duration) (wait time.Duration) {
	if b.rate == 0 {
		return 0
	}
	b.fill(now)
	if b.tokens = max(b.tokens-float64(n), -b.rate*maxDebt.Seconds()); b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

// Try takes a token if there is one.
func (b *Bucket) Try(now time.Duration) bool {
	if b.rate == 0 {
		return true
	}
	b.fill(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// fill puts in what has come since the last time.
func (b *Bucket) fill(now time.Duration) {
	if now > b.at {
		b.tokens = min(b.tokens+(now-b.at).Seconds()*b.rate, b.rate)
		b.at = now
	}
}
