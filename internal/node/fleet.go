package node

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/placement"
	"github.com/firthmq/firth/internal/mqtt"
)

// What an operator asks any gateway about sessions that gateways share: of lists each tells its own, and the one that
// was asked merges them; what is about one session is asked where that is. Who asks was let in, and judged, by the one
// that was asked: the others answer gateways only, over links.

// ofGateways is an answer to which some gateways may have nothing said.
type ofGateways struct {
	said   any
	silent []string // their names
}

// silentHeader names the gateways of which nothing is in an answer, with commas between them.
const silentHeader = "Firth-Silent"

// others are the other gateways that have sessions; none, where nobody shares them.
func (n *Node) others() (all []placement.Node) {
	if !n.sharesSessions() {
		return nil
	}
	table := n.standing.place.Table()
	for _, one := range table.Nodes {
		if one.Name != n.instanceName && len(table.Of(one.Name)) > 0 {
			all = append(all, one)
		}
	}
	return all
}

// askOthers asks all other gateways at once, and has take take their answers, one at a time. It gives the names of
// those that did not answer, in order.
func askOthers[T any](ctx context.Context, n *Node, what string, take func(*T)) (silent []string) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, one := range n.others() {
		asking.Go(func() {
			said := new(T)
			err := n.ask(ctx, one, http.MethodGet, what, said)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				n.log.Warn("a gateway did not tell what it has", "gateway", one.Name, "error", err)
				silent = append(silent, one.Name)
				return
			}
			take(said)
		})
	}
	asking.Wait()
	slices.Sort(silent)
	return silent
}

// holding is the other gateway that has the session of a client; nil: it is this one. Errors: Unavailable, while none
// has it.
func (n *Node) holding(client string) (*placement.Node, error) {
	if !n.sharesSessions() {
		return nil, nil
	}
	shard := n.mqtt.ShardOf(client)
	if n.mqtt.HasShard(shard) {
		return nil, nil
	}
	if to, elsewhere := n.holder(shard); elsewhere {
		return &to, nil
	}
	return nil, errMoves(client)
}

func errMoves(client string) error {
	return fault.New(fault.Unavailable, "session "+fault.Text(client), "it moves to another gateway now").
		WithHint("try again in a second")
}

// where does something where the session of a client is. It gives the name of the gateway that has it; "": nobody
// shares sessions.
func (n *Node) where(
	client string, here func() error, there func(to placement.Node) error,
) (gateway string, err error) {
	to, err := n.holding(client)
	switch {
	case err != nil:
		return "", err
	case to != nil:
		return to.Name, there(*to)
	}
	return n.gatewayName(), here()
}

// sessionDetail is a session with the gateway that has it.
type sessionDetail struct {
	mqtt.SessionDetail
	Gateway string `json:"gateway,omitempty"`
}

// session tells of one session, wherever it is. Errors: NotFound, Unavailable, those of the log.
func (n *Node) session(ctx context.Context, client string) (*sessionDetail, error) {
	s := &sessionDetail{}
	gateway, err := n.where(client, func() error {
		found, err := n.mqtt.Session(client)
		if err == nil {
			s.SessionDetail = *found
		}
		return err
	}, func(to placement.Node) error {
		return n.ask(ctx, to, http.MethodGet, "/session?"+url.Values{"client": {client}}.Encode(), &s.SessionDetail)
	})
	if err != nil {
		return nil, err
	}
	s.Gateway = gateway
	return s, nil
}

// kick ends the connection of a session, and with forget the session, wherever it is. Errors: NotFound, Unavailable,
// those of the log.
func (n *Node) kick(ctx context.Context, client string, forget bool) (said *mqtt.Kicked, err error) {
	_, err = n.where(client, func() (err error) {
		said, err = n.mqtt.Kick(ctx, client, forget)
		return err
	}, func(to placement.Node) error {
		q := url.Values{"client": {client}, "forget": {strconv.FormatBool(forget)}}
		said = new(mqtt.Kicked)
		return n.ask(ctx, to, http.MethodDelete, "/session?"+q.Encode(), said)
	})
	if err != nil {
		return nil, err
	}
	return said, nil
}

// events are the last events of a client on all gateways, for its session may have moved, the oldest first; silent are
// those that did not tell theirs. Errors: NotFound.
func (n *Node) events(ctx context.Context, client string) (all []mqtt.Event, silent []string, err error) {
	all, err = n.mqtt.Events(client)
	if !n.sharesSessions() {
		return all, nil, err
	}
	silent = askOthers(ctx, n, "/events?"+url.Values{"client": {client}}.Encode(), func(theirs *[]mqtt.Event) {
		all = append(all, *theirs...)
	})
	if len(all) == 0 {
		return nil, nil, err
	}
	slices.SortStableFunc(all, func(a, b mqtt.Event) int { return a.At.Compare(b.At) })
	return all[max(0, len(all)-mqtt.EventsEach):], silent, nil
}

