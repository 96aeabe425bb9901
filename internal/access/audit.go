package access

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
)

// By is a connection as the audit has it: who it is of, and where it comes from.
func By(who *rule.Subject) audit.By {
	by := audit.By{Actor: chain.Actor{Roles: who.Roles, CN: who.CommonName},
		Origin: chain.Origin{Listener: who.Listener, Client: who.ClientID, TLS: who.Encrypted}}
	if who.User != "" {
		by.Actor.Principal = rule.UserPrefix + who.User
	}
	if who.Address.IsValid() {
		by.Origin.Address = who.Address.Unmap().String()
	}
	return by
}

// By is who the pass is for as the audit has it, with the roles of now.
func (p *Pass) By() audit.By {
	who := p.who
	if u := p.access.user(who.User); u != nil {
		who.Roles = u.Roles
	}
	by := By(&who)
	if g := p.grant.Load(); g != nil {
		by.Actor.Token = cmp.Or(g.token, g.delegation)
	}
	return by
}

// Method is what has said who it is besides the catalog: "certificate", "token" or, for the service, "http"; "" where
// none of them has.
func (p *Pass) Method() string {
	g := p.grant.Load()
	switch {
	case p.certified:
		return "certificate"
	case g == nil:
		return ""
	case g.service:
		return "http"
	}
	return "token"
}

// userState is a user as the audit has it: never what proves who it is.
type userState struct {
	Name     string   `json:"user"`
	Roles    []string `json:"roles,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
	Proofs   []string `json:"proofs,omitempty"`
	Changed  bool     `json:"proofs_changed,omitempty"` // it gets another password
}

// ruleState is a rule as the audit has it.
type ruleState struct {
	ID   string    `json:"id"`
	Rule rule.Rule `json:"rule"`
}

func stateOf(u *User) userState {
	return userState{Name: u.Name, Roles: u.Roles, Groups: u.Groups, ClientID: u.ClientID, Disabled: u.Disabled,
		Proofs: u.Proofs()}
}

// Proofs names what proves who a user is: password, SCRAM-SHA-256, SCRAM-SHA-512.
func (u *User) Proofs() (names []string) {
	if !u.Verifiers.Password.IsZero() {
		names = append(names, "password")
	}
	for _, m := range credential.Mechanisms() {
		if s := u.Verifiers.SCRAM(m); !s.IsZero() {
			names = append(names, m.String())
		}
	}
	return names
}

// item is one user, rule or token that changes.
type item struct {
	resource      chain.Resource
	action        string
	before, after any // nil: it is not there
}

// items are what changes; a rule that is there already does not. Nobody else changes anything meanwhile.
func (a *Access) items(c *Change) (all []item) {
	user := func(name string) chain.Resource { return chain.Resource{Kind: "user", Name: name} }
	for _, u := range c.Users {
		after := stateOf(u)
		it := item{resource: user(u.Name), action: "user.add"}
		if was := a.user(u.Name); was != nil {
			it.action, it.before = "user.set", stateOf(was)
			after.Changed = was.proof() != u.proof()
		}
		it.after = after
		all = append(all, it)
	}
	for _, name := range c.Leave {
		if was := a.user(name); was != nil {
			all = append(all, item{resource: user(name), action: "user.remove", before: stateOf(was)})
		}
	}
	for i := range c.Rules {
		id := c.Rules[i].ID()
		if _, is := a.Catalog().Rule(id); !is && !slices.Contains(c.Removed, id) {
			all = append(all, item{resource: chain.Resource{Kind: "rule", Name: id}, action: "rule.add",
				after: ruleState{id, c.Rules[i]}})
		}
	}
	for _, id := range c.Removed {
		if was, is := a.Catalog().Rule(id); is {
			all = append(all, item{resource: chain.Resource{Kind: "rule", Name: id}, action: "rule.remove",
				before: ruleState{id, was}})
		}
	}
	return slices.Concat(all, a.tokenItems(c), a.delegationItems(c))
}

// tokenState is a token as the audit has it.
type tokenState struct {
	ID    string      `json:"id"`
	Owner string      `json:"owner"`
	Name  string      `json:"name,omitempty"`
	Ends  *time.Time  `json:"ends,omitempty"`
	Roles []string    `json:"roles,omitempty"`
	Rules []rule.Rule `json:"rules,omitempty"`
}

func tokenStateOf(t *Token) tokenState {
	s := tokenState{ID: t.ID, Owner: t.Owner, Name: t.Name, Roles: t.Roles, Rules: t.Rules}
	if !t.Ends.IsZero() {
		ends := t.Ends.UTC()
		s.Ends = &ends
	}
	return s
}

// tokenItems are the tokens that change.
func (a *Access) tokenItems(c *Change) (all []item) {
	token := func(id string) chain.Resource { return chain.Resource{Kind: "token", Name: id} }
	for _, t := range c.Tokens {
		it := item{resource: token(t.ID), action: "token.create", after: tokenStateOf(t)}
		if was := a.token(t.ID); was != nil {
			it.action, it.before = "token.set", tokenStateOf(was)
		}
		all = append(all, it)
	}
	for _, id := range c.Revoked {
		if was := a.token(id); was != nil {
			all = append(all, item{resource: token(id), action: "token.revoke", before: tokenStateOf(was)})
		}
	}
	return all
}

// delegationState is a delegation token as the audit has it.
type delegationState struct {
	ID        string    `json:"id"`
	Owner     string    `json:"owner"`
	Requester string    `json:"requester"`
	Renewers  []string  `json:"renewers,omitempty"`
	Ends      time.Time `json:"ends"`
	Last      time.Time `json:"last"`
}

func delegationStateOf(d *Delegation) delegationState {
	return delegationState{ID: d.ID, Owner: d.Owner, Requester: d.Requester, Renewers: d.Renewers, Ends: d.Ends.UTC(),
		Last: d.Last.UTC()}
}

// delegationItems are the delegation tokens that change.
func (a *Access) delegationItems(c *Change) (all []item) {
	token := func(id string) chain.Resource { return chain.Resource{Kind: rule.DelegationToken.String(), Name: id} }
	for _, id := range c.Undelegated {
		if was := a.delegation(id); was != nil {
			all = append(all, item{resource: token(id), action: "delegation.remove", before: delegationStateOf(was)})
		}
	}
	for _, d := range c.Delegations {
		it := item{resource: token(d.ID), action: "delegation.create", after: delegationStateOf(d)}
		if was := a.delegation(d.ID); was != nil {
			it.action, it.before = "delegation.set", delegationStateOf(was)
		}
		all = append(all, it)
	}
	return all
}

// mostItems is how many users, rules and tokens one record of the audit tells of.
const mostItems = 64

// audited makes a change that the audit has been told of.
func (a *Access) audited(ctx context.Context, c *Change, do func() error) error {
	if a.opt.Audit == nil {
		return do()
	}
	for piece := range slices.Chunk(a.items(c), mostItems) {
		e := chain.Event{Action: piece[0].action, Resource: piece[0].resource}
		var before, after []any
		for i := range piece {
			if i > 0 {
				e.Also = append(e.Also, piece[i].resource)
			}
			if piece[i].before != nil {
				before = append(before, piece[i].before)
			}
			if piece[i].after != nil {
				after = append(after, piece[i].after)
			}
			if piece[i].action != e.Action {
				e.Action = "access.change" // of several kinds
			}
		}
		e.Before, e.After = audit.State(before), audit.State(after)
		inner := do
		do = func() error { return a.opt.Audit.Change(ctx, e, inner) }
	}
	return do()
}
