package node

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/placement"
	"github.com/firthmq/firth/internal/peer"
)

// PeersConfig says how other gateways of the cluster reach this one.
type PeersConfig struct {
	Listen    string // host:port
	Advertise string // "auto" or host:port
}

// allSessions is the only shard that gateways give each other as yet: the sessions of all devices.
const allSessions, shardsOfGateways = 0, 1

// standing is a node among the gateways of a cluster.
type standing struct {
	place    *cluster.Place
	peers    *peer.Peers
	identity *peer.Identity
	links    net.Listener // of other gateways

	turn  chan struct{} // closed when all sessions are this node's
	ours  bool          // turn is closed
	known chan struct{} // closed when it is known who has them

	self    placement.Node
	drain   sync.Once
	drained chan struct{} // closed by the first who wants it to end

	shared *sharedSessions // nil: one gateway has all sessions
}

// awaitTurn has this node take its place among the gateways of a cluster, and returns when it has the sessions. Until
// then connections of devices are passed on to the gateway that has them. Errors: those of the addresses and of
// cluster.Join.
func (n *Node) awaitTurn(ctx context.Context, options cluster.Options) (*cluster.Place, error) {
	if err := n.openPeers(ctx); err != nil {
		return nil, err
	}
	if err := n.takeAddresses(ctx); err != nil {
		return nil, errors.Join(err, n.standing.links.Close())
	}
	if err := n.takePlace(ctx, options, cluster.Sharing{Shards: shardsOfGateways}); err != nil {
		return nil, err
	}
	n.opened("routes", n.run("routes", n.routes))
	return n.standing.place, n.standBy(ctx)
}

// openPeers has this node be one among others: it has an identity, and an address for their links.
func (n *Node) openPeers(ctx context.Context) error {
	identity, err := peer.NewIdentity()
	if err != nil {
		return err
	}
	s := &standing{identity: identity, turn: make(chan struct{}), known: make(chan struct{}),
		drained: make(chan struct{})}
	s.peers = peer.New(peer.Options{
		Identity: identity, Timeout: n.cfg.Limits.ConnectTimeout, Most: n.cfg.Limits.Connections,
		Logger: n.log, Metrics: n.metrics, Knows: func(f peer.Fingerprint) bool {
			table := s.place.Table()
			return table.Knows(f)
		},
	})
	s.links, err = n.listenToPeers(ctx)
	n.standing = s
	return err
}

// takePlace has this node take its place in the group, and others reach it.
func (n *Node) takePlace(ctx context.Context, options cluster.Options, how cluster.Sharing) (err error) {
	s := n.standing
	s.self = placement.Node{Name: options.Instance, Address: n.cfg.Log.Kafka.Peers.address(s.links.Addr()),
		Fingerprint: s.identity.Fingerprint()}
	if s.place, err = cluster.Join(ctx, options, s.self, how); err != nil {
		return errors.Join(err, s.links.Close())
	}
	n.opened("place among gateways", func(ctx context.Context) error { n.giveBack(ctx); return nil })
	n.opened("links of gateways", n.run("links of gateways", func(ctx context.Context) error {
		return s.peers.Serve(ctx, s.links)
	}))
	n.serveOwn()
	return nil
}

// standBy waits until the sessions are this node's.
func (n *Node) standBy(ctx context.Context) error {
	s := n.standing
	select {
	case <-s.turn:
		return nil
	case <-s.known:
	case err := <-n.failed:
		return err
	case <-ctx.Done():
		return fault.New(fault.Closed, "node.Start", "ended before the gateways of the cluster were found: %w", ctx.Err())
	}
	stop := n.serveStandby()
	defer stop()
	n.log.Info("standing by: another gateway serves, and devices that connect here are passed on to it")
	if n.cfg.StandsBy != nil {
		n.cfg.StandsBy(n)
	}
	select {
	case <-s.turn:
		n.log.Info("the sessions are this node's: it serves from now on")
		return nil
	case <-s.drained:
		return errDrained
	case err := <-n.failed:
		return err
	case <-ctx.Done():
		return fault.New(fault.Closed, "node.Start", "ended while it stood by: %w", ctx.Err())
	}
}

// routes has connections go where the sessions are, until this node loses its place, or the sessions once it had them.
func (n *Node) routes(ctx context.Context) error {
	s, known := n.standing, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.place.Lost():
			s.peers.Route(peer.Target{})
			return err
		case <-s.place.News():
		}
		table := s.place.Table()
		switch has, ok := table.Holder(allSessions); {
		case ok && has.Name == n.instanceName && len(s.place.Mine()) > 0:
			s.peers.Route(peer.Here())
			if !s.ours {
				s.ours = true
				close(s.turn)
			}
		case s.ours:
			s.peers.Route(peer.Target{})
			return fault.New(fault.Fenced, "node", "the sessions were given to another gateway")
		case !ok || has.Address == "":
			s.peers.Route(peer.Target{})
		default:
			s.peers.Route(peer.Elsewhere(has.Address, has.Fingerprint))
			if !known {
				known = true
				close(s.known)
			}
		}
	}
}

// listenToPeers takes the address for links of other gateways.
func (n *Node) listenToPeers(ctx context.Context) (net.Listener, error) {
	d := door{name: "gateways", key: peersKey + "listen", address: n.cfg.Log.Kafka.Peers.Listen}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.address)
	if err != nil {
		return nil, explainListen(d, err)
	}
	return n.frugal(d.name, l), nil
}

// address is where others reach a node that listens there.
func (p PeersConfig) address(listens net.Addr) string {
	if p.Advertise != auto {
		return p.Advertise
	}
	return listens.String()
}

