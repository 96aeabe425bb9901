// Package api is the HTTP API, /api/v1: one table of routes, from which the mux, the rights, the audit and the OpenAPI
// document come, and what each of them answers (docs/design/0018-http-api.md).
//
//	a := api.New(api.Options{Enter: enter, Log: keeper, ...})
//	mux.Handle(api.Path+"/", a)
//
// It knows neither door: what it tells of them it asks through the interfaces of Options. It has no goroutine of its
// own, and a node that nobody asks pays for nothing but the table.
package api

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"time"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Path begins the paths of all routes.
const Path = "/api/v1"

const op = "api"

// Options of an API. What is nil is not there: its routes answer 404.
type Options struct {
	// Version is of the binary.
	Version string
	// Enter tells who asks. Errors: Unauthorized; those of fault.
	Enter func(r *http.Request) (Visit, error)
	// Log is what topics and records are read from.
	Log Log
	// Mapping is the one in force.
	Mapping func() *hinge.Table
	// TopicDefaults are the settings of topics that do not say otherwise.
	TopicDefaults func() map[string]string
	// Distant says that to ask the log for bounds costs a request to another machine.
	Distant bool
	// Clients are the sessions of devices.
	Clients Clients
	// Groups are the groups of Kafka clients.
	Groups Groups
	// Settings are the options of the node, by key.
	Settings func() []Setting
	// Users are who may log in, and who has.
	Users Users
	// Rules are the rules of access.
	Rules Rules
	// Bans are who is kept out.
	Bans Bans
	// Tokens are those of programs.
	Tokens Tokens
	// Certificates are those of the node's own authority.
	Certificates Certificates
	// Quotas are those of Kafka clients; nil: Kafka itself has them.
	Quotas Quotas
	// AuditTopic is the topic of the audit.
	AuditTopic string
	// AuditKey is what it is verified by.
	AuditKey AuditKeyFunc
	// Messages is the device door, for who has no connection to it.
	Messages Messages
	// Retained are the retained messages.
	Retained Retained
	// Backend is the back-end door, for who has no connection to it.
	Backend Backend
	// AtEnd has something be called when the node ends, unless it is stopped before: what goes on ends with it.
	AtEnd func(call func()) (stop func() bool)
	// Checks are the conditions of readiness.
	Checks func() []Check
	// LastHour is what some metrics were.
	LastHour func() *Hour
}

// Log is what the API asks of the log.
type Log interface {
	Topics() *stream.Topics
	Bounds(p stream.PartitionID) (stream.Bounds, error)
	Scan(p stream.PartitionID, from record.Offset, o stream.ScanOptions, visit func(*record.View) bool) (
		next record.Offset, err error)
	OffsetForTime(ctx context.Context, p stream.PartitionID, unixMillis int64) (record.Offset, int64, error)
}

// Visit is one request of somebody who is known, or of whom nobody asks who it is.
type Visit struct {
	Request *http.Request // its context ends when who asks may not be here any more
	Leave   func()        // ends the visit
	Visitor Visitor
}

// Visitor is who asks.
type Visitor interface {
	// May tells whether it may do something to a resource, and the audit where not. Errors: Denied, with a hint.
	May(o rule.Operation, on rule.Kind, name string) error
	// Sees is May where nothing is refused: what it may not see is left out.
	Sees(o rule.Operation, on rule.Kind, name string) bool
	// MayName is May for a topic name of MQTT, and SeesName Sees.
	MayName(o rule.Operation, name string) error
	SeesName(o rule.Operation, name string) bool
	// MayFilter tells whether it may subscribe to a topic filter of MQTT. Errors: Denied.
	MayFilter(filter string) error
	// MaskTopic is what it may not see of the records of a topic that it may read; nil: it may see all of them.
	MaskTopic(topic string) *mask.Set
}

// Unauthorized refuses who does not prove who it is. The answer is 401 with a challenge (RFC 9110, section 11.6.1).
type Unauthorized struct {
	Err       error
	Challenge string
}

// Error is that of Err.
func (u *Unauthorized) Error() string { return u.Err.Error() }

// Unwrap is Err.
func (u *Unauthorized) Unwrap() error { return u.Err }

// mostAtOnce is how many requests that walk through a list or the log are served at a time: what they hold is bounded,
// and the doors keep the rest of the machine.
const mostAtOnce = 4

