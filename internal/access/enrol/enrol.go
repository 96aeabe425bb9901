// Package enrol lets devices have certificates: by the token of a claim, or by the certificate that they have, over
// HTTP (EST, RFC 7030) and MQTT. It bounds what strangers cost: few requests at a time, later for who failed often, and
// no request that is large.
//
//	desk := enrol.New(enrol.Options{Authority: a, Users: users, Logins: logins})
//	mux.Handle(enrol.Path, desk.Handler())
//	chain, err := desk.Enrol(ctx, enrol.Applicant{Name: "pump-7", Token: token, Address: from}, csr)
package enrol

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Users are who holders of certificates are.
type Users interface {
	// Known tells whether there is a user of a name.
	Known(name string) bool
	// Ensure sees that there is one; with roles, if it is made.
	Ensure(ctx context.Context, name string, roles []string) error
}

// Logins slow down who has failed.
type Logins interface {
	// Hold waits as long as somebody is held back. Errors: that of ctx.
	Hold(ctx context.Context, user string, address netip.Addr) error
	// Settle notes how it ended.
	Settle(user string, address netip.Addr, ok bool)
}

// Event is an enrolment that was done or refused.
type Event struct {
	Name    string     // that somebody asked for
	Address netip.Addr // where it came from
	By      string     // how: "https" or "mqtt", and "claim" or "certificate"
	Serial  string     // of what was issued; "": nothing was
	Err     error      // why it was refused; nil: it was not
}

// Options of a Desk. All but Done are needed.
type Options struct {
	Authority *authority.Authority
	Users     Users
	Logins    Logins
	// Done is told of each enrolment, on the goroutine of who asked: the place for an audit.
	Done func(Event)
}

// Bounds of what strangers may cost.
const (
	together = 4                // enrolments at a time, each a few signatures and one write to the log
	patience = 10 * time.Second // how long one waits for its turn
)

// Desk takes requests for certificates. It may be used from any goroutine.
type Desk struct {
	opt   Options
	turns chan struct{}
}

// New makes a desk.
func New(opt Options) *Desk {
	if opt.Done == nil {
		opt.Done = func(Event) {}
	}
	return &Desk{opt: opt, turns: make(chan struct{}, together)}
}

// Applicant is who wants a certificate.
type Applicant struct {
	Name    string
	Token   []byte            // of a claim; nil: Shown proves who it is
	Shown   *x509.Certificate // what a verified connection of TLS has shown; nil: nothing
	Address netip.Addr
	Way     string // "https" or "mqtt"
}

// Claimed tells whether a token is one of a claim for a name that is good now. It says nothing to who has failed often.
func (d *Desk) Claimed(ctx context.Context, who Applicant) error {
	if err := d.opt.Logins.Hold(ctx, who.Name, who.Address); err != nil {
		return err
	}
	_, err := d.opt.Authority.Find(who.Name, who.Token)
	d.opt.Logins.Settle(who.Name, who.Address, err == nil)
	return err
}

// Enrol issues a certificate for the key of a request (PKCS #10: DER, that in base64, or PEM) and gives it with that of
// the authority, as DER. Errors: Denied; Invalid; TooLarge; Exists; Limited, too many wait; those of the log.
func (d *Desk) Enrol(ctx context.Context, who Applicant, request []byte) (chain [][]byte, err error) {
	e := Event{Name: who.Name, Address: who.Address, By: who.Way + ", claim"}
	if who.Token == nil {
		e.By = who.Way + ", certificate"
	}
	made, err := d.enrol(ctx, who, request)
	if err == nil {
		e.Serial = made.Serial
		own, none := d.opt.Authority.DER()
		chain, err = [][]byte{made.DER, own}, none
	}
	e.Err = err
	d.opt.Done(e)
	return chain, err
}

func (d *Desk) enrol(ctx context.Context, who Applicant, request []byte) (*authority.Issued, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if who.Token != nil { // before anything is computed for a stranger
		if err := d.Claimed(ctx, who); err != nil {
			return nil, err
		}
	}
	select {
	case d.turns <- struct{}{}:
		defer func() { <-d.turns }()
	case <-ctx.Done():
		return nil, fault.New(fault.Limited, "enrol", "too many enrol at a time")
	}
	csr, err := parse(request)
	if err != nil {
		return nil, err
	}
	if who.Token == nil {
		return d.opt.Authority.ReEnrol(ctx, who.Shown, csr)
	}
	made, claim, err := d.opt.Authority.Enrol(ctx, who.Name, who.Token, csr, d.opt.Users.Known)
	if err != nil {
		return nil, err
	}
	return made, d.opt.Users.Ensure(context.WithoutCancel(ctx), who.Name, claim.Roles)
}