// serveStandby serves HTTP while the node stands by, without TLS only: whether it is alive, and whether devices may be
// sent here. The addresses stay taken when it stops.
func (n *Node) serveStandby() (stop func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if to, _ := n.standing.peers.Target(); to == (peer.Target{}) {
			answer(w, http.StatusServiceUnavailable, "standing by: no gateway serves now\n")
			return
		}
		answer(w, http.StatusOK, "standing by: devices are passed on to the gateway that serves\n")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !n.isHere(r) {
			answer(w, http.StatusServiceUnavailable, "standing by: only programs of this machine are answered\n")
			return
		}
		n.metrics.Handler().ServeHTTP(w, r)
	})
	mux.HandleFunc(adminPath+"/", n.refuseStandby)
	server := n.newServer(atHome(n.cfg.publicHosts(), mux))
	server.ReadTimeout, server.WriteTimeout = requestTimeout, answerTimeout
	done := make(chan struct{})
	var all []lent
	for _, s := range n.sockets["http"] {
		if l, ok := s.raw.(interruptible); ok && !s.door.tls {
			all = append(all, lent{l})
		}
	}
	for _, l := range all {
		go func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				n.log.Warn("nothing answers HTTP while the node stands by", "address", l.Addr(), "error", err)
			}
			done <- struct{}{}
		}()
	}
	return func() {
		if err := server.Close(); err != nil {
			n.log.Debug("closing HTTP of a node that stands by", "error", err)
		}
		for range all {
			<-done
		}
		for _, l := range all {
			_ = l.SetDeadline(time.Time{}) // it fails for one that is closed: its door will say so
		}
	}
}

// refuseStandby tells who wants to administer where to ask.
func (n *Node) refuseStandby(w http.ResponseWriter, _ *http.Request) {
	table := n.standing.place.Table()
	has, _ := table.Holder(allSessions)
	refuse(w, fault.New(fault.Unavailable, "admin", "this gateway stands by, and answers no commands").
		WithHint("ask the one that serves, on its machine; other gateways reach it at %s", cmp.Or(has.Address, "no address")))
}

// interruptible is a listener whose Accept can be ended.
type interruptible interface {
	net.Listener
	SetDeadline(t time.Time) error
}

// lent is a listener that is given back when it is closed.
type lent struct{ interruptible }

// Close implements net.Listener: Accept ends, and the address stays taken.
func (l lent) Close() error { return l.SetDeadline(time.Unix(1, 0)) }

// checkPeers looks at what several gateways need.
func (l *loader) checkPeers() {
	k := &l.config.Log.Kafka
	if k.Gateways == "one" {
		for key, set := range map[string]bool{"listen": k.Peers.Listen != "", "advertise": k.Peers.Advertise != auto} {
			if set {
				l.report(l.origin(peersKey+key), "%s: means nothing without %s: %s or %s", peersKey+key, gatewaysKey,
					manyGateways, sharedGateways)
			}
		}
		return
	}
	host, _, err := net.SplitHostPort(k.Peers.Listen)
	ip := net.ParseIP(host)
	if k.Gateways == sharedGateways {
		l.checkShared()
	}
	switch {
	case k.Ack == ackSpool:
		l.report(l.origin("log.kafka.ack"), "log.kafka.ack: %s cannot be with %s: %s: what waits on the disk of one gateway "+
			"would not be there where another one goes on", ackSpool, gatewaysKey, k.Gateways)
	case k.Peers.Listen == "":
		l.report(l.origin(gatewaysKey), "%s: %s needs %slisten, where other gateways reach this one", gatewaysKey,
			k.Gateways, peersKey)
	case k.Peers.Advertise == auto && (err != nil || host == "" || ip != nil && ip.IsUnspecified()):
		l.report(l.origin(peersKey+"advertise"), "%sadvertise: other gateways need an address that they can connect to: "+
			"%s is one to listen on", peersKey, k.Peers.Listen)
	}
}

const (
	gatewaysKey    = "log.kafka.gateways"
	peersKey       = "log.kafka.peers."
	manyGateways   = "many"
	sharedGateways = "shared"
)

func peersOptions() []Option {
	return []Option{
		Option{Key: gatewaysKey, Default: "one",
			Doc: "How many gateways there may be before the cluster. one: a second one is refused. many (experimental): " +
				"one serves all devices, and the others stand by: they pass the connections of devices on to it, and one of " +
				"them takes its place when it ends. shared (experimental): all of them serve, each the sessions of some " +
				"devices, and pass on those of others ([gateway.md](gateway.md#gateways-that-share-sessions) says what cannot " +
				"be had with it). All gateways of a cluster say the same.",
		}.choice(func(c *Config) *string { return &c.Log.Kafka.Gateways }, "one", manyGateways, sharedGateways),
		Option{Key: peersKey + "listen", Type: "TCP address", Default: "off",
			Doc: "Where other gateways pass connections on to this one. They know each other by certificates that are " +
				"told in the group " + cluster.LeaseGroup + ": whoever may read that group in Kafka may pass as a gateway.",
		}.addressBy(func(c *Config) *string { return &c.Log.Kafka.Peers.Listen }, parseListen),
		Option{Key: peersKey + "advertise", Type: "auto | host:port", Default: auto,
			Doc: "The address that other gateways connect to. auto: the one of listen.",
		}.text(func(c *Config) *string { return &c.Log.Kafka.Peers.Advertise }, checkAdvertise),
	}
}

// announceStandby says where a node that stands by can be reached.
func (p Process) announceStandby(n *Node, took time.Duration) error {
	r := n.ready(took)
	r.StandsBy, r.Addresses, r.More = true, n.Addresses(), n.more()
	if err := p.tell(r, greeting(r)); err != nil {
		return err
	}
	p.notify(n.log, "READY=1", r.state())
	return nil
}
