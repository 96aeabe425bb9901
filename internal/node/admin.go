package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt"
)

// The interface for who looks after a running node: JSON over HTTP below adminPath, on listen.http. It answers programs
// of this machine only, and who is known once there are users or rules: administered.

const adminPath = "/admin/v1"

// adminDo answers a request with a value that becomes JSON; nil: there is nothing to say.
type adminDo func(r *http.Request) (any, error)

func (n *Node) serveAdmin(mux *http.ServeMux) {
	for pattern, do := range map[string]adminDo{
		"GET " + adminPath + "/sessions":       n.adminSessions,
		"GET " + adminPath + "/session":        n.adminSession,
		"DELETE " + adminPath + "/session":     n.telling("session.kick", "client", n.adminKick),
		"GET " + adminPath + "/events":         n.adminEvents,
		"GET " + adminPath + "/retained":       n.adminRetained,
		"GET " + adminPath + "/message":        n.telling("retained.show", "topic", n.adminMessage),
		"DELETE " + adminPath + "/message":     n.telling("retained.clear", "topic", n.adminClear),
		"POST " + adminPath + "/message":       n.telling("retained.restore", "topic", n.adminRestore),
		"GET " + adminPath + "/slow":           n.adminSlow,
		"GET " + adminPath + "/shares":         n.adminShares,
		"GET " + adminPath + "/bans":           n.adminBans,
		"POST " + adminPath + "/ban":           n.adminBan,
		"DELETE " + adminPath + "/ban":         n.adminUnban,
		"GET " + adminPath + "/users":          n.adminUsers,
		"POST " + adminPath + "/user":          n.adminSetUser,
		"DELETE " + adminPath + "/user":        n.adminRemoveUser,
		"GET " + adminPath + "/logins":         n.adminPeople,
		"DELETE " + adminPath + "/logins":      n.adminEndPeople,
		"GET " + adminPath + "/rules":          n.adminRules,
		"GET " + adminPath + "/roles":          n.adminRoles,
		"POST " + adminPath + "/rules":         n.adminAddRules,
		"DELETE " + adminPath + "/rules":       n.adminRemoveRules,
		"GET " + adminPath + "/explain":        n.adminExplain,
		"GET " + adminPath + "/denied":         n.adminDenied,
		"POST " + adminPath + "/import":        n.adminImport,
		"GET " + adminPath + "/keys":           n.adminKeys,
		"POST " + adminPath + "/rotate":        n.telling("key.rotate", "", n.adminRotate),
		"GET " + adminPath + "/shreds":         n.adminShreds,
		"POST " + adminPath + "/shreds":        n.adminFindShreds,
		"POST " + adminPath + "/shred":         n.adminShred,
		"POST " + adminPath + "/shreds/accept": n.adminAcceptShreds,
		"GET " + adminPath + "/tokens":         n.adminTokens,
		"POST " + adminPath + "/token":         n.adminCreateToken,
		"DELETE " + adminPath + "/token":       n.adminRevokeToken,

		"GET " + adminPath + "/authority":      n.adminAuthority,
		"POST " + adminPath + "/authority":     n.telling("authority.create", "name", n.adminMakeAuthority),
		"GET " + adminPath + "/certificates":   n.adminCertificates,
		"POST " + adminPath + "/certificate":   n.adminIssue,
		"DELETE " + adminPath + "/certificate": n.adminRevoke,
		"POST " + adminPath + "/server":        n.telling("certificate.server", "name", n.adminServer),
		"GET " + adminPath + "/claims":         n.adminClaims,
		"POST " + adminPath + "/claim":         n.adminClaim,
		"DELETE " + adminPath + "/claim":       n.telling("claim.remove", "id", n.adminUnclaim),
		"GET " + adminPath + "/bridges":        n.adminBridges,
		"POST " + adminPath + "/bridge/test":   n.telling("bridge.test", "name", n.adminTestBridge),
		"POST " + adminPath + "/bridge/pause":  n.telling("bridge.pause", "name", n.adminPauseBridge),
		"POST " + adminPath + "/bridge/resume": n.telling("bridge.resume", "name", n.adminResumeBridge),
		"GET " + adminPath + "/nodes":          n.adminNodes,
		"POST " + adminPath + "/node/drain":    n.adminDrain,
		"GET " + adminPath + "/audit/key":      n.adminAuditKey,
	} {
		o := rule.Alter
		if strings.HasPrefix(pattern, http.MethodGet) && pattern != "GET "+adminPath+"/message" { // which shows a payload
			o = rule.Describe
		}
		mux.Handle(pattern, n.ofThisMachine(n.administered(o, answering(do))))
	}
}

