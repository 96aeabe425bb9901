// Package authority is the certificate authority of a node: it issues certificates to the server, to devices and to
// back ends, renews and revokes them, and lets devices enrol by a claim.
//
// What it issued, what it revoked and the claims are a fold of the topic __firth_certificates. Its own certificate, its
// key and the list of revoked certificates are files in the folder ca of the data, where listeners read them:
//
//	a, err := authority.Open(ctx, authority.Options{FS: disk, Log: log, Changed: reload})
//	err = a.Create(ctx, "Example devices")
//	made, err := a.Issue(ctx, &authority.Request{CSR: csr, Name: "pump-7"})
//	_, err = a.Revoke(ctx, "pump-7", "lost")
//
// A certificate is handed out when its record is stored, and revoked for every listener when Revoke returns.
package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/replica"
	"github.com/firthmq/firth/internal/log/stream"
)

// TopicName is the topic of the log that holds what was issued.
const TopicName = rule.InternalPrefix + "certificates"

// Files of an authority, in the FS.
const (
	Folder          = "ca"
	CertificateFile = Folder + "/ca.pem"     // its own certificate: what clients and listeners trust
	KeyFile         = Folder + "/ca.key"     // of its own
	RevokedFile     = Folder + "/ca.crl"     // the list of revoked certificates
	ServerFile      = Folder + "/server.pem" // the certificate of this server, and that of the authority
	ServerKeyFile   = Folder + "/server.key"
)

// How long certificates are good, unless who asks says otherwise.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	ServerLife    = 397 * 24 * time.Hour // what browsers take at most
	ClientLife    = 90 * 24 * time.Hour
	// MaxLife is the longest that may be asked for.
	MaxLife = 5 * 365 * 24 * time.Hour
)

const op = "authority"

// Options of the room. FS and Log are needed.
type Options struct {
	FS  vfs.FS
	Log stream.Keeper
	// Changed is called when a file has changed that listeners read, on the goroutine of who changed it.
	Changed func()
	// Shared says that other nodes change the catalog, too: it is followed, by Follow.
	Shared bool
	// Passed is the time that has passed, since whenever, for a catalog that is Shared. Default: that of the machine.
	Passed func() time.Duration
	// AcceptDamage goes on with what can be read of a damaged catalog. Otherwise Open fails: what is missing may be what
	// is revoked.
	AcceptDamage bool
	// Metrics receives the metrics. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger receives the log lines. Default: none.
	Logger *slog.Logger
	// Clock is the wall clock. Default: time.Now.
	Clock func() time.Time
}

// Authority issues certificates. Make one with Open. It may be used from any goroutine.
type Authority struct {
	opt     Options
	replica *replica.Replica // of a catalog that is shared; nil: nobody else changes it
	revoked chan struct{}    // holds a token: something was revoked that is not listed

	changing sync.Mutex // held over a change, the log and the files included: one at a time
	warned   time.Time  // when an end that is near was last told; under changing

	mu struct {
		sync.RWMutex
		own          *x509.Certificate // nil: there is no authority yet
		key          crypto.Signer
		certificates map[string]*Certificate // by serial
		byName       map[string][]string     // serials
		claims       map[string]*Claim       // by id
		revoked      int                     // records of what is revoked that were ever taken
		listed       time.Time               // when the list of revoked certificates was signed; zero: it has to be
	}
}

// Open reads what was issued, and the authority if there is one. Errors: Corrupt when some of it cannot be read; those
// of the log and of files.
func Open(ctx context.Context, opt Options) (*Authority, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Metrics == nil {
		opt.Metrics = telemetry.New()
	}
	if opt.Changed == nil {
		opt.Changed = func() {}
	}
	a := &Authority{opt: opt, revoked: make(chan struct{}, 1)}
	a.clear()
	if err := a.read(ctx); err != nil {
		return nil, err
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	a.measure()
	a.upkeep(ctx)
	return a, nil
}

// load reads the certificate and the key of the authority, if they are there.
func (a *Authority) load() error {
	text, err := vfs.ReadWhole(a.opt.FS, CertificateFile, maxFile)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	own, err := parseCertificate(text)
	if err != nil {
		return fault.New(fault.Corrupt, op, "%s: %w", CertificateFile, err)
	}
	if text, err = vfs.ReadWhole(a.opt.FS, KeyFile, maxFile); err != nil {
		return err
	}
	key, err := parseKey(text)
	if err != nil {
		return fault.New(fault.Corrupt, op, "%s: %w", KeyFile, err)
	}
	if public, ok := own.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return fault.New(fault.Corrupt, op, "%s and %s do not belong together", CertificateFile, KeyFile).
			WithHint("restore both from a backup of the data folder")
	}
	a.mu.own, a.mu.key = own, key
	return nil
}

// Exists tells whether there is an authority.
func (a *Authority) Exists() bool {
	own, _ := a.signer()
	return own != nil
}

// signer is the certificate and the key of the authority; nil: there is none yet.
func (a *Authority) signer() (*x509.Certificate, crypto.Signer) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.mu.own, a.mu.key
}

// errNone is what is said where there is no authority.
func errNone() error {
	return fault.New(fault.NotFound, op, "there is no certificate authority here").WithHint("firth cert ca makes one")
}

// Create makes the authority, which has a name for people. Errors: Exists; Invalid; those of files.
func (a *Authority) Create(_ context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.Exists() {
		return fault.New(fault.Exists, op, "there is a certificate authority").
			WithHint("firth cert ca shows its certificate")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	now := a.opt.Clock()
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife), IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	// The certificate comes last: without it there is no authority, and the next try begins anew.
	if err := a.writeKey(KeyFile, key); err != nil {
		return err
	}
	if err := a.write(CertificateFile, encode("CERTIFICATE", der)); err != nil {
		return err
	}
	a.mu.Lock()
	a.mu.own, a.mu.key, a.mu.listed = own, key, time.Time{}
	a.mu.Unlock()
	return a.list(now)
}

// PEM is the certificate of the authority. Errors: NotFound.
func (a *Authority) PEM() ([]byte, error) {
	own, _ := a.signer()
	if own == nil {
		return nil, errNone()
	}
	return encode("CERTIFICATE", own.Raw), nil
}

// Name is what the authority is called; "": there is none.
func (a *Authority) Name() string {
	own, _ := a.signer()
	if own == nil {
		return ""
	}
	return own.Subject.CommonName
}

// DER is PEM as DER.
func (a *Authority) DER() ([]byte, error) {
	own, _ := a.signer()
	if own == nil {
		return nil, errNone()
	}
	return own.Raw, nil
}

// Until is when the certificate of the authority ends; zero: there is none.
func (a *Authority) Until() time.Time {
	own, _ := a.signer()
	if own == nil {
		return time.Time{}
	}
	return own.NotAfter
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
