package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// MaxRequest bounds a certificate request as it is sent, in bytes. One with an RSA key of 4,096 bits has 2 KiB.
const MaxRequest = 16 << 10

// clockSkew is by how much the clock of a device may be behind ours.
const clockSkew = 5 * time.Minute

// ParseRequest reads a certificate request (PKCS #10) as DER or PEM, and sees that who sends it has its key: it is
// signed with it. Errors: TooLarge; Invalid, also for keys that are too weak or too costly to look at.
func ParseRequest(text []byte) (*x509.CertificateRequest, error) {
	if len(text) > MaxRequest {
		return nil, fault.New(fault.TooLarge, op, "a certificate request of %d bytes: at most %d", len(text), MaxRequest)
	}
	if block, _ := pem.Decode(text); block != nil {
		if !strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") {
			return nil, fault.New(fault.Invalid, op, "%s is no certificate request", fault.Text(block.Type))
		}
		text = block.Bytes
	}
	csr, err := x509.ParseCertificateRequest(text)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "no certificate request (PKCS #10): %w", err)
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fault.New(fault.Invalid, op, "the certificate request is not signed with its own key: %w", err)
	}
	return csr, nil
}

// checkKey bounds what keys are taken: none that is weak, none whose signatures cost much.
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P224() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= 2048 && bits <= 4096 && k.E >= 65537 {
			return nil
		}
	}
	return fault.New(fault.Invalid, op, "a key of a kind that is not taken").
		WithHint("ECDSA on P-256 or larger, Ed25519, or RSA of 2,048 to 4,096 bits")
}

// maxName is the longest common name (RFC 5280, appendix A.1).
const maxName = 64

// CheckName tells what is wrong with a common name, which is the name of a user. Errors: Invalid.
func CheckName(name string) error {
	unseen := func(r rune) bool { return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) }
	switch {
	case name == "" || len(name) > maxName || !utf8.ValidString(name):
		return fault.New(fault.Invalid, op, "the name of a certificate is UTF-8 of 1 to %d bytes", maxName)
	case strings.ContainsFunc(name, unseen), strings.TrimSpace(name) != name:
		return fault.New(fault.Invalid, op, "the name %s has characters that cannot be seen", fault.Text(name))
	case name == rule.Anonymous || strings.Contains(name, "*"):
		return fault.New(fault.Invalid, op, "%s is not the name of one user", name)
	}
	return nil
}

// Request is what somebody wants a certificate for.
type Request struct {
	CSR  *x509.CertificateRequest // of ParseRequest; only its key counts
	Name string                   // the common name
	// Server asks for a certificate that a server shows, for Names: DNS names and IP addresses.
	Server bool
	Names  []string
	// Life is how long it is good. 0: ServerLife or ClientLife; never longer than that of the authority.
	Life time.Duration
	By   string // whose wish it is, for people
}

// Issued is a certificate that was made.
type Issued struct {
	Certificate
	DER []byte // without that of the authority
}

// PEM is the certificate as PEM.
func (i *Issued) PEM() []byte { return encode("CERTIFICATE", i.DER) }

func (r *Request) check() error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	if r.Life < 0 || r.Life > MaxLife {
		return fault.New(fault.Invalid, op, "a certificate is good for at most %d days", MaxLife/(24*time.Hour))
	}
	if r.Server && len(r.Names) == 0 {
		return fault.New(fault.Invalid, op, "the certificate of a server needs the names that clients connect to")
	}
	if !r.Server && len(r.Names) > 0 {
		return fault.New(fault.Invalid, op, "only the certificate of a server has names besides its own")
	}
	return nil
}

// Issue makes a certificate and stores what it is. Errors: NotFound, there is no authority; Invalid; Limited; those of
// the log.
func (a *Authority) Issue(ctx context.Context, r *Request) (*Issued, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	return a.issue(ctx, r, nil)
}

// issue is Issue for who holds changing. What else is stored with the certificate is told by more, or why it is not;
// nil: nothing is.
func (a *Authority) issue(ctx context.Context, r *Request, more func() ([]entry, error)) (*Issued, error) {
	own, key := a.signer()
	if own == nil {
		return nil, errNone()
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if a.full() {
		return nil, fault.New(fault.Limited, op, "there may be %d certificates", maxCertificates)
	}
	template, err := r.template(a.opt.Clock())
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(own.NotAfter) {
		template.NotAfter = own.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, own, r.CSR.PublicKey, key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	made := &Issued{DER: der, Certificate: Certificate{
		Serial: serialText(template.SerialNumber), Name: r.Name, Server: r.Server, Names: r.Names,
		Issued: a.opt.Clock().UTC().Truncate(time.Second), Until: template.NotAfter.UTC().Truncate(time.Second), By: r.By,
	}}
	err = a.change(ctx, func() (all []entry, err error) {
		if more != nil {
			all, err = more()
		}
		return append(all, ofCertificate(&made.Certificate)), err
	})
	if err != nil {
		return nil, err
	}
	a.opt.Logger.Info("issued a certificate", "name", fault.Text(r.Name), "serial", made.Serial, "until", made.Until,
		"by", r.By)
	return made, nil
}

func (a *Authority) full() bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.mu.certificates) >= maxCertificates
}

// template is a certificate before it is signed. Errors: Invalid.
func (r *Request) template(now time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: r.Name}, NotBefore: now.Add(-clockSkew),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	life := ClientLife
	if r.Server {
		life, t.ExtKeyUsage = ServerLife, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if r.Life > 0 {
		life = r.Life
	}
	t.NotAfter = now.Add(life)
	if _, is := r.CSR.PublicKey.(*rsa.PublicKey); is {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment // TLS 1.2
	}
	for _, name := range r.Names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		if !isHost(name) {
			return nil, fault.New(fault.Invalid, op, "%s is neither a host name nor an address", fault.Text(name))
		}
		t.DNSNames = append(t.DNSNames, name)
	}
	return t, nil
}

// isHost tells whether a name is one of DNS, maybe with * as its first label.
func isHost(name string) bool {
	name = strings.TrimPrefix(name, "*.")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		other := func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, other) {
			return false
		}
	}
	return true
}

// Renew issues a certificate in the place of the newest valid one of a name, with all that stands in it, for the key of
// a request. The old one stays good until its end. Errors: NotFound; those of Issue.
func (a *Authority) Renew(ctx context.Context, name string, csr *x509.CertificateRequest, by string) (*Issued, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	was := a.valid(name)
	if len(was) == 0 {
		return nil, fault.New(fault.NotFound, op, "there is no certificate of %s that is good", fault.Text(name)).
			WithHint("firth cert issue makes one")
	}
	last := was[len(was)-1]
	return a.issue(ctx, &Request{CSR: csr, Name: name, Server: last.Server, Names: last.Names,
		Life: min(last.Until.Sub(last.Issued).Round(time.Hour), MaxLife), By: by}, nil)
}

// newSerial is a number of 128 bits of chance (RFC 5280, section 4.1.2.2: at most 20 bytes, above 0).
func newSerial() *big.Int {
	var chance [16]byte
	_, _ = rand.Read(chance[:]) // never fails
	chance[0] |= 0x40           // never 0, and always as long
	chance[0] &= 0x7f
	return new(big.Int).SetBytes(chance[:])
}

func serialText(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }
