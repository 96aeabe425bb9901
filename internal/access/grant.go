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

// Grant is what a token that was good gives. It does not change.
type Grant struct {
	User          string
	Roles, Groups []string  // besides those that the user has in the catalog
	Ends          time.Time // when its connections end; zero: never
	clientID      string    // which client identifiers it is good for, as User.ClientID has it
	token         string    // the id of a token of the catalog, which has to be there; "": it is none of those
	delegation    string    // the id of a delegation token, which has to be there; "": it is none
	sameUser      bool      // a user name that a client gives besides has to be the user's
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

// AdmitBy makes the pass of a connection that has shown a token. Over tells if it may not be here.
func (a *Access) AdmitBy(who rule.Subject, g *Grant) *Pass {
	who.User = g.User
	p := &Pass{access: a, who: who}
	p.grant.Store(g)
	return p
}

// byToken lets in who gives a token for a password. Errors: ErrCredentials.
func (a *Access) byToken(ctx context.Context, who rule.Subject, password []byte) (*Pass, error) {
	g, err := a.Token(ctx, string(password))
	if err != nil {
		return nil, err
	}
	if !g.Fits(who.User) {
		return nil, fault.New(fault.Denied, "access.Token", "%w: the token is not of the user that the client says",
			ErrCredentials)
	}
	return a.AdmitBy(who, g), nil
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
func (p *Pass) Ends() time.Time {
	g := p.grant.Load()
	switch {
	case g == nil:
		return time.Time{}
	case g.delegation == "":
		return g.Ends
	}
	if d := p.access.delegation(g.delegation); d != nil { // it may have been given another end
		return d.Ends
	}
	return g.Ends
}

// ended tells whether the token of a pass has.
func (p *Pass) ended() bool {
	ends := p.Ends()
	return !ends.IsZero() && !p.access.opt.Clock().Before(ends)
}

// MayDelegate tells whether the pass is of somebody who may ask for delegation tokens: who it is was proven, and by no
// token of ours, whose end and whose scope another one would not have.
func (p *Pass) MayDelegate() bool {
	g := p.grant.Load()
	return p.Proven() && (g == nil || g.token == "" && g.delegation == "")
}

// errTokenEnded is why a pass is over whose token has ended.
var errTokenEnded = errDenied("the token has ended")

// judgeGrant finds how a pass stands that a token has made; u is its user in the catalog, or nil. Within is the token
// of the catalog whose scope limits it; nil: none does.
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
	if u == nil {
		return nil, nil
	}
	if u.Disabled {
		return nil, errDenied("the user is disabled")
	}
	if !u.binds(who.ClientID) {
		return nil, errDenied("the user may not have this client identifier")
	}
	who.Roles, who.Groups = slices.Concat(u.Roles, g.Roles), slices.Concat(u.Groups, g.Groups)
	if t != nil && len(t.Roles)+len(t.Rules) == 0 {
		t = nil
	}
	return t, nil
}
