package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// userLine is a user as people see it: never what proves who it is.
type userLine struct {
	Name     string   `json:"name"`
	Roles    []string `json:"roles"`
	Groups   []string `json:"groups,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
	Proofs   []string `json:"proofs"` // password, SCRAM-SHA-256, SCRAM-SHA-512
}

func lineOf(u *access.User) userLine {
	line := userLine{Name: u.Name, Roles: u.Roles, Groups: u.Groups, ClientID: u.ClientID, Disabled: u.Disabled,
		Proofs: u.Proofs()}
	if line.Roles == nil {
		line.Roles = []string{}
	}
	return line
}

func (n *Node) adminUsers(*http.Request) (any, error) {
	lines := []userLine{}
	for _, u := range n.access.Catalog().Users() {
		lines = append(lines, lineOf(u))
	}
	return lines, nil
}

// maxAdminBody bounds what a change says, in bytes.
const maxAdminBody = 4 << 20

// body reads what a request says. Errors: Invalid.
func body(r *http.Request, into any) error {
	read := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxAdminBody))
	read.DisallowUnknownFields()
	err := read.Decode(into)
	if _, is := errors.AsType[*fault.Error](err); err != nil && !is {
		err = fault.New(fault.Invalid, "admin", "the request is not understood: %w", err)
	}
	return err
}

// userChange is what a request says of a user.
type userChange struct {
	Name      string    `json:"name"`
	Password  *string   `json:"password,omitempty"`
	Generated bool      `json:"generated,omitempty"`
	Roles     *[]string `json:"roles,omitempty"`
	Groups    *[]string `json:"groups,omitempty"`
	ClientID  *string   `json:"client_id,omitempty"`
	Disabled  *bool     `json:"disabled,omitempty"`
}

// adminSetUser makes a user, with new=true, or changes what is said of one.
func (n *Node) adminSetUser(r *http.Request) (any, error) {
	var said userChange
	if err := body(r, &said); err != nil {
		return nil, err
	}
	c := access.UserChange{Name: said.Name, Generated: said.Generated, Roles: said.Roles, Groups: said.Groups,
		ClientID: said.ClientID, Disabled: said.Disabled}
	if said.Password != nil {
		c.Password = []byte(*said.Password)
	}
	set := n.access.SetUser
	if r.URL.Query().Get("new") == "true" {
		set = n.access.AddUser
	}
	if err := set(r.Context(), c); err != nil {
		return nil, err
	}
	return lineOf(n.access.Catalog().User(said.Name)), nil
}

func (n *Node) adminRemoveUser(r *http.Request) (any, error) {
	name := r.URL.Query().Get("name")
	return userLine{Name: name}, n.access.RemoveUser(r.Context(), name)
}

// ruleLine is a rule with its id.
type ruleLine struct {
	ID   string    `json:"id"`
	Rule rule.Rule `json:"rule"`
	Text string    `json:"text"`
}

func linesOf(rules []rule.Rule) []ruleLine {
	lines := make([]ruleLine, len(rules))
	for i := range rules {
		lines[i] = ruleLine{ID: rules[i].ID(), Rule: rules[i], Text: rules[i].String()}
	}
	return lines
}

func (n *Node) adminRules(*http.Request) (any, error) {
	return linesOf(n.access.Catalog().Rules()), nil
}

func (n *Node) adminRoles(*http.Request) (any, error) {
	return linesOf(append(rule.ReadyRules(), n.access.Catalog().Rules()...)), nil
}

func (n *Node) adminAddRules(r *http.Request) (any, error) {
	var rules []rule.Rule
	if err := body(r, &rules); err != nil {
		return nil, err
	}
	if err := n.access.Apply(r.Context(), &access.Change{Rules: rules}); err != nil {
		return nil, err
	}
	return linesOf(rules), nil
}

func (n *Node) adminRemoveRules(r *http.Request) (any, error) {
	ids := r.URL.Query()["id"]
	return ids, n.access.RemoveRules(r.Context(), ids...)
}

// explained is the answer to who may do what.
type explained struct {
	Allowed bool       `json:"allowed"`
	Rules   []ruleLine `json:"rules"`
	Masks   []ruleLine `json:"masks,omitempty"` // by which not all is shown of what may be read
	Reason  string     `json:"reason"`
}

// certificateFields are what a certificate says, that somebody asks about.
type certificateFields map[string]string

// Value implements rule.Certificate.
func (f certificateFields) Value(field string) string { return f[field] }

// presents gives a subject a certificate with some fields, each as "name=value". Errors: Invalid.
func presents(who *rule.Subject, fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	all := certificateFields{}
	for _, text := range fields {
		name, value, _ := strings.Cut(text, "=")
		if _, known := who.OfCertificate(name); !known || value == "" {
			return fault.New(fault.Invalid, "admin", "cert=%s is no field of a certificate with a value", fault.Text(text)).
				WithHint("there are cn=, %s=", strings.Join(rule.CertificateFields[:], "=, "))
		}
		all[name] = value
	}
	who.CommonName, who.Certificate, who.Encrypted = all["cn"], all, true
	return nil
}

// adminExplain says whether a user may do an operation to a resource, and by which rules.
func (n *Node) adminExplain(r *http.Request) (any, error) {
	answer, reason, err := n.explain(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return explained{Allowed: answer.Allowed, Rules: linesOf(answer.Rules), Masks: linesOf(answer.Masks),
		Reason: reason}, nil
}

// explain decides what a query asks, by what rules, and says so for people. Errors: Invalid.
func (n *Node) explain(q url.Values) (answer rule.Answer, reason string, err error) {
	asked, err := questionOf(q)
	if err != nil {
		return answer, "", err
	}
	who, err := subjectOf(q)
	if err != nil {
		return answer, "", err
	}
	if q.Get("user") == "" {
		name, err := n.access.NamedBy(who)
		if err != nil {
			return answer, err.Error(), nil //nolint:nilerr // it is what was asked
		}
		who.User = cmp.Or(name, who.User)
	}
	answer, reason = n.access.Explain(who, asked), "by these rules"
	switch {
	case !n.access.Asked():
		reason = "there are neither users nor rules: everybody may do everything"
	case len(answer.Rules) == 0:
		reason = "no rule allows it"
	}
	if !answer.Allowed && n.access.TriesOut() {
		reason += "; rules are only tried out now (access.mode)"
	}
	return answer, reason, nil
}

// questionOf is what a query asks about. Errors: Invalid.
func questionOf(q url.Values) (asked rule.Question, err error) {
	if asked.Operation, err = rule.ParseOperation(q.Get("operation")); err != nil {
		return asked, err
	}
	on := &asked.Resource
	if on.Kind, err = rule.ParseKind(cmp.Or(q.Get("kind"), "topic")); err != nil {
		return asked, err
	}
	if on.Pattern, err = rule.ParsePattern(cmp.Or(q.Get("pattern"), "literal")); err != nil {
		return asked, err
	}
	on.Name = q.Get("name")
	return asked, on.Check()
}

// subjectOf is whom a query asks about. Errors: Invalid.
func subjectOf(q url.Values) (who rule.Subject, err error) {
	who = rule.Subject{User: cmp.Or(q.Get("user"), rule.Anonymous), ClientID: q.Get("client"),
		Listener: q.Get("listener"), Encrypted: q.Get("tls") == "true"}
	if text := q.Get("address"); text != "" {
		if who.Address, err = netip.ParseAddr(text); err != nil {
			return who, fault.New(fault.Invalid, "admin", "address=%s is no address", fault.Text(text))
		}
	}
	return who, presents(&who, q["cert"])
}
