package access

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kit/fault"
)

// UserChange is what is to become of a user; a nil field stays as it is.
type UserChange struct {
	Name     string
	Password []byte // for every way to log in with one
	// Generated says that a machine made the password of at least 128 bits of chance. Nobody can guess it, so that it
	// needs no slow hash: a fleet with such passwords is let in at once, also after a restart.
	Generated bool
	Roles     *[]string
	Groups    *[]string
	ClientID  *string
	Disabled  *bool
	// Only is asked of SetUser alone.
	Only Only
}

// Only judges, before something is changed, whether what is there is what was meant, by its tag; "": nothing is there.
// Nobody else changes anything meanwhile. nil: whatever is there is.
type Only func(tag string) error

func (o Only) judge(tag string) error {
	if o == nil {
		return nil
	}
	return o(tag)
}

// AddUser makes a user. Errors: Exists; those of Apply.
func (a *Access) AddUser(ctx context.Context, c UserChange) error {
	return a.setUser(ctx, c, func(u *User) error {
		if u != nil {
			return fault.New(fault.Exists, "access.AddUser", "there is a user %s", fault.Text(c.Name))
		}
		return nil
	})
}

// EnsureUser makes a user without a password, for who proves it otherwise. One that is there stays as it is. Errors:
// those of Apply.
func (a *Access) EnsureUser(ctx context.Context, name string, roles []string, clientID string) error {
	return a.Edit(ctx, func(all *Catalog) (*Change, error) {
		if all.User(name) != nil {
			return nil, nil
		}
		return &Change{Users: []*User{{Name: name, Roles: roles, ClientID: clientID}}}, nil
	})
}

// SetUser changes a user. Errors: NotFound; those of Only and Apply.
func (a *Access) SetUser(ctx context.Context, c UserChange) error {
	return a.setUser(ctx, c, func(u *User) error {
		if err := found(u, c.Name); err != nil {
			return err
		}
		return c.Only.judge(a.userTag(u))
	})
}

func (a *Access) setUser(ctx context.Context, c UserChange, check func(*User) error) error {
	if err := checkName("user", c.Name); err != nil {
		return err
	}
	var made credential.Verifiers
	if c.Password != nil { // before anybody has to wait for it
		var err error
		if made, err = a.verifiers(ctx, c.Password, c.Generated); err != nil {
			return err
		}
	}
	return a.Edit(ctx, func(all *Catalog) (*Change, error) {
		was := all.User(c.Name)
		if err := check(was); err != nil {
			return nil, err
		}
		u := User{Name: c.Name}
		if was != nil {
			u = *was
		}
		if c.Password != nil {
			u.Verifiers = made
		}
		setTo(&u.Roles, c.Roles)
		setTo(&u.Groups, c.Groups)
		setTo(&u.ClientID, c.ClientID)
		setTo(&u.Disabled, c.Disabled)
		return &Change{Users: []*User{&u}}, nil
	})
}

func setTo[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func found(u *User, name string) error {
	if u == nil {
		return fault.New(fault.NotFound, "access", "there is no user %s", fault.Text(name)).
			WithHint("firth user list shows who is there")
	}
	return nil
}

// verifiers makes every verifier of a password, so that any client may use it.
func (a *Access) verifiers(
	ctx context.Context, password []byte, generated bool,
) (v credential.Verifiers, err error) {
	if generated {
		v.Password, err = credential.HashSecret(password, verify.Salt())
	} else {
		v.Password, err = a.passwords.Hash(ctx, password)
	}
	if err != nil {
		return v, err
	}
	for _, m := range credential.Mechanisms() {
		s, err := verify.NewSCRAM(m, password)
		if err != nil {
			return v, err
		}
		v.Put(s)
	}
	return v, nil
}

// RemoveUser removes a user; rules about it stay. Errors: NotFound; those of Apply.
func (a *Access) RemoveUser(ctx context.Context, name string) error {
	return a.RemoveUserOnly(ctx, name, nil)
}

// RemoveUserOnly is RemoveUser of who is as it was meant. Errors: those of only, too.
func (a *Access) RemoveUserOnly(ctx context.Context, name string, only Only) error {
	return a.Edit(ctx, func(all *Catalog) (*Change, error) {
		u := all.User(name)
		if err := found(u, name); err != nil {
			return nil, err
		}
		if err := only.judge(a.userTag(u)); err != nil {
			return nil, err
		}
		return &Change{Leave: []string{name}}, nil
	})
}

// SetRules makes rules be those of a principal, and no others. Whatever principal they name is replaced by it. Errors:
// those of only and Apply.
func (a *Access) SetRules(ctx context.Context, principal string, rules []rule.Rule, only Only) error {
	if err := rule.CheckPrincipal(principal); err != nil {
		return err
	}
	return a.Edit(ctx, func(all *Catalog) (*Change, error) {
		was := all.RulesOf(principal)
		if err := only.judge(RulesTag(was)); err != nil {
			return nil, err
		}
		c, stay := &Change{}, map[string]bool{}
		for _, r := range rules {
			r.Principal = principal
			if id := r.ID(); !stay[id] {
				stay[id] = true
				c.Rules = append(c.Rules, r)
			}
		}
		for i := range was {
			if id := was[i].ID(); !stay[id] {
				c.Removed = append(c.Removed, id)
			}
		}
		return c, nil
	})
}

// RemoveRules removes rules by their ids. Errors: NotFound, and none is removed; those of Apply.
func (a *Access) RemoveRules(ctx context.Context, ids ...string) error {
	return a.Edit(ctx, func(all *Catalog) (*Change, error) {
		missing := slices.IndexFunc(ids, func(id string) bool {
			_, is := all.Rule(id)
			return !is
		})
		if missing >= 0 {
			return nil, fault.New(fault.NotFound, "access", "there is no rule %s", fault.Text(ids[missing])).
				WithHint("firth acl list shows the rules and their ids")
		}
		return &Change{Removed: ids}, nil
	})
}

// Passwords checks passwords and the other proofs of users.
func (a *Access) Passwords() *verify.Logins { return a.passwords }

// Lookup implements verify.Users: the verifiers of a user who may log in.
func (a *Access) Lookup(name string) (*credential.Verifiers, bool) {
	u := a.user(name)
	if u == nil || u.Disabled {
		return nil, false
	}
	return &u.Verifiers, true
}

// Asked tells whether somebody has asked for users or rules, so that not everybody may do everything.
func (a *Access) Asked() bool { return !a.open() }
