package secure

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
)

// ClientAuth is whether clients have to show a certificate.
type ClientAuth string

// What a listener asks of its clients.
const (
	NoClientAuth      ClientAuth = "none"    // nothing
	RequestClientAuth ClientAuth = "request" // one that shows a certificate shows a good one
	RequireClientAuth ClientAuth = "require" // all show a good one
)

// Files are what a listener shows, and what it holds its clients against. All hold PEM.
type Files struct {
	// Certificates and Keys belong together in their order. A certificate file holds its chain, the server's own
	// first. Of several the one is shown that fits the name that a client asks for (SNI) and its algorithms.
	Certificates, Keys []string
	ClientCA           string // the authorities that client certificates come from; "": none
	CRL                string // what they have revoked, one list or several; "": nothing
	ClientAuth         ClientAuth
	MinVersion         uint16 // of package tls; 0: TLS 1.2
}

const op = "tls"

// loaded is what Files held at one time. It does not change.
type loaded struct {
	files    Files
	config   *tls.Config // without protocols
	roots    *x509.CertPool
	revoked  *revocations
	leaves   []*x509.Certificate // that we show
	notAfter time.Time           // of the first that ends
	crlUntil time.Time           // when the first CRL should have been followed by another; zero: none
}

// load reads files. Errors: Invalid, NotFound and IO, each naming the file, with a hint.
func load(f Files) (*loaded, error) {
	l := &loaded{files: f, config: &tls.Config{MinVersion: max(f.MinVersion, tls.VersionTLS12),
		DynamicRecordSizingDisabled: true}} // who reads waits for whole messages: short records make none of them earlier
	if len(f.Certificates) == 0 || len(f.Certificates) != len(f.Keys) {
		return nil, fault.New(fault.Invalid, op, "%d certificates and %d keys: each needs the other", len(f.Certificates),
			len(f.Keys))
	}
	for i := range f.Certificates {
		pair, err := loadPair(f.Certificates[i], f.Keys[i])
		if err != nil {
			return nil, err
		}
		l.config.Certificates = append(l.config.Certificates, pair)
		l.leaves = append(l.leaves, pair.Leaf)
		if l.notAfter.IsZero() || pair.Leaf.NotAfter.Before(l.notAfter) {
			l.notAfter = pair.Leaf.NotAfter
		}
	}
	return l, l.loadClients(f)
}

// loadClients reads what clients are held against.
func (l *loaded) loadClients(f Files) (err error) {
	switch f.ClientAuth {
	case RequestClientAuth:
		l.config.ClientAuth = tls.VerifyClientCertIfGiven
	case RequireClientAuth:
		l.config.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return nil
	}
	if f.ClientCA == "" {
		return fault.New(fault.Invalid, op, "client certificates are asked for, and no authority is named for them").
			WithHint("name its certificate with client_ca")
	}
	authorities, err := loadAuthorities(f.ClientCA)
	if err != nil {
		return err
	}
	l.roots = x509.NewCertPool()
	for _, c := range authorities {
		l.roots.AddCert(c)
	}
	l.config.ClientCAs = l.roots
	if f.CRL != "" {
		l.revoked, l.crlUntil, err = loadRevocations(f.CRL, authorities)
	}
	return err
}

// loadPair reads a certificate with its chain, and its key, which nobody else may read.
func loadPair(certificate, key string) (tls.Certificate, error) {
	var none tls.Certificate
	chain, err := given.Read(op, certificate)
	if err != nil {
		return none, err
	}
	secret, err := given.ReadPrivate(op, key)
	if err != nil {
		return none, err
	}
	if bytes.Contains(secret, []byte("ENCRYPTED")) {
		return none, fault.New(fault.Invalid, op, "%s needs a passphrase", key).
			WithHint("openssl pkey -in %s -out plain.key writes one without, for this process alone to read", key)
	}
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		return none, fault.New(fault.Invalid, op, "%s and %s are no certificate and its key: %w", certificate, key, err).
			WithHint("openssl x509 -noout -pubkey -in %s and openssl pkey -pubout -in %s print the same if they are",
				certificate, key)
	}
	return pair, nil
}

func loadAuthorities(name string) ([]*x509.Certificate, error) {
	text, err := given.Read(op, name)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.New(fault.Invalid, op, "%s: %w", name, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, op, "%s holds no certificate", name)
	}
	return all, nil
}

// revocations are certificates that are not good any more, by their keys.
type revocations struct {
	serials map[string]struct{}
}

// revocationKey names a certificate: who issued it, and its number there.
func revocationKey(issuer, serial []byte) string { return string(issuer) + "\x00" + string(serial) }

// has tells whether any of the certificates named is revoked.
func (r *revocations) has(keys []string) bool {
	if r == nil {
		return false
	}
	for _, key := range keys {
		if _, is := r.serials[key]; is {
			return true
		}
	}
	return false
}

// loadRevocations reads lists of certificates that are revoked, each signed by an authority that is known.
func loadRevocations(name string, by []*x509.Certificate) (*revocations, time.Time, error) {
	var until time.Time
	text, err := given.Read(op, name)
	if err != nil {
		return nil, until, err
	}
	var lists [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "X509 CRL" {
			lists = append(lists, block.Bytes)
		}
	}
	if len(lists) == 0 {
		return nil, until, fault.New(fault.Invalid, op, "%s holds no list of revoked certificates", name).
			WithHint("openssl crl -inform DER -in %s -out list.pem writes one as PEM", name)
	}
	r := &revocations{serials: map[string]struct{}{}}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, until, fault.New(fault.Invalid, op, "%s: %w", name, err)
		}
		if !signedBy(list, by) {
			return nil, until, fault.New(fault.Invalid, op, "%s: the list of %q is signed by none of client_ca", name,
				list.Issuer.String())
		}
		for i := range list.RevokedCertificateEntries {
			entry := &list.RevokedCertificateEntries[i]
			if entry.ReasonCode == removedFromList {
				continue
			}
			r.serials[revocationKey(list.RawIssuer, entry.SerialNumber.Bytes())] = struct{}{}
		}
		if !list.NextUpdate.IsZero() && (until.IsZero() || list.NextUpdate.Before(until)) {
			until = list.NextUpdate
		}
	}
	return r, until, nil
}

// removedFromList is the reason removeFromCRL (RFC 5280, section 5.3.1).
const removedFromList = 8

func signedBy(list *x509.RevocationList, by []*x509.Certificate) bool {
	for _, c := range by {
		if bytes.Equal(c.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(c) == nil {
			return true
		}
	}
	return false
}

// stamps are those of all files; one that is not there has the zero stamp.
func (f *Files) stamps() []given.Stamp {
	names := append(append([]string{}, f.Certificates...), f.Keys...)
	if f.ClientAuth != NoClientAuth && f.ClientAuth != "" {
		names = append(names, f.ClientCA, f.CRL)
	}
	all := make([]given.Stamp, len(names))
	for i, name := range names {
		all[i] = given.StampOf(name)
	}
	return all
}
