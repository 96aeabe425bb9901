package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth"
	"github.com/firthmq/firth/internal/access/enrol"
	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/apps/console"
	"github.com/firthmq/firth/internal/apps/site"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
)

const (
	maxHeaderBytes = 16 * kib // of an HTTP request
	requestTimeout = 10 * time.Second
	answerTimeout  = 30 * time.Second
	idleTimeout    = 60 * time.Second
)

const frontPage = `This is Firth: MQTT and Kafka, one log. In a browser this is the console.

/healthz          200 while this process should be left alone
/readyz           200 while clients should be sent here; ?verbose names each check
/docs/            the documentation of this version, as a site
/metrics          for Prometheus
/.well-known/est/ where devices enrol
/auth/            where people log in
/admin/v1/        for firth session and the like, from this machine
/hooks/           for services that sign what they send
/api/v1/          for programs and people; /api/v1/openapi.json says what there is
`

// serveHTTP opens the door for people and machines that look after this node.
func (n *Node) serveHTTP(context.Context) error {
	ls := n.sockets["http"]
	if len(ls) == 0 {
		return nil
	}
	n.rememberMetrics()
	mux := http.NewServeMux()
	mux.Handle("/", frontDoor())
	mux.Handle("/docs/", http.StripPrefix("/docs/", site.New(firth.Pages(), BuildVersion().Version)))
	mux.HandleFunc("GET /healthz", n.healthz)
	mux.HandleFunc("GET /readyz", n.readyz)
	mux.Handle("GET /metrics", n.known(n.metrics.Handler()))
	mux.Handle(enrol.Path, n.desk.Handler())
	mux.Handle(people.Path, n.people.Handler())
	n.serveAdmin(mux)
	if err := n.serveHooks(mux); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.api = n.newAPI(ctx)
	mux.Handle(api.Path+"/", n.api)
	mux.Handle("GET "+adminPath+"/trace", n.serveTrace(ctx))
	mux.Handle("GET "+adminPath+"/audit", n.serveAudit(ctx))
	mux.Handle("POST "+adminPath+"/backup", n.serveBackup(ctx))
	mux.Handle("POST "+adminPath+"/diagnose", n.serveDiagnosis(ctx))
	if n.cfg.Profiles {
		n.serveProfiles(mux)
	}
	server := n.newServer(atHome(n.cfg.publicHosts(), mux))
	server.RegisterOnShutdown(cancel)
	server.ReadTimeout, server.WriteTimeout = requestTimeout, answerTimeout
	n.serveRequests("http", server, ls)
	return nil
}

// frontDoor is the console for browsers, and at / a list of what there is for everybody else.
func frontDoor() http.Handler {
	pages := console.New()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" && !console.Wants(r) {
			w.Header().Set("Vary", "Accept")
			answer(w, http.StatusOK, frontPage)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

// known serves programs of this machine, and once there are users or rules from elsewhere only who may look at the
// cluster, unless access.metrics is open.
func (n *Node) known(next http.Handler) http.Handler {
	asked := n.administered(rule.Describe, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.cfg.Access.Metrics == "open" || n.isHere(r) {
			next.ServeHTTP(w, r)
			return
		}
		asked.ServeHTTP(w, r)
	})
}

// isHere tells whether a request came by a loopback address or a Unix socket, and no proxy says that it has passed it
// on for somebody else.
func (n *Node) isHere(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || r.Header.Get("Forwarded") != "" || r.Header.Get("X-Forwarded-For") != "" ||
		!isHome(r.Host) && strings.EqualFold(r.Host, n.cfg.publicHost()) {
		return false
	}
	return local.Network() == "unix" || isLoopback(local.String())
}

// What the runtime samples for /debug/pprof: one in so many contended locks, and one blocking of so long.
const (
	mutexSample = 20
	blockSample = 20 * time.Microsecond
)

// serveProfiles makes the runtime sample locks until the node ends, and serves its profiles.
func (n *Node) serveProfiles(mux *http.ServeMux) {
	runtime.SetMutexProfileFraction(mutexSample)
	runtime.SetBlockProfileRate(int(blockSample))
	n.opened("profiles", func(context.Context) error {
		runtime.SetMutexProfileFraction(0)
		runtime.SetBlockProfileRate(0)
		return nil
	})
	for path, serve := range map[string]http.HandlerFunc{
		"": pprof.Index, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.Handle("GET /debug/pprof/"+path, n.administered(rule.Alter, serve))
	}
}