// patience is how long a request waits for its turn.
const patience = 5 * time.Second

// API answers requests below Path.
type API struct {
	opt   Options
	mux   *http.ServeMux
	turns chan struct{} // one for each that walks
	// others has one for each that walks for another node, which has a turn of its own meanwhile: with the same turns two
	// nodes could wait for each other.
	others chan struct{}
	edits  chan struct{} // holds one for who changes a topic or a group
}

// New makes the API.
func New(opt Options) *API {
	a := &API{opt: opt, mux: http.NewServeMux(), turns: make(chan struct{}, mostAtOnce),
		others: make(chan struct{}, mostAtOnce),
		edits:  make(chan struct{}, 1)}
	for _, r := range routes() {
		a.mux.Handle(r.method+" "+Path+r.path, a.serve(&r))
	}
	a.mux.HandleFunc(Path+"/", a.nowhere)
	return a
}

// ServeHTTP answers a request below Path.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// nowhere answers what no route does: 405 where another method is known there (RFC 9110, section 15.5.6), else 404.
func (a *API) nowhere(w http.ResponseWriter, r *http.Request) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := a.mux.Handler(&other); pattern != Path+"/" {
			w.Header().Add("Allow", method)
		}
	}
	if allow := w.Header().Values("Allow"); len(allow) > 0 {
		a.refuse(w, r, &statusError{http.StatusMethodNotAllowed,
			fault.New(fault.Unsupported, op, "%s is not known here", fault.Text(r.Method))})
		return
	}
	a.refuse(w, r, fault.New(fault.NotFound, op, "there is nothing at this path").
		WithHint("GET %s/openapi.json lists all routes", Path))
}

// serve makes a route a handler: who asks, whether it may, what it asks for, and the answer.
func (a *API) serve(rt *route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rt.open {
			a.answer(w, r, rt, &ask{r: r})
			return
		}
		visit, err := a.opt.Enter(r)
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		defer visit.Leave()
		q := &ask{v: visit.Visitor, r: visit.Request}
		if err := rt.judge(q); err != nil {
			a.refuse(w, r, err)
			return
		}
		if q.values, err = rt.parse(r); err != nil {
			a.refuse(w, r, err)
			return
		}
		if rt.edits {
			is, err := rt.conditionOf(r)
			if err != nil {
				a.refuse(w, r, err)
				return
			}
			q.only = is.check
		}
		if rt.walks {
			if err := a.takeTurn(r.Context(), a.turns); err != nil {
				a.refuse(w, r, err)
				return
			}
			defer func() { <-a.turns }()
		}
		a.answer(w, r, rt, q)
	})
}

// takeTurn waits until there is room to walk. Errors: Unavailable.
func (a *API) takeTurn(ctx context.Context, turns chan<- struct{}) error {
	select {
	case turns <- struct{}{}:
		return nil
	default:
	}
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case turns <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-wait.C:
	}
	return fault.New(fault.Unavailable, op, "%d requests that read much are under way already", mostAtOnce).
		WithHint("ask again in a second")
}

// answer does what a route does.
func (a *API) answer(w http.ResponseWriter, r *http.Request, rt *route, q *ask) {
	if rt.flow != nil {
		if err := rt.flow(a, q, w); err != nil {
			a.refuse(w, r, err)
		}
		return
	}
	said, err := rt.do(a, q)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	status := http.StatusOK
	if with, is := said.(reply); is {
		if said = with.value; with.tag != "" {
			w.Header().Set("ETag", `"`+with.tag+`"`)
		}
		if with.made {
			status = http.StatusCreated
		}
	}
	answerJSON(w, status, jsonType, said)
}

const jsonType = "application/json"

// SaidAs is the media type of what a request says, in lower case and without its parameters, of which none changes what
// JSON or bytes are (RFC 9110, section 8.3.1; RFC 8259, section 11); "": it is none.
func SaidAs(r *http.Request) string {
	of := r.Header.Values("Content-Type")
	if len(of) != 1 {
		return ""
	}
	kind, _, err := mime.ParseMediaType(of[0])
	if err != nil {
		return ""
	}
	return kind
}

// answerJSON answers with a value.
func answerJSON(w http.ResponseWriter, status int, mediaType string, v any) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a client that has gone needs no answer
}
