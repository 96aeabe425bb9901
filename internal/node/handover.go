package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/firthmq/firth/internal/handover"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/mqtt"
)

// Handing over: docs/design/0021-hand-over.md. The process that goes is the guardian of the one that comes until that
// one serves.

// takeUp takes the sockets that the process was given. One that takes another's place checks first all that can be
// checked beside it, and returns when the other has let go.
func (p Process) takeUp(ctx context.Context, c *Config) error {
	if len(p.Given.Sockets) == 0 && p.Given.Before == nil {
		return nil
	}
	a, err := adopt(c, p.Given.Sockets)
	c.adopted = a
	if err == nil && p.Given.Before != nil {
		if err = c.checkBeside(ctx); err == nil {
			err = p.awaitPlace(ctx)
		}
	}
	if err != nil {
		return errors.Join(err, a.drop())
	}
	return a.own()
}

// checkBeside checks what can be checked of a start while another process has the data folder, and takes what addresses
// were not passed.
func (c *Config) checkBeside(ctx context.Context) error {
	errs := []error{c.adopted.complete(ctx, c)}
	_, err := c.hinge(c.Mapping)
	errs = append(errs, err)
	_, err = mqtt.NewRewriting(c.Rewrite, c.AutoSubscribe)
	errs = append(errs, err)
	for _, d := range c.doors() {
		if d.tls {
			if err := secure.Check(c.filesOf(c.tlsOf(&d))); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", d.key, err))
			}
		}
	}
	keys, err := c.Encryption.Keys()
	if err != nil {
		err = fmt.Errorf("encryption: %w", err)
	}
	errs = append(errs, err)
	n := newNode(c)
	if err = n.openFolder(ctx); err == nil && !c.isGateway() {
		err = store.Check(n.fs, keys)
	}
	return errors.Join(append(errs, err)...)
}

// awaitPlace returns when the process before has let go. Errors: Closed, it has not, or a signal came first.
func (p Process) awaitPlace(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	went := make(chan error, 1)
	go func() { went <- p.Given.Before.Prepared(ctx) }()
	for {
		select {
		case err := <-went:
			return err
		case s := <-p.Signals:
			if s != syscall.SIGHUP && !asksForNext(s) {
				cancel()
			}
		}
	}
}

// successor is the process that is to take over. nil: there is none.
type successor struct {
	*handover.Next
	sockets []handover.Socket
	limit   *time.Timer
	killed  bool // it took too long
}

// readyLimit is how long a process may take to say that it could take over. It does not read the log for that.
const readyLimit = time.Minute

// prepareNext starts the process that is to take over; nil: it cannot be, and the log says why.
func (p Process) prepareNext(n *Node) *successor {
	sockets, err := n.passOn()
	if err == nil {
		err = p.mayHandOver(n)
	}
	if err == nil {
		var next *handover.Next
		if next, err = handover.Start(p.Next, sockets); err == nil {
			n.log.Info("a new process gets ready to take over", "pid", next.PID(), "program", p.Next.Program)
			return &successor{Next: next, sockets: sockets, limit: time.NewTimer(readyLimit)}
		}
	}
	n.log.Error("no other process takes over: this one goes on", "error", err, "hint", fault.HintOf(err))
	_ = handover.Close(sockets) // nothing was written to them
	return nil
}

// mayHandOver refuses what could not work. Errors: Unsupported.
func (p Process) mayHandOver(n *Node) error {
	switch {
	case p.Next.Program == "":
		return fault.New(fault.Unsupported, "node", "this process does not know how it was started")
	case os.Getpid() == 1:
		return fault.New(fault.Unsupported, "node", "this process is the first of a container, which would end with it").
			WithHint("start another container; clients connect again")
	case n.standing != nil:
		return fault.New(fault.Unsupported, "node", "this gateway is one among others").
			WithHint("firth node drain has another one serve; then start it again")
	}
	return nil
}

// passOn makes sockets of all addresses that the node has, which the next process is given.
func (n *Node) passOn() (all []handover.Socket, err error) {
	for _, s := range n.everySocket() {
		f, err := handover.Duplicate(s.raw)
		if err != nil {
			return all, err
		}
		u, ok := s.raw.(*unixListener)
		all = append(all, handover.Socket{Name: s.door.label(), Address: s.door.address, Lasting: ok && u.lasting, File: f})
	}
	return all, nil
}

// everySocket are the addresses that the node has.
func (n *Node) everySocket() []socket {
	return slices.Concat(slices.Collect(maps.Values(n.sockets))...)
}

// events, late and dismissed also serve where there is no successor.
func (s *successor) events() <-chan handover.Event {
	if s == nil {
		return nil
	}
	return s.Events()
}

func (s *successor) late() <-chan time.Time {
	if s == nil {
		return nil
	}
	return s.limit.C
}

func (s *successor) kill() {
	s.killed = true
	s.Signal(syscall.SIGKILL)
}

// dismissed lets go of a successor that has ended.
func (s *successor) dismissed() *successor {
	s.limit.Stop()
	_ = handover.Close(s.sockets) // nothing was written to them
	return nil
}

// failure is why it ended.
func (s *successor) failure() error {
	if err := s.Err(); err != nil {
		return err
	}
	return fault.New(fault.Closed, "handover", "it ended with exit code 0")
}

// handOver closes the node and guards the next process until that serves. Where it ends before, this one shall serve
// again, with the configuration that is returned.
func (p Process) handOver(ctx context.Context, n *Node, next *successor) (again *Config, err error) {
	next.limit.Stop()
	n.log.Info("handing over", "pid", next.PID())
	p.notify(n.log, "", fmt.Sprintf("handing over to process %d", next.PID()))
	for _, s := range n.everySocket() {
		ownUnix(s.raw, false)
	}
	cut, err := p.close(n)
	if cut {
		return nil, err
	}
	if err != nil {
		n.log.Error("not all was closed: the next process reads what was last written, as after a crash", "error", err)
	}
	next.Go()
	log, cfg := n.log, n.config()
	debug.FreeOSMemory() // two processes share the machine
	ended, done := false, ctx.Done()
	for {
		select {
		case e := <-next.events():
			switch {
			case e == handover.Serving:
				log.Info("handed over", "pid", next.PID())
				p.notify(log, fmt.Sprintf("MAINPID=%d", next.PID()), "handed over")
				next.Bye()
				return nil, nil
			case e != handover.Ended:
			case ended:
				return nil, nil
			default:
				log.Error("the process that took over ended before it served: this one serves again", "pid", next.PID(),
					"error", next.failure())
				return p.resume(cfg, next)
			}
		case <-done:
			ended, done = true, nil
			next.Signal(syscall.SIGTERM)
		case s := <-p.Signals:
			if s != syscall.SIGHUP && !asksForNext(s) {
				ended = true
				next.Signal(s)
			}
		}
	}
}

// resume makes the sockets this process' own again.
func (p Process) resume(c *Config, next *successor) (*Config, error) {
	a, err := adopt(c, next.sockets)
	if err != nil {
		return nil, errors.Join(err, a.drop())
	}
	c.adopted = a
	return c, a.own()
}
