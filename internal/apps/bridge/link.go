package bridge

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/apps/bridge/relay"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// link is one pair of connections, which live and end together. One goroutine a side reads it and writes to both, one
// more sends what goes out at a rate, and run looks after them.
type link struct {
	b     *Bridge
	near  *client.Wire
	far   *client.Wire
	sides [2]side

	paced      chan []byte // PUBLISH packets to send at a rate; nil: there is none
	subscribed [2]atomic.Bool
	passedAt   atomic.Int64 // when a message last passed, in Unix nanoseconds
	over       chan struct{}
	asked      chan struct{} // closed: end it

	ends, leaves sync.Once
	mu           struct {
		sync.Mutex
		relay  *relay.Relay
		turned *sync.Cond // a side that was held may be read
		ending bool       // it was asked to end
		err    error      // why it ended
	}
}

// side is one connection.
type side struct {
	wire  *client.Wire
	write sync.Mutex // who writes
	wrote atomic.Bool
	heard atomic.Bool // since the last tick of the keep alive
	quiet int         // ticks of it without a packet; run's own
	left  bool        // DISCONNECT is out: nothing goes out behind it; under write
	busy  atomic.Bool // its reader writes to the other one, and does not read
}

func newLink(b *Bridge, near, far *client.Wire) *link {
	l := &link{b: b, near: near, far: far, over: make(chan struct{}), asked: make(chan struct{})}
	l.sides[relay.Local].wire, l.sides[relay.Remote].wire = near, far
	l.mu.turned = sync.NewCond(&l.mu)
	o := relay.Options{Topics: b.o.Topics, ID: b.home.ID, MaxHops: b.o.MaxHops, Known: b.known, Stale: b.stale(),
		State: b.o.state(), Announce: b.o.Announce, NoRetain: b.o.NoRetain}
	o.GiveUp, o.By = b.leaveOut()
	if b.o.OutRate > 0 {
		o.Paced = true
		l.paced = make(chan []byte, b.o.MaxInflight)
	}
	remote := relay.Peer{Version: b.o.Version, MaximumQoS: 2, MaxPacket: packet.MaxSize, Retain: true}
	if far != nil {
		remote = peer(far)
	}
	l.mu.relay = relay.New(o, peer(near), remote)
	l.passedAt.Store(time.Now().UnixNano())
	return l
}

func peer(w *client.Wire) relay.Peer {
	s := w.Server()
	p := relay.Peer{Version: w.Version(), Present: s.SessionPresent, MaximumQoS: s.MaximumQoS,
		MaxPacket: s.MaxPacketSize, Retain: s.Retain}
	for name, value := range w.Told().All() {
		if string(name) == relay.Mark {
			p.Mark = string(value)
		}
	}
	return p
}

// writeTimeout is how long a server may not read.
const writeTimeout = time.Minute

// run passes packets until the connection of one side ends, and tells why; nil: it was asked to end.
func (l *link) run(ctx context.Context) error {
	var e relay.Effects
	l.mu.Lock()
	l.mu.relay.Begin(&e)
	l.mu.Unlock()
	var wg sync.WaitGroup
	for at := range l.sides {
		wg.Go(func() { l.pump(relay.Side(at)) })
	}
	if l.paced != nil {
		wg.Go(l.pace)
	}
	if err := l.do(&e); err != nil {
		l.fail(err)
	}
	l.watch(ctx)
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.ending {
		return nil
	}
	return l.mu.err
}

// prepare has the session at the door be there, with its subscriptions, and leaves.
func (l *link) prepare(ctx context.Context) (err error) {
	stop := context.AfterFunc(ctx, func() { _ = l.near.Close() })
	defer func() {
		if stop() {
			err = errors.Join(err, l.near.Close())
		}
	}()
	s := packet.Subscribe{PacketID: 0xffff, Subscriptions: relay.Filters(l.b.o.Topics, relay.Local, 2)}
	if err := l.near.Write(s.AppendTo(nil, packet.V5), writeTimeout); err != nil {
		return err
	}
	for {
		p, _, err := l.near.Next()
		if err != nil {
			return err
		}
		switch p := p.(type) {
		case *packet.Suback:
			return l.near.Write((&packet.Disconnect{}).AppendTo(nil, packet.V5), writeTimeout)
		case *packet.Disconnect:
			return client.Ended(p)
		}
	}
}

// leave asks for the end.
func (l *link) leave() { l.leaves.Do(func() { close(l.asked) }) }

// fail ends both connections for a reason; the first one counts.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.mu.err == nil {
		l.mu.err = err
	}
	l.mu.turned.Broadcast()
	l.mu.Unlock()
	l.ends.Do(func() {
		close(l.over)
		_ = l.near.Close()
		_ = l.far.Close()
	})
}

// pump reads a side.
func (l *link) pump(from relay.Side) {
	s := &l.sides[from]
	var e relay.Effects
	for l.mayRead(from) {
		e.Reset()
		more := true
		for n := 0; more && n < turnPackets; n++ {
			var p packet.Packet
			var err error
			if p, more, err = s.wire.Next(); err != nil {
				l.fail(err)
				return
			}
			s.heard.Store(true)
			if end, ok := p.(*packet.Disconnect); ok {
				l.fail(client.Ended(end))
				return
			}
			if err := l.take(from, p, &e); err != nil {
				l.b.done(&e)
				l.fail(err)
				return
			}
		}
		s.busy.Store(true)
		err := l.do(&e)
		s.busy.Store(false)
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// turnPackets bounds how many packets are taken before what they call for is done.
const turnPackets = 256

func (l *link) take(from relay.Side, p packet.Packet, e *relay.Effects) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.mu.turned.Broadcast()
	return l.mu.relay.Take(from, p, e)
}

// mayRead waits until a side may be read. False: the link has ended.
func (l *link) mayRead(from relay.Side) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.mu.err == nil && l.mu.relay.Held(from) {
		l.mu.turned.Wait()
	}
	return l.mu.err == nil
}

