package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Token is one by which a program acts as its owner, within a scope. It is not changed once it is in the catalog.
type Token struct {
	ID        string
	Name      string // for people
	Owner     string // a user
	Verifiers credential.Verifiers
	Issued    time.Time
	Ends      time.Time // zero: never
	// Roles and Rules are the scope: what none of them allows the token is not good for, nor what the owner may not do.
	// None: all that the owner may do. The principals of the rules mean nothing.
	Roles []string
	Rules []rule.Rule
}

// storedToken is a token as JSON in the catalog. Times are milliseconds since 1970.
type storedToken struct {
	Name     string      `json:"name,omitempty"`
	Owner    string      `json:"owner"`
	Password string      `json:"password,omitempty"`
	Issued   int64       `json:"issued"`
	Ends     int64       `json:"ends,omitempty"`
	Roles    []string    `json:"roles,omitempty"`
	Rules    []rule.Rule `json:"rules,omitempty"`
}

func (t *Token) value() ([]byte, error) {
	s := storedToken{Name: t.Name, Owner: t.Owner, Password: t.Verifiers.Password.Text(), Issued: t.Issued.UnixMilli(),
		Roles: t.Roles, Rules: t.Rules}
	if !t.Ends.IsZero() {
		s.Ends = t.Ends.UnixMilli()
	}
	text, err := json.Marshal(s)
	return text, fault.Wrap(fault.Internal, "access.Token", err)
}

// parseToken reads a token of the catalog. Errors: Corrupt, Invalid.
func parseToken(id string, value []byte) (*Token, error) {
	var s storedToken
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fault.Wrap(fault.Corrupt, "access.Token", err)
	}
	t := &Token{ID: id, Name: s.Name, Owner: s.Owner, Issued: time.UnixMilli(s.Issued), Roles: s.Roles, Rules: s.Rules}
	if s.Ends != 0 {
		t.Ends = time.UnixMilli(s.Ends)
	}
	var err error
	t.Verifiers.Password, err = credential.ParsePassword(s.Password)
	if err != nil {
		return nil, err
	}
	return t, t.check()
}

// maxScope is how many rules a token may have; maxTokens how many tokens there may be.
const (
	maxScope  = 100
	maxTokens = 100_000
)

// check tells what is wrong with a token, and sorts its roles. Errors: Invalid.
func (t *Token) check() (err error) {
	if err := checkName("user", t.Owner); err != nil {
		return err
	}
	if t.Roles, err = checkNames("role", t.Roles); err != nil {
		return err
	}
	if len(t.Name) > maxName || len(t.Rules) > maxScope {
		return fault.New(fault.Invalid, "access.Token", "a name of %d bytes and %d rules: at most %d and %d", len(t.Name),
			len(t.Rules), maxName, maxScope)
	}
	for i := range t.Rules {
		if err := t.Rules[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// CreateToken makes a token of a user: what it is to be good for is said, the rest is made. The text of it is told this
// once. Errors: NotFound when there is no such user; those of Apply.
func (a *Access) CreateToken(ctx context.Context, said Token) (text string, made *Token, err error) {
	chance := make([]byte, 0, credential.ProgramChance)
	for len(chance) < cap(chance) {
		var b [credential.ProgramChance]byte
		rand.Read(b[:]) // never fails
		for _, c := range b {
			if c < 248 && len(chance) < cap(chance) { // as many of each of 62
				chance = append(chance, c)
			}
		}
	}
	text, said.ID = credential.NewProgramToken(chance)
	if said.Verifiers.Password, err = credential.HashSecret([]byte(text), verify.Salt()); err != nil {
		return "", nil, err
	}
	said.Issued = a.opt.Clock()
	if !said.Ends.IsZero() && !said.Issued.Before(said.Ends) {
		return "", nil, fault.New(fault.Invalid, "access.Token", "it has ended before it begins")
	}
	err = a.Edit(ctx, func(all *Catalog) (*Change, error) {
		if err := found(all.User(said.Owner), said.Owner); err != nil {
			return nil, err
		}
		return &Change{Tokens: []*Token{&said}}, nil
	})
	return text, &said, err
}

// RevokeToken ends a token of a program, or a delegation token, and its connections. Errors: NotFound; those of Apply.
func (a *Access) RevokeToken(ctx context.Context, id string) error {
	return a.Edit(ctx, func(*Catalog) (*Change, error) {
		switch {
		case a.token(id) != nil:
			return &Change{Revoked: []string{id}}, nil
		case a.delegation(id) != nil:
			return &Change{Undelegated: []string{id}}, nil
		}
		return nil, fault.New(fault.NotFound, "access", "there is no token %s", fault.Text(id)).
			WithHint("firth token list shows the tokens and their ids")
	})
}

// token finds a token; nil: there is none.
func (a *Access) token(id string) *Token {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.mu.tokens[id]
}

// Tokens lists the tokens, those of one owner together, the oldest first.
func (c *Catalog) Tokens() []*Token {
	c.a.mu.RLock()
	defer c.a.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.a.mu.tokens), func(x, y *Token) int {
		return cmp.Or(cmp.Compare(x.Owner, y.Owner), x.Issued.Compare(y.Issued), cmp.Compare(x.ID, y.ID))
	})
}

// tokensOf are the ids of the tokens of a user.
func (a *Access) tokensOf(owner string) (ids []string) {
	for _, t := range a.Catalog().Tokens() {
		if t.Owner == owner {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// byProgram judges the token of a program, and tells what it gives. Errors: Denied; they do not tell whether there is
// such a token.
func (a *Access) byProgram(raw string) (*Grant, error) {
	id, _ := credential.ProgramTokenID(raw)
	t := a.token(id)
	if t == nil || !t.Verifiers.Password.Verify([]byte(raw)) {
		return nil, errDenied("it is no token that is known here")
	}
	if !t.Ends.IsZero() && !a.opt.Clock().Before(t.Ends) {
		return nil, errTokenEnded
	}
	return &Grant{User: t.Owner, Ends: t.Ends, token: t.ID}, nil
}
