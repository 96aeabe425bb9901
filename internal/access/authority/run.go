package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

const (
	upkeepEvery = time.Minute
	nearEnd     = 14 * 24 * time.Hour // of a certificate: it is told of
	toldEvery   = 24 * time.Hour
	// keptFor is how long a certificate is in the catalog after its end.
	keptFor = 30 * 24 * time.Hour
)

// Run keeps what has an end from ending, until ctx ends: the list of revoked certificates, and the certificate of the
// server if it is of this authority. It tells of what will end soon.
func (a *Authority) Run(ctx context.Context) error {
	t := time.NewTicker(upkeepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			a.upkeep(ctx)
		case <-a.revoked:
			a.upkeep(ctx)
		}
	}
}

// upkeep does what is due. What fails is told, and tried again.
func (a *Authority) upkeep(ctx context.Context) {
	a.changing.Lock()
	defer a.changing.Unlock()
	own, _ := a.signer()
	if own == nil {
		return
	}
	now := a.opt.Clock()
	a.mu.RLock()
	listed := a.mu.listed
	a.mu.RUnlock()
	for what, err := range map[string]error{
		"sign the list of revoked certificates": a.ifDue(now.Sub(listed) >= listLife/2, func() error { return a.list(now) }),
		"renew the certificate of the server":   a.renewServer(ctx, now),
		"forget certificates that are over":     a.sweep(ctx, now),
	} {
		if err != nil {
			a.opt.Logger.Warn("the certificate authority could not "+what, "because", err)
		}
	}
	a.tell(now, own)
}

func (a *Authority) ifDue(due bool, do func() error) error {
	if !due {
		return nil
	}
	return do()
}

// sweep removes what has been over for long, some at a time.
func (a *Authority) sweep(ctx context.Context, now time.Time) error {
	if len(a.old(now)) == 0 {
		return nil
	}
	return a.change(ctx, func() ([]entry, error) { return a.old(now), nil })
}

// old are some of what has been over for long.
func (a *Authority) old(now time.Time) (gone []entry) {
	const most = 1000
	a.mu.RLock()
	defer a.mu.RUnlock()
	for serial, c := range a.mu.certificates {
		if now.Sub(c.Until) > keptFor && len(gone) < most {
			gone = append(gone, entry{key: certificateKey + serial})
		}
	}
	for id, c := range a.mu.claims {
		if !now.Before(c.Until) && len(gone) < most {
			gone = append(gone, entry{key: claimKey + id})
		}
	}
	return gone
}

// tell logs, once a day, what will end soon.
func (a *Authority) tell(now time.Time, own *x509.Certificate) {
	soon := a.Ending()
	if near := own.NotAfter.Sub(now) < nearEnd; !near && len(soon) == 0 || now.Sub(a.warned) < toldEvery {
		return
	}
	a.warned = now
	if own.NotAfter.Sub(now) < nearEnd {
		a.opt.Logger.Warn("the certificate authority ends soon: nothing that it issued is good then", "until", own.NotAfter)
	}
	if len(soon) > 0 {
		a.opt.Logger.Warn("certificates end soon and nobody has renewed them", "count", len(soon),
			"first", fault.Text(soon[0].Name), "until", soon[0].Until, "hint", "firth cert list --ending names all of them")
	}
}

// Ending are the valid certificates that end within 14 days and that no newer one of the same name replaces, the one
// that ends first at the front.
func (a *Authority) Ending() []*Certificate {
	now := a.opt.Clock()
	a.mu.RLock()
	defer a.mu.RUnlock()
	var list []*Certificate
	for _, serials := range a.mu.byName {
		var last *Certificate
		for _, serial := range serials {
			if c := a.mu.certificates[serial]; c.ValidAt(now) && (last == nil || c.Until.After(last.Until)) {
				last = c
			}
		}
		if last != nil && last.Until.Sub(now) < nearEnd {
			list = append(list, last)
		}
	}
	slices.SortFunc(list, func(x, y *Certificate) int { return x.Until.Compare(y.Until) })
	return list
}

