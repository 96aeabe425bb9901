package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
)

// Identity is what a gateway shows others: a key of this process, which is never written down, and a certificate for
// it. Others know it by its fingerprint, from the group of gateways, and by nothing else.
type Identity struct{ certificate tls.Certificate }

// Fingerprint is the SHA-256 of a certificate.
type Fingerprint = [sha256.Size]byte

// NewIdentity makes one.
func NewIdentity() (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// Its times are not looked at, and clocks of nodes may differ.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Identity{certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}

// Fingerprint is what others know it by.
func (i *Identity) Fingerprint() Fingerprint { return sha256.Sum256(i.certificate.Certificate[0]) }

var errStranger = errors.New("the certificate is not that of a gateway of this cluster")

// shownBy checks what the other side of a connection shows: that it has the key is shown by the handshake.
func shownBy(knows func(Fingerprint) bool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 || !knows(sha256.Sum256(s.PeerCertificates[0].Raw)) {
			return errStranger
		}
		return nil
	}
}

// soon is what knows says now, or within a while: of two gateways that hear of each other one is the first.
func soon(knows func(Fingerprint) bool, within time.Duration) func(Fingerprint) bool {
	const pause = 10 * time.Millisecond
	return func(f Fingerprint) bool {
		for until := time.Now().Add(within); !knows(f); {
			if time.Now().After(until) {
				return false
			}
			_ = clock.Pause(context.Background(), pause)
		}
		return true
	}
}

// server is TLS for links that others open.
func (i *Identity) server(knows func(Fingerprint) bool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.certificate}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: shownBy(knows), SessionTicketsDisabled: true,
	}
}

// client is TLS for links to a gateway with that fingerprint.
func (i *Identity) client(to Fingerprint) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.certificate},
		InsecureSkipVerify: true, //nolint:gosec // no authority and no name: VerifyConnection takes one certificate only
		VerifyConnection:   shownBy(func(f Fingerprint) bool { return f == to }),
	}
}
