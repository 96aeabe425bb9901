package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
)

// Conn is a connection that another gateway accepted: its address is that of the device.
type Conn struct {
	net.Conn
	client net.Addr
	opened bool
	tls    *TLS
}

// TLS is what the TLS of the device told the other gateway; nil: it speaks none, or it is spoken over the link.
func (c *Conn) TLS() *TLS { return c.tls }

// CloseWrite says that all is said, of a link that is in the clear. Errors: errors.ErrUnsupported of any other.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(*tls.Conn)
	if !c.opened || !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// RemoteAddr is the address of the device, as the other gateway knows it.
func (c *Conn) RemoteAddr() net.Addr { return c.client }

// Listener gives the connections that are served here: those that it accepts while this gateway serves, and those that
// others pass on. All others it passes on itself; while nobody serves, they wait to be accepted.
type Listener struct {
	net.Listener
	peers *Peers
	door  string
	way   *way

	ended   chan struct{} // closed when the listener beneath has ended
	failure error         // with which it did, when ended is closed
	passing sync.WaitGroup
	ctx     context.Context //nolint:containedctx // of what it passes on, which has no caller
	close   context.CancelFunc
}

// Listen has what l accepts served where it is to be. Several listeners may have one name; what others pass on by it
// comes out of any of them. Close ends it, and what was passed on by it.
func (p *Peers) Listen(door string, l net.Listener) *Listener {
	p.mu.Lock()
	w := p.ways[door]
	if w == nil {
		w = &way{ready: make(chan net.Conn)}
		p.ways[door] = w
	}
	p.mu.Unlock()
	one := &Listener{Listener: l, peers: p, door: door, way: w, ended: make(chan struct{})}
	one.ctx, one.close = context.WithCancel(context.Background())
	go one.run()
	return one
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.way.ready:
		return c, nil
	case <-l.ended:
		return nil, l.failure
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	l.close()
	<-l.ended
	l.passing.Wait()
	return err
}

// run accepts while somebody serves, until the listener beneath ends.
func (l *Listener) run() {
	defer close(l.ended)
	pause := time.Duration(0)
	for {
		c, err := l.Listener.Accept()
		if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() {
			if pause = min(max(2*pause, 5*time.Millisecond), time.Second); clock.Pause(l.ctx, pause) == nil {
				continue
			}
			err = net.ErrClosed
		}
		if err != nil {
			l.failure = err
			return
		}
		pause = 0
		if !l.place(c) {
			_ = c.Close() // nobody accepts any more
		}
	}
}

// place brings a connection to where it is served, once that is known; false: the listener is closed meanwhile.
func (l *Listener) place(c net.Conn) bool {
	for {
		to, changed := l.peers.Target()
		var here chan<- net.Conn
		switch {
		case to.here:
			here = l.way.ready
		case to.address != "":
			l.passing.Go(func() {
				if l.peers.pass(l.ctx, l.door, c, to, changed) && !l.place(c) {
					_ = c.Close()
				}
			})
			return true
		}
		select {
		case here <- c:
			return true
		case <-changed:
		case <-l.ctx.Done():
			return false
		}
	}
}

// Serve accepts links of other gateways from n until ctx ends, which closes it. Errors: those of n.
func (p *Peers) Serve(ctx context.Context, n net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = n.Close() })()
	config := p.opt.Identity.server(soon(p.opt.Knows, p.opt.Acquaint))
	for {
		c, err := n.Accept()
		if err != nil {
			if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() && ctx.Err() == nil {
				_ = clock.Pause(ctx, 5*time.Millisecond)
				continue
			}
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		select {
		case p.links <- struct{}{}:
			waiting.Go(func() {
				defer func() { <-p.links }()
				p.receive(ctx, tls.Server(c, config))
			})
		default:
			p.failed.Inc()
			_ = c.Close()
		}
	}
}

// receive hands a link to the door that it is for.
func (p *Peers) receive(ctx context.Context, c *tls.Conn) {
	from := c.RemoteAddr()
	h, err := p.accept(ctx, c)
	way := p.way(&h)
	if err == nil && way == nil {
		err = errors.New("no listener has the name " + h.door)
	}
	if err != nil {
		p.failed.Inc()
		p.opt.Logger.Warn("refused a link", "remote", from, "error", err)
		_ = c.Close()
		return
	}
	timer := time.NewTimer(p.opt.Timeout)
	defer timer.Stop()
	for {
		var here chan<- net.Conn
		to, changed := p.Target()
		if to.here || h.opened || h.door == ownDoor {
			here = way.ready
		}
		select {
		case here <- &Conn{Conn: c, client: h.client, opened: h.opened, tls: h.tls}:
			return
		case <-changed: // another gateway knew sooner than this one, or has not heard
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		_ = c.Close()
		return
	}
}

// accept does the handshake of a link, and reads its header.
func (p *Peers) accept(ctx context.Context, c *tls.Conn) (h header, err error) {
	if err := c.SetDeadline(time.Now().Add(p.opt.Timeout)); err != nil {
		return h, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.NetConn().Close() })()
	if err := c.HandshakeContext(ctx); err != nil {
		return h, err
	}
	if h, err = readHeader(c); err != nil {
		return header{}, err
	}
	return h, c.SetDeadline(time.Time{})
}
