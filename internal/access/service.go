package access

import (
	"context"

	"github.com/firthmq/firth/internal/access/hook"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Service knows users. *hook.Service is one.
type Service interface {
	// Ask tells who somebody is. It may wait until ctx ends. Errors: Unavailable, Limited, Timeout; nobody is let in then.
	Ask(ctx context.Context, who hook.Login) (hook.Answer, error)
}

// byService asks the service about a user whom the catalog has no password of. nil: it does not know the user either.
// Who failed before waits. Errors: ErrCredentials; Denied for an answer with names that no role or group has; those of
// the service, and that of ctx when it ends.
func (a *Access) byService(ctx context.Context, who *rule.Subject, password []byte) (*Grant, error) {
	u := User{Name: who.User}
	if u.check() != nil { // nobody can be called so
		return nil, ErrCredentials
	}
	if err := a.passwords.Hold(ctx, who.User, who.Address); err != nil {
		return nil, err
	}
	said, err := a.opt.Service.Ask(ctx, hook.Login{
		User: who.User, Password: password, ClientID: who.ClientID, Protocol: who.Protocol, Listener: who.Listener,
		Address: who.Address, Encrypted: who.Encrypted, CommonName: who.CommonName,
	})
	if err != nil {
		return nil, err
	}
	switch said.Result {
	case hook.Allow:
	case hook.Deny:
		a.passwords.Settle(who.User, who.Address, false)
		return nil, ErrCredentials
	default:
		return nil, nil
	}
	a.passwords.Settle(who.User, who.Address, true)
	u.Roles, u.Groups = said.Roles, said.Groups
	if err := u.check(); err != nil {
		return nil, fault.New(fault.Denied, "access.http", "what the service says of the user: %w", err)
	}
	return &Grant{User: u.Name, Roles: u.Roles, Groups: u.Groups, Ends: said.Ends, rules: said.Rules, service: true}, nil
}

// proves tells whether the catalog has what proves who a user is by a password.
func (u *User) proves() bool { return u.Verifiers.OfPassword() != "" }
