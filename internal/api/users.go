package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Users is what the API asks of who may log in.
type Users interface {
	// EachUser visits the users, in any order. What it is given is good during the visit.
	EachUser(visit func(*User))
	// User is one of them, and its entity tag; nil: there is none.
	User(name string) (*User, string)
	// AddUser makes one. Errors: Exists, Invalid; those of the log.
	AddUser(ctx context.Context, name string, c *UserChange) error
	// SetUser changes one. Errors: NotFound, Invalid; those of only and of the log.
	SetUser(ctx context.Context, name string, c *UserChange, only Only) error
	// RemoveUser removes one. Errors: NotFound; those of only and of the log.
	RemoveUser(ctx context.Context, name string, only Only) error
	// MakePassword makes a password that nobody can guess.
	MakePassword() string
	// EachLogin visits the sessions of people.
	EachLogin(visit func(*Login))
	// EndLogins ends the session of an id, or ("") those of a user, and tells how many. Errors: NotFound; those of the
	// log.
	EndLogins(ctx context.Context, id, user string) (int, error)
}

// User is a user: never what proves who it is.
type User struct {
	Name     string   `json:"name"`
	Roles    []string `json:"roles"`
	Groups   []string `json:"groups"`
	ClientID string   `json:"client_id,omitempty" doc:"the client identifier that it has to have, as rules have it"`
	Disabled bool     `json:"disabled" doc:"it is kept out"`
	Proofs   []string `json:"proofs" doc:"what is known to prove who it is: password, SCRAM-SHA-256, SCRAM-SHA-512"`
}

// UserChange is what is to become of a user; what is not said stays as it is.
type UserChange struct {
	Password *string   `json:"password,omitempty" doc:"for every way to log in with one; its connections end"`
	Generate bool      `json:"generate,omitempty" doc:"instead of password: one is made, and shown in the answer"`
	Roles    *[]string `json:"roles,omitempty"`
	Groups   *[]string `json:"groups,omitempty"`
	ClientID *string   `json:"client_id,omitempty" doc:"the client identifier that it has to have; empty: any"`
	Disabled *bool     `json:"disabled,omitempty" doc:"true keeps it out, and ends its connections"`
}

// NewUser is a user that is to be made. Without a password it proves who it is by a certificate or a token.
type NewUser struct {
	Name string `json:"name"`
	UserChange
}

// UserMade is a user that was made or changed.
type UserMade struct {
	User
	Password string `json:"password,omitempty" doc:"that was made: it is shown this once"`
}

// Login is a session of somebody who has logged in by HTTP.
type Login struct {
	ID      string    `json:"id" doc:"names it, and proves nothing"`
	User    string    `json:"user"`
	Method  string    `json:"method" enum:"password,oidc"`
	Address string    `json:"address,omitempty"`
	Began   time.Time `json:"began"`
	Used    time.Time `json:"used" doc:"the last time"`
	Ends    time.Time `json:"ends" doc:"unless it is used before"`
}

// LoginsEnded is how many sessions were.
type LoginsEnded struct {
	Ended int `json:"ended"`
}

// managing is the right to change users, rules and the like.
var managing = right{operation: rule.Alter, on: rule.Cluster}

func named(name, doc string) param { return param{name: name, kind: "string", inPath: true, doc: doc} }

func search(doc string) param { return param{name: "search", kind: "string", doc: doc} }

func only(name, doc string) param { return param{name: name, kind: "string", doc: doc} }

func userRoutes() []route {
	user := named("user", "name of a user; / in it is %2F")
	return []route{
		{method: "GET", path: "/users", id: "listUsers", tag: "access", summary: "List users", right: watching, walks: true,
			params: append(listParams("name", "roles"), search("only those with this text in their name"),
				only("role", "only those that have this role"), only("group", "only those that are in this group"),
				param{name: "state", kind: "string", values: []string{"enabled", "disabled"}, doc: "only those"}),
			answer: Page[User]{}, do: (*API).users},
		{method: "POST", path: "/users", id: "addUser", tag: "access", summary: "Make a user", right: managing, makes: true,
			text: "With the first one everybody has to say who they are: give it the role admin.", tagged: true,
			body: NewUser{}, answer: UserMade{}, do: (*API).addUser},
		{method: "GET", path: "/users/{user}", id: "getUser", tag: "access", summary: "Show a user", right: watching,
			text:   "GET /rules?user=NAME shows which rules there are about it.",
			params: []param{user}, tagged: true, answer: User{}, do: (*API).user},
		{method: "PATCH", path: "/users/{user}", id: "changeUser", tag: "access", right: managing, edits: true,
			summary: "Change a user: its password, roles, groups, or whether it may log in", params: []param{user},
			text: "What is not said stays as it is.", body: UserChange{}, tagged: true, answer: UserMade{},
			do: (*API).changeUser},
		{method: "DELETE", path: "/users/{user}", id: "removeUser", tag: "access", summary: "Remove a user", edits: true,
			text:  "Its connections end, and its tokens go. Rules about it stay.",
			right: managing, params: []param{user}, answer: User{}, do: (*API).removeUser},
		{method: "DELETE", path: "/users/{user}/logins", id: "endLoginsOfUser", tag: "access", right: managing,
			summary: "Log a user out", text: "Its sessions by HTTP end. Its other connections stay.",
			params: []param{user}, answer: LoginsEnded{},
			do: func(a *API, q *ask) (any, error) { return a.endLogins(q, "", q.r.PathValue("user")) }},
		{method: "GET", path: "/logins", id: "listLogins", tag: "access", right: watching, walks: true,
			summary: "List sessions of people", text: "Of those who have logged in by HTTP.",
			params: append(listParams("user", "began", "used", "ends"), only("user", "only those of this user")),
			answer: Page[Login]{}, do: (*API).logins},
		{method: "DELETE", path: "/logins/{login}", id: "endLogin", tag: "access", right: managing,
			summary: "End a session of somebody", params: []param{named("login", "its id")}, answer: LoginsEnded{},
			do: func(a *API, q *ask) (any, error) { return a.endLogins(q, q.r.PathValue("login"), "") }},
	}
}

