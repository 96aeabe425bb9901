package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/limit"
)

// ListenOptions are those of a Listener. Source and Gate must be set.
type ListenOptions struct {
	Source *Source
	Gate   *Gate
	// Protocols are those of ALPN, of which a client that names some has to name one. Default: any.
	Protocols []string
	// Detach has connections be ones whose Detach works, where their version of TLS allows that.
	Detach bool
	// Timeout is how long a handshake may take. Default 10 s.
	Timeout time.Duration
	// Name is what log lines and metrics call it. Default: that of the source.
	Name string
	// Failed is told of each handshake that failed, but of those in which the client said nothing. Any goroutine may
	// call it; it must not wait. Nil: nobody is.
	Failed func(Failure)

	patience, firstPatience time.Duration // default: the constants
}

// Listener gives connections whose handshakes are done. Each is done in a goroutine of its own, as many at a time as
// the gate lets; more wait to be accepted. Where all that it lets wait for their clients, the one that has waited
// longest makes room.
type Listener struct {
	net.Listener
	opt    ListenOptions
	config *tls.Config
	log    *slog.Logger
	lines  *limit.Lines
	bulks  sync.Pool // of *bulk

	ready   chan *Conn
	ended   chan struct{} // closed when the listener beneath has ended
	failure error         // with which it did, when ended is closed
	closing chan struct{}
	close   sync.Once
	shaking sync.WaitGroup

	mu struct {
		sync.Mutex
		first, last *handshake // under way, the oldest first
	}
}

// Failure is a handshake that failed.
type Failure struct {
	From   net.Addr
	Reason string // as metrics name it
	Err    error
	// Name is the common name of the certificate that the client showed, which proves nothing; "": it showed none.
	Name string
}

// handshake is one under way.
type handshake struct {
	conn       *beneath
	evicted    bool
	prev, next *handshake
}

// patience is how long a client may let us wait when there is no room for others, and firstPatience until its first
// record, which needs no answer of ours.
const (
	patience      = time.Second
	firstPatience = 200 * time.Millisecond
)

// Listen does the handshakes of what l accepts. Close ends it.
func Listen(l net.Listener, opt ListenOptions) *Listener {
	if opt.Timeout == 0 {
		opt.Timeout = 10 * time.Second
	}
	if opt.patience == 0 {
		opt.patience, opt.firstPatience = patience, firstPatience
	}
	if opt.Name == "" {
		opt.Name = opt.Source.opt.Name
	}
	s := &Listener{Listener: l, opt: opt, config: opt.Source.configFor(opt.Protocols), log: opt.Source.opt.Logger,
		lines: limit.NewLines(time.Minute, 1000),
		ready: make(chan *Conn), ended: make(chan struct{}), closing: make(chan struct{})}
	s.bulks.New = newBulk
	go s.run()
	return s
}

// Accept implements net.Listener: it gives a *Conn. A failure of the listener beneath that passes is not told: run
// tries again.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ended:
		return nil, l.failure
	}
}

// Close implements net.Listener. Connections whose handshakes are under way are closed, and waited for.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	l.close.Do(func() {
		close(l.closing)
		l.mu.Lock()
		for h := l.mu.first; h != nil; h = h.next {
			_ = h.conn.Close() // its reader sees it
		}
		l.mu.Unlock()
	})
	<-l.ended
	l.shaking.Wait()
	return err
}

// run accepts until the listener beneath ends.
func (l *Listener) run() {
	defer close(l.ended)
	pause := time.Duration(0)
	for {
		if !l.enter() {
			l.failure = net.ErrClosed
			return
		}
		c, err := l.Listener.Accept()
		if err == nil {
			pause = 0
			l.shaking.Go(func() { l.shake(c) })
			continue
		}
		<-l.opt.Gate.slots
		t, ok := err.(interface{ Temporary() bool })
		if pause = min(max(2*pause, 5*time.Millisecond), time.Second); !ok || !t.Temporary() || !l.pause(pause) {
			l.failure = err
			return
		}
	}
}

// enter waits for room for another handshake; false: the listener is closed meanwhile.
func (l *Listener) enter() bool {
	for {
		select {
		case l.opt.Gate.slots <- struct{}{}:
			return true
		default:
		}
		l.evict()
		t := time.NewTimer(patience / 20)
		select {
		case l.opt.Gate.slots <- struct{}{}:
			t.Stop()
			return true
		case <-l.closing:
			t.Stop()
			return false
		case <-t.C:
		}
	}
}

// pause is false when the listener is closed meanwhile.
func (l *Listener) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closing:
		return false
	}
}

