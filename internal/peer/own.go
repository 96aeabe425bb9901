package peer

import (
	"context"
	"net"
	"sync"
)

// ownDoor is what a link is for that is for the gateway itself: no listener has this name.
const ownDoor = ""

// nobody is the client of a link that a gateway opens for itself.
var nobody = net.TCPAddr{IP: net.IPv4zero}

// own is the links that other gateways open to this one itself.
type own struct {
	peers *Peers
	ended chan struct{}
	once  sync.Once
}

// Own gives the connections that other gateways open to this gateway itself, by Reach, whoever serves.
func (p *Peers) Own() net.Listener { return &own{peers: p, ended: make(chan struct{})} }

// Accept implements net.Listener.
func (o *own) Accept() (net.Conn, error) {
	select {
	case c := <-o.peers.own.ready:
		return c, nil
	case <-o.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (o *own) Close() error {
	o.once.Do(func() { close(o.ended) })
	return nil
}

// Addr implements net.Listener: it has no address of its own.
func (o *own) Addr() net.Addr { return &nobody }

// Reach opens a connection to another gateway itself. Errors: those of the network and of TLS.
func (p *Peers) Reach(ctx context.Context, to Target) (net.Conn, error) {
	return p.dial(ctx, header{door: ownDoor, client: &nobody}, to)
}