// IssueServer makes the certificate of this server, for the names and addresses that clients connect to, with a key in
// the data folder. One that is there and good for all these names stays; else the other takes its place, for the names
// of both, and made tells so. Errors: as of Issue; those of files.
func (a *Authority) IssueServer(ctx context.Context, names []string) (made bool, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	own, _ := a.signer()
	if own == nil {
		return false, errNone()
	}
	was := a.server(own)
	if was != nil && covers(was, names) && a.opt.Clock().Before(was.NotAfter) {
		return false, nil
	}
	if len(names) == 0 {
		return false, fault.New(fault.Invalid, op, "the certificate of a server needs the names that clients connect to")
	}
	key, err := a.serverKey()
	if err != nil {
		return false, err
	}
	for _, name := range namesOf(was) {
		if !slices.Contains(names, name) {
			names = append(slices.Clip(names), name)
		}
	}
	return true, a.makeServer(ctx, own, &key.PublicKey, names)
}

// serverKey is the key of this server: the one that is there, so that it fits the certificate at any time, or a new
// one.
func (a *Authority) serverKey() (*ecdsa.PrivateKey, error) {
	text, err := vfs.ReadWhole(a.opt.FS, ServerKeyFile, maxFile)
	if err == nil {
		if old, err := parseKey(text); err == nil {
			if key, is := old.(*ecdsa.PrivateKey); is {
				return key, nil
			}
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	return key, a.writeKey(ServerKeyFile, key)
}

func covers(c *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return c.VerifyHostname(name) != nil })
}

// server is the certificate that this server has of this authority; nil: there is none.
func (a *Authority) server(own *x509.Certificate) *x509.Certificate {
	text, err := vfs.ReadWhole(a.opt.FS, ServerFile, maxFile)
	if err != nil {
		return nil
	}
	c, err := parseCertificate(text)
	if err != nil || c.CheckSignatureFrom(own) != nil {
		return nil
	}
	return c
}

// renewServer renews the certificate of the server when two thirds of its life are over, for the same key.
func (a *Authority) renewServer(ctx context.Context, now time.Time) error {
	own, _ := a.signer()
	was := a.server(own)
	if was == nil || now.Before(was.NotBefore.Add(was.NotAfter.Sub(was.NotBefore)*2/3)) {
		return nil
	}
	key, ok := was.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fault.New(fault.Unsupported, op, "%s is for a key that is not ours", ServerFile)
	}
	return a.makeServer(ctx, own, key, namesOf(was))
}

// namesOf are the names and addresses in a certificate, the one that it is called by first; nil: there are none.
func namesOf(c *x509.Certificate) []string {
	if c == nil {
		return nil
	}
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if i := slices.Index(names, c.Subject.CommonName); i > 0 {
		names[0], names[i] = names[i], names[0]
	}
	return names
}

func (a *Authority) makeServer(
	ctx context.Context, own *x509.Certificate, key *ecdsa.PublicKey, names []string,
) error {
	name := names[0]
	if len(name) > maxName {
		name = "server"
	}
	made, err := a.issue(ctx, &Request{CSR: &x509.CertificateRequest{PublicKey: key}, Name: name, Server: true,
		Names: names, By: "this server"}, nil)
	if err != nil {
		return err
	}
	if err := a.write(ServerFile, append(made.PEM(), encode("CERTIFICATE", own.Raw)...)); err != nil {
		return err
	}
	a.opt.Changed()
	return nil
}

// measure registers the metrics.
func (a *Authority) measure() {
	count := func(of func(c *Certificate, now time.Time) bool) func() float64 {
		return func() float64 {
			now := a.opt.Clock()
			a.mu.RLock()
			defer a.mu.RUnlock()
			n := 0
			for _, c := range a.mu.certificates {
				if of(c, now) {
					n++
				}
			}
			return float64(n)
		}
	}
	m := a.opt.Metrics
	m.GaugeFunc("firth_certificates_valid", "Certificates of the node's own authority that are neither revoked nor over.",
		count(func(c *Certificate, now time.Time) bool { return c.ValidAt(now) }))
	m.GaugeFunc("firth_certificates_revoked", "Certificates of the node's own authority revoked and not yet over.",
		count(func(c *Certificate, now time.Time) bool { return c.Revoked != nil && now.Before(c.Until) }))
	m.GaugeFunc("firth_certificates_ending",
		"Certificates of the node's own authority that end within 14 days and that no newer one replaces.",
		func() float64 { return float64(len(a.Ending())) })
	m.GaugeFunc("firth_authority_expiry_seconds",
		"Seconds until the certificate of the node's own authority ends; 0: there is none.",
		func() float64 {
			until := a.Until()
			if until.IsZero() {
				return 0
			}
			return until.Sub(a.opt.Clock()).Seconds()
		})
}