// evict closes those that have let us wait for too long, a quarter of all at most.
func (l *Listener) evict() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	most := max(cap(l.opt.Gate.slots)/4, 1)
	for h := l.mu.first; h != nil && most > 0; h = h.next {
		if now.Sub(h.conn.began) < l.opt.firstPatience {
			return
		}
		waits := h.conn.letUsWait(now)
		if !h.evicted && (waits >= l.opt.patience || waits >= l.opt.firstPatience && !h.conn.spoke.Load()) {
			h.evicted = true
			most--
			_ = h.conn.Close() // its reader sees it
		}
	}
}

// begin notes a handshake; nil: the listener is closed by now.
func (l *Listener) begin(c net.Conn) *handshake {
	now := time.Now()
	h := &handshake{conn: &beneath{Conn: c, gate: l.opt.Gate, began: now, deadline: now.Add(l.opt.Timeout)}}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		return nil
	default:
	}
	if h.prev = l.mu.last; h.prev != nil {
		h.prev.next = h
	} else {
		l.mu.first = h
	}
	l.mu.last = h
	l.opt.Source.opt.Metrics.pending.With(l.opt.Name).Add(1)
	return h
}

// end takes a handshake out again.
func (l *Listener) end(h *handshake) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		l.mu.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		l.mu.last = h.prev
	}
	l.opt.Source.opt.Metrics.pending.With(l.opt.Name).Add(-1)
}

// shake does the handshake of a connection and hands it to Accept.
func (l *Listener) shake(n net.Conn) {
	h := l.begin(n)
	if h == nil {
		<-l.opt.Gate.slots
		_ = n.Close() // nobody accepts any more
		return
	}
	c, err := l.do(h)
	l.end(h)
	<-l.opt.Gate.slots // first: who sees that it is closed finds room for another
	if err != nil {
		l.refuse(h, err)
		return
	}
	select {
	case l.ready <- c:
	case <-l.closing:
		_ = c.Close() // nobody accepts any more
	}
}

// do does a handshake.
func (l *Listener) do(h *handshake) (*Conn, error) {
	b := h.conn
	if err := b.SetDeadline(b.deadline); err != nil {
		return nil, err
	}
	if err := b.compute(); err != nil {
		return nil, err
	}
	defer b.rests()
	if l.opt.Detach {
		b.secrets = &secrets{}
	}
	t := tls.Server(b, l.config)
	if err := t.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	b.done = true
	state := t.ConnectionState()
	c := &Conn{Conn: t, beneath: b, name: state.ServerName, peer: newPeer(l.opt.Source, &state),
		bulks: &l.bulks}
	if c.peer != nil && !l.opt.Source.join(c.peer) {
		return nil, revokedError(&state)
	}
	if c.peer != nil {
		c.peer.OnRevoked(func() { _ = b.Close() }) // its reader sees it
	}
	l.count(&state)
	return c, b.SetDeadline(time.Time{})
}

func (l *Listener) count(state *tls.ConnectionState) {
	kind, version := "full", "1.3"
	if state.DidResume {
		kind = "resumed"
	}
	if state.Version == tls.VersionTLS12 {
		version = "1.2"
	}
	l.opt.Source.opt.Metrics.handshakes.With(l.opt.Name, version, kind).Inc()
}

// refuse closes a connection whose handshake failed, and tells why.
func (l *Listener) refuse(h *handshake, err error) {
	reason, from := reasonOf(err), h.conn.RemoteAddr()
	if h.evicted {
		reason = crowded
	}
	var header tls.RecordHeaderError
	if errors.As(err, &header) && isHTTP(header.RecordHeader[:]) {
		_, _ = io.WriteString(h.conn.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks TLS: use https or wss.\n")
	}
	_ = h.conn.Close() // the client knows why, or has gone
	select {
	case <-l.closing: // it is our doing
		return
	default:
	}
	l.opt.Source.opt.Metrics.failures.With(l.opt.Name, reason).Inc()
	if l.opt.Failed != nil && h.conn.got > 0 {
		l.opt.Failed(Failure{From: from, Reason: reason, Err: err, Name: claimedName(err)})
	}
	level := slog.LevelWarn
	if reason == gone || reason == tooLate && h.conn.got == 0 { // who looks whether somebody listens
		level = slog.LevelDebug
	}
	if held, ok := l.lines.Pass(reason + " " + hostOf(from)); ok {
		l.log.Log(context.Background(), level, "a TLS handshake failed", "listener", l.opt.Name, "remote", from,
			"reason", reason, "error", err, "more", held, "hint", hintFor(reason, err))
	}
}

func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
