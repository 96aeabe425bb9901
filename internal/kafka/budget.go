package kafka

import (
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// budget counts the bytes that clients make the door hold: requests while they arrive and are served, answers while
// they are written, members of groups and fetch sessions for as long as they are. The more a connection holds, the more
// room it has to leave to others: near the limit the largest wait first, and at last they are refused. Groups and fetch
// sessions have a part of it, and what would take more is refused at once, for it might wait long.
type budget struct {
	limit    int64
	patience time.Duration // how long a connection is slowed before it is refused
	told     func(slowed bool)

	mu      sync.Mutex
	used    int64     // by connections
	kept    int64     // by groups and fetch sessions: it outlives the requests that brought it
	cached  int64     // of it, by fetch sessions
	waiting []*slowed // in the order they came
}

// slowed is a connection that waits for room.
type slowed struct {
	h    *holding
	n    int64
	room chan struct{} // closed when n was taken
}

// holding is what one connection holds. Its count belongs to the budget's lock.
type holding struct {
	b     *budget
	ended <-chan struct{} // closed when the connection is; nil: never
	bytes int64
}

// budgetPatience is how long a connection is slowed before it is refused.
const budgetPatience = 10 * time.Second

// smallBytes are not counted one by one: a connection keeps so much for itself.
const smallBytes = 4 << 10

// keptShare is the part of the budget that groups may have: a quarter.
const keptShare = 4

// leave is how many times what a connection holds it leaves to the others.
const leave = 3

// fitsLocked tells whether a connection may hold n bytes more.
func (b *budget) fitsLocked(h *holding, n int64) bool {
	if b.used == h.bytes {
		return true // nobody else is there: what one request may have is bounded elsewhere
	}
	kept := min(b.kept, b.limit/keptShare) // what the log brings back at a start may be more
	return b.used+kept+n+min(leave*(h.bytes+n), b.limit/2) <= b.limit
}

// take counts n bytes, when there is room for them. Errors: Limited, when there was none for too long; Closed, when
// the connection has ended.
func (h *holding) take(n int) error {
	if n <= smallBytes {
		return nil
	}
	b, size := h.b, int64(n)
	b.mu.Lock()
	if len(b.waiting) == 0 && b.fitsLocked(h, size) || b.fitsLocked(h, size) && size <= b.smallestLocked() {
		h.countLocked(size)
		b.mu.Unlock()
		return nil
	}
	w := &slowed{h: h, n: size, room: make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	b.told(true)
	return b.wait(w)
}

// smallestLocked is the least that anybody waits for.
func (b *budget) smallestLocked() int64 {
	least := b.limit
	for _, w := range b.waiting {
		least = min(least, w.n)
	}
	return least
}

// wait waits for room, as long as the budget has patience.
func (b *budget) wait(w *slowed) error {
	late := time.NewTimer(b.patience)
	defer late.Stop()
	var err error
	select {
	case <-w.room:
		return nil
	case <-late.C:
		err = fault.New(fault.Limited, "kafka.budget", "the connections hold %d bytes, %d are allowed", b.held(), b.limit).
			WithHint("raise limits.kafka_bytes, or send and ask for less at once")
	case <-w.h.ended:
		err = fault.New(fault.Closed, "kafka.budget", "the connection has ended")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, w)
	if i < 0 { // there was room meanwhile
		return nil
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	b.told(false)
	return err
}

func (h *holding) countLocked(n int64) {
	h.bytes += n
	h.b.used += n
}

// give takes back what take counted, and lets in who waits and fits now.
func (h *holding) give(n int) {
	if n <= smallBytes {
		return
	}
	b := h.b
	b.mu.Lock()
	defer b.mu.Unlock()
	h.countLocked(-int64(n))
	b.admitLocked()
}

// admitLocked lets in who waits and fits now, the least first.
func (b *budget) admitLocked() {
	if len(b.waiting) == 0 {
		return
	}
	slices.SortStableFunc(b.waiting, func(a, c *slowed) int { return int(min(max(a.n-c.n, -1), 1)) })
	b.waiting = slices.DeleteFunc(b.waiting, func(w *slowed) bool {
		if !b.fitsLocked(w.h, w.n) {
			return false
		}
		w.h.countLocked(w.n)
		close(w.room)
		return true
	})
}

// release gives back all that a connection that ended still held.
func (h *holding) release() {
	h.b.mu.Lock()
	n := h.bytes
	h.b.mu.Unlock()
	h.give(int(n))
}

// reserve counts n bytes for a group that has some, if there is room for them: the more it has, the more room it has
// to leave to the others.
func (b *budget) reserve(has, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept+n+has+n > b.limit/keptShare {
		return false
	}
	b.kept += n
	return true
}

// keep changes what groups have.
func (b *budget) keep(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept += n
	b.admitLocked()
}

// keepSessions changes what fetch sessions have. They bound themselves to less than groups may have.
func (b *budget) keepSessions(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept += n
	b.cached += n
	b.admitLocked()
}

// held is how many bytes connections and groups hold.
func (b *budget) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used + b.kept
}

// groups is how many bytes of these the groups hold.
func (b *budget) groups() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept - b.cached
}

// tight tells whether more than half of the budget is used: then answers are written in smaller pieces.
func (b *budget) tight() bool { return b.held() > b.limit/2 }
