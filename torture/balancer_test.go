package torture

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// balancer is a load balancer before several servers: each connection goes to the next one that takes it.
type balancer struct {
	address string

	mu     sync.Mutex
	behind []string
	turn   int
	conns  map[net.Conn]string // of clients, and where they go
}

func newBalancer(t *testing.T, behind ...string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{address: l.Addr().String(), behind: behind, conns: map[net.Conn]string{}}
	t.Cleanup(func() {
		l.Close()
		b.cut("")
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(c)
		}
	}()
	return b
}

// next are the servers, each in its turn first.
func (b *balancer) next() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn = (b.turn + 1) % len(b.behind)
	return slices.Concat(b.behind[b.turn:], b.behind[:b.turn])
}

// pass passes on what both sides say until one of them ends.
func (b *balancer) pass(c net.Conn) {
	defer c.Close()
	for _, address := range b.next() {
		up, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		b.mu.Lock()
		b.conns[c] = address
		b.mu.Unlock()
		go func() {
			_, _ = io.Copy(up, c) // its end is that of both
			up.Close()
		}()
		_, _ = io.Copy(c, up)
		up.Close()
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
		return
	}
}

// cut ends the connections to a server, as a load balancer does that finds it silent; "": all.
func (b *balancer) cut(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c, to := range b.conns {
		if address == "" || to == address {
			c.Close()
		}
	}
}
