package secure

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Peer is who is at the other end of a connection, as a certificate says that was verified. It does not change.
type Peer struct {
	Subject      string // as RFC 2253 writes it: CN=pump-7,O=Example
	CommonName   string
	Organization string   // the first
	Unit         string   // the first organizational unit
	DNSNames     []string // subject alternative names
	Emails       []string
	URIs         []string
	IPs          []string
	Serial       string // hexadecimal
	Fingerprint  string // SHA-256 of the certificate, hexadecimal
	NotAfter     time.Time

	keys   []string // of it and of those above it, for revocations
	source *Source

	mu struct {
		sync.Mutex
		end     func() // ends the connection; nil: nobody said how
		revoked bool
	}
}

// newPeer reads a chain that was verified; nil: the client showed none.
func newPeer(s *Source, state *tls.ConnectionState) *Peer {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	c := state.PeerCertificates[0]
	sum := sha256.Sum256(c.Raw)
	p := &Peer{
		Subject: subject(c.RawSubject), CommonName: c.Subject.CommonName, DNSNames: c.DNSNames, Emails: c.EmailAddresses,
		Organization: first(c.Subject.Organization), Unit: first(c.Subject.OrganizationalUnit),
		Serial: hex.EncodeToString(c.SerialNumber.Bytes()), Fingerprint: hex.EncodeToString(sum[:]), NotAfter: c.NotAfter,
		keys: chainKeys(state), source: s,
	}
	for _, u := range c.URIs {
		p.URIs = append(p.URIs, u.String())
	}
	for _, ip := range c.IPAddresses {
		p.IPs = append(p.IPs, ip.String())
	}
	return p
}

// connKey is the key of a Conn in a context.
type connKey struct{}

// ConnContext is http.Server.ConnContext: ConnOf finds in the context of a request the connection that it came by.
func ConnContext(ctx context.Context, n net.Conn) context.Context {
	if c, ok := n.(*Conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// ConnOf is the connection that a request came by; nil: not by TLS.
func ConnOf(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// chainKeys names the certificates of the chains that were verified, without their roots.
func chainKeys(state *tls.ConnectionState) (keys []string) {
	add := func(c *x509.Certificate) {
		if key := revocationKey(c.RawIssuer, c.SerialNumber.Bytes()); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	add(state.PeerCertificates[0])
	for _, chain := range state.VerifiedChains {
		for _, c := range chain[:max(len(chain)-1, 0)] {
			add(c)
		}
	}
	return keys
}

// OnRevoked has end called, once, when the certificate is revoked: at once if it is by now. It must not block.
func (p *Peer) OnRevoked(end func()) {
	p.mu.Lock()
	p.mu.end = end
	revoked := p.mu.revoked
	p.mu.Unlock()
	if revoked {
		end()
	}
}

// Forget is called when the connection has ended. A nil Peer is fine.
func (p *Peer) Forget() {
	if p == nil {
		return
	}
	p.source.forget(p)
	p.mu.Lock()
	p.mu.end = nil
	p.mu.Unlock()
}

// revoke ends the connection.
func (p *Peer) revoke() {
	p.mu.Lock()
	end := p.mu.end
	p.mu.revoked = true
	p.mu.Unlock()
	if end != nil {
		end()
	}
}

var errRevoked = errors.New("the certificate of the client is revoked")

// verify is asked at every handshake, also at one that resumes a session: its certificate was verified when the
// session began, by other authorities maybe.
func (l *loaded) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	if state.DidResume {
		opt := x509.VerifyOptions{Roots: l.roots, Intermediates: x509.NewCertPool(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		for _, c := range state.PeerCertificates[1:] {
			opt.Intermediates.AddCert(c)
		}
		if _, err := state.PeerCertificates[0].Verify(opt); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
	}
	if l.revoked.has(chainKeys(&state)) {
		return revokedError(&state)
	}
	return nil
}

func revokedError(state *tls.ConnectionState) error {
	return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: errRevoked}
}

// claimedName is the common name of the certificate for which a handshake failed.
func claimedName(err error) string {
	var bad *tls.CertificateVerificationError
	if !errors.As(err, &bad) || len(bad.UnverifiedCertificates) == 0 {
		return ""
	}
	return bad.UnverifiedCertificates[0].Subject.CommonName
}
