package peer

import (
	"context"
	"errors"
	"net"
	"sync"
)

// ownDoor is what a link is for that is for the gateway itself: no listener has this name.
const ownDoor = ""

// nobody is the client of a link that a gateway opens for itself.
var nobody = net.TCPAddr{IP: net.IPv4zero}

// handed is connections that other gateways have opened to this one, whoever serves.
type handed struct {
	way   *way
	ended chan struct{}
	once  sync.Once
}

// Own gives the connections that other gateways open to this gateway itself, by Reach, whoever serves.
func (p *Peers) Own() net.Listener { return &handed{way: &p.own, ended: make(chan struct{})} }

// Opened gives the connections of devices that other gateways hand over to this one, by HandOver: each is a *Conn,
// whose bytes are in the clear, from the CONNECT on. By a name of which nothing was asked for links are refused.
func (p *Peers) Opened(door string) net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened[door] == nil {
		p.opened[door] = &way{ready: make(chan net.Conn)}
	}
	return &handed{way: p.opened[door], ended: make(chan struct{})}
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.way.ready:
		return c, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.ended) })
	return nil
}

// Addr implements net.Listener: it has no address of its own.
func (h *handed) Addr() net.Addr { return &nobody }

// Reach opens a connection to another gateway itself. Errors: those of the network and of TLS.
func (p *Peers) Reach(ctx context.Context, to Target) (net.Conn, error) {
	return p.dial(ctx, header{door: ownDoor, client: &nobody}, to)
}

// Device is a connection of a device whose CONNECT was read.
type Device struct {
	Door   string   // the name of the listener by which it came
	Client net.Addr // whose it is
	TLS    *TLS     // what its TLS told; nil: it speaks none
}

// HandOver opens a link for a device whose session another gateway has: what is written to it goes there in the clear,
// the CONNECT first. Errors: those of the network and of TLS, and that too many are passed on.
func (p *Peers) HandOver(ctx context.Context, d Device, to Target) (net.Conn, error) {
	select {
	case p.slots <- struct{}{}:
	default:
		p.failed.Inc()
		return nil, errors.New("too many connections are passed on")
	}
	c, err := p.dial(ctx, header{door: d.Door, client: d.Client, opened: true, tls: d.TLS}, to)
	if err != nil {
		<-p.slots
		p.failed.Inc()
		return nil, err
	}
	p.passed.Inc()
	return &slotted{Conn: c, peers: p}, nil
}

// slotted is a link that has one of the slots.
type slotted struct {
	net.Conn
	peers *Peers
	once  sync.Once
}

// Close implements net.Conn.
func (s *slotted) Close() error {
	s.once.Do(func() { <-s.peers.slots })
	return s.Conn.Close()
}
