package access

import (
	"context"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Grant is what a token that was good gives, or the service. It does not change.
type Grant struct {
	User          string
	Roles, Groups []string    // besides those that the user has in the catalog
	Ends          time.Time   // when its connections end; zero: never
	service       bool        // it is of the service
	rules         []rule.Rule // of the user, besides those of the catalog
	clientID      string      // which client identifiers it is good for, as User.ClientID has it
	token         string      // the id of a token of the catalog, which has to be there; "": it is none of those
	delegation    string      // the id of a delegation token, which has to be there; "": it is none
	sameUser      bool        // a user name that a client gives besides has to be the user's
}

// Tokens judges tokens of issuers. *verify.Tokens does.
type Tokens interface {
	// Check tells what a token says, if it is good. Errors: Denied.
	Check(ctx context.Context, raw string) (token.Identity, error)
}

// IsToken tells whether a password is a token.
func (a *Access) IsToken(password []byte) bool {
	if _, is := credential.ProgramTokenID(string(password)); is {
		return !a.open()
	}
	return a.opt.Tokens != nil && token.Like(password)
}

// Token judges a token, and tells what it gives. Errors: ErrCredentials with what is wrong with it.
func (a *Access) Token(ctx context.Context, raw string) (*Grant, error) {
	g, err := a.grant(ctx, raw)
	if err != nil {
		a.logins.With("wrong").Inc()
		return nil, fault.New(fault.Denied, "access.Token", "%w: %w", ErrCredentials, err)
	}
	return g, nil
}

func (a *Access) grant(ctx context.Context, raw string) (*Grant, error) {
	if !a.IsToken([]byte(raw)) {
		return nil, errDenied("it is no token that is known here")
	}
	if _, is := credential.ProgramTokenID(raw); is {
		return a.byProgram(raw)
	}
	who, err := a.opt.Tokens.Check(ctx, raw)
	if err != nil {
		return nil, err
	}
	return a.Vouch(&who)
}

// Vouch is what somebody has whom an issuer has named, in a token that was good. Errors: Denied, Invalid.
func (a *Access) Vouch(who *token.Identity) (*Grant, error) {
	g := &Grant{User: who.User, Roles: who.Roles, Groups: who.Groups, Ends: who.Ends, clientID: who.ClientID,
		sameUser: who.SameUser}
	u := User{Name: g.User, Roles: g.Roles, Groups: g.Groups}
	if err := u.check(); err != nil { // it comes from elsewhere
		return nil, err
	}
	return g, nil
}

// Fits tells whether a client may show the token beside a user name; "": it gave none.
func (g *Grant) Fits(user string) bool { return user == g.User || user == "" || !g.sameUser }

// AdmitBy makes the pass of a connection that has shown a token, or that the service knows. Over tells if it may not be
// here.
func (a *Access) AdmitBy(who rule.Subject, g *Grant) *Pass {
	who.User = g.User
	p := &Pass{access: a, who: who}
	p.grant.Store(g)
	return p
}

// admitBy is AdmitBy where there may be no grant.
func (a *Access) admitBy(who rule.Subject, g *Grant) *Pass {
	if g == nil {
		return nil
	}
	return a.AdmitBy(who, g)
}

// Granted tells what a password gives besides the catalog: as a token, or by what the service says of a user whom the
// catalog has no password of. nil: the catalog knows whether it is good. Errors: ErrCredentials; Denied; those of the
// service.
func (a *Access) Granted(ctx context.Context, who rule.Subject, password []byte) (*Grant, error) {
	switch {
	case a.IsToken(password):
		g, err := a.Token(ctx, string(password))
		if err == nil && !g.Fits(who.User) {
			return nil, fault.New(fault.Denied, "access.Token", "%w: the token is not of the user that the client says",
				ErrCredentials)
		}
		return g, err
	case a.opt.Service == nil || who.User == "" || password == nil:
		return nil, nil
	}
	if u := a.user(who.User); u != nil && (u.Disabled || u.proves()) {
		return nil, nil
	}
	return a.byService(ctx, &who, password)
}

// Renew has another token take the place of the one that a pass was made by. Errors: Denied when it is somebody else's,
// or the pass is of none.
func (p *Pass) Renew(g *Grant) error {
	was := p.grant.Load()
	if was == nil || was.User != g.User {
		return errDenied("who authenticates again is somebody else")
	}
	p.grant.Store(g)
	return p.Over()
}

// Ends is when the connection has to end, unless it shows another token before; zero: never.
func (p *Pass) Ends() time.Time { return p.access.endsOf(p.grant.Load()) }

// endsOf is when a grant ends; zero: never.
func (a *Access) endsOf(g *Grant) time.Time {
	switch {
	case g == nil:
		return time.Time{}
	case g.delegation == "":
		return g.Ends
	}
	if d := a.delegation(g.delegation); d != nil { // it may have been given another end
		return d.Ends
	}
	return g.Ends
}

// rulesOf are the rules of a grant; those of none are none.
func (g *Grant) rulesOf() []rule.Rule {
	if g == nil {
		return nil
	}
	return g.rules
}

// past tells whether a time at which something ends has come; zero never does.
func (a *Access) past(ends time.Time) bool { return !ends.IsZero() && !a.opt.Clock().Before(ends) }

// ended is why a pass is over whose grant has ended.
func (g *Grant) ended() error {
	if g.service {
		return errServiceEnded
	}
	return errTokenEnded
}

// MayDelegate tells whether the pass is of somebody who may ask for delegation tokens: who it is was proven, and by no
// token of ours, whose end and whose scope another one would not have, nor by the service, whose rules it would not.
func (p *Pass) MayDelegate() bool {
	g := p.grant.Load()
	return p.Proven() && (g == nil || g.token == "" && g.delegation == "" && !g.service)
}

// errTokenEnded and errServiceEnded are why a pass is over whose grant has ended.
var (
	errTokenEnded   = errDenied("the token has ended")
	errServiceEnded = errDenied("the service let the user in until now")
)

// judgeGrant finds how a pass stands that a token or the service has made; u is its user in the catalog, or nil. Within
// is the token of the catalog whose scope limits it; nil: none does.
func (a *Access) judgeGrant(who *rule.Subject, g *Grant, u *User) (within *Token, err error) {
	t := a.token(g.token)
	if g.token != "" && (t == nil || u == nil) {
		return nil, errDenied("the token is revoked")
	}
	if g.delegation != "" && a.delegation(g.delegation) == nil {
		return nil, errDenied("the delegation token is no more")
	}
	who.Roles, who.Groups = g.Roles, g.Groups
	bound := User{Name: g.User, ClientID: g.clientID}
	if !bound.binds(who.ClientID) {
		return nil, errDenied("the token is not good for this client identifier")
	}
	switch {
	case u == nil:
		return nil, nil
	case u.Disabled:
		return nil, errDenied("the user is disabled")
	case g.service && u.proves():
		return nil, errDenied("the user has a password here by now, and the service is not asked about it")
	case !u.binds(who.ClientID):
		return nil, errDenied("the user may not have this client identifier")
	}
	who.Roles, who.Groups = slices.Concat(u.Roles, g.Roles), slices.Concat(u.Groups, g.Groups)
	if t != nil && len(t.Roles)+len(t.Rules) == 0 {
		t = nil
	}
	return t, nil
}
