package node

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

// bind takes the addresses of all doors, or none: every address that cannot be had is named.
func (n *Node) bind(ctx context.Context) error {
	refused := n.metrics.Counter("firth_connections_refused_total",
		"Connections closed at once because too few open files are left.", "door")
	var errs []error
	for _, d := range n.cfg.doors() {
		if d.address == "" {
			continue
		}
		l, err := listen(ctx, d, n.cfg.AllowRemoteWithoutAuth)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		n.sockets[d.name] = n.frugal(d.name, l, refused.With(d.name))
	}
	return errors.Join(errs...)
}

// frugal has the door leave some open files to the log; the HTTP door may use half of these.
func (n *Node) frugal(door string, l net.Listener, refused telemetry.Counter) net.Listener {
	limit, err := openFiles()
	if err != nil {
		return l
	}
	kept := keptFiles(limit)
	if door == "http" {
		kept /= 2
	}
	return &frugal{Listener: l, most: uintptr(limit - kept), refused: refused, log: n.log.With("door", door)}
}

func listen(ctx context.Context, d door, remote bool) (net.Listener, error) {
	if !remote && !isLoopback(d.address) {
		return nil, fault.New(fault.Denied, d.key, "%s", refuseRemote(d.address))
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.address)
	if err != nil {
		return nil, explainListen(d, err)
	}
	if bound := l.Addr().String(); !remote && !isLoopback(bound) { // localhost stands for something else here
		return nil, errors.Join(fault.New(fault.Denied, d.key, "%s", refuseRemote(bound)), l.Close())
	}
	return l, nil
}

// explainListen says in words of people why an address cannot be had.
func explainListen(d door, err error) error {
	_, port, splitErr := net.SplitHostPort(d.address)
	if splitErr != nil {
		port = d.address
	}
	choose := "choose another one: --set " + d.key + "=HOST:PORT"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fault.New(fault.Exists, d.key, "%s is in use by another program", d.address).
			WithHint("ss -ltnp 'sport = :%s' shows which; stop it, or %s (port 0 takes any free one)", port, choose)
	case errors.Is(err, syscall.EACCES):
		return fault.New(fault.Denied, d.key, "%s may not be used by this user", d.address).
			WithHint("ports below 1024 are for root; %s", choose)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fault.New(fault.NotFound, d.key, "%s is no address of this machine", d.address).WithHint("%s", choose)
	}
	return fault.New(fault.IO, d.key, "cannot listen on %s: %w", d.address, err).WithHint("%s", choose)
}

// warnOfStrangers logs at each start which doors strangers can reach.
func (n *Node) warnOfStrangers() {
	for _, d := range n.cfg.doors() {
		if l := n.sockets[d.name]; l != nil && !isLoopback(l.Addr().String()) {
			n.log.Warn("anybody who reaches this address can read and write everything: nothing asks who is there",
				"door", d.name, "address", l.Addr().String(), "because", "allow_remote_without_auth: true")
		}
	}
}
