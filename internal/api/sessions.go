package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Clients is what the API asks of the device door.
type Clients interface {
	// EachSession visits the sessions of this node. The session is valid during the call, and visit does not block.
	EachSession(visit func(*Session))
	// Backlogs tells how far sessions are behind, in records; what it gives is for one list. Errors: those of the log.
	Backlogs() func(client string) (int64, error)
	// EachRecipient visits the sessions with a subscription that a message is for. Errors: NotFound.
	EachRecipient(of Sought, visit func(*Recipient)) error
	// SessionsElsewhere asks the other nodes that have sessions for the same page of theirs (OwnSessions), and has take
	// take them, one at a time. It gives the names of those that did not answer.
	SessionsElsewhere(ctx context.Context, query url.Values, take func(*SessionPage)) (silent []string)
	// Session is all of one, whichever node has it. Errors: NotFound; Unavailable; those of the log.
	Session(ctx context.Context, client string) (*SessionDetail, error)
	// Events are the last events of a client, the oldest first. Errors: NotFound, when nothing is known of it.
	Events(ctx context.Context, client string) (*SessionEvents, error)
	// Kick ends the connection of a session, and with forget the session, whichever node has it, and tells the audit.
	// Errors: NotFound; Unavailable; those of the log.
	Kick(ctx context.Context, client string, forget bool) (*Kicked, error)
}

// Session is what a list says of a session.
type Session struct {
	Client        string     `json:"client" doc:"its client identifier"`
	State         string     `json:"state" enum:"connected,away"`
	Since         *time.Time `json:"since,omitempty" doc:"it has been connected, or away, since then"`
	Remote        string     `json:"remote,omitempty" doc:"the address of the client"`
	Listener      string     `json:"listener,omitempty"`
	User          string     `json:"user,omitempty"`
	Version       string     `json:"version" doc:"of MQTT: 3.1, 3.1.1 or 5"`
	Expiry        *uint32    `json:"expiry,omitempty" doc:"seconds that it lasts without a connection; none: for ever"`
	Subscriptions int        `json:"subscriptions"`
	InFlight      int        `json:"in_flight" doc:"messages sent above QoS 0 whose exchange is not over"`
	Behind        int        `json:"behind" doc:"partitions that it reads by itself, because it fell behind"`
	Dropped       int64      `json:"dropped,string" doc:"messages that its connection did not get, or that were refused"`
	Gateway       string     `json:"gateway,omitempty" doc:"the gateway that has it, where gateways share sessions"`
	Backlog       *int64     `json:"backlog,omitempty,string" doc:"records it has not come to; not told of a log in Kafka"`
}

// SessionPage is a page of the sessions of all nodes.
type SessionPage struct {
	Page[Session]
	Silent []string `json:"silent,omitempty" doc:"gateways that did not answer: theirs are missing, and not counted"`
}

// SessionDetail is all that is said of one session.
type SessionDetail struct {
	Session
	KeepAlive int               `json:"keep_alive" doc:"seconds; 0: none"`
	Window    int               `json:"window" doc:"most messages in flight"`
	Will      string            `json:"will,omitempty" doc:"the topic name of its will"`
	Filters   []Subscription    `json:"filters"`
	Lag       []SessionLag      `json:"lag" doc:"partitions where it is behind what is stored"`
	Drops     map[string]uint64 `json:"drops" doc:"messages that its connection did not get or were refused, by reason"`
}

// Subscription is one of a session.
type Subscription struct {
	Filter string `json:"filter"`
	QoS    int    `json:"qos"`
	From   string `json:"from,omitempty" doc:"where it began, if in the past"`
}

// SessionLag is how far a session is behind in a partition.
type SessionLag struct {
	Topic     string `json:"topic" doc:"of the log"`
	Partition int    `json:"partition"`
	Next      int64  `json:"next,string" doc:"all below was taken, or is not for it"`
	End       int64  `json:"end,string"`
	Lag       int64  `json:"lag,string" doc:"records between them, whether they are for it or not"`
}

// SessionEvent is something that happened to a session.
type SessionEvent struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what" doc:"a word: connected, disconnected, ..."`
	Text   string    `json:"text,omitempty" doc:"more of it, for people"`
	Reason string    `json:"reason,omitempty" doc:"a reason code of MQTT 5 in words"`
}

// SessionEvents are the last events of a client.
type SessionEvents struct {
	Items  []SessionEvent `json:"items" doc:"the oldest first"`
	Silent []string       `json:"silent,omitempty" doc:"gateways that did not answer: what they know is missing"`
}

// Kicked is what became of a session.
type Kicked struct {
	Client    string `json:"client"`
	Connected bool   `json:"connected" doc:"it had a connection, which ends"`
	Forgotten bool   `json:"forgotten" doc:"the session ends, too"`
}