// serveTrace sends the packets of a client as they come, a line of JSON each, until who asks goes, or may not
// see them any more, or the node ends.
func (n *Node) serveTrace(ends context.Context) http.Handler {
	return n.ofThisMachine(n.administered(rule.Alter, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ends, cancel)()
		out := http.NewResponseController(w)
		if err := out.SetWriteDeadline(time.Time{}); err != nil {
			refuse(w, err)
			return
		}
		begun := false
		begin := func() error {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusOK)
			return out.Flush()
		}
		enc := json.NewEncoder(w)
		client := r.URL.Query().Get("client")
		if err := n.mayTrace(client); err != nil {
			refuse(w, err)
			return
		}
		e := chain.Event{Action: "session.trace", Resource: chain.Resource{Kind: "session", Name: client}}
		err := n.audit.Change(r.Context(), e, func() error {
			return n.mqtt.Trace(ctx, client, begin, func(line *mqtt.TraceLine) error {
				if err := n.mayStill(ctx, rule.Alter); err != nil {
					return err
				}
				n.maskTrace(ctx, line)
				return errors.Join(enc.Encode(line), out.Flush())
			})
		})
		if err != nil && !begun {
			refuse(w, err)
		}
	})))
}

// ofThisMachine lets through what a program of this machine asks: by loopback or a Unix socket, not passed on by a
// proxy, and where it changes something, not by a page in a browser, which cannot send JSON elsewhere unasked.
func (n *Node) ofThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !n.isHere(r):
			n.turnAway(w, r, fault.New(fault.Denied, "admin", "only programs of this machine are answered, and none by a proxy").
				WithHint("ask on a loopback address of the machine that runs firth"))
		case r.Method != http.MethodGet && api.SaidAs(r) != adminType:
			n.turnAway(w, r, fault.New(fault.Denied, "admin", "a change needs Content-Type: %s", adminType))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

const adminType = "application/json"

// turnAway refuses a request before anybody asks whose it is, and tells the audit.
func (n *Node) turnAway(w http.ResponseWriter, r *http.Request, why error) {
	n.tellTurnedAway(r, why)
	refuse(w, why)
}

// tellTurnedAway tells the audit of a request that is refused whoever asks.
func (n *Node) tellTurnedAway(r *http.Request, why error) {
	if !n.audit.On() {
		return
	}
	who := n.comer(r)
	e := audit.Refusal(access.By(&who), "administer", chain.Resource{Kind: "cluster", Name: rule.ClusterName})
	e.Reason = why.Error()
	n.audit.Tell(e)
}

// answering has a value be the answer, and an error the refusal.
func answering(do adminDo) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		if err != nil {
			refuse(w, err)
			return
		}
		if of, is := v.(ofGateways); is {
			if v = of.said; len(of.silent) > 0 {
				w.Header().Set(silentHeader, strings.Join(of.silent, ","))
			}
		}
		answerJSON(w, http.StatusOK, v)
	})
}

// telling tells the audit of a change before do makes it, or of what do shows: on the thing of a kind, of which the
// action says, that a parameter names. What all parameters say goes with it; they hold no secrets.
func (n *Node) telling(action, parameter string, do adminDo) adminDo {
	kind, _, _ := strings.Cut(action, ".")
	return func(r *http.Request) (said any, err error) {
		q := r.URL.Query()
		e := chain.Event{Action: action, Resource: chain.Resource{Kind: kind, Name: q.Get(parameter)},
			After: audit.State(q)}
		if r.Method == http.MethodGet { // it is no change: who saw a message
			n.audit.Show(r.Context(), e)
			return do(r)
		}
		err = n.audit.Change(r.Context(), e, func() (err error) {
			said, err = do(r)
			return err
		})
		return said, err
	}
}

// adminRefusal is the answer to what is refused.
type adminRefusal struct {
	Error string `json:"error"`
	Kind  string `json:"kind"` // of package fault, in words
	Hint  string `json:"hint,omitempty"`
}

func refuse(w http.ResponseWriter, err error) {
	answerJSON(w, adminStatus(fault.KindOf(err)), refusalOf(err))
}

func refusalOf(err error) adminRefusal {
	return adminRefusal{Error: err.Error(), Kind: fault.KindOf(err).String(), Hint: fault.HintOf(err)}
}

