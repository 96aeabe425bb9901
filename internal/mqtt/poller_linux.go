package mqtt

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/firthmq/firth/internal/kit/fault"
)

// poller watches plain sockets with epoll and drives their connections, so that a message costs one read
// and no wake-up of its own, and an idle connection no goroutine and no buffer. Whatever may block (a
// CONNECT, a SUBSCRIBE, an Append while the log is crowded) is left to a goroutine that lives as long as
// that takes. It waits through the runtime's own poller: one goroutine for all, and no thread.
type poller struct {
	file   *os.File // the epoll descriptor
	raw    syscall.RawConn
	events []syscall.EpollEvent
	memory []byte // where connections are read to

	mu struct {
		sync.Mutex
		conns []*conn // by slot
		free  []uint32
	}
}

const (
	pollEvents = 256
	// pollMemory is what one connection may hand in at a time before it gets a goroutine of its own.
	pollMemory = 64 << 10

	pollIn  = syscall.EPOLLIN
	pollOut = syscall.EPOLLOUT
	pollEnd = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	// Edges: every piece of news is told once, so that waiting costs no call.
	pollAll = pollIn | pollOut | syscall.EPOLLRDHUP | 1<<31
)

func newPoller() (*poller, error) {
	const op = "mqtt.Poll"
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fault.Wrap(fault.IO, op, err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, fault.Wrap(fault.IO, op, errors.Join(err, syscall.Close(fd)))
	}
	p := &poller{
		file:   os.NewFile(uintptr(fd), "epoll"),
		events: make([]syscall.EpollEvent, pollEvents), memory: make([]byte, pollMemory),
	}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, fault.Wrap(fault.IO, op, errors.Join(err, p.file.Close()))
	}
	return p, nil
}

// add watches a connection. From here on the poller may drive it.
func (p *poller) add(c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := uint32(len(p.mu.conns))
	if n := len(p.mu.free); n > 0 {
		slot, p.mu.free = p.mu.free[n-1], p.mu.free[:n-1]
	} else {
		p.mu.conns = append(p.mu.conns, nil)
	}
	p.mu.conns[slot] = c
	c.wire.sock.slot = slot
	event := syscall.EpollEvent{Events: pollAll, Fd: int32(slot)}
	return p.control(func(epoll int) error {
		return syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, c.wire.sock.fd, &event)
	})
}

// remove forgets a connection whose socket is closed, which took it out of the epoll.
func (p *poller) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.conns[c.wire.sock.slot] = nil
	p.mu.free = append(p.mu.free, c.wire.sock.slot)
}

func (p *poller) control(call func(epoll int) error) error {
	var called error
	err := p.raw.Control(func(fd uintptr) { called = call(int(fd)) })
	return errors.Join(err, called)
}

// run drives connections until ctx ends.
func (p *poller) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.file.Close() }) // run notices
	defer stop()
	n := 0
	wait := func(fd uintptr) bool {
		n = p.news(int(fd))
		return n != 0
	}
	batch := make([]*conn, pollEvents)
	for {
		if err := p.raw.Read(wait); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fault.Wrap(fault.IO, "mqtt.Poll", err)
		}
		if n < 0 {
			return fault.New(fault.IO, "mqtt.Poll", "epoll_wait failed")
		}
		p.find(batch, n)
		for i, c := range batch[:n] {
			if c != nil {
				p.serve(c, p.events[i].Events)
			}
		}
		clear(batch[:n])
	}
}

// news asks for events without waiting; 0: there are none.
func (p *poller) news(fd int) int {
	for {
		n, err := syscall.EpollWait(fd, p.events, 0)
		if err == nil || !errors.Is(err, syscall.EINTR) {
			return n
		}
	}
}

// find looks up whose the events are. An event may be older than the connection in its slot: that one then
// finds nothing new, nor an end (see conn.read).
func (p *poller) find(batch []*conn, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.events[:n] {
		batch[i] = p.mu.conns[p.events[i].Fd]
	}
}

// serve takes the news of one connection.
func (p *poller) serve(c *conn, events uint32) {
	if events&pollOut != 0 && c.wire.stalled.Load() {
		c.resume()
	}
	if events&pollEnd != 0 {
		c.hungUp.Store(true) // first: no other event tells whoever drives
	}
	if events&(pollIn|pollEnd) != 0 && c.hold.claim() {
		c.poll(p.memory)
	}
}