// sessionLine is a line of a list of sessions with the gateway that has it.
type sessionLine struct {
	mqtt.SessionLine
	Gateway string `json:"gateway,omitempty"`
}

// sessions lists sessions of all gateways by client identifier; silent are those that did not tell theirs. Errors:
// Invalid.
func (n *Node) sessions(ctx context.Context, q mqtt.SessionQuery) (lines []sessionLine, silent []string, err error) {
	lines, err = n.ownSessions(q)
	if err != nil || !n.sharesSessions() {
		return lines, nil, err
	}
	asked := url.Values{"after": {q.After}, "prefix": {q.Prefix}, "state": {q.State}, "limit": {strconv.Itoa(q.Limit)}}
	silent = askOthers(ctx, n, "/sessions?"+asked.Encode(), func(theirs *[]sessionLine) {
		lines = append(lines, *theirs...)
		lines = firstByClient(lines, q.Limit)
	})
	return firstByClient(lines, q.Limit), silent, nil
}

// firstByClient are the first of them by client identifier, one for each.
func firstByClient(lines []sessionLine, limit int) []sessionLine {
	slices.SortStableFunc(lines, func(a, b sessionLine) int { return cmp.Compare(a.Client, b.Client) })
	lines = slices.CompactFunc(lines, func(a, b sessionLine) bool { return a.Client == b.Client }) // it moved meanwhile
	return lines[:min(limit, len(lines))]
}

// ownSessions lists those of this gateway.
func (n *Node) ownSessions(q mqtt.SessionQuery) ([]sessionLine, error) {
	own, err := n.mqtt.Sessions(q)
	if err != nil {
		return nil, err
	}
	lines := make([]sessionLine, len(own))
	for i := range own {
		lines[i] = sessionLine{own[i], n.gatewayName()}
	}
	return lines, nil
}

// gatewayName is the name of this gateway where sessions are shared, or "".
func (n *Node) gatewayName() string {
	if n.sharesSessions() {
		return n.instanceName
	}
	return ""
}

// serveFleet answers other gateways about the sessions that this one has.
func (n *Node) serveFleet(mux *http.ServeMux) {
	for pattern, do := range map[string]adminDo{
		"GET /sessions": func(r *http.Request) (any, error) {
			q, err := sessionQuery(r)
			if err != nil {
				return nil, err
			}
			return n.ownSessions(q)
		},
		"GET /sessions/page": func(r *http.Request) (any, error) { return n.api.OwnSessions(r) },
		"GET /session":       n.ofOwn(func(_ context.Context, client string) (any, error) { return n.mqtt.Session(client) }),
		"DELETE /session": func(r *http.Request) (any, error) {
			return n.ofOwn(func(ctx context.Context, client string) (any, error) {
				return n.mqtt.Kick(ctx, client, r.URL.Query().Get("forget") == "true")
			})(r)
		},
		"GET /events": func(r *http.Request) (any, error) {
			all, err := n.mqtt.Events(r.URL.Query().Get("client"))
			if fault.Is(err, fault.NotFound) {
				return []mqtt.Event{}, nil
			}
			return all, err
		},
	} {
		mux.Handle(pattern, answering(func(r *http.Request) (any, error) {
			if n.servedSince.Load() == nil {
				return nil, fault.New(fault.Unavailable, "node", "it starts, and has no sessions yet")
			}
			return do(r)
		}))
	}
}

// ofOwn does something with a session that another gateway supposes here.
func (n *Node) ofOwn(do func(ctx context.Context, client string) (any, error)) adminDo {
	return func(r *http.Request) (any, error) {
		client := r.URL.Query().Get("client")
		if !n.mqtt.HasShard(n.mqtt.ShardOf(client)) {
			return nil, errMoves(client)
		}
		return do(r.Context(), client)
	}
}

// SessionsElsewhere implements api.Clients.
func (c apiClients) SessionsElsewhere(
	ctx context.Context, q url.Values, take func(*api.SessionPage),
) (silent []string) {
	return askOthers(ctx, c.n, "/sessions/page?"+q.Encode(), take)
}

// mayTrace tells why the packets of a client cannot be shown here; nil: they can. Errors: Invalid, Unavailable.
func (n *Node) mayTrace(client string) error {
	to, err := n.holding(client)
	if err == nil && to != nil {
		return fault.New(fault.Invalid, "session "+fault.Text(client), "gateway %s has it, and shows its packets", to.Name).
			WithHint("trace it on the machine of that gateway: firth node list has its address")
	}
	return err
}
