package streamtest

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
)

// Road is the way to a cluster, which may be closed. The zero value is open.
type Road struct {
	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

// Dial connects, where the way is open.
func (r *Road) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.Join(&net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}, c.Close())
	}
	r.conns = append(r.conns, c)
	return c, nil
}

// Close closes the way, which breaks all connections, or opens it again.
func (r *Road) Close(closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed = closed; closed {
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.conns = nil
	}
}
