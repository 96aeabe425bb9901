package mqtt

import (
	"net"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestHangUpWhileHeld: a client sends and leaves while a goroutine has its connection. The goroutine reads what was
// sent and no more, for the read is short, and has to know that the end is behind it.
func TestHangUpWhileHeld(t *testing.T) {
	d := benchDoor(t)
	go func() { _ = d.Run(t.Context()) }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = d.Serve(t.Context(), l) }()
	n, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var c *conn
	within(t, "the connection is there, and nobody drives it", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for c = range d.mu.conns {
			return c.hold.claim()
		}
		return false
	})
	hello := packet.Connect{Version: packet.V311, CleanStart: true, ClientID: []byte("c")}
	if _, err := n.Write(hello.AppendTo(nil, packet.V311)); err != nil {
		t.Fatal(err)
	}
	if err := n.(*net.TCPConn).CloseWrite(); err != nil { // it reads: our answer causes no other event
		t.Fatal(err)
	}
	defer n.Close()
	within(t, "the poller has seen the end", c.hungUp.Load)
	if c.hold.release() {
		t.Fatal("there was no news")
	}
	c.drive(nil) // as it goes on, having heard that there is news
	within(t, "the connection is gone", func() bool { return d.count.Load() == 0 })
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute / 2); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
