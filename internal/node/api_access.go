package node

import (
	"context"
	"net/url"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/api"
)

// apiUsers are those who may log in as the API has them. It implements api.Users.
type apiUsers struct{ n *Node }

func apiUser(u *access.User) api.User {
	return api.User{Name: u.Name, Roles: orEmpty(u.Roles), Groups: orEmpty(u.Groups), ClientID: u.ClientID,
		Disabled: u.Disabled, Proofs: orEmpty(u.Proofs())}
}

// orEmpty is a list that JSON shows as one, though it is nil.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// EachUser implements api.Users.
func (a apiUsers) EachUser(visit func(*api.User)) {
	var line api.User
	a.n.access.Catalog().EachUser(func(u *access.User) {
		line = apiUser(u)
		visit(&line)
	})
}

// User implements api.Users.
func (a apiUsers) User(name string) (*api.User, string) {
	u := a.n.access.Catalog().User(name)
	if u == nil {
		return nil, ""
	}
	line := apiUser(u)
	return &line, a.n.access.Catalog().UserTag(u)
}

func userChangeOf(name string, c *api.UserChange) access.UserChange {
	change := access.UserChange{Name: name, Generated: c.Generate, Roles: c.Roles, Groups: c.Groups, ClientID: c.ClientID,
		Disabled: c.Disabled}
	if c.Password != nil {
		change.Password = []byte(*c.Password)
	}
	return change
}

// AddUser implements api.Users.
func (a apiUsers) AddUser(ctx context.Context, name string, c *api.UserChange) error {
	return a.n.access.AddUser(ctx, userChangeOf(name, c))
}

// SetUser implements api.Users.
func (a apiUsers) SetUser(ctx context.Context, name string, c *api.UserChange, only api.Only) error {
	change := userChangeOf(name, c)
	change.Only = access.Only(only)
	return a.n.access.SetUser(ctx, change)
}

// RemoveUser implements api.Users.
func (a apiUsers) RemoveUser(ctx context.Context, name string, only api.Only) error {
	return a.n.access.RemoveUserOnly(ctx, name, access.Only(only))
}

// MakePassword implements api.Users.
func (a apiUsers) MakePassword() string { return verify.Nonce() }

// EachLogin implements api.Users.
func (a apiUsers) EachLogin(visit func(*api.Login)) {
	for _, l := range a.n.people.List("") {
		visit(&api.Login{ID: l.ID, User: l.User, Method: l.Method, Address: l.Address, Began: l.Began, Used: l.Used,
			Ends: l.Ends})
	}
}

// EndLogins implements api.Users.
func (a apiUsers) EndLogins(ctx context.Context, id, user string) (int, error) {
	q := url.Values{}
	if id != "" {
		q.Set("id", id)
	} else {
		q.Set("user", user)
	}
	return a.n.endLogins(ctx, q)
}

// apiRules are the rules of access as the API has them. It implements api.Rules.
type apiRules struct{ n *Node }

// EachRule implements api.Rules.
func (a apiRules) EachRule(visit func(*rule.Rule)) { a.n.access.Catalog().EachRule(visit) }

// Rule implements api.Rules.
func (a apiRules) Rule(id string) (rule.Rule, bool) { return a.n.access.Catalog().Rule(id) }

// RulesOf implements api.Rules.
func (a apiRules) RulesOf(principal string) ([]rule.Rule, string) {
	rules := a.n.access.Catalog().RulesOf(principal)
	return rules, access.RulesTag(rules)
}

// AddRule implements api.Rules.
func (a apiRules) AddRule(ctx context.Context, r rule.Rule) error {
	return a.n.access.Apply(ctx, &access.Change{Rules: []rule.Rule{r}})
}

// RemoveRule implements api.Rules.
func (a apiRules) RemoveRule(ctx context.Context, id string) error {
	return a.n.access.RemoveRules(ctx, id)
}

// SetRules implements api.Rules.
func (a apiRules) SetRules(ctx context.Context, principal string, rules []rule.Rule, only api.Only) error {
	return a.n.access.SetRules(ctx, principal, rules, access.Only(only))
}

// PrincipalsOf implements api.Rules.
func (a apiRules) PrincipalsOf(user string) []string {
	all := []string{rule.UserPrefix + user, rule.Everybody}
	u := a.n.access.Catalog().User(user)
	if u == nil {
		return all
	}
	for _, name := range u.Roles {
		all = append(all, rule.RolePrefix+name)
	}
	for _, name := range u.Groups {
		all = append(all, rule.GroupPrefix+name)
	}
	return all
}

// Explain implements api.Rules.
func (a apiRules) Explain(asked url.Values) (*api.Explained, error) {
	answer, reason, err := a.n.explain(asked)
	if err != nil {
		return nil, err
	}
	return &api.Explained{Allowed: answer.Allowed, Reason: reason, Rules: api.RulesAs(answer.Rules),
		Masks: api.RulesAs(answer.Masks)}, nil
}
