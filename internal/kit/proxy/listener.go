package proxy

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Options of a Listener. The zero value of a field is its default.
type Options struct {
	// Timeout is how long a connection has for its header. Default 10 s.
	Timeout time.Duration
	// Pending is how many connections may wait for their header; one more is closed. Default 1,024.
	Pending int
	// Refused is told of a connection that is closed for its header, and why. Default: nobody is.
	Refused func(balancer net.Addr, why error)
}

// Conn is a connection whose header was read. What is beneath it is where it came from.
type Conn struct {
	net.Conn
	remote net.Addr
}

// RemoteAddr is the address of the client; that of the balancer, when that one speaks for itself.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Listener gives connections whose header was read. One that sends none, a bad one, or none in time is closed. Each
// waits for its header in a goroutine, so that a slow one does not hold up others.
type Listener struct {
	net.Listener
	opt Options

	ready   chan *Conn
	slots   chan struct{} // one for each connection that waits for its header
	ended   chan struct{} // closed when the listener beneath has ended
	failure error         // with which it did, when ended is closed
	closing chan struct{}
	close   sync.Once
	reading sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // that wait for their header
}

// Listen reads headers from what l accepts. Close ends it.
func Listen(l net.Listener, opt Options) *Listener {
	if opt.Timeout == 0 {
		opt.Timeout = 10 * time.Second
	}
	if opt.Pending == 0 {
		opt.Pending = 1024
	}
	if opt.Refused == nil {
		opt.Refused = func(net.Addr, error) {}
	}
	p := &Listener{Listener: l, opt: opt, ready: make(chan *Conn), slots: make(chan struct{}, opt.Pending),
		ended: make(chan struct{}), closing: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	go p.run()
	return p
}

// Accept implements net.Listener. A failure of the listener beneath that passes is not told: run tries again.
func (p *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-p.ready:
		return c, nil
	case <-p.ended:
		return nil, p.failure
	}
}

// Close implements net.Listener. Connections that wait for their header are closed, and waited for.
func (p *Listener) Close() error {
	err := p.Listener.Close()
	p.close.Do(func() {
		close(p.closing)
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close() // its reader sees it
		}
		p.mu.Unlock()
	})
	<-p.ended
	p.reading.Wait()
	return err
}

// run accepts until the listener beneath ends.
func (p *Listener) run() {
	defer close(p.ended)
	pause := time.Duration(0)
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() {
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				if p.pause(pause) {
					continue
				}
				err = net.ErrClosed
			}
			p.failure = err
			return
		}
		pause = 0
		select {
		case p.slots <- struct{}{}:
			p.reading.Go(func() { p.read(c) })
		default:
			p.refuse(c, errPending)
		}
	}
}

// pause is false when the listener is closed meanwhile.
func (p *Listener) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.closing:
		return false
	}
}

var errPending = errors.New("too many connections wait for their PROXY header")

// read reads the header of a connection and hands it to Accept.
func (p *Listener) read(c net.Conn) {
	remote, err := p.await(c)
	if err != nil {
		<-p.slots // first: who sees that it is closed finds room for another
		p.refuse(c, err)
		return
	}
	defer func() { <-p.slots }()
	if remote == nil {
		remote = c.RemoteAddr()
	}
	select {
	case p.ready <- &Conn{Conn: c, remote: remote}:
	case <-p.closing:
		_ = c.Close() // nobody accepts any more
	}
}

// await reads the header of a connection, which Close closes meanwhile.
func (p *Listener) await(c net.Conn) (net.Addr, error) {
	if !p.watch(c) {
		return nil, net.ErrClosed
	}
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	return p.header(c)
}

// watch has Close close a connection that waits; false: the listener is closed by now.
func (p *Listener) watch(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closing:
		return false
	default:
		p.conns[c] = struct{}{}
		return true
	}
}

func (p *Listener) header(c net.Conn) (net.Addr, error) {
	if err := c.SetReadDeadline(time.Now().Add(p.opt.Timeout)); err != nil {
		return nil, err
	}
	remote, err := ReadHeader(c)
	if err != nil {
		return nil, err
	}
	return remote, c.SetReadDeadline(time.Time{})
}

func (p *Listener) refuse(c net.Conn, why error) {
	from := c.RemoteAddr()
	_ = c.Close() // there is no protocol yet to say why
	select {
	case <-p.closing: // it is our doing
	default:
		p.opt.Refused(from, why)
	}
}
