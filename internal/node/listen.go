package node

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/proxy"
)

// bind gives all doors their addresses, or none.
func (n *Node) bind(ctx context.Context) error {
	if n.standing == nil || n.sharesSessions() {
		if err := n.takeAddresses(ctx); err != nil {
			return err
		}
	}
	for _, sockets := range n.sockets {
		for i := range sockets {
			sockets[i].Listener = n.encrypted(sockets[i].door, sockets[i].Listener)
		}
	}
	return nil
}

// takeAddresses takes the addresses of all doors: every one that cannot be had is named.
func (n *Node) takeAddresses(ctx context.Context) error {
	var errs []error
	for _, d := range n.cfg.doors() {
		ls, err := n.cfg.adopted.take(d), error(nil)
		if ls == nil {
			ls, err = listen(ctx, d, n.cfg.mayListen(&d))
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, raw := range ls {
			l := n.behind(d, n.frugal(d.name, raw))
			if n.standing != nil && !n.sharesSessions() && (d.name == "mqtt" || d.name == "ws") {
				l = n.standing.peers.Listen(d.label(), l)
			}
			n.sockets[d.name] = append(n.sockets[d.name], socket{Listener: l, raw: raw, door: d})
		}
	}
	return errors.Join(errs...)
}

// socket is an address that the node has.
type socket struct {
	net.Listener
	raw  net.Listener // beneath it
	door door
}

// address is where it listens now: host:port, or unix:/path.
func (s *socket) address() string { return addressOf(s) }

// behind has a listener read the headers of a load balancer, if it is behind one.
func (n *Node) behind(d door, l net.Listener) net.Listener {
	if d.own == nil || !d.own.Proxy {
		return l
	}
	refused := func(balancer net.Addr, why error) { // a node that stands by has no ways yet
		n.log.Debug("closed a connection without a good header of the PROXY protocol", "listener", d.label(),
			"remote", balancer, "error", why)
	}
	if way := n.ways[d.label()]; way != nil {
		refused = way.NoHeader
	}
	return proxy.Listen(l, proxy.Options{Timeout: n.cfg.Limits.ConnectTimeout, Refused: refused})
}

// frugal has the door leave some open files to the log; the HTTP door may use half of these.
func (n *Node) frugal(door string, l net.Listener) net.Listener {
	limit, err := openFiles()
	if err != nil {
		return l
	}
	kept := keptFiles(limit)
	if door == "http" {
		kept /= 2
	}
	return &frugal{Listener: l, most: uintptr(limit - kept), refused: n.crowded.With(door), log: n.log.With("door", door)}
}

// listen takes the address of a door. For localhost these are two, for some clients try IPv6 first and others know
// IPv4 only.
func listen(ctx context.Context, d door, allowed bool) ([]net.Listener, error) {
	if !allowed {
		return nil, fault.New(fault.Denied, d.key, "%s", refuseRemote(d.address))
	}
	if path, isUnix := strings.CutPrefix(d.address, unixPrefix); isUnix {
		l, err := listenUnix(ctx, d, path)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	var lc net.ListenConfig
	at := func(address string) (net.Listener, error) {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, explainListen(door{name: d.name, key: d.key, address: address, own: d.own}, err)
		}
		return l, nil
	}
	if host, port, err := net.SplitHostPort(d.address); err == nil && host == localhost {
		return listenLocal(port, at)
	}
	l, err := at(d.address)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// localhost is this machine, by both families of addresses.
const localhost = "localhost"

// portTries is how often a free port is looked for that both families have.
const portTries = 16

// listenLocal takes a port on this machine for IPv4 and IPv6, or for the one of them that the machine has. The first
// is the one to tell people.
func listenLocal(port string, at func(address string) (net.Listener, error)) (ls []net.Listener, err error) {
	for range portTries {
		first, err := at(net.JoinHostPort("127.0.0.1", port))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		same := port
		if err == nil {
			ls = []net.Listener{first}
			_, same, _ = net.SplitHostPort(first.Addr().String())
		}
		second, other := at(net.JoinHostPort("::1", same))
		switch {
		case other == nil:
			return append(ls, second), nil
		case fault.Is(other, fault.NotFound):
			return ls, err // nil, but where there is neither
		}
		if err == nil {
			other = errors.Join(other, first.Close())
		}
		if port != "0" || !fault.Is(other, fault.Exists) {
			return nil, other
		}
		ls = nil // another program has the port that was free for IPv4
	}
	return nil, fault.New(fault.Exists, "node.Listen", "no port is free for both IPv4 and IPv6")
}

// explainListen says in words of people why an address cannot be had.
func explainListen(d door, err error) error {
	_, port, splitErr := net.SplitHostPort(d.address)
	if splitErr != nil {
		port = d.address
	}
	choose := "choose another one: --set " + d.key + "=HOST:PORT"
	if d.own != nil {
		choose = "choose another one"
	}
	path, isUnix := strings.CutPrefix(d.address, unixPrefix)
	switch {
	case isUnix && errors.Is(err, errInUse):
		return fault.New(fault.Exists, d.key, "another program listens on %s", d.address).
			WithHint("ss -lxp src %s shows which", path)
	case isUnix:
		return fault.New(fault.IO, d.key, "cannot listen on %s: %w", d.address, err).
			WithHint("its folder must be there, and belong to the user that runs firth")
	case errors.Is(err, errInUse):
		return fault.New(fault.Exists, d.key, "%s is in use by another program", d.address).
			WithHint(whoListens+" shows which; stop it, or %s (port 0 takes any free one)", port, choose)
	case errors.Is(err, errDenied):
		return fault.New(fault.Denied, d.key, "%s may not be used by this user", d.address).
			WithHint("ports below 1024 are for root; %s", choose)
	case errors.Is(err, errNoAddress), errors.Is(err, errNoFamily):
		return fault.New(fault.NotFound, d.key, "%s is no address of this machine", d.address).WithHint("%s", choose)
	}
	return fault.New(fault.IO, d.key, "cannot listen on %s: %w", d.address, err).WithHint("%s", choose)
}

// warnOfStrangers logs at each start which doors strangers can reach.
func (n *Node) warnOfStrangers() {
	for _, d := range n.cfg.doors() {
		for _, l := range n.sockets[d.name] {
			if l.door != d || isLoopback(l.address()) || n.cfg.asksWho(&d) {
				continue
			}
			n.log.Warn("anybody who reaches this address can read and write everything: nothing asks who is there",
				"door", d.name, "address", l.Addr().String(), "because", "allow_remote_without_auth: true")
		}
	}
}

// serveAll serves all addresses of a door, until one of them ends.
func serveAll(
	ctx context.Context, ls []socket, serve func(ctx context.Context, s socket) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(ls))
	for i, l := range ls {
		wg.Go(func() {
			defer cancel()
			errs[i] = serve(ctx, l)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
