package fanout

import (
	"math"
	"sync/atomic"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Behind serves the cursors of members that fell behind. Its methods are called from any goroutine and do not block.
type Behind interface {
	// Add takes over a cursor, until HandOver or Forget gives it back.
	Add(c *Cursor)
	// Wake says that a member can take messages again, or left.
	Wake(m *Member)
}

// Cursor is where a member stands in a partition that it reads by itself, because it could not take a record there or
// was away.
// The worker of the partition makes it; whoever is Behind moves it on, and hands the member over to the worker when
// it has reached what the worker has in hand.
type Cursor struct {
	Member    *Member
	Partition stream.PartitionID
	// At is the next record to offer: all before it were offered and taken.
	At record.Offset
	// Verdict is what the member said last: unless it is Taken, it takes nothing more for now.
	Verdict Verdict
	// Willing tells of a cursor that its member came back: when it was made its sink had not said Later, and nobody will
	// call Wake.
	Willing bool

	worker *worker
	part   *part
	live   atomic.Int64 // the member is live again from this offset on

	// Of who was away.
	until record.Offset            // no message of QoS 0 below it is wanted
	since map[string]record.Offset // the first record for a filter, where that is above At; nil mostly
}

// never is a place that no record has.
const never = math.MaxInt64

// fallBehind gives a member a cursor at a record that was offered live.
func (w *worker) fallBehind(m *Member, p *part, at record.Offset) {
	w.setBehind(&Cursor{Member: m, Partition: p.id, At: at, worker: w, part: p})
}

// setBehind gives a member a cursor, for whoever is Behind.
func (w *worker) setBehind(c *Cursor) {
	w.f.metrics.catchUps.Inc()
	c.Member.sink.Behind(1)
	w.keep(c, never)
	c.Member.cursors.Add(1)
	w.f.behind.Add(c)
}

// keep has a member read a partition by its cursor up to a place.
func (w *worker) keep(c *Cursor, live int64) {
	c.live.Store(live)
	if c.part.behind == nil {
		c.part.behind = make(map[*Member]*Cursor)
	}
	c.part.behind[c.Member] = c
	c.Member.at[w.index].behind++
}

// readsItself tells whether a member gets a record by its own cursor. The first that it does not, it is live again.
func (w *worker) readsItself(m *Member, p *part, at record.Offset) bool {
	if c := p.behind[m]; c != nil {
		if int64(at) < c.live.Load() {
			return true
		}
		w.takeBack(c)
	}
	if m.at[w.index].apart {
		w.miss(m, p, at)
		return true
	}
	return false
}

// takeBack makes a member live again, or forgets it.
func (w *worker) takeBack(c *Cursor) {
	p, m := c.part, c.Member
	if p.behind[m] != c {
		return
	}
	if delete(p.behind, m); len(p.behind) == 0 {
		p.behind = nil
	}
	m.at[w.index].behind--
}

// Head is how far a cursor may be read: what follows, the worker has not in hand yet.
func (c *Cursor) Head() record.Offset {
	c.worker.mu.Lock()
	defer c.worker.mu.Unlock()
	return c.part.claimed
}

// HandOver makes the member live again, if its cursor has reached the head: the worker offers it the next record.
func (c *Cursor) HandOver() bool {
	w := c.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.At < c.part.claimed {
		return false
	}
	c.live.Store(int64(c.At))
	w.mu.returned = append(w.mu.returned, c)
	c.Member.cursors.Add(-1)
	return true
}

// Forget gives up a cursor: its member left, or its partition is gone.
func (c *Cursor) Forget() {
	w := c.worker
	w.mu.Lock()
	c.live.Store(0)
	w.mu.returned = append(w.mu.returned, c)
	w.mu.Unlock()
	c.Member.cursors.Add(-1)
	w.wake()
}

// reclaim takes back the members that were handed over. One that is ahead of the worker keeps its cursor until then,
// so that it gets nothing twice.
func (w *worker) reclaim(returned []*Cursor) {
	w.waiting = append(w.waiting, returned...)
	rest := w.waiting[:0]
	for _, c := range w.waiting {
		if int64(c.part.cursor) >= c.live.Load() || c.Member.Gone() {
			w.takeBack(c)
		} else {
			rest = append(rest, c)
		}
	}
	clear(w.waiting[len(rest):])
	w.waiting = rest
}