// adminStatus is the status for a kind of error: that of the API, but for two kinds that programs know by another one.
func adminStatus(kind fault.Kind) int {
	switch kind {
	case fault.TooLarge:
		return http.StatusBadRequest
	case fault.Unsupported:
		return http.StatusInternalServerError
	}
	return api.StatusOf(kind)
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", adminType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// number is a parameter that is a number from 1 to most; without it, most.
func number(r *http.Request, name string, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return most, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fault.New(fault.Invalid, "admin", "%s=%s is not a number from 1 to %d", name, text, most)
	}
	return n, nil
}

// mostSessions bounds a page of sessions.
const mostSessions = 10_000

// adminSessions lists sessions by client identifier: those behind after, with prefix, connected or away, limit of them.
func (n *Node) adminSessions(r *http.Request) (any, error) {
	q, err := sessionQuery(r)
	if err != nil {
		return nil, err
	}
	lines, silent, err := n.sessions(r.Context(), q)
	return ofGateways{lines, silent}, err
}

func sessionQuery(r *http.Request) (mqtt.SessionQuery, error) {
	limit, err := number(r, "limit", mostSessions)
	q := r.URL.Query()
	return mqtt.SessionQuery{After: q.Get("after"), Prefix: q.Get("prefix"), State: q.Get("state"), Limit: limit}, err
}

// adminSlow lists clients that have been slow for a time, limit of them.
func (n *Node) adminSlow(r *http.Request) (any, error) {
	limit, err := number(r, "limit", mostSessions)
	if err != nil {
		return nil, err
	}
	over := time.Duration(0)
	if text := r.URL.Query().Get("over"); text != "" {
		if over, err = parseDuration(text); err != nil {
			return nil, fault.New(fault.Invalid, "admin", "over: %w", err)
		}
	}
	return n.mqtt.Slow(over, limit), nil
}

func (n *Node) adminSession(r *http.Request) (any, error) {
	return n.session(r.Context(), r.URL.Query().Get("client"))
}

func (n *Node) adminEvents(r *http.Request) (any, error) {
	all, silent, err := n.events(r.Context(), r.URL.Query().Get("client"))
	return ofGateways{all, silent}, err
}

// adminKick ends the connection of a session, and with forget=true the session too.
func (n *Node) adminKick(r *http.Request) (any, error) {
	q := r.URL.Query()
	return n.kick(r.Context(), q.Get("client"), q.Get("forget") == "true")
}

// adminRetained lists retained messages by topic name: those that filter matches, behind after, limit of them.
func (n *Node) adminRetained(r *http.Request) (any, error) {
	limit, err := number(r, "limit", mostSessions)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	return n.mqtt.Retained(r.Context(), cmp.Or(q.Get("filter"), "#"), q.Get("after"), limit)
}

func (n *Node) adminMessage(r *http.Request) (any, error) {
	m, err := n.mqtt.RetainedMessage(r.Context(), r.URL.Query().Get("topic"))
	return n.shown(r.Context(), m), err
}

func (n *Node) adminClear(r *http.Request) (any, error) {
	m, err := n.mqtt.ClearRetained(r.Context(), r.URL.Query().Get("topic"))
	return n.shown(r.Context(), m), err
}

// adminRestore publishes the retained message of a topic again that was there before, or before a time (RFC 3339).
func (n *Node) adminRestore(r *http.Request) (any, error) {
	var before time.Time
	if text := r.URL.Query().Get("before"); text != "" {
		var err error
		if before, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, fault.New(fault.Invalid, "admin", "before=%s is no time as 2026-01-31T12:00:00Z", text)
		}
	}
	m, err := n.mqtt.RestoreRetained(r.Context(), r.URL.Query().Get("topic"), before)
	return n.shown(r.Context(), m), err
}

// shown is what who asks would see of a retained message as a client.
func (n *Node) shown(ctx context.Context, m *mqtt.RetainedMessage) *mqtt.RetainedMessage {
	if pass := passOf(ctx); pass != nil && m != nil {
		if set := n.guard.MaskName(pass, []byte(m.Topic), ""); set != nil {
			m.Mask(set)
		}
	}
	return m
}

// maskTrace takes out of a line what who asks may not see. A client may publish to an alias, or to a name that becomes
// another one, so that who does not see all of everything sees the user properties of no message.
func (n *Node) maskTrace(ctx context.Context, line *mqtt.TraceLine) {
	if pass := passOf(ctx); line.Payload != nil && pass != nil && n.guard.Masked(pass) {
		line.User = nil
	}
}

func (n *Node) adminShares(*http.Request) (any, error) { return n.mqtt.Shares() }