func sessionRoutes() []route {
	client := param{name: "client", kind: "string", inPath: true, doc: "client identifier; / in it is %2F"}
	return []route{
		{method: "GET", path: "/sessions", id: "listSessions", tag: "sessions", summary: "List sessions of MQTT clients",
			text: "backlog counts the records from where a session stands to the end, in all partitions of its " +
				"subscriptions, whether they are for it or not.",
			right: watching, walks: true, params: sessionParams(), answer: SessionPage{}, do: (*API).sessions},
		{method: "GET", path: "/sessions/{client}", id: "getSession", tag: "sessions", summary: "Show a session",
			text: "Its subscriptions, and where it is behind.", right: watching, params: []param{client},
			answer: SessionDetail{},
			do: func(a *API, q *ask) (any, error) {
				return a.opt.Clients.Session(q.r.Context(), q.r.PathValue("client"))
			}},
		{method: "GET", path: "/sessions/{client}/events", id: "listSessionEvents", tag: "sessions",
			summary: "List the last events of a session",
			text:    "The last 100, also of a client whose session is over. They are kept in memory, and gone with a restart.",
			right:   watching, params: []param{client}, answer: SessionEvents{}, do: func(a *API, q *ask) (any, error) {
				return a.opt.Clients.Events(q.r.Context(), q.r.PathValue("client"))
			}},
		{method: "DELETE", path: "/sessions/{client}", id: "kickSession", tag: "sessions",
			summary: "End the connection of a session",
			text:    "The client is told so (0x98), and its will is published.",
			right:   right{operation: rule.Alter, on: rule.Cluster},
			params: []param{client, {name: "forget", kind: "boolean", value: "false",
				doc: "true: the session ends, too, with all that waits for it"}},
			answer: Kicked{}, do: func(a *API, q *ask) (any, error) {
				return a.opt.Clients.Kick(q.r.Context(), q.r.PathValue("client"), q.is("forget"))
			}},
	}
}

// sessionParams are those of the list of sessions.
func sessionParams() []param {
	return append(listParams("client", "in_flight", "behind", "backlog", "dropped", "subscriptions", "since"),
		param{name: "search", kind: "string", doc: "only those with this text in client identifier, user or address"},
		param{name: "state", kind: "string", values: []string{"connected", "away"}, doc: "only those"},
		param{name: "user", kind: "string", doc: "only those of this user"})
}

// sessions lists those of all nodes: each gives its page behind the same place, and the first of them all are the page.
func (a *API) sessions(q *ask) (any, error) {
	p, err := a.ownSessions(q)
	if err != nil {
		return nil, err
	}
	silent := a.opt.Clients.SessionsElsewhere(q.r.Context(), q.values, func(theirs *SessionPage) {
		join(p, &theirs.Page, func(s *Session) place { return s.place(p.sort) })
	})
	return SessionPage{Page: page(p, func(s Session) Session { return s }), Silent: silent}, nil
}

// OwnSessions answers another node that asks for a page of the sessions of this one. That node has judged who asks.
// Errors: Invalid; Unavailable.
func (a *API) OwnSessions(r *http.Request) (*SessionPage, error) {
	values, err := (&route{params: sessionParams()}).parse(r)
	if err != nil {
		return nil, err
	}
	if err := a.takeTurn(r.Context(), a.others); err != nil {
		return nil, err
	}
	defer func() { <-a.others }()
	p, err := a.ownSessions(&ask{r: r, values: values})
	if err != nil {
		return nil, err
	}
	return &SessionPage{Page: page(p, func(s Session) Session { return s })}, nil
}

// ownSessions looks through the sessions of this node.
func (a *API) ownSessions(q *ask) (*pager[Session], error) {
	p, err := newPager[Session](q)
	if err != nil {
		return nil, err
	}
	if p.sort == "backlog" && a.opt.Distant {
		return nil, fault.New(fault.Unsupported, op, "sessions are not sorted by their backlog in a Kafka cluster").
			WithHint("sort by behind")
	}
	backlog := a.backlogs()
	text, state, user := q.text("search"), q.text("state"), q.text("user")
	a.opt.Clients.EachSession(func(s *Session) {
		if state != "" && s.State != state || user != "" && s.User != user || !s.has(text) {
			return
		}
		if p.sort == "backlog" {
			s.Backlog = backlog(s.Client)
		}
		p.offer(s.place(p.sort), func() Session { return *s })
	})
	for i := range p.kept.items {
		if s := &p.kept.items[i].item; s.Backlog == nil {
			s.Backlog = backlog(s.Client)
		}
	}
	return p, nil
}

// backlogs tells of the sessions of one list how far they are behind; nil: it is not told.
func (a *API) backlogs() func(client string) *int64 {
	if a.opt.Distant {
		return func(string) *int64 { return nil }
	}
	of := a.opt.Clients.Backlogs()
	return func(client string) *int64 {
		n, err := of(client)
		if err != nil {
			return nil
		}
		return &n
	}
}

func (s *Session) has(text string) bool {
	return strings.Contains(s.Client, text) || strings.Contains(s.User, text) || strings.Contains(s.Remote, text)
}

// place is where it stands in a list that is sorted by a field.
func (s *Session) place(sort string) place {
	at := place{ID: s.Client}
	switch sort {
	case "in_flight":
		at.Number = int64(s.InFlight)
	case "behind":
		at.Number = int64(s.Behind)
	case "backlog":
		if s.Backlog != nil {
			at.Number = *s.Backlog
		}
	case "dropped":
		at.Number = s.Dropped
	case "subscriptions":
		at.Number = int64(s.Subscriptions)
	case "since":
		if s.Since != nil {
			at.Number = s.Since.UnixMilli()
		}
	}
	return at
}