// serveWS opens the WebSocket door. A connection belongs to the MQTT door once it is upgraded; the
// limits of time here are for what comes before.
func (n *Node) serveWS(context.Context) error {
	byWay := map[string][]socket{}
	for _, s := range n.sockets["ws"] {
		byWay[s.door.label()] = append(byWay[s.door.label()], s)
	}
	for _, label := range slices.Sorted(maps.Keys(byWay)) {
		mux := http.NewServeMux()
		mux.Handle("GET /mqtt", n.ways[label].WebSocket())
		server := n.newServer(atHome(splitList(n.cfg.WSOrigins), mux))
		n.serveRequests(label, server, byWay[label])
	}
	return nil
}

func (n *Node) newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: requestTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ConnContext: secure.ConnContext,
		ErrorLog:    slog.NewLogLogger(n.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

func (n *Node) serveRequests(name string, server *http.Server, ls []socket) {
	stop := n.run(name, func(ctx context.Context) error {
		return serveAll(ctx, ls, func(_ context.Context, s socket) error {
			if err := server.Serve(s.Listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	})
	n.opened(name, func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		return errors.Join(err, stop(ctx))
	})
}

// healthz tells whether this process should be left alone: it answers, and its log is open. A full or failing
// disk is no reason to start it again: it serves reads, and goes on by itself when the disk does. It never
// depends on others.
func (n *Node) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := n.keeper.Refused(); fault.Is(err, fault.Closed) {
		answer(w, http.StatusServiceUnavailable, "log: "+err.Error()+"\n")
		return
	}
	answer(w, http.StatusOK, "ok\n")
}

// check is one condition of readiness.
type check struct {
	name string
	err  error
	note string // what there is to say though it is met
}

func (n *Node) checks() []check {
	list := []check{{name: "log", err: n.keeper.Refused()}}
	if of, ok := n.keeper.(noticer); ok {
		list[0].note = of.Notice()
	}
	if n.sharesSessions() {
		list = append(list, check{name: "who may come in", err: n.access.Unsure()})
	}
	for _, d := range n.listening() {
		list = append(list, check{name: d.label() + " " + d.address})
	}
	if n.draining.Load() {
		list = append(list, check{name: "shutdown", err: errors.New("closing: clients should go elsewhere")})
	}
	return list
}

// readyz tells whether clients should be sent here: the log takes writes, and nobody asked the node to end.
func (n *Node) readyz(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	status := http.StatusOK
	for _, c := range n.checks() {
		word := "ok"
		if c.err != nil {
			status, word = http.StatusServiceUnavailable, c.err.Error()
		} else if c.note != "" {
			word += ": " + c.note
		}
		fmt.Fprintf(&b, "%s: %s\n", c.name, word)
	}
	switch {
	case r.URL.Query().Has("verbose") || status != http.StatusOK:
		answer(w, status, b.String())
	default:
		answer(w, status, "ok\n")
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a client that has gone needs no answer
}

// atHome guards what listens on loopback against DNS rebinding: a web page of a stranger whose host
// name suddenly means 127.0.0.1 sends requests that still name that host, or its own origin. known are
// the patterns of hosts that may besides this machine.
func atHome(known []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if local == nil || local.Network() != "unix" && isLoopback(local.String()) { // no browser gets to a Unix socket
			for _, host := range []string{r.Host, originHost(r)} {
				if host != "" && !isHome(host) && !matches(known, host) {
					answer(w, http.StatusForbidden, fmt.Sprintf("%q is not this machine: on a loopback address only requests "+
						"for localhost are answered\n", host))
					return
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// originHost is the host[:port] of the page that a browser made the request for, "" without one.
func originHost(r *http.Request) string {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return ""
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" {
		return u.Host
	}
	return origin // "null" and the like: nobody's home
}

// isHome tells whether a host, with or without a port, means this machine and nothing else.
func isHome(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}

func matches(patterns []string, host string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(host))
		return err == nil && ok
	})
}