func (a *API) users(q *ask) (any, error) {
	p, err := newPager[User](q)
	if err != nil {
		return nil, err
	}
	role, group, state := q.text("role"), q.text("group"), q.text("state")
	a.opt.Users.EachUser(func(u *User) {
		if !strings.Contains(u.Name, q.text("search")) || role != "" && !slices.Contains(u.Roles, role) ||
			group != "" && !slices.Contains(u.Groups, group) || state != "" && u.Disabled != (state == "disabled") {
			return
		}
		at := place{ID: u.Name}
		if p.sort == "roles" {
			at.Text = strings.Join(u.Roles, "\x00")
		}
		p.offer(at, func() User { return *u })
	})
	return page(p, func(u User) User { return u }), nil
}

// userNamed finds a user, with its tag. Errors: NotFound.
func (a *API) userNamed(name string) (*User, string, error) {
	if u, tag := a.opt.Users.User(name); u != nil {
		return u, tag, nil
	}
	return nil, "", fault.New(fault.NotFound, "user "+fault.Text(name), "there is no such user").
		WithHint("GET %s/users lists them", Path)
}

func (a *API) user(q *ask) (any, error) {
	u, tag, err := a.userNamed(q.r.PathValue("user"))
	return reply{value: u, tag: tag}, err
}

func (a *API) addUser(q *ask) (any, error) {
	var said NewUser
	if err := q.read(&said); err != nil {
		return nil, err
	}
	return a.putUser(said.Name, &said.UserChange, func(c *UserChange) error {
		return a.opt.Users.AddUser(q.r.Context(), said.Name, c)
	}, true)
}

func (a *API) changeUser(q *ask) (any, error) {
	var said UserChange
	if err := q.read(&said); err != nil {
		return nil, err
	}
	name := q.r.PathValue("user")
	return a.putUser(name, &said, func(c *UserChange) error {
		return a.opt.Users.SetUser(q.r.Context(), name, c, q.only)
	}, false)
}

// putUser makes or changes a user, and shows a password that was made for it.
func (a *API) putUser(name string, c *UserChange, put func(*UserChange) error, made bool) (any, error) {
	var password string
	switch {
	case c.Password != nil && (c.Generate || *c.Password == ""):
		return nil, fault.New(fault.Invalid, op, "the password is empty, or one is to be made besides").
			WithHint(`say "generate": true, or a password that has at least one letter`)
	case c.Generate:
		password = a.opt.Users.MakePassword()
		c.Password = &password
	}
	if err := put(c); err != nil {
		return nil, err
	}
	u, tag, err := a.userNamed(name)
	if err != nil { // somebody has removed it meanwhile
		return nil, err
	}
	return reply{value: UserMade{User: *u, Password: password}, tag: tag, made: made}, nil
}

func (a *API) removeUser(q *ask) (any, error) {
	name := q.r.PathValue("user")
	u, _, err := a.userNamed(name)
	if err != nil {
		return nil, err
	}
	return u, a.opt.Users.RemoveUser(q.r.Context(), name, q.only)
}

func (a *API) logins(q *ask) (any, error) {
	p, err := newPager[Login](q)
	if err != nil {
		return nil, err
	}
	user := q.text("user")
	a.opt.Users.EachLogin(func(l *Login) {
		if user != "" && l.User != user {
			return
		}
		at := place{ID: l.ID}
		switch p.sort {
		case "user":
			at.Text = l.User
		case "began":
			at.Number = l.Began.UnixMilli()
		case "used":
			at.Number = l.Used.UnixMilli()
		case "ends":
			at.Number = l.Ends.UnixMilli()
		}
		p.offer(at, func() Login { return *l })
	})
	return page(p, func(l Login) Login { return l }), nil
}

func (a *API) endLogins(q *ask, id, user string) (any, error) {
	n, err := a.opt.Users.EndLogins(q.r.Context(), id, user)
	return LoginsEnded{n}, err
}
