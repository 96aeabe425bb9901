package kafka

import (
	"math"
	"net"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A connection that is beyond a quota is answered, is told for how long it is throttled, and is not heard for that
// long (KIP-219): its requests wait in the socket. Those that keep a session alive or end one are heard all the same.

const (
	mostQuiet      = 10 * time.Minute // what is owed beyond that is waited for the next time
	requestQuiet   = time.Second      // at most for request_percentage, as in Kafka
	mostRefused    = 1000             // connections beyond their quota that are held until their time is over
	mostClientName = 256              // bytes of a client id that tell it from others here
)

// limits are the quotas in force for a connection. They are its reader's.
type limits struct {
	table  *quotaTable // they were found in
	client string
	of     [quotaKinds]allowance
	spent  time.Duration // on requests, not charged yet
}

// limits gives the quotas in force for the connection, nil if there are none for anybody.
func (c *conn) limits() *limits {
	table := c.door.quotas.table.Load()
	if table == nil {
		return nil
	}
	l := &c.quota
	if l.table != table || l.client != c.clientID {
		l.table, l.client = table, c.clientID
		client := l.client[:min(len(l.client), mostClientName)]
		l.of = table.limitsOf(strings.TrimPrefix(c.principal, "User:"), client)
	}
	return l
}

// charge counts what the connection used of a quota and has it throttled if that was too much. It gives for how long,
// in milliseconds, as an answer tells it.
func (c *conn) charge(kind quotaKind, n float64) (millis int32) {
	l := c.limits()
	if l == nil {
		return 0
	}
	return c.chargeTo(kind, l.of[kind], n)
}

// chargeTo is charge, to what was found to be in force. It may be called from any goroutine.
func (c *conn) chargeTo(kind quotaKind, to allowance, n float64) (millis int32) {
	wait := c.door.quotas.charge(kind, to, n)
	if kind == requestTime {
		wait = min(wait, requestQuiet)
	}
	if wait == 0 {
		return 0
	}
	c.door.metrics.throttled.With(quotaNames[kind]).Inc()
	for until := int64(c.door.now() + wait); ; {
		was := c.quietUntil.Load()
		if was >= until || c.quietUntil.CompareAndSwap(was, until) {
			break
		}
	}
	return int32(min(wait.Milliseconds()+1, math.MaxInt32))
}

// starts is when a piece of work for a request began, if anybody counts how long that takes.
func (c *conn) starts() (at time.Time) {
	if l := c.limits(); l != nil && l.of[requestTime].rate > 0 {
		at = time.Now()
	}
	return at
}

// ends counts a piece of work.
func (c *conn) ends(at time.Time) {
	if !at.IsZero() {
		c.quota.spent += time.Since(at)
	}
}

// chargeTime charges the work that was done since the last time.
func (c *conn) chargeTime() (millis int32) {
	spent := c.quota.spent
	if spent == 0 {
		return 0
	}
	c.quota.spent = 0
	return c.charge(requestTime, 100*spent.Seconds())
}

// change counts topics or partitions that are about to be made or deleted (KIP-599). A request that is strict, of a
// version that knows the code, is refused as soon as something is owed; what came before in it stands. Others are
// throttled when all is done.
func (c *conn) change(n int, strict bool) error {
	l := c.limits()
	switch {
	case l == nil:
		return nil
	case !strict:
		c.changes += n
		return nil
	case c.door.quotas.charge(changeRate, l.of[changeRate], 0) > 0:
		c.owing = true
		return refusal(wire.ThrottlingQuotaExceeded, "more topics and partitions are made and deleted than the quota allows")
	}
	c.door.quotas.charge(changeRate, l.of[changeRate], float64(n))
	return nil
}

// chargeChanges charges the topics and partitions that were made or deleted. Who was refused waits, too.
func (c *conn) chargeChanges() (millis int32) {
	if c.owing {
		c.owing = false
		return c.charge(changeRate, 0)
	}
	n := c.changes
	if n == 0 {
		return 0
	}
	c.changes = 0
	return c.charge(changeRate, float64(n))
}

// mayFetch is the quota of fetched bytes in force, and how many one answer may have: what it allows in a second.
func (c *conn) mayFetch() (a allowance, most int) {
	l := c.limits()
	if l == nil || l.of[fetchRate].rate == 0 {
		return a, maxFetchBytes
	}
	return l.of[fetchRate], int(min(l.of[fetchRate].rate, maxFetchBytes))
}

// throttle tells a response for how many milliseconds its client is throttled.
func throttle(resp kmsg.Response, millis int32) {
	if t, ok := resp.(kmsg.SetThrottleResponse); ok && millis > 0 {
		t.SetThrottle(millis)
	}
}

// keepQuiet has the reader hear nothing as long as the connection is throttled.
func (c *conn) keepQuiet() error {
	until := time.Duration(c.quietUntil.Load())
	if until == 0 {
		return nil
	}
	c.quietUntil.Store(0)
	wait := until - c.door.now()
	if wait <= 0 {
		return nil
	}
	c.watch.set(working)
	over := time.AfterFunc(wait, func() {
		c.mu.Lock()
		c.calm.Broadcast()
		c.mu.Unlock()
	})
	defer over.Stop()
	return c.await(func() bool { return c.door.now() < until && !c.draining.Load() })
}

// tooFast tells whether an address makes connections faster than it may (KIP-612), and closes this one when there
// would be room for it, so that who tries again at once does so no faster.
func (d *Door) tooFast(nc net.Conn) bool {
	table := d.quotas.table.Load()
	if table == nil || !table.addresses {
		return false
	}
	wait := d.quotas.try(connectRate, table.limitOf(hostOf(nc.RemoteAddr())))
	if wait == 0 {
		return false
	}
	d.metrics.throttled.With(quotaNames[connectRate]).Inc()
	if d.refused.Add(1) > mostRefused {
		d.refused.Add(-1)
		_ = nc.Close() // the client sees that it is closed
		return true
	}
	time.AfterFunc(min(wait, requestQuiet), func() {
		d.refused.Add(-1)
		_ = nc.Close()
	})
	return true
}
