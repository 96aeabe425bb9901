package api

import (
	"context"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Tokens is what the API asks of the tokens of programs.
type Tokens interface {
	// EachToken visits the tokens of programs, and Kafka's delegation tokens that are good.
	EachToken(visit func(*Token))
	// CreateToken makes one of a program. Errors: NotFound, Invalid, Limited; those of the log.
	CreateToken(ctx context.Context, t *NewToken, scope []rule.Rule) (*TokenMade, error)
	// RevokeToken ends one by its id. Errors: NotFound; those of the log.
	RevokeToken(ctx context.Context, id string) error
}

// Token is one by which a program acts as a user: never what proves it.
type Token struct {
	ID     string     `json:"id"`
	Kind   string     `json:"kind" enum:"program,delegation" doc:"delegation: Kafka's, which only Kafka clients make"`
	Owner  string     `json:"owner" doc:"the user that it acts as"`
	Name   string     `json:"name,omitempty" doc:"what it is for"`
	Issued time.Time  `json:"issued"`
	Ends   *time.Time `json:"ends,omitempty" doc:"without it: never"`
	Roles  []string   `json:"roles" doc:"it may do only what they or rules allow; without, all that its owner may"`
	Rules  []Rule     `json:"rules"`
	// Of a delegation token.
	Requester string     `json:"requester,omitempty" doc:"who asked for it"`
	Renewers  []string   `json:"renewers,omitempty" doc:"who may renew it besides its owner"`
	Last      *time.Time `json:"last,omitempty" doc:"until when it can be renewed"`
}

// NewToken is a token that is to be made.
type NewToken struct {
	Owner   string     `json:"owner"`
	Name    string     `json:"name,omitempty"`
	Expires string     `json:"expires" doc:"how long it is good, as 12h or 90d; never: for ever"`
	Roles   []string   `json:"roles,omitempty" doc:"what it is limited to, besides rules"`
	Rules   []RoleRule `json:"rules,omitempty"`
}

// TokenMade is a token that was made.
type TokenMade struct {
	Token
	Text string `json:"token" doc:"what proves it: it is shown this once"`
}

func tokenRoutes() []route {
	id := named("token", "its id")
	return []route{
		{method: "GET", path: "/tokens", id: "listTokens", tag: "access", summary: "List tokens", right: watching,
			walks: true, params: append(listParams("owner", "issued", "ends"), search("only those with this text in their name"),
				only("owner", "only those of this user"),
				param{name: "kind", kind: "string", values: []string{"program", "delegation"}, doc: "only those"}),
			answer: Page[Token]{}, do: (*API).tokens},
		{method: "POST", path: "/tokens", id: "createToken", tag: "access", summary: "Make a token of a user",
			text:  "What proves it is in this answer, and nowhere later.",
			right: managing, makes: true, body: NewToken{}, answer: TokenMade{}, do: (*API).createToken},
		{method: "GET", path: "/tokens/{token}", id: "getToken", tag: "access", summary: "Show a token", right: watching,
			params: []param{id}, answer: Token{}, do: func(a *API, q *ask) (any, error) { return a.token(q) }},
		{method: "DELETE", path: "/tokens/{token}", id: "revokeToken", tag: "access", summary: "Revoke a token",
			text: "Its connections end.", right: managing, params: []param{id}, answer: Token{}, do: (*API).revokeToken},
	}
}

func (a *API) tokens(q *ask) (any, error) {
	p, err := newPager[Token](q)
	if err != nil {
		return nil, err
	}
	owner, kind := q.text("owner"), q.text("kind")
	a.opt.Tokens.EachToken(func(t *Token) {
		if owner != "" && t.Owner != owner || kind != "" && t.Kind != kind || !strings.Contains(t.Name, q.text("search")) {
			return
		}
		at := place{Text: t.Owner, ID: t.ID}
		switch p.sort {
		case "issued":
			at = place{Number: t.Issued.UnixMilli(), ID: t.ID}
		case "ends":
			at = place{Number: endOf(t.Ends), ID: t.ID}
		}
		p.offer(at, func() Token { return *t })
	})
	return page(p, func(t Token) Token { return t }), nil
}

// token finds one. Errors: NotFound.
func (a *API) token(q *ask) (found *Token, err error) {
	id := q.r.PathValue("token")
	a.opt.Tokens.EachToken(func(t *Token) {
		if t.ID == id {
			one := *t
			found = &one
		}
	})
	if found == nil {
		return nil, fault.New(fault.NotFound, "token "+fault.Text(id), "there is no such token").
			WithHint("GET %s/tokens lists them", Path)
	}
	return found, nil
}

func (a *API) createToken(q *ask) (any, error) {
	var said NewToken
	if err := q.read(&said); err != nil {
		return nil, err
	}
	scope, err := rulesOf(rule.UserPrefix+said.Owner, said.Rules)
	if err != nil {
		return nil, err
	}
	made, err := a.opt.Tokens.CreateToken(q.r.Context(), &said, scope)
	return reply{value: made, made: true}, err
}

func (a *API) revokeToken(q *ask) (any, error) {
	t, err := a.token(q)
	if err != nil {
		return nil, err
	}
	return t, a.opt.Tokens.RevokeToken(q.r.Context(), t.ID)
}
