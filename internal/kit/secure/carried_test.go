package secure

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/firthmq/firth/internal/kit/secure/securetest"
)

// carry has a connection carried of whose TLS is told.
func (s *site) carry(told *Told) (*Carried, net.Conn, error) {
	n, far := net.Pipe()
	c, err := s.source.Carry(n, told)
	s.t.Cleanup(func() { _, _ = n.Close(), far.Close() })
	return c, far, err
}

// TestCarry: what another node tells of a client's TLS is held against what is asked for here.
func TestCarry(t *testing.T) {
	s := open(t, RequireClientAuth, ListenOptions{})
	pump, old := s.devices.Client("pump"), s.devices.Client("old")
	securetest.Write(t, s.dir, "crl.pem", s.devices.CRL(old))
	s.source.Look()
	chain := func(p securetest.Pair) [][]byte { return p.TLS(t).Certificate }
	for name, told := range map[string]*Told{
		"an old version":             {Version: tls.VersionTLS11, Chain: chain(pump)},
		"no certificate":             {Version: tls.VersionTLS13},
		"a stranger":                 {Version: tls.VersionTLS13, Chain: chain(securetest.NewCA(t, "others").Client("pump"))},
		"no certificate of a client": {Version: tls.VersionTLS13, Chain: chain(s.ca.Server("broker.example"))},
		"one that is revoked":        {Version: tls.VersionTLS13, Chain: chain(old)},
		"what is none":               {Version: tls.VersionTLS13, Chain: [][]byte{[]byte("none")}},
	} {
		if c, _, err := s.carry(told); err == nil {
			t.Errorf("%s is taken: %+v", name, c)
		}
	}
	c, far, err := s.carry(&Told{Version: tls.VersionTLS12, ServerName: "broker.example", Chain: chain(pump)})
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Peer(); p == nil || p.CommonName != "pump" {
		t.Errorf("it is %+v", p)
	}
	if err := c.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) { // a pipe has no halves
		t.Error(err)
	}
	securetest.Write(t, s.dir, "crl.pem", s.devices.CRL(old, pump))
	s.source.Look()
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("its certificate is revoked, and it lives: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestCarryUnasked: where no certificate is asked for, none counts; where one may be shown, none need be.
func TestCarryUnasked(t *testing.T) {
	for _, auth := range []ClientAuth{NoClientAuth, RequestClientAuth} {
		s := open(t, auth, ListenOptions{})
		for _, told := range []*Told{
			{Version: tls.VersionTLS13}, {Version: tls.VersionTLS13, Chain: s.devices.Client("pump").TLS(t).Certificate},
		} {
			c, _, err := s.carry(told)
			if err != nil || (c.Peer() != nil) != (auth == RequestClientAuth && len(told.Chain) > 0) {
				t.Errorf("%s, a chain of %d: %+v, %v", auth, len(told.Chain), c, err)
			}
		}
	}
}

// TestTold: what a connection tells of itself is what another node needs to carry it.
func TestTold(t *testing.T) {
	s := open(t, RequestClientAuth, ListenOptions{})
	pair := s.devices.Client("pump")
	server, far := net.Pipe()
	l := Listen(&once{conns: []net.Conn{server}, closed: make(chan struct{})},
		ListenOptions{Source: s.source, Gate: NewGate(1)})
	go func() { _ = tls.Client(far, s.config(&pair)).Handshake() }()
	n, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	told := n.(*Conn).Told()
	if told.Version != tls.VersionTLS13 || told.ServerName != "broker.example" || len(told.Chain) == 0 {
		t.Errorf("it tells %+v", told)
	}
	if _, _, err := s.carry(told); err != nil {
		t.Error(err)
	}
	_ = n.Close() // nobody reads any more
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// once is a listener that accepts what it has.
type once struct {
	conns  []net.Conn
	closed chan struct{}
}

func (o *once) Accept() (net.Conn, error) {
	if len(o.conns) > 0 {
		c := o.conns[0]
		o.conns = nil
		return c, nil
	}
	<-o.closed
	return nil, net.ErrClosed
}

func (o *once) Close() error   { close(o.closed); return nil }
func (o *once) Addr() net.Addr { return &net.TCPAddr{} }
