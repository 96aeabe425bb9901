package access

import (
	"context"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Names lists the users in the order of their names.
func (a *Access) Names() []string {
	users := a.Catalog().Users()
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = u.Name
	}
	return names
}

// AlterSCRAM sets and removes verifiers of SCRAM of a user (KIP-554). A user who is not there is made. One that gets a
// verifier has the password of it from then on for all ways to log in, and no longer the one before; one that has
// neither a verifier left nor a role is removed. Errors: NotFound when one that is to be removed is not there; those of
// Apply.
func (a *Access) AlterSCRAM(
	ctx context.Context, name string, set []credential.SCRAM, remove []credential.Mechanism,
) error {
	return a.Edit(ctx, func(all *Catalog) (*Change, error) {
		u := User{Name: name}
		if was := all.User(name); was != nil {
			u = *was
		}
		for _, m := range remove {
			if u.Verifiers.SCRAM(m).IsZero() {
				return nil, fault.New(fault.NotFound, "access.AlterSCRAM", "the user %s has no verifier of %s",
					fault.Text(name), m)
			}
			u.Verifiers.Remove(m)
		}
		for _, s := range set {
			if !u.Verifiers.Password.IsZero() { // the others are of the password before
				u.Verifiers = credential.Verifiers{}
			}
			u.Verifiers.Put(s)
		}
		if u.Verifiers.OfPassword() == "" && len(u.Roles) == 0 {
			return &Change{Leave: []string{name}}, nil
		}
		return &Change{Users: []*User{&u}}, nil
	})
}
