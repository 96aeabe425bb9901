package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
)

// People is how those log in who use a browser.
type People struct {
	Idle, Lifetime time.Duration // of a session
	PerUser, Most  int           // sessions
}

// HTTP is how the door for people and programs is reached.
type HTTP struct {
	PublicURL string // "": by the host that requests name
	Proxies   string // networks whose X-Forwarded-For is believed, with commas
}

func peopleOptions() []Option {
	return []Option{
		Option{Key: "access.sessions.idle", Default: "30m",
			Doc: "How long somebody who has logged in by HTTP may do nothing before it has to log in again.",
		}.span(func(c *Config) *time.Duration { return &c.Access.People.Idle }, time.Second, 30*day, ""),
		Option{Key: "access.sessions.lifetime", Default: "12h",
			Doc: "How long somebody who has logged in by HTTP stays so at most. A restart ends it, too.",
		}.span(func(c *Config) *time.Duration { return &c.Access.People.Lifetime }, time.Second, 365*day, ""),
		Option{Key: "access.sessions.per_user", Default: "10",
			Doc:   "How many sessions a user may have by HTTP, in as many browsers.",
			Shows: "the session that was not used for longest ends",
		}.count(func(c *Config) *int { return &c.Access.People.PerUser }, 1, 1000),
		Option{Key: "access.sessions.max", Default: "10000",
			Doc:   "How many sessions there may be by HTTP in all; each takes some 2 KiB of memory.",
			Shows: "the session that was not used for longest ends",
		}.count(func(c *Config) *int { return &c.Access.People.Most }, 1, 1_000_000),
	}
}

func httpOptions() []Option {
	return []Option{
		Option{Key: "http.public_url", Type: "URL",
			Doc: "Where people find listen.http, if that is not where it listens, for a proxy stands between: " +
				"https://firth.example.org. Requests for this host are answered on loopback, too, but not as those of this " +
				"machine. With https, cookies are for https only, and passwords are taken from other machines. " +
				"An identity provider sends people back to it.",
		}.text(func(c *Config) *string { return &c.HTTP.PublicURL }, checkPublicURL),
		Option{Key: "http.trusted_proxies", Type: "list of networks", Default: "", list: true,
			Doc: "The proxies in front of listen.http of which it is believed for whom they ask (X-Forwarded-For): addresses, " +
				"or networks such as 10.0.0.0/8. Without it all who come by a proxy are slowed down together when one of them " +
				"fails to log in, and rules and the audit know the address of the proxy only.",
		}.text(func(c *Config) *string { return &c.HTTP.Proxies }, checkNetworks),
	}
}

// checkPublicURL wants the origin of a web site, without a path.
func checkPublicURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Path != "" ||
		u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || s != u.Scheme+"://"+u.Host:
		return fmt.Errorf("%q is no address of a host such as https://firth.example.org, with nothing behind", s)
	case u.Scheme == "http" && !isHome(u.Host):
		return errors.New("plain http is for this machine only: anybody on the way could take over sessions")
	}
	return nil
}

// publicHost is the host[:port] of http.public_url, or "".
func (c *Config) publicHost() string {
	_, host, _ := strings.Cut(c.HTTP.PublicURL, "://")
	return host
}

// publicHosts is publicHost as patterns for atHome.
func (c *Config) publicHosts() []string {
	return splitList(strings.ReplaceAll(c.publicHost(), "[", `\[`))
}

func checkNetworks(s string) error {
	for _, one := range splitList(s) {
		if _, err := parseNetwork(one); err != nil {
			return fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", one)
		}
	}
	return nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	if at, err := netip.ParseAddr(s); err == nil {
		at = at.Unmap().WithZone("")
		return netip.PrefixFrom(at, at.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// openPeople makes the desk where people log in.
func (n *Node) openPeople(context.Context) (err error) {
	for _, one := range splitList(n.cfg.HTTP.Proxies) {
		network, err := parseNetwork(one)
		if err != nil {
			return fmt.Errorf("http.trusted_proxies: %w", err)
		}
		n.proxies = append(n.proxies, network)
	}
	provider, err := n.openProvider()
	if err != nil {
		return err
	}
	o := n.cfg.Access.People
	n.people, err = people.New(people.Options{
		Access: n.access, Provider: provider, From: n.comer, Refuse: refuseLogin, Banned: n.mqtt.Banned,
		Answer:    func(w http.ResponseWriter, v any) { answerJSON(w, http.StatusOK, v) },
		PublicURL: n.cfg.HTTP.PublicURL, Idle: o.Idle, Lifetime: o.Lifetime, PerUser: o.PerUser, Most: o.Most,
		Now: n.clocks.wall, Audit: n.audit, Metrics: n.metrics,
	})
	if err != nil {
		return err
	}
	n.opened("sessions of people", func(context.Context) error { n.people.Close(); return nil })
	n.access.Watch(n.people.Recheck)
	n.mqtt.WatchBans(n.people.Recheck)
	return nil
}

// refuseLogin refuses who logs in. A page asks, or a form: neither is told of Basic (see challenge).
func refuseLogin(w http.ResponseWriter, err error) {
	if errors.Is(err, access.ErrCredentials) {
		w.Header().Set("WWW-Authenticate", bearerChallenge)
		answerJSON(w, http.StatusUnauthorized, refusalOf(err))
		return
	}
	refuse(w, err)
}

// remote is the address that a request comes from: that which a proxy tells that is believed, or that of the
// connection. Of what several have told, the last that is not such a proxy's counts: those in front of it anybody could
// have written.
func (n *Node) remote(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a Unix socket
	}
	from := at.Addr().Unmap().WithZone("")
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, one := range slices.Backward(said) {
		before, err := netip.ParseAddr(strings.TrimSpace(one))
		if err != nil || !n.isProxy(from) {
			break
		}
		from = before.Unmap().WithZone("")
	}
	return from
}

func (n *Node) isProxy(at netip.Addr) bool {
	return slices.ContainsFunc(n.proxies, func(p netip.Prefix) bool { return p.Contains(at) })
}

// adminPeople lists the sessions of people, or of one user.
func (n *Node) adminPeople(r *http.Request) (any, error) {
	return n.people.List(r.URL.Query().Get("user")), nil
}

// ended is how many sessions were.
type ended struct {
	Ended int `json:"ended"`
}

// adminEndPeople ends the session of an id, or those of a user.
func (n *Node) adminEndPeople(r *http.Request) (any, error) {
	said, err := n.endLogins(r.Context(), r.URL.Query())
	return ended{said}, err
}

// endLogins ends the session of the id of a query, or those of its user, and tells how many.
func (n *Node) endLogins(ctx context.Context, q url.Values) (count int, err error) {
	e := chain.Event{Action: "login.end", After: audit.State(q),
		Resource: chain.Resource{Kind: "login", Name: cmp.Or(q.Get("id"), q.Get("user"))}}
	err = n.audit.Change(ctx, e, func() (err error) {
		count, err = n.people.End(q.Get("id"), q.Get("user"))
		return err
	})
	return count, err
}
