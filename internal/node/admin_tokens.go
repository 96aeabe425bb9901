package node

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// The kinds of tokens, as people see them.
const (
	programToken    = "program"
	delegationToken = "delegation" // of Kafka
)

// tokenLine is a token as people see it. Text is what proves it: told once, when it is made, and never of a delegation
// token, for only Kafka tells that.
type tokenLine struct {
	ID     string     `json:"id"`
	Kind   string     `json:"kind"` // program, delegation
	Owner  string     `json:"owner"`
	Name   string     `json:"name,omitempty"`
	Issued time.Time  `json:"issued"`
	Ends   *time.Time `json:"ends,omitempty"` // none: never
	Roles  []string   `json:"roles,omitempty"`
	Rules  []ruleLine `json:"rules,omitempty"`
	Text   string     `json:"token,omitempty"`
	// Of a delegation token: who asked for it, who may renew it besides its owner, and until when anybody can.
	Requester string     `json:"requester,omitempty"`
	Renewers  []string   `json:"renewers,omitempty"`
	Last      *time.Time `json:"last,omitempty"`
}

func tokenLineOf(t *access.Token) tokenLine {
	line := tokenLine{ID: t.ID, Kind: programToken, Owner: t.Owner, Name: t.Name, Issued: t.Issued.UTC(), Roles: t.Roles}
	if len(t.Rules) > 0 {
		line.Rules = linesOf(t.Rules)
	}
	if !t.Ends.IsZero() {
		ends := t.Ends.UTC()
		line.Ends = &ends
	}
	return line
}

func delegationLineOf(d *access.Delegation) tokenLine {
	ends, last := d.Ends.UTC(), d.Last.UTC()
	return tokenLine{ID: d.ID, Kind: delegationToken, Owner: d.Owner, Issued: d.Issued.UTC(), Ends: &ends,
		Requester: d.Requester, Renewers: d.Renewers, Last: &last}
}

// adminTokens lists the tokens of programs, then the delegation tokens that are good; of an id, only that one.
func (n *Node) adminTokens(r *http.Request) (any, error) {
	lines := n.tokens()
	id := r.URL.Query().Get("id")
	if id == "" {
		return lines, nil
	}
	lines = slices.DeleteFunc(lines, func(t tokenLine) bool { return t.ID != id })
	if len(lines) == 0 {
		return nil, fault.New(fault.NotFound, "admin", "there is no token %s", fault.Text(id)).
			WithHint("firth token list shows the tokens and their ids")
	}
	return lines, nil
}

// tokens are those of programs, then the delegation tokens that are good.
func (n *Node) tokens() []tokenLine {
	lines := []tokenLine{}
	for _, t := range n.access.Catalog().Tokens() {
		lines = append(lines, tokenLineOf(t))
	}
	for _, d := range n.access.Delegations().List() {
		lines = append(lines, delegationLineOf(d))
	}
	return lines
}

// tokenWish is what a request says of a token that is to be made.
type tokenWish struct {
	Owner   string      `json:"owner"`
	Name    string      `json:"name"`
	Expires string      `json:"expires"` // a length of time; "never"
	Roles   []string    `json:"roles"`
	Rules   []rule.Rule `json:"rules"`
}

// adminCreateToken makes a token of a user.
func (n *Node) adminCreateToken(r *http.Request) (any, error) {
	var said tokenWish
	if err := body(r, &said); err != nil {
		return nil, err
	}
	line, err := n.createToken(r.Context(), &said)
	return line, err
}

// createToken makes a token of a user, and tells what proves it.
func (n *Node) createToken(ctx context.Context, said *tokenWish) (line tokenLine, err error) {
	t := access.Token{Owner: said.Owner, Name: said.Name, Roles: said.Roles, Rules: said.Rules}
	if said.Expires != "never" {
		life, err := parseDuration(said.Expires)
		if err != nil || life <= 0 || life > century {
			return line, fault.New(fault.Invalid, "admin", "expires: %s is no length of time such as 90d",
				fault.Text(said.Expires))
		}
		t.Ends = time.Now().Add(life)
	}
	text, made, err := n.access.CreateToken(ctx, t)
	if err != nil {
		return line, err
	}
	line = tokenLineOf(made)
	line.Text = text
	return line, nil
}

func (n *Node) adminRevokeToken(r *http.Request) (any, error) {
	id := r.URL.Query().Get("id")
	return tokenLine{ID: id}, n.access.RevokeToken(r.Context(), id)
}
