// Package peer has several gateways of one cluster look like one: a connection that a device opens to any of them is
// served by the one that has the sessions. A gateway that has them not passes the bytes on through a link, a connection
// with TLS on both sides whose certificates the gateways know by their fingerprints; what is encrypted by the device
// stays so, and is decrypted where it is served. docs/design/0014-gateway.md says who has the sessions.
//
//	p, err := peer.New(peer.Options{Identity: identity, Knows: table.Knows})
//	devices := p.Listen("mqtts", l) // for the door: what it accepts is served here
//	go p.Serve(ctx, links)          // what others pass on comes out of devices
//	p.Route(peer.Elsewhere(address, fingerprint))
//
// Where several gateways have sessions, which one has that of a device stands in its CONNECT. The gateway that has read
// it hands the connection over, in the clear on a link, with what TLS told:
//
//	link, err := p.HandOver(ctx, peer.Device{Door: "mqtts", Client: address, TLS: told}, peer.Elsewhere(...))
//	devices := p.Opened("mqtts") // on the other one
//
// Goroutines: one for each listener accepts; for each connection that is passed on one reads from the device, one from
// the other gateway, and one waits for the end, with another one while its link is opened; one accepts links, and one
// for each link waits until it is served.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/telemetry"
)

// Options of a Peers. Identity and Knows are needed.
type Options struct {
	// Identity is who this gateway is.
	Identity *Identity
	// Knows tells whether a gateway of this cluster has a certificate with that fingerprint.
	Knows func(Fingerprint) bool
	// Timeout is how long a link has to be there: to be connected, for its handshake and its header. Default 10 s.
	Timeout time.Duration
	// Acquaint is how long a gateway that opens a link is waited for to be known, which may have heard of this one before
	// this one has of it. Default 2 s.
	Acquaint time.Duration
	// Most is how many connections may be passed on at a time, and how many links may wait to be served. Default 10,000.
	Most int
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Metrics gets the counters. Default: nobody looks.
	Metrics *telemetry.Set
}

// Target is where connections are served. The zero value is nowhere: they wait.
type Target struct {
	here        bool
	address     string
	fingerprint Fingerprint
}

// Here is this gateway.
func Here() Target { return Target{here: true} }

// Elsewhere is another gateway.
func Elsewhere(address string, f Fingerprint) Target { return Target{address: address, fingerprint: f} }

// Peers is the links of a gateway.
type Peers struct {
	opt    Options
	slots  chan struct{} // one for each connection that is passed on
	links  chan struct{} // one for each link that waits to be served
	passed telemetry.Counter
	failed telemetry.Counter

	mu      sync.Mutex
	target  Target
	changed chan struct{} // closed when target changes
	ways    map[string]*way
	opened  map[string]*way // of links that are in the clear

	own way // of links to the gateway itself
}

// way is the connections by the listeners of one name that are served here.
type way struct{ ready chan net.Conn }

// New makes the links of a gateway; where connections are served is not known as yet.
func New(opt Options) *Peers {
	if opt.Timeout == 0 {
		opt.Timeout = 10 * time.Second
	}
	if opt.Acquaint == 0 {
		opt.Acquaint = 2 * time.Second
	}
	if opt.Most == 0 {
		opt.Most = 10_000
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Peers{opt: opt, slots: make(chan struct{}, opt.Most), links: make(chan struct{}, opt.Most),
		changed: make(chan struct{}), ways: map[string]*way{}, opened: map[string]*way{},
		own: way{ready: make(chan net.Conn)}}
	opt.Metrics.GaugeFunc("firth_gateway_passed_connections", "Connections that another gateway serves now.",
		func() float64 { return float64(len(p.slots)) })
	p.passed = opt.Metrics.Counter("firth_gateway_passed_total", "Connections passed on to another gateway.").With()
	p.failed = opt.Metrics.Counter("firth_gateway_links_failed_total", "Links that did not come to be.").With()
	return p
}

// Route says where connections are served from now on. Those that were passed on to another gateway end: their devices
// connect again, and find the new one.
func (p *Peers) Route(to Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.target == to {
		return
	}
	p.target = to
	close(p.changed)
	p.changed = make(chan struct{})
}

// Target is where connections are served; changed is closed when that changes.
func (p *Peers) Target() (t Target, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target, p.changed
}

// way is where a link comes out; nil: nowhere.
func (p *Peers) way(h *header) *way {
	if h.door == ownDoor {
		return &p.own
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.opened {
		return p.opened[h.door]
	}
	return p.ways[h.door]
}

// pass passes a connection on to the gateway that serves, until one of the three ends it, another gateway serves, or
// ctx ends. It is true, and the connection as it came, when another gateway serves before there is a link.
func (p *Peers) pass(
	ctx context.Context, door string, c net.Conn, to Target, changed <-chan struct{},
) (again bool) {
	defer func() {
		if !again {
			_ = c.Close()
		}
	}()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		p.failed.Inc()
		return false
	}
	link, err := p.dialUntil(ctx, header{door: door, client: c.RemoteAddr()}, to, changed)
	if err != nil {
		select {
		case <-changed:
			return ctx.Err() == nil
		default:
		}
		p.failed.Inc()
		p.opt.Logger.Debug("a connection could not be passed on", "gateway", to.address, "door", door, "error", err)
		return false
	}
	defer link.Close()
	p.passed.Inc()
	p.join(ctx, c, link, changed)
	return false
}

// dialUntil is dial, until changed is closed: the other gateway may be gone without a word.
func (p *Peers) dialUntil(ctx context.Context, h header, to Target, changed <-chan struct{}) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return p.dial(ctx, h, to)
}

// dial opens a link to a gateway for a connection.
func (p *Peers) dial(ctx context.Context, h header, to Target) (net.Conn, error) {
	begin, err := h.appendTo(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.opt.Timeout)
	defer cancel()
	d := tls.Dialer{Config: p.opt.Identity.client(to.fingerprint)}
	c, err := d.DialContext(ctx, "tcp", to.address)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(begin); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// join carries bytes both ways, as fast as they are taken on the other side, until both sides have said all, one of
// them is broken, changed is closed, or ctx ends. When one side has said all, the other has some time left.
func (p *Peers) join(ctx context.Context, device, link net.Conn, changed <-chan struct{}) {
	said := make(chan bool, 2)
	go func() { said <- carry(link, device) == nil }()
	go func() { said <- carry(device, link) == nil }()
	var late <-chan time.Time
	left := 2
	for going := true; going && left > 0; {
		select {
		case going = <-said:
			left--
			timer := time.NewTimer(p.opt.Timeout)
			defer timer.Stop()
			late = timer.C
		case <-late:
			going = false
		case <-changed:
			going = false
		case <-ctx.Done():
			going = false
		}
	}
	_, _ = device.Close(), link.Close() // who still carries sees it
	for ; left > 0; left-- {
		<-said
	}
}

// carry carries what one side says to the other.
func carry(to, from net.Conn) error {
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return io.EOF // it cannot be told but by the end of the whole
}
