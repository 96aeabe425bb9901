package access

import (
	"context"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Import takes users with verifiers of their passwords, and rules, over from elsewhere: all or none. With replace a
// user who is there already gets the other password and stays as it is besides. Errors: Exists; those of Apply.
func (a *Access) Import(
	ctx context.Context, passwords map[string]credential.Password, rules []rule.Rule, replace bool,
) error {
	return a.Edit(ctx, func(all *Catalog) (*Change, error) {
		c := &Change{Rules: rules}
		for name, p := range passwords {
			u := User{Name: name}
			switch was := all.User(name); {
			case was != nil && !replace:
				return nil, fault.New(fault.Exists, "access.Import", "there is a user %s", fault.Text(name)).
					WithHint("--replace gives users who are there the passwords of the file")
			case was != nil:
				u = *was
			}
			u.Verifiers = credential.Verifiers{Password: p}
			c.Users = append(c.Users, &u)
		}
		return c, nil
	})
}
