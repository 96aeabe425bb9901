package secure

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
)

// counted counts how often a server writes to its sockets.
type counted struct {
	net.Listener
	writes atomic.Int64
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &countedConn{c, l}, err
}

type countedConn struct {
	net.Conn
	of *counted
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.of.writes.Add(1)
	return c.Conn.Write(p)
}

// TestWriteBuffers: pieces of all sizes arrive as they are, by few writes, in both versions of TLS; one by one in
// between, too.
func TestWriteBuffers(t *testing.T) {
	s := open(t, NoClientAuth, ListenOptions{})
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	below := &counted{Listener: n}
	l := Listen(below, ListenOptions{Source: s.source, Gate: NewGate(4)})
	t.Cleanup(func() { _ = l.Close() }) // it is open
	many := func(size, n int) []int { return slices.Repeat([]int{size}, n) }
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := s.config(nil)
		config.MaxVersion = version
		client, server := meet(t, l, config)
		for _, sizes := range [][]int{
			{}, {0}, {1}, {0, 5, 0}, {recordBytes}, {recordBytes - 1, 1, 1}, {recordBytes + 61, 100, 3 * recordBytes},
			many(100, 10_000), many(recordBytes+61, 64), {1 << 20}, {1, 1<<20 - 1}, many(1, 3), {bulkBytes, 7},
		} {
			var pieces net.Buffers
			var want []byte
			for i, size := range sizes {
				p := bytes.Repeat([]byte{byte(i + size)}, size)
				pieces, want = append(pieces, p), append(want, p...)
			}
			before := below.writes.Load()
			wrote := make(chan error, 1)
			go func() {
				n, err := server.WriteBuffers(pieces)
				if err == nil && n != int64(len(want)) {
					err = errors.New("another number of bytes is told")
				}
				wrote <- err
			}()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d pieces: others came: %v", len(sizes), err)
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			if n := below.writes.Load() - before; n > int64(len(want)/bulkBytes+1) {
				t.Errorf("%d bytes in %d pieces: %d writes", len(want), len(sizes), n)
			}
			if _, err := server.Write([]byte("pong")); err != nil {
				t.Fatal(err)
			}
			var pong [4]byte
			if _, err := io.ReadFull(client, pong[:]); err != nil || string(pong[:]) != "pong" {
				t.Fatalf("%q came behind: %v", pong[:], err)
			}
		}
	}
}

// meet gives both ends of a connection.
func meet(t *testing.T, l *Listener, config *tls.Config) (client *tls.Conn, server *Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			c = nil
		}
		accepted <- c
	}()
	client, err := tls.Dial("tcp", l.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	server, ok := (<-accepted).(*Conn)
	if !ok {
		t.Fatal("no connection came")
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() }) // the other may have gone
	return client, server
}

// sunk keeps what is written, until it fails.
type sunk struct {
	net.Conn
	got   []string
	fails error
}

func (s *sunk) Write(p []byte) (int, error) {
	if s.fails != nil {
		return 0, s.fails
	}
	s.got = append(s.got, string(p))
	return len(p), nil
}

// TestOrderOfRecords: a record that package tls writes by itself keeps its place among those that are gathered, also
// where it is taken for the last one.
func TestOrderOfRecords(t *testing.T) {
	for name, early := range map[string]bool{"before the last one": false, "as the last one": true} {
		t.Run(name, func(t *testing.T) {
			to := &sunk{}
			b := &beneath{Conn: to, done: true}
			bulk := newBulk().(*bulk)
			b.bulk.Store(bulk)
			want := []string{"one, update, last"}
			write := func(s string) {
				if n, err := b.Write([]byte(s)); n != len(s) || err != nil {
					t.Fatal(n, err)
				}
			}
			write("one, ")
			if early {
				bulk.last.Store(true)
				want = []string{"one, update, ", "last"}
			}
			write("update, ")
			bulk.last.Store(true)
			write("last")
			write("behind")
			if want = append(want, "behind"); !slices.Equal(to.got, want) {
				t.Errorf("%q was written, not %q", to.got, want)
			}
		})
	}
}

// TestWriteBuffersFails: who is not there any more is told of, and so is everything behind it.
func TestWriteBuffersFails(t *testing.T) {
	s := open(t, NoClientAuth, ListenOptions{})
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(n, ListenOptions{Source: s.source, Gate: NewGate(4)})
	t.Cleanup(func() { _ = l.Close() }) // it is open
	_, server := meet(t, l, s.config(nil))
	server.beneath.Conn = &sunk{Conn: server.beneath.Conn, fails: io.ErrShortWrite}
	for range 2 {
		if _, err := server.WriteBuffers(net.Buffers{make([]byte, 1<<20)}); !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
	}
}
