package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/placement"
	"github.com/firthmq/firth/internal/peer"
)

// gatewayLine is what a gateway tells of itself.
type gatewayLine struct {
	Name    string     `json:"name"`              // in the cluster, as its folder has it
	Address string     `json:"address,omitempty"` // for other gateways
	State   string     `json:"state"`             // one of those below
	Since   *time.Time `json:"since,omitempty"`   // when it began to serve; when it started, where it does not
	Version string     `json:"version,omitempty"`
	Shards  int        `json:"shards"`      // of the sessions, that it has
	Spool   int64      `json:"spool_bytes"` // that wait on its disk for Kafka
	Problem string     `json:"problem,omitempty"`
}

// What a gateway does.
const (
	gatewayServes   = "serves"
	gatewayStandsBy = "stands by"
	gatewayDrains   = "drains"
	gatewaySilent   = "silent" // it has a place, and does not answer
)

// gatewayPatience is how long a gateway has to answer another one.
const gatewayPatience = 3 * time.Second

// errDrained ends the start of a node that stands by.
var errDrained = fault.New(fault.Closed, "node.Start", "drained while it stood by")

// line is what this gateway tells of itself.
func (n *Node) line() gatewayLine {
	since := n.servedSince.Load()
	l := gatewayLine{Name: n.instanceName, State: gatewayServes, Since: since, Version: BuildVersion().Version,
		Shards: shardsOfGateways}
	if s := n.standing; s != nil {
		l.Address, l.Shards = s.self.Address, len(s.place.Mine())
		switch {
		case s.isDrained():
			l.State = gatewayDrains
		case since == nil:
			l.State = gatewayStandsBy
		}
	}
	if since == nil { // there is no log yet
		l.Since = &n.began
		return l
	}
	if of, ok := n.keeper.(*spooled); ok {
		l.Spool = of.Status().Bytes
	}
	return l
}

// serveOwn answers other gateways about this one, from when it has its place until it gives it back.
func (n *Node) serveOwn() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /line", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, n.line()) })
	mux.HandleFunc("POST /look", func(w http.ResponseWriter, _ *http.Request) {
		n.standing.place.Look()
		answerJSON(w, http.StatusOK, nil)
	})
	mux.Handle("POST /drain", answering(func(r *http.Request) (any, error) {
		return n.drainSelf(r.URL.Query().Get("force") == "true")
	}))
	n.serveFleet(mux)
	server, own := n.newServer(mux), n.standing.peers.Own()
	server.ReadTimeout, server.WriteTimeout = requestTimeout, answerTimeout
	stop := n.run("answers to gateways", func(context.Context) error {
		if err := server.Serve(own); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	n.opened("answers to gateways", func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		return errors.Join(err, stop(ctx))
	})
}

// mostAnswer bounds what another gateway answers, in bytes.
const mostAnswer = 4 * mib

// ask asks another gateway something, which may have been done all the same where it fails. Errors: Unavailable, and
// what it answers.
func (n *Node) ask(ctx context.Context, to placement.Node, method, what string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, gatewayPatience)
	defer cancel()
	target := peer.Elsewhere(to.Address, to.Fingerprint)
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return n.standing.peers.Reach(ctx, target)
		},
	}}
	r, err := http.NewRequestWithContext(ctx, method, "http://gateway"+what, http.NoBody)
	if err != nil {
		return err
	}
	a, err := client.Do(r)
	if err != nil {
		return fault.New(fault.Unavailable, "node", "gateway %s does not answer: %w", to.Name, errors.Unwrap(err))
	}
	defer a.Body.Close()
	from := json.NewDecoder(io.LimitReader(a.Body, mostAnswer))
	if a.StatusCode == http.StatusOK {
		if err := from.Decode(out); err != nil {
			return fault.New(fault.Unavailable, "node", "gateway %s answers with what is not understood, or too much: %w",
				to.Name, err)
		}
		return nil
	}
	var no adminRefusal
	if err := from.Decode(&no); err != nil {
		return fault.New(fault.Unavailable, "node", "gateway %s answers with %s", to.Name, a.Status)
	}
	return fault.New(kindOfStatus(a.StatusCode), "node", "gateway %s: %s", to.Name, no.Error).WithHint("%s", no.Hint)
}

// kindOfStatus is the kind of an answer of another gateway that is no good one.
func kindOfStatus(status int) fault.Kind {
	switch status {
	case http.StatusBadRequest:
		return fault.Invalid
	case http.StatusNotFound:
		return fault.NotFound
	}
	return fault.Unavailable
}

