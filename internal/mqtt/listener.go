package mqtt

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// ListenerOptions are what is particular to one listener. The zero value of a field is what holds for the door.
type ListenerOptions struct {
	// Name is for metrics and log lines. Default: mqtt.
	Name string
	// MaxConnections is the most connections by this listener at a time.
	MaxConnections int
	// MaxPacketBytes is the largest packet taken, fixed header included, from 1 KiB to what the door takes.
	MaxPacketBytes int
	// Rates are how fast its clients may connect and publish.
	Rates Rates
	// Inside is for connections of the node itself, which relay what others send: they are who they say, without a
	// password, may have as much in flight as there are packet identifiers, and their sessions last.
	Inside bool
	// Missed is told of records that retention took before a session of a connection had read them; nil: nobody is. It
	// must not block.
	Missed func(client string, records int64)
}

// Listener is one way into the door: some addresses, and the limits of who connects to them.
type Listener struct {
	door    *Door
	opt     ListenerOptions
	limits  session.Limits
	metrics listenerMetrics
	count   atomic.Int64 // connections
	rates   atomic.Pointer[Rates]
	gate    gate       // how fast they come
	all     allClients // how fast all of them publish
}

// ways are the listeners of a door.
type ways struct {
	mu    sync.Mutex
	rates Rates // of those that have none of their own
	all   []*Listener
}

// SetRates has other rates hold for listeners that have none of their own: Connects and AllMessages from now on, those
// of one client for clients that connect from now on. None is negative.
func (d *Door) SetRates(r Rates) {
	d.ways.mu.Lock()
	defer d.ways.mu.Unlock()
	d.ways.rates = r
	for _, l := range d.ways.all {
		l.setRates(r)
	}
}

// setRates has rates of the door hold where the listener has none of its own. They are not for the node itself.
func (l *Listener) setRates(byDoor Rates) {
	r := l.opt.Rates
	if !l.opt.Inside {
		r = r.or(byDoor)
	}
	l.rates.Store(&r)
	l.gate.set(r.Connects)
	l.all.set(r.AllMessages)
}

// Listener makes a way in. Its name is used once. Errors: Invalid for an option out of range.
func (d *Door) Listener(opt ListenerOptions) (*Listener, error) {
	const op = "mqtt.Listener"
	opt.Name = cmp.Or(opt.Name, "mqtt")
	opt.MaxConnections = cmp.Or(opt.MaxConnections, d.opt.MaxConnections)
	opt.MaxPacketBytes = cmp.Or(opt.MaxPacketBytes, d.opt.MaxPacketBytes)
	switch {
	case opt.Rates.negative() || d.opt.Rates.negative():
		return nil, fault.New(fault.Invalid, op, "a rate is negative")
	case opt.MaxConnections < 1:
		return nil, fault.New(fault.Invalid, op, "MaxConnections %d is less than 1", opt.MaxConnections)
	case opt.MaxPacketBytes < minMaxPacket || opt.MaxPacketBytes > d.opt.MaxPacketBytes:
		return nil, fault.New(fault.Invalid, op, "MaxPacketBytes %d is not between %d and %d",
			opt.MaxPacketBytes, minMaxPacket, d.opt.MaxPacketBytes)
	}
	l := &Listener{door: d, opt: opt, limits: d.limits, metrics: d.metrics.of(opt.Name)}
	l.limits.MaxPacketBytes = opt.MaxPacketBytes
	if opt.Inside {
		l.limits.ReceiveMaximum, l.limits.MaxExpiry = math.MaxUint16, session.Never
	}
	d.ways.mu.Lock()
	defer d.ways.mu.Unlock()
	d.ways.all = append(d.ways.all, l)
	l.setRates(d.ways.rates)
	return l, nil
}

// Serve is Listener.Serve of a listener without limits of its own.
func (d *Door) Serve(ctx context.Context, l net.Listener) error { return d.plain().Serve(ctx, l) }

func (d *Door) plain() *Listener {
	l, err := d.Listener(ListenerOptions{})
	if err != nil {
		panic(err) // the options of a door are good for a listener
	}
	return l
}

// Serve accepts connections from n, whose bytes come whole and in their order [MQTT-4.2-1], until n is closed or ctx
// ends, which closes it. Connections live on: Drain ends them. Errors: those of n, but not that it was closed.
func (l *Listener) Serve(ctx context.Context, n net.Listener) error { return l.serve(ctx, n, l.start) }

// ServeOpened is Serve of connections that other nodes hand over to this one (Sharding.HandOver): each begins with its
// CONNECT, in the clear, and is a *secure.Carried where its client speaks TLS.
func (l *Listener) ServeOpened(ctx context.Context, n net.Listener) error {
	return l.serve(ctx, n, func(n net.Conn) {
		if c := l.admit(n); c != nil {
			if c.crossing != nil {
				c.crossing.came = true
			}
			c.start()
		}
	})
}

func (l *Listener) serve(ctx context.Context, n net.Listener, start func(net.Conn)) error {
	log := l.door.opt.Logger
	stop := context.AfterFunc(ctx, func() {
		if err := n.Close(); err != nil {
			log.Debug("closing a listener", "error", err)
		}
	})
	defer stop()
	pause := time.Duration(0)
	for {
		c, err := n.Accept()
		switch {
		case err == nil:
			pause = 0
			start(c)
		case errors.Is(err, net.ErrClosed):
			return nil
		case !isTemporary(err):
			return fault.Wrap(fault.IO, "mqtt.Serve", err)
		default: // no descriptors left, or the like: others may end soon
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			log.Warn("cannot accept a connection, trying again", "error", err, "in", pause)
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
}

func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// start begins to serve a connection of the poller's.
func (l *Listener) start(n net.Conn) {
	if c := l.admit(n); c != nil {
		c.start()
	}
}

// admit takes a connection in; nil: there is no room for it, or too many come, and it is closed.
func (l *Listener) admit(n net.Conn) *conn {
	pass := l.gate.arrive(l.door.uptime())
	c := l.door.newConn(l, n)
	c.refused = pass == refusePass
	switch {
	case pass == closePass:
		l.metrics.hasty.Inc()
	case l.door.add(c):
		return c
	default:
		l.metrics.full.Inc()
	}
	c.timer.Stop()
	c.closeAccounts()
	c.wire.close()
	c.peer.Forget()
	return nil
}

// NoHeader counts and logs a connection that was closed because no good header of the PROXY protocol came.
func (l *Listener) NoHeader(balancer net.Addr, why error) {
	l.metrics.header.Inc()
	l.door.tell("closed a connection without a good header of the PROXY protocol", l.opt.Name, packet.ProtocolError,
		"listener", l.opt.Name, "remote", balancer, "error", why)
}

// enter counts a connection in, unless there are too many. It is called under the lock of the door.
func (l *Listener) enter() bool {
	if l.count.Load() >= int64(l.opt.MaxConnections) {
		return false
	}
	l.count.Add(1)
	l.metrics.connections.Add(1)
	return true
}

func (l *Listener) leave() {
	l.count.Add(-1)
	l.metrics.connections.Add(-1)
}
