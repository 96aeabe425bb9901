package kafka

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
)

// Serve accepts connections from l until ctx ends or Drain is called, and returns when the connections
// it accepted are gone. It closes l. It may be called for several listeners at once. Run must be under
// way; Serve waits for it.
func (d *Door) Serve(ctx context.Context, l net.Listener) error { return d.ServeBy(ctx, l, usualName) }

// ServeSASL is Serve for a listener whose clients have to authenticate before they are served.
func (d *Door) ServeSASL(ctx context.Context, l net.Listener) error {
	return d.serveOn(ctx, l, way{usualName, true})
}

// ServeBy is Serve for a listener that rules know by a name.
func (d *Door) ServeBy(ctx context.Context, l net.Listener, name string) error {
	return d.serveOn(ctx, l, way{name, false})
}

// way is how a connection came.
type way struct {
	name         string // of the listener, for rules
	authenticate bool   // before anything else, whatever the rules
}

// usualName is the name of a listener that was given none.
const usualName = "kafka"

// serveOn serves a listener.
func (d *Door) serveOn(ctx context.Context, l net.Listener, by way) error {
	defer l.Close()
	select {
	case <-d.running:
	case <-ctx.Done():
		return nil
	}
	if !d.listen(l) {
		return nil
	}
	defer d.unlisten(l)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mine sync.WaitGroup
	defer mine.Wait()
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close() // Accept says so
		d.closeConns()
	})
	defer stop()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			if c := d.enter(nc, by); c != nil {
				mine.Go(func() { d.serve(ctx, c) })
			}
		case errors.Is(err, net.ErrClosed), ctx.Err() != nil:
			return nil
		default: // out of file descriptors and the like: it passes
			if held, ok := d.lines.Pass("accept"); ok {
				d.opt.Logger.Warn("kafka: accept", "error", err, "more", held)
			}
			_ = clock.Pause(ctx, 50*time.Millisecond)
		}
	}
}

// listen notes a listener, so that Drain can close it. It is false when the door is draining.
func (d *Door) listen(l net.Listener) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.draining {
		return false
	}
	d.mu.listeners[l] = struct{}{}
	return true
}

func (d *Door) unlisten(l net.Listener) {
	d.mu.Lock()
	delete(d.mu.listeners, l)
	d.mu.Unlock()
}

// enter takes a connection in, or closes it if there are too many.
func (d *Door) enter(nc net.Conn, by way) *conn {
	if d.tooFast(nc) {
		return nil
	}
	d.mu.Lock()
	full := len(d.mu.conns) >= d.opt.MaxConnections
	if full || d.mu.draining {
		d.mu.Unlock()
		_ = nc.Close() // the client is told nothing else: Kafka has no word for it before a request
		if full {
			d.metrics.refused.Inc()
			if held, ok := d.lines.Pass("full " + hostOf(nc.RemoteAddr())); ok {
				d.opt.Logger.Warn("kafka: too many connections", "client", nc.RemoteAddr(), "more", held,
					"hint", "raise limits.kafka_connections, which is "+strconv.Itoa(d.opt.MaxConnections))
			}
		}
		return nil
	}
	c := newConn(d, nc, by.name)
	c.watch.clock = &d.clock
	c.watch.set(idle)
	c.login.stranger = c.isOver()
	if c.login.required = by.authenticate || c.login.stranger != nil; c.login.required {
		c.knocking.Store(max(d.clock.Load(), 1))
	}
	d.mu.conns[c] = struct{}{}
	d.mu.Unlock()
	d.metrics.accepted.Inc()
	return c
}

// serve lives as long as a connection.
func (d *Door) serve(ctx context.Context, c *conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.serve(ctx)
	d.shares.disconnected(c)
	c.holding.release()
	d.mu.Lock()
	delete(d.mu.conns, c)
	if len(d.mu.conns) == 0 {
		d.left.Broadcast()
	}
	d.mu.Unlock()
}

// Drain takes no more connections, answers what was asked on those there are, and closes them. Fetches
// that wait answer at once. When ctx ends, the rest is closed as it is. Errors: Timeout.
func (d *Door) Drain(ctx context.Context) error {
	d.mu.Lock()
	d.mu.draining = true
	for l := range d.mu.listeners {
		_ = l.Close() // Accept says so
	}
	d.mu.Unlock()
	for _, c := range d.conns(func(*conn) bool { return true }) {
		c.drain()
	}
	forced := 0
	stop := context.AfterFunc(ctx, func() {
		d.mu.Lock()
		forced = len(d.mu.conns)
		d.mu.Unlock()
		d.closeConns()
		d.mu.Lock()
		d.left.Broadcast()
		d.mu.Unlock()
	})
	defer stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.mu.conns) > 0 && ctx.Err() == nil {
		d.left.Wait()
	}
	if ctx.Err() != nil && max(forced, len(d.mu.conns)) > 0 {
		return fault.New(
			fault.Timeout, "kafka.Drain", "%d connections were still being answered", max(forced, len(d.mu.conns)),
		)
	}
	return nil
}

// drain ends a connection once what it asked is answered.
func (c *conn) drain() {
	c.draining.Store(true)
	c.fetch.end()
	c.hurry()
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // a broken one ends by itself
	c.mu.Lock()
	c.calm.Broadcast() // to who keeps quiet
	c.mu.Unlock()
}

// closeConns closes every connection as it is.
func (d *Door) closeConns() {
	for _, c := range d.conns(func(*conn) bool { return true }) {
		c.fail()
	}
}

// conns lists the connections that are so.
func (d *Door) conns(so func(*conn) bool) []*conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*conn
	for c := range d.mu.conns {
		if so(c) {
			all = append(all, c)
		}
	}
	return all
}

// watchConns closes the connections that make no progress.
func (d *Door) watchConns(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			d.clock.Add(1)
			d.closeLate()
		}
	}
}

func (d *Door) closeLate() {
	late := func(c *conn) bool {
		came := c.knocking.Load()
		return c.watch.late() || came > 0 && d.clock.Load()-came > knockingTicks
	}
	for _, c := range d.conns(late) {
		d.metrics.late.Inc()
		c.fail()
	}
}

// parseAdvertise reads Options.Advertise; the zero address stands for "auto".
func parseAdvertise(s string) (address, error) {
	if s == "" || s == "auto" {
		return address{}, nil
	}
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || host == "" || n == 0 {
		return address{}, fault.New(fault.Invalid, "kafka.Open", "cannot advertise %q", s).
			WithHint("say host:port, as a client reaches it, or auto")
	}
	return address{host: host, port: int32(n)}, nil
}

// advertise is what a client is told to connect to: the very address that it reached us by, which is right wherever it
// got through to it, unless Options says otherwise. One that came by TLS is told the name that it asked for, which the
// certificate fits.
func (d *Door) advertise(nc net.Conn) address {
	told, name := d.told, ""
	if s, ok := nc.(*secure.Conn); ok {
		told, name = d.toldTLS, s.ServerName()
	}
	if told.host != "" {
		return told
	}
	told = reached(nc.LocalAddr())
	told.host = cmp.Or(name, told.host)
	return told
}

// reached is a local address as a client is told it.
func reached(local net.Addr) address {
	ap, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return address{host: "localhost", port: 9092}
	}
	return address{host: ap.Addr().Unmap().String(), port: int32(ap.Port())}
}

// hostOf is an address without its port.
func hostOf(a net.Addr) string {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return ap.Addr().Unmap().String()
	}
	return a.String()
}
