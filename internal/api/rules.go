package api

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Rules is what the API asks of the rules of access.
type Rules interface {
	// EachRule visits the rules in any order, without those of the ready roles.
	EachRule(visit func(*rule.Rule))
	// Rule finds one by its id.
	Rule(id string) (rule.Rule, bool)
	// RulesOf lists those of a principal, and their entity tag; "": there are none.
	RulesOf(principal string) ([]rule.Rule, string)
	// AddRule adds one. Errors: Invalid, Limited; those of the log.
	AddRule(ctx context.Context, r rule.Rule) error
	// RemoveRule removes one by its id. Errors: NotFound; those of the log.
	RemoveRule(ctx context.Context, id string) error
	// SetRules makes rules be those of a principal. Errors: Invalid, Limited; those of only and of the log.
	SetRules(ctx context.Context, principal string, rules []rule.Rule, only Only) error
	// PrincipalsOf are those whose rules are about a user: itself, everybody, its roles and groups.
	PrincipalsOf(user string) []string
	// Explain answers who may do what, by what firth acl explain asks. Errors: Invalid.
	Explain(asked url.Values) (*Explained, error)
}

// NewRule is a rule of access.
type NewRule struct {
	Principal string `json:"principal" doc:"User:NAME, User:* for everybody, Role:NAME or Group:NAME"`
	RoleRule
}

// RoleRule is a rule without its principal.
type RoleRule struct {
	Effect     string   `json:"effect" enum:"allow,deny,mask"`
	Operations []string `json:"operations" doc:"as Kafka has them, in small letters; of a mask only read"`
	Kind       string   `json:"kind" enum:"topic,group,cluster,transactional_id,delegation_token,user"`
	Pattern    string   `json:"pattern" enum:"literal,prefixed,filter" doc:"filter: name is a topic filter of MQTT"`
	Name       string   `json:"name" doc:"* with literal: every one; kafka-cluster is the cluster"`
	Networks   []string `json:"networks,omitempty" doc:"only for who comes from one of these"`
	Listener   string   `json:"listener,omitempty" doc:"only for who comes by this one"`
	TLS        bool     `json:"tls,omitempty" doc:"only for who comes with TLS"`
	ClientID   string   `json:"client_id,omitempty" doc:"only for this one; with * at its end, those that begin so"`
	Masks      []string `json:"masks,omitempty" doc:"as key=hash, header:NAME=remove, json:PATH=truncate:4"`
}

// Rule is a rule with its id.
type Rule struct {
	ID   string `json:"id" doc:"rules that say the same have the same; a rule never changes"`
	Text string `json:"text" doc:"the rule for people"`
	NewRule
}

// Role is what a list says of a role.
type Role struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready" doc:"it is always there; more rules can be added to it"`
	Rules int    `json:"rules" doc:"how many it has, those that are always there among them"`
	Users int    `json:"users" doc:"how many users have it"`
}

// RoleDetail is a role with its rules.
type RoleDetail struct {
	Name  string `json:"name"`
	Ready []Rule `json:"ready" doc:"rules that are always there"`
	Rules []Rule `json:"rules" doc:"rules that were given to it"`
}

// RoleRules are the rules that a role is to have besides those that are always there.
type RoleRules struct {
	Rules []RoleRule `json:"rules"`
}

// Explained says whether somebody may do something, and why.
type Explained struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
	Rules   []Rule `json:"rules" doc:"those that deny it, or else those that allow it"`
	Masks   []Rule `json:"masks" doc:"those by which not all is shown of what may be read"`
}

// RulesAs are rules as the API has them.
func RulesAs(rules []rule.Rule) []Rule {
	all := make([]Rule, len(rules))
	for i := range rules {
		text, err := json.Marshal(&rules[i])
		if err == nil {
			err = json.Unmarshal(text, &all[i].NewRule)
		}
		if err == nil { // a rule always has a JSON form, which has these fields
			all[i].ID, all[i].Text = rules[i].ID(), rules[i].String()
		}
	}
	return all
}

// rule reads one. Errors: Invalid.
func (r *NewRule) rule() (made rule.Rule, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return made, fault.Wrap(fault.Internal, op, err)
	}
	return made, json.Unmarshal(text, &made)
}

