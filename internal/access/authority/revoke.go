package authority

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// listLife is how long a list of revoked certificates is good; it is signed anew when half of that has passed.
const listLife = 7 * 24 * time.Hour

// Revoke ends the certificates of a name, or the one of a serial number, for all listeners and at once: their
// connections are ended when it returns. It gives what was revoked. Errors: NotFound; those of the log and of files,
// and then it may be that all are revoked but that listeners have not been told; they are a minute later at the latest.
func (a *Authority) Revoke(ctx context.Context, who, reason string) ([]*Certificate, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	now := a.opt.Clock().UTC().Truncate(time.Second)
	var gone []*Certificate
	err := a.change(ctx, func() ([]entry, error) {
		if gone = a.revocable(who); len(gone) == 0 {
			return nil, fault.New(fault.NotFound, op, "there is no valid certificate with the name or serial number %s",
				fault.Text(who)).WithHint("firth cert list shows them")
		}
		entries := make([]entry, len(gone))
		for i, c := range gone {
			revoked := *c
			revoked.Revoked, revoked.Reason = &now, reason
			gone[i], entries[i] = &revoked, ofCertificate(&revoked)
		}
		return entries, nil
	})
	if err != nil {
		return nil, err
	}
	for _, c := range gone {
		a.opt.Logger.Info("revoked a certificate", "name", fault.Text(c.Name), "serial", c.Serial)
	}
	return gone, a.list(now)
}

// revocable are the certificates that are meant by a name or a serial number.
func (a *Authority) revocable(who string) []*Certificate {
	a.mu.RLock()
	c := a.mu.certificates[who]
	a.mu.RUnlock()
	if c != nil && c.Revoked == nil {
		return []*Certificate{c}
	}
	return a.valid(who)
}

// list signs the list of revoked certificates and has listeners read it. The caller holds changing, or nobody else is
// there yet.
func (a *Authority) list(now time.Time) error {
	own, key := a.signer()
	if own == nil {
		return nil
	}
	list := &x509.RevocationList{Number: big.NewInt(now.UnixMilli()), ThisUpdate: now, NextUpdate: now.Add(listLife)}
	a.mu.RLock()
	for _, c := range a.mu.certificates {
		serial, err := hex.DecodeString(c.Serial)
		if c.Revoked == nil || !now.Before(c.Until) || err != nil { // one that is over needs no list
			continue
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(serial), RevocationTime: *c.Revoked})
	}
	a.mu.RUnlock()
	der, err := x509.CreateRevocationList(rand.Reader, list, own, key)
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	if err := a.write(RevokedFile, encode("X509 CRL", der)); err != nil {
		return err
	}
	a.mu.Lock()
	a.mu.listed = now
	a.mu.Unlock()
	a.opt.Changed()
	return nil
}