// gateways are all that have a place in the cluster, as each tells of itself.
func (n *Node) gateways(ctx context.Context) []gatewayLine {
	if n.standing == nil {
		return []gatewayLine{n.line()}
	}
	table := n.standing.place.Table()
	all := make([]gatewayLine, len(table.Nodes))
	var asking sync.WaitGroup
	for i, one := range table.Nodes {
		if one.Name == n.instanceName {
			all[i] = n.line()
			continue
		}
		asking.Go(func() {
			if err := n.ask(ctx, one, http.MethodGet, "/line", &all[i]); err != nil {
				all[i] = gatewayLine{Name: one.Name, Address: one.Address, State: gatewaySilent,
					Shards: len(table.Of(one.Name)), Problem: err.Error()}
			}
		})
	}
	asking.Wait()
	return all
}

// adminNodes tells of the gateways of the cluster.
func (n *Node) adminNodes(r *http.Request) (any, error) {
	if !n.cfg.isGateway() {
		return nil, errNoGateway
	}
	return n.gateways(r.Context()), nil
}

var errNoGateway = fault.New(fault.Invalid, "node", "this node keeps its log itself: it is no gateway").
	WithHint("gateways stand before a Kafka cluster: log.kafka.brokers")

// adminDrain has a gateway hand over what it has and end: the one that name names, or the one that is asked.
func (n *Node) adminDrain(r *http.Request) (said any, err error) {
	q := r.URL.Query()
	to, err := n.named(q.Get("name"))
	if err != nil {
		return nil, err
	}
	force := q.Get("force") == "true"
	e := chain.Event{Action: "node.drain", Resource: chain.Resource{Kind: "node", Name: to.Name}, After: audit.State(q)}
	err = n.audit.Change(r.Context(), e, func() (err error) {
		if to.Name == n.instanceName {
			said, err = n.drainSelf(force)
			return err
		}
		var line gatewayLine
		what := "/drain?" + url.Values{"force": q["force"]}.Encode()
		err = n.ask(r.Context(), to, http.MethodPost, what, &line)
		said = line
		return err
	})
	return said, err
}

// named finds a gateway by its name, or by how that begins; "": this one. Errors: NotFound, Invalid.
func (n *Node) named(name string) (found placement.Node, err error) {
	switch {
	case !n.cfg.isGateway():
		return found, errNoGateway
	case n.standing == nil:
		return found, fault.New(fault.Invalid, "node", "it is the only gateway, and can hand over to nobody").
			WithHint("stop it; or begin with %s: %s", gatewaysKey, manyGateways)
	}
	table := n.standing.place.Table()
	name = cmp.Or(name, n.instanceName)
	for _, one := range table.Nodes {
		switch {
		case one.Name == name:
			return one, nil
		case !strings.HasPrefix(one.Name, name):
		case found.Name != "":
			return found, fault.New(fault.Invalid, "node", "two gateways have names that begin with %s", fault.Text(name))
		default:
			found = one
		}
	}
	if found.Name == "" {
		return found, fault.New(fault.NotFound, "node", "no gateway has the name %s", fault.Text(name)).
			WithHint("firth node list has their names")
	}
	return found, nil
}

// drainSelf has this gateway begin to hand over. Errors: Invalid, where nobody could go on and that is not wanted.
func (n *Node) drainSelf(force bool) (gatewayLine, error) {
	s := n.standing
	if table := s.place.Table(); len(s.place.Mine()) > 0 && len(table.Nodes) < 2 && !force {
		return gatewayLine{}, fault.New(fault.Invalid, "node", "no other gateway stands by: nobody would serve devices").
			WithHint("start another one first; --force drains it all the same")
	}
	s.drain.Do(func() { close(s.drained) })
	n.log.Info("drained: it hands over what it has, and ends")
	return n.line(), nil
}

// Drained is closed when somebody has asked that this node hands over what it has and ends.
func (n *Node) Drained() <-chan struct{} {
	if n.standing == nil {
		return nil
	}
	return n.standing.drained
}

func (s *standing) isDrained() bool {
	select {
	case <-s.drained:
		return true
	default:
		return false
	}
}

// giveBack gives the place back, and has the others look at once who serves now.
func (n *Node) giveBack(ctx context.Context) {
	table := n.standing.place.Table()
	n.standing.place.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var asking sync.WaitGroup
	for _, one := range table.Nodes {
		if one.Name == n.instanceName {
			continue
		}
		asking.Go(func() {
			if err := n.ask(ctx, one, http.MethodPost, "/look", new(any)); err != nil {
				n.log.Debug("a gateway was not told", "gateway", one.Name, "error", err)
			}
		})
	}
	asking.Wait()
}