// do does what a relay asks for. It blocks while a server does not read.
func (l *link) do(e *relay.Effects) error {
	l.b.done(e)
	if e.Passed[0]+e.Passed[1] > 0 {
		l.passedAt.Store(time.Now().UnixNano())
	}
	for at := range l.sides {
		if e.Granted[at] {
			l.subscribed[at].Store(true)
		}
		if err := l.send(relay.Side(at), e.To[at]); err != nil {
			return err
		}
	}
	for _, message := range e.Paced {
		select {
		case l.paced <- message:
		case <-l.over:
			return nil
		}
	}
	return nil
}

// send writes packets to a side, unless we have said goodbye.
func (l *link) send(to relay.Side, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return l.write(to, b, false)
}

// sendLast writes the last packets to a side.
func (l *link) sendLast(to relay.Side, b []byte) error { return l.write(to, b, true) }

func (l *link) write(to relay.Side, b []byte, last bool) error {
	s := &l.sides[to]
	s.write.Lock()
	defer s.write.Unlock()
	defer func() { s.left = s.left || last }()
	if s.left {
		return nil
	}
	s.wrote.Store(true)
	return s.wire.Write(b, writeTimeout)
}

// pace sends messages that go out at a rate.
func (l *link) pace() {
	every := time.Duration(float64(time.Second) / l.b.o.OutRate)
	next := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.over:
			return
		case message := <-l.paced:
			timer.Reset(time.Until(next))
			select {
			case <-timer.C:
			case <-l.over:
				return
			}
			if now := time.Now(); next.Before(now.Add(-pacedBurst)) {
				next = now.Add(-pacedBurst)
			}
			next = next.Add(every)
			if err := l.send(relay.Remote, message); err != nil {
				l.fail(err)
				return
			}
		}
	}
}

// pacedBurst is for how long a rate may be made up for.
const pacedBurst = 100 * time.Millisecond

// watch keeps both connections alive, until they end or are to end.
func (l *link) watch(ctx context.Context) {
	alive := time.NewTicker(l.keepAlive() / 2)
	defer alive.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	for {
		select {
		case <-l.over:
			return
		case <-ctx.Done():
			l.goodbye()
			return
		case <-l.asked:
			l.goodbye()
			return
		case <-alive.C:
			l.ping()
		case <-look.C:
			l.b.backlog()
			if l.b.o.Start == Lazy && time.Since(time.Unix(0, l.passedAt.Load())) > l.b.o.Idle {
				l.goodbye()
				return
			}
		case <-probe.C:
			if l.b.at != 0 && !l.b.o.RoundRobin && answers(ctx, l.b.o.Addresses[0]) {
				l.goodbye()
				return
			}
		}
	}
}

// probeEvery is how often the first address is looked at while another one is connected.
const probeEvery = 30 * time.Second

func answers(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	return err == nil && c.Close() == nil
}

// keepAlive is the shorter one of both sides.
func (l *link) keepAlive() time.Duration {
	d := time.Hour
	for at := range l.sides {
		if k := l.sides[at].wire.Server().KeepAlive; k > 0 {
			d = min(d, k)
		}
	}
	return d
}

// ping runs twice in each keep alive interval. A side that says nothing for two of them, while it is read, is gone.
func (l *link) ping() {
	for at := range l.sides {
		s := &l.sides[at]
		if s.wire.Server().KeepAlive == 0 {
			continue
		}
		heard, wrote := s.heard.Swap(false) || s.busy.Load(), s.wrote.Swap(false)
		if s.quiet++; heard {
			s.quiet = 0
		}
		if s.quiet >= quietTicks {
			l.fail(fault.New(fault.Timeout, "bridge", "the %s server is silent", relay.Side(at)))
			return
		}
		if wrote && heard {
			continue
		}
		if err := l.send(relay.Side(at), (&packet.Pingreq{}).AppendTo(nil, packet.V5)); err != nil {
			l.fail(err)
			return
		}
	}
}

// quietTicks are two keep alive intervals.
const quietTicks = 4

// goodbye ends both connections politely: what was sent before is read by the servers, which then close.
func (l *link) goodbye() {
	timer := time.AfterFunc(goodbyeWait, func() { l.fail(fault.New(fault.Closed, "bridge", "the bridge has ended")) })
	defer timer.Stop()
	var e relay.Effects
	l.mu.Lock()
	l.mu.ending = true
	l.mu.relay.End(&e)
	l.mu.Unlock()
	for at := range l.sides {
		if err := l.sendLast(relay.Side(at), e.To[at]); err != nil {
			l.b.home.Logger.Debug("a bridge cannot say goodbye", "bridge", l.b.o.Name, "error", err)
		}
	}
	<-l.over
}

// goodbyeWait is how long the servers may take to close after a DISCONNECT.
const goodbyeWait = 2 * time.Second