// rulesOf reads those of a principal. Errors: Invalid.
func rulesOf(principal string, said []RoleRule) (rules []rule.Rule, err error) {
	for i := range said {
		r, err := (&NewRule{principal, said[i]}).rule()
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func ruleRoutes() []route {
	id := named("rule", "its id")
	role := named("role", "name of a role; / in it is %2F")
	return []route{
		{method: "GET", path: "/rules", id: "listRules", tag: "access", summary: "List rules of access", right: watching,
			text: "Masks are rules with the effect mask.", walks: true,
			params: append(listParams("principal", "text"), search("only those with this text in them"),
				only("principal", "only those of this principal"),
				only("user", "only those about this user: by its name, its roles, its groups, or for everybody"),
				param{name: "effect", kind: "string", values: []string{"allow", "deny", "mask"}, doc: "only those"},
				param{name: "kind", kind: "string", values: []string{"topic", "group", "cluster", "transactional_id",
					"delegation_token", "user"}, doc: "only those about such resources"},
				param{name: "ready", kind: "boolean", value: "false", doc: "true: those of the ready roles, too"}),
			answer: Page[Rule]{}, do: (*API).rules},
		{method: "POST", path: "/rules", id: "addRule", tag: "access", summary: "Add a rule of access", right: managing,
			text: "It is in force when this is answered, for connections that are there, too. One that is there stays.",
			body: NewRule{}, makes: true, answer: Rule{}, do: (*API).addRule},
		{method: "GET", path: "/rules/{rule}", id: "getRule", tag: "access", summary: "Show a rule of access",
			right: watching, params: []param{id}, answer: Rule{}, do: (*API).rule},
		{method: "DELETE", path: "/rules/{rule}", id: "removeRule", tag: "access", summary: "Remove a rule of access",
			text: "It takes no If-Match: the id says what the rule is.", right: managing, params: []param{id}, answer: Rule{},
			do: (*API).removeRule},
		{method: "GET", path: "/roles", id: "listRoles", tag: "access", summary: "List roles", right: watching,
			text:  "Those that are always there, and those that a rule or a user names.",
			walks: true, params: append(listParams("name", "users", "rules"), search("only those with this text in their name")),
			answer: Page[Role]{}, do: (*API).roles},
		{method: "GET", path: "/roles/{role}", id: "getRole", tag: "access", summary: "Show a role", right: watching,
			text: "GET /users?role=NAME lists who has it.", params: []param{role}, tagged: true, answer: RoleDetail{},
			do: (*API).role},
		{method: "PUT", path: "/roles/{role}", id: "setRole", tag: "access", summary: "Give a role its rules",
			text:  "In the place of those that it had; those that are always there stay.",
			right: managing, params: []param{role}, edits: true, makes: true, body: RoleRules{}, tagged: true,
			answer: RoleDetail{}, do: (*API).setRole},
		{method: "DELETE", path: "/roles/{role}", id: "removeRole", tag: "access", summary: "Remove the rules of a role",
			text:  "Those that are always there stay. Users that have the role keep it.",
			right: managing, params: []param{role}, edits: true, answer: RoleDetail{}, do: (*API).removeRole},
		{method: "GET", path: "/explain", id: "explain", tag: "access", right: watching,
			summary: "Whether somebody may do something, and by which rules",
			text: "Whoever asks about it, and whether it is there or not: the guard decides as it would decide for a " +
				"connection.",
			params: explainParams(), answer: Explained{},
			do: func(a *API, q *ask) (any, error) { return a.opt.Rules.Explain(q.values) }},
	}
}

func explainParams() []param {
	return []param{
		only("user", "who; without it who comes with what else is said"),
		only("operation", "what it does: read, write, describe; or publish, subscribe"),
		{name: "kind", kind: "string", value: "topic", doc: "to what kind of resource",
			values: []string{"topic", "group", "cluster", "transactional_id", "delegation_token", "user"}},
		{name: "pattern", kind: "string", value: "literal", values: []string{"literal", "prefixed", "filter"},
			doc: "what name is; filter: a topic name or filter of MQTT"},
		only("name", "name of the resource"), only("client", "its client identifier"),
		only("address", "its address"), only("listener", "by which listener it comes"),
		{name: "tls", kind: "boolean", value: "false", doc: "it comes with TLS"},
		{name: "cert", kind: "string", many: true, doc: "what its certificate says, as FIELD=VALUE"},
	}
}

func (a *API) rules(q *ask) (any, error) {
	p, err := newPager[rule.Rule](q)
	if err != nil {
		return nil, err
	}
	var about []string
	if user := q.text("user"); user != "" {
		about = a.opt.Rules.PrincipalsOf(user)
	}
	principal, effect, kind := q.text("principal"), q.text("effect"), q.text("kind")
	offer := func(r *rule.Rule) {
		text := r.String()
		if principal != "" && r.Principal != principal || effect != "" && r.Effect.String() != effect ||
			kind != "" && r.Resource.Kind.String() != kind || about != nil && !slices.Contains(about, r.Principal) ||
			!strings.Contains(text, q.text("search")) {
			return
		}
		at := place{Text: text, ID: r.ID()}
		if p.sort == "principal" {
			at.Text = r.Principal + "\x00" + text
		}
		p.offer(at, func() rule.Rule { return *r })
	}
	a.opt.Rules.EachRule(offer)
	if ready := rule.ReadyRules(); q.is("ready") {
		for i := range ready {
			offer(&ready[i])
		}
	}
	return page(p, func(r rule.Rule) Rule { return RulesAs([]rule.Rule{r})[0] }), nil
}

// ruleNamed finds a rule. Errors: NotFound.
func (a *API) ruleNamed(id string) (Rule, error) {
	if r, is := a.opt.Rules.Rule(id); is {
		return RulesAs([]rule.Rule{r})[0], nil
	}
	ready := rule.ReadyRules()
	if at := slices.IndexFunc(ready, func(r rule.Rule) bool { return r.ID() == id }); at >= 0 {
		return RulesAs(ready[at : at+1])[0], nil
	}
	return Rule{}, fault.New(fault.NotFound, "rule "+fault.Text(id), "there is no such rule").
		WithHint("GET %s/rules lists them", Path)
}

func (a *API) rule(q *ask) (any, error) { return a.ruleNamed(q.r.PathValue("rule")) }

func (a *API) addRule(q *ask) (any, error) {
	var said NewRule
	if err := q.read(&said); err != nil {
		return nil, err
	}
	r, err := said.rule()
	if err != nil {
		return nil, err
	}
	if err := a.opt.Rules.AddRule(q.r.Context(), r); err != nil {
		return nil, err
	}
	return reply{value: RulesAs([]rule.Rule{r})[0], made: true}, nil
}

func (a *API) removeRule(q *ask) (any, error) {
	was, err := a.ruleNamed(q.r.PathValue("rule"))
	if err != nil {
		return nil, err
	}
	return was, a.opt.Rules.RemoveRule(q.r.Context(), was.ID)
}

func (a *API) roles(q *ask) (any, error) {
	p, err := newPager[*Role](q)
	if err != nil {
		return nil, err
	}
	all := map[string]*Role{}
	roleOf := func(name string) *Role {
		if all[name] == nil {
			all[name] = &Role{Name: name}
		}
		return all[name]
	}
	for _, r := range rule.ReadyRules() {
		if name, is := strings.CutPrefix(r.Principal, rule.RolePrefix); is {
			role := roleOf(name)
			role.Ready = true
			role.Rules++
		}
	}
	a.opt.Rules.EachRule(func(r *rule.Rule) {
		if name, is := strings.CutPrefix(r.Principal, rule.RolePrefix); is {
			roleOf(name).Rules++
		}
	})
	a.opt.Users.EachUser(func(u *User) {
		for _, name := range u.Roles {
			roleOf(name).Users++
		}
	})
	for name, role := range all {
		if !strings.Contains(name, q.text("search")) {
			continue
		}
		at := place{ID: name}
		switch p.sort {
		case "users":
			at.Number = int64(role.Users)
		case "rules":
			at.Number = int64(role.Rules)
		}
		p.offer(at, func() *Role { return role })
	}
	return page(p, func(r *Role) Role { return *r }), nil
}

// roleNamed is a role, with the tag of what was given to it. One that nobody has heard of has no rules.
func (a *API) roleNamed(name string) (*RoleDetail, string) {
	d := &RoleDetail{Name: name, Ready: []Rule{}}
	for _, r := range rule.ReadyRules() {
		if r.Principal == rule.RolePrefix+name {
			d.Ready = append(d.Ready, RulesAs([]rule.Rule{r})...)
		}
	}
	rules, tag := a.opt.Rules.RulesOf(rule.RolePrefix + name)
	d.Rules = RulesAs(rules)
	return d, tag
}

func (a *API) role(q *ask) (any, error) {
	name := q.r.PathValue("role")
	d, tag := a.roleNamed(name)
	if len(d.Ready)+len(d.Rules) == 0 {
		return nil, fault.New(fault.NotFound, "role "+fault.Text(name), "there is no rule of such a role").
			WithHint("GET %s/roles lists them", Path)
	}
	return reply{value: d, tag: tag}, nil
}

func (a *API) setRole(q *ask) (any, error) {
	var said RoleRules
	if err := q.read(&said); err != nil {
		return nil, err
	}
	name := q.r.PathValue("role")
	rules, err := rulesOf(rule.RolePrefix+name, said.Rules)
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return nil, fault.New(fault.Invalid, op, "a role without a rule").
			WithHint("DELETE %s/roles/NAME takes its rules away", Path)
	}
	made := false
	err = a.opt.Rules.SetRules(q.r.Context(), rule.RolePrefix+name, rules, func(tag string) error {
		made = tag == ""
		return q.only(tag)
	})
	if err != nil {
		return nil, err
	}
	d, tag := a.roleNamed(name)
	return reply{value: d, tag: tag, made: made}, nil
}

func (a *API) removeRole(q *ask) (any, error) {
	name := q.r.PathValue("role")
	was, tag := a.roleNamed(name)
	if tag == "" {
		return nil, fault.New(fault.NotFound, "role "+fault.Text(name), "no rules were given to such a role").
			WithHint("those of a ready role are always there")
	}
	return was, a.opt.Rules.SetRules(q.r.Context(), rule.RolePrefix+name, nil, q.only)
}
