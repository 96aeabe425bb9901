package bench

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// publishAcked drives every connection from one goroutine: what many have to say comes with one wake-up, and a
// message costs a read and a write. A goroutine a connection costs twice as much, most of it in the scheduler,
// on CPUs that the server needs. TLS has one, for its records are not the socket's.
func (r *run) publishAcked(ctx context.Context) error {
	if r.TLS != nil {
		return r.publishApart(ctx)
	}
	p := &poller{run: r, in: make([]byte, 64<<10)}
	defer p.close()
	err := p.open()
	for err == nil && p.busy > 0 {
		if err = ctx.Err(); err == nil {
			err = p.turn()
		}
	}
	r.acked(p.taken)
	return err
}

// poller is the state of the publishers that wait for acknowledgements.
type poller struct {
	*run
	epoll  int
	lines  []*line
	busy   int // lines that will send or have something in flight
	in     []byte
	events [256]syscall.EpollEvent
	taken  samples
	heard  time.Time // the last acknowledgement
}

// line is one connection, taken from Go's own poller: it would be woken as well.
type line struct {
	*conn
	file    *os.File
	fd      int
	window  *window
	rest    []byte // the begin of a packet whose end is still to come
	written int    // bytes of out
	blocked bool   // the socket takes no more: out is left
}

func (p *poller) open() (err error) {
	if p.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return fault.Wrap(fault.IO, "bench.Poll", err)
	}
	now := time.Now()
	for i, c := range p.pubs {
		l, err := p.line(c, i)
		if err != nil {
			return fault.Wrap(fault.IO, "bench.Poll", err)
		}
		if err := p.take(l, c.in, now); err != nil { // came with the CONNACK
			return err
		}
		if err := p.send(l, i, now); err != nil {
			return err
		}
	}
	p.busy = len(p.lines)
	return nil
}

// line takes a connection over.
func (p *poller) line(c *conn, i int) (*line, error) {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	file, err := tcp.File()
	if err != nil {
		return nil, err
	}
	l := &line{conn: c, window: newWindow(p.InFlight), file: file, fd: int(file.Fd())}
	p.lines = append(p.lines, l)
	return l, errors.Join(c.Close(), syscall.SetNonblock(l.fd, true), p.watch(l, i, syscall.EPOLL_CTL_ADD))
}

func (p *poller) watch(l *line, i, how int) error {
	e := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
	if l.blocked {
		e.Events |= syscall.EPOLLOUT
	}
	return syscall.EpollCtl(p.epoll, how, l.fd, &e)
}

func (p *poller) close() {
	for _, l := range p.lines {
		_ = l.file.Close()
	}
	_ = syscall.Close(p.epoll)
}

// turn waits for news and deals with all of it.
func (p *poller) turn() error {
	n, err := syscall.EpollWait(p.epoll, p.events[:], 100)
	if err != nil && !errors.Is(err, syscall.EINTR) {
		return fault.Wrap(fault.IO, "bench.Poll", err)
	}
	now := time.Now()
	if now.After(p.end.Add(patience)) && now.After(p.heard.Add(patience)) {
		return fault.New(fault.Timeout, "bench.Publish", "acknowledgements are missing: none came for %v", patience)
	}
	for _, e := range p.events[:max(n, 0)] {
		l := p.lines[e.Fd]
		if e.Events&^syscall.EPOLLOUT != 0 {
			if now, err = p.receive(l); err != nil {
				return err
			}
		}
		if err := p.send(l, int(e.Fd), now); err != nil {
			return err
		}
		if now.After(p.end) && len(l.window.free) == p.InFlight {
			p.busy--
			if err := syscall.EpollCtl(p.epoll, syscall.EPOLL_CTL_DEL, l.fd, nil); err != nil {
				return fault.Wrap(fault.IO, "bench.Poll", err)
			}
		}
	}
	return nil
}

// receive takes the acknowledgements that have come on a line.
func (p *poller) receive(l *line) (time.Time, error) {
	kept := copy(p.in, l.rest)
	n, err := syscall.Read(l.fd, p.in[kept:])
	now := time.Now()
	switch {
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR):
		return now, nil
	case err != nil:
		return now, fault.Wrap(fault.IO, "bench.Read", err)
	case n == 0:
		return now, fault.New(fault.IO, "bench.Read", "the broker has closed the connection")
	}
	return now, p.take(l, p.in[:kept+n], now)
}

// take goes through acknowledgements, and keeps the begin of one that is not whole.
func (p *poller) take(l *line, in []byte, now time.Time) error {
	var done, measured int64
	for ; len(in) >= 4; in = in[4:] {
		id, last, out, err := answered(p.QoS, in, l.out)
		if l.out = out; err != nil {
			return err
		}
		if !last {
			continue
		}
		due, ok := l.window.give(id)
		if !ok {
			return errNotInFlight(id)
		}
		p.heard = now
		if done++; p.within(now) {
			measured++
			p.taken.add(now.Sub(due))
		}
	}
	l.rest = append(l.rest[:0], in...)
	p.total.Add(done)
	p.messages.Add(measured)
	return nil
}

// send fills the window of a line while there is time, and writes what the socket takes.
func (p *poller) send(l *line, i int, now time.Time) error {
	for now.Before(p.end) && len(l.window.free) > 0 {
		l.publish(l.window.take(now), now)
	}
	for l.written < len(l.out) {
		n, err := syscall.Write(l.fd, l.out[l.written:])
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fault.Wrap(fault.IO, "bench.Write", err)
		}
		l.written += max(n, 0)
	}
	if l.written >= len(l.out)/2 { // no more is moved than was written
		l.out, l.written = append(l.out[:0], l.out[l.written:]...), 0
	}
	if blocked := len(l.out) > 0; blocked != l.blocked {
		l.blocked = blocked
		if err := p.watch(l, i, syscall.EPOLL_CTL_MOD); err != nil {
			return fault.Wrap(fault.IO, "bench.Poll", err)
		}
	}
	return nil
}
