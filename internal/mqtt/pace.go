package mqtt

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/limit"
)

// Rates are how fast clients may connect and publish, each a number a second; that of one second may come at once.
// 0: no bound.
type Rates struct {
	// Connects is new connections of a listener. Beyond it CONNECT is refused with 0x9F, Connection rate exceeded, and
	// beyond twice as many the connection is closed at once.
	Connects int64
	// Messages is PUBLISH packets of one client, Bytes those of their payloads. What comes faster waits in the socket.
	Messages, Bytes int64
	// AllMessages is PUBLISH packets of all clients of a listener together.
	AllMessages int64
}

// or fills in what r does not say.
func (r Rates) or(other Rates) Rates {
	return Rates{
		Connects: cmp.Or(r.Connects, other.Connects), Messages: cmp.Or(r.Messages, other.Messages),
		Bytes: cmp.Or(r.Bytes, other.Bytes), AllMessages: cmp.Or(r.AllMessages, other.AllMessages),
	}
}

func (r Rates) negative() bool {
	return r.Connects < 0 || r.Messages < 0 || r.Bytes < 0 || r.AllMessages < 0
}

// gate bounds how fast connections come.
type gate struct {
	mu       sync.Mutex
	passes   limit.Bucket
	refusals limit.Bucket // CONNECT packets that are read to be refused
}

// gatePass is what becomes of a new connection.
type gatePass int

const (
	letPass    gatePass = iota
	refusePass          // its CONNECT gets an answer
	closePass           // it gets none
)

func (g *gate) set(rate int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passes, g.refusals = limit.NewBucket(rate), limit.NewBucket(rate)
}

func (g *gate) arrive(now time.Duration) gatePass {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.passes.Bounds():
		return letPass
	case g.passes.Try(now):
		return letPass
	case g.refusals.Try(now):
		return refusePass
	default:
		return closePass
	}
}

// allClients bounds how fast all clients of a listener publish.
type allClients struct {
	bounds   atomic.Bool
	mu       sync.Mutex
	messages limit.Bucket
}

func (a *allClients) set(rate int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.messages = limit.NewBucket(rate)
	a.bounds.Store(rate > 0)
}

func (a *allClients) take(now time.Duration) (wait time.Duration) {
	if !a.bounds.Load() {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.messages.Take(1, now)
}

// pace is how fast a client may publish. A message that comes too fast is paid for, and waits until it is due; what is
// behind it stays in the socket, but for little that is read to hear PINGREQ and acknowledgements. So the client is
// slowed by TCP, and nothing is lost. It belongs to the driver.
type pace struct {
	messages, bytes limit.Bucket
	all             *allClients
	paid            bool          // the message in hand
	due             time.Duration // when it is, by the uptime of the door
	timer           *time.Timer   // of a plain socket
	over            chan struct{} // closed when the connection is to end
}

// minPause is how long a client is held back at least: a wake-up for each message would cost more than it.
const minPause = 10 * time.Millisecond

// newPace is the pace of a connection; nil: there is no bound.
func (l *Listener) newPace(c *conn) *pace {
	r := l.rates.Load()
	if r.Messages == 0 && r.Bytes == 0 && r.AllMessages == 0 {
		return nil
	}
	p := &pace{messages: limit.NewBucket(r.Messages), bytes: limit.NewBucket(r.Bytes), all: &l.all,
		over: make(chan struct{})}
	if c.wire.sock != nil {
		p.timer = time.AfterFunc(time.Hour, c.paced)
		p.timer.Stop()
	}
	return p
}

// allow tells whether a message with so many bytes of payload may be taken now. If not, it is asked for the same one
// again.
func (p *pace) allow(bytes int, now time.Duration) bool {
	if p.paid {
		p.paid = now < p.due
		return !p.paid
	}
	wait := max(p.messages.Take(1, now), p.bytes.Take(int64(bytes), now), p.all.take(now))
	if wait > 0 {
		p.paid, p.due = true, now+max(wait, minPause)
	}
	return !p.paid
}

// end has a driver go on that is held back, because the connection is to end.
func (p *pace) end() {
	if p != nil {
		close(p.over)
	}
}

// stop forgets the message in hand: the connection has ended.
func (p *pace) stop() {
	if p != nil && p.timer != nil {
		p.timer.Stop()
	}
}

// slow holds the driver of a plain socket back until the message in hand is due.
func (c *conn) slow() {
	c.listener.metrics.slowed.Inc()
	c.waits.Or(waitPace)
	c.pace.timer.Reset(max(c.pace.due-c.door.uptime(), 0))
}

// paced is called when the message in hand is due.
func (c *conn) paced() {
	c.waits.And(^waitPace)
	c.wakeDriver()
}

// slowDown holds a driver back that has a goroutine. Nothing is heard of the client meanwhile, and that is our doing.
func (c *conn) slowDown() {
	c.listener.metrics.slowed.Inc()
	c.waits.Or(notListening)
	await(c.pace.over, c.pace.due-c.door.uptime())
}
