package secure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
)

// Told is what a connection of TLS tells of itself, for another node that goes on with what it carries.
type Told struct {
	Version    uint16   // as package tls numbers them
	ServerName string   // that the client asked for; "": none
	Chain      [][]byte // certificates that it showed, its own first, as DER; none: it showed none
}

// Told is what the connection tells of itself. Call it before Detach.
func (c *Conn) Told() *Told {
	state := c.ConnectionState()
	t := &Told{Version: state.Version, ServerName: state.ServerName}
	for _, one := range state.PeerCertificates {
		t.Chain = append(t.Chain, one.Raw)
	}
	return t
}

// Carried is a connection whose TLS ends at another node, which goes on here in the clear.
type Carried struct {
	net.Conn
	peer  *Peer
	close sync.Once
}

// Peer is who the client is; nil: it showed no certificate.
func (c *Carried) Peer() *Peer { return c.peer }

// Close implements net.Conn.
func (c *Carried) Close() error {
	c.close.Do(c.peer.Forget)
	return c.Conn.Close()
}

// CloseWrite says that all is said, if that can be said.
func (c *Carried) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

var (
	errOldVersion = errors.New("the client speaks an older version of TLS than is asked for here")
	errNoChain    = errors.New("the client has shown no certificate, and has to")
)

// Carry takes over a connection of whose TLS another node tells. What the client has shown is held against what is
// asked for here now, as in a handshake: the version, its chain, what is revoked, also later. That the client has the
// key of its certificate is the word of the other node. Errors: those of verification; the connection stays open then.
func (s *Source) Carry(n net.Conn, told *Told) (*Carried, error) {
	l := s.now.Load()
	c := &Carried{Conn: n}
	switch {
	case told.Version < l.config.MinVersion:
		return nil, errOldVersion
	case l.config.ClientAuth == tls.NoClientCert:
		return c, nil
	case len(told.Chain) == 0 && l.config.ClientAuth == tls.RequireAndVerifyClientCert:
		return nil, errNoChain
	case len(told.Chain) == 0:
		return c, nil
	}
	state := tls.ConnectionState{Version: told.Version, ServerName: told.ServerName}
	opt := x509.VerifyOptions{Roots: l.roots, Intermediates: x509.NewCertPool(), CurrentTime: s.opt.Clock(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for i, der := range told.Chain {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if state.PeerCertificates = append(state.PeerCertificates, one); i > 0 {
			opt.Intermediates.AddCert(one)
		}
	}
	var err error
	if state.VerifiedChains, err = state.PeerCertificates[0].Verify(opt); err != nil {
		return nil, &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	c.peer = newPeer(s, &state)
	if !s.join(c.peer) {
		return nil, revokedError(&state)
	}
	c.peer.OnRevoked(func() { _ = n.Close() }) // its reader sees it
	return c, nil
}
