package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/handover"
	"github.com/firthmq/firth/internal/kit/fault"
)

// adopted are listening sockets that a process has before its node takes addresses: it was given them, or took them
// early to know that they can be had. nil: there are none.
type adopted struct {
	byDoor map[door][]net.Listener
	rest   []net.Listener // that no door listens on, of a process before
}

// take gives the sockets of a door; nil: there are none.
func (a *adopted) take(d door) []net.Listener {
	if a == nil {
		return nil
	}
	ls := a.byDoor[d]
	delete(a.byDoor, d)
	return ls
}

// adopt gives each socket that was passed to the door that it is for. What a process before had and the configuration
// has no more is put aside; what systemd passes has to fit. The files of the sockets are closed.
func adopt(c *Config, given []handover.Socket) (*adopted, error) {
	a := &adopted{byDoor: map[door][]net.Listener{}}
	doors := c.doors()
	var errs []error
	for _, s := range given {
		l, err := listenerOf(&s)
		if err == nil {
			err = a.add(c, doors, &s, l)
		}
		errs = append(errs, err, s.File.Close())
	}
	return a, errors.Join(errs...)
}

func (a *adopted) add(c *Config, doors []door, s *handover.Socket, l net.Listener) error {
	d, ok := doorFor(doors, s, l.Addr(), a.byDoor)
	switch {
	case !ok && s.Address != "":
		a.rest = append(a.rest, l)
		return nil
	case !ok:
		err := fault.New(fault.Invalid, "LISTEN_FDS", "systemd passes the socket %s (%s), and no door is for it",
			fault.Text(s.Name), addressOf(l)).WithHint("set FileDescriptorName= in its unit to one of %s, or set one of "+
			"listen.* to its address", strings.Join(labels(doors), ", "))
		return errors.Join(err, l.Close())
	}
	at := d
	if at.address = addressOf(l); !c.mayListen(&at) {
		return errors.Join(fault.New(fault.Denied, d.key, "%s", refuseRemote(at.address)), l.Close())
	}
	a.byDoor[d] = append(a.byDoor[d], l)
	return nil
}

func labels(doors []door) (all []string) {
	for _, d := range doors {
		if label := d.label(); !slices.Contains(all, label) {
			all = append(all, label)
		}
	}
	return all
}

// doorFor finds the door for a socket: the one that it was of in the process before; of those with its name the one
// whose address it has, or the first that has no socket yet; by its address alone where its name is nobody's.
func doorFor(doors []door, s *handover.Socket, at net.Addr, taken map[door][]net.Listener) (d door, ok bool) {
	find := func(is func(d *door) bool) bool {
		i := slices.IndexFunc(doors, func(d door) bool { return is(&d) })
		if i >= 0 {
			d = doors[i]
		}
		return i >= 0
	}
	named := func(d *door) bool { return d.label() == s.Name }
	if s.Address != "" {
		same := func(d *door) bool { return named(d) && d.address == s.Address }
		return d, find(same) || find(func(d *door) bool { return isAt(d, at) })
	}
	if !find(named) {
		return d, find(func(d *door) bool { return isAt(d, at) })
	}
	return d, find(func(d *door) bool { return named(d) && isAt(d, at) }) ||
		find(func(d *door) bool { return named(d) && len(taken[*d]) == 0 }) || find(named)
}

// isAt tells whether a door would listen at an address, or at more than that.
func isAt(d *door, at net.Addr) bool {
	if at.Network() == "unix" {
		return d.address == unixPrefix+at.String()
	}
	is, err := netip.ParseAddrPort(at.String())
	host, port, err2 := net.SplitHostPort(d.address)
	_, is2, err3 := net.SplitHostPort(at.String())
	if err != nil || err2 != nil || err3 != nil || port != is2 {
		return false
	}
	ip := is.Addr().Unmap().WithZone("")
	if host == localhost {
		return ip.IsLoopback()
	}
	if host == "" {
		return ip.IsUnspecified()
	}
	want, err := netip.ParseAddr(host)
	return err == nil && (want.Unmap() == ip || want.IsUnspecified() && ip.IsUnspecified())
}

// listenerOf is a socket that was passed, as a listener that a node can have.
func listenerOf(s *handover.Socket) (net.Listener, error) {
	l, err := s.Listener()
	if err != nil {
		return nil, err
	}
	of, ok := l.(*net.UnixListener)
	if !ok {
		return l, nil
	}
	u, err := adoptUnix(of, s.Lasting)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return u, nil
}

// addressOf is where a listener listens: host:port, or unix:/path.
func addressOf(l net.Listener) string {
	if at := l.Addr(); at.Network() == "unix" {
		return unixPrefix + at.String()
	}
	return l.Addr().String()
}

// complete takes the addresses of the doors that were given no socket.
func (a *adopted) complete(ctx context.Context, c *Config) error {
	var errs []error
	for _, d := range c.doors() {
		if len(a.byDoor[d]) > 0 {
			continue
		}
		ls, err := listen(ctx, d, c.mayListen(&d))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		a.byDoor[d] = ls
	}
	return errors.Join(errs...)
}

// own makes what was passed this process' own: the files of Unix sockets go with it. What no door is for is closed.
func (a *adopted) own() error {
	for _, ls := range a.byDoor {
		for _, l := range ls {
			ownUnix(l, true)
		}
	}
	var errs []error
	for _, l := range a.rest {
		ownUnix(l, true)
		errs = append(errs, l.Close())
	}
	a.rest = nil
	return errors.Join(errs...)
}

// drop closes everything; what was passed stays the other process'.
func (a *adopted) drop() error {
	var errs []error
	for _, ls := range a.byDoor {
		for _, l := range ls {
			errs = append(errs, l.Close())
		}
	}
	for _, l := range a.rest {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// ownUnix says whether the file of a Unix socket goes when this process closes it; other sockets have none.
func ownUnix(l net.Listener, owned bool) {
	if u, ok := l.(*unixListener); ok {
		u.own(owned)
	}
}
