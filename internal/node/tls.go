package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
)

// TLS says what listeners show their clients, and what they ask of them.
type TLS struct {
	Certificate string // files, with commas
	Key         string // files, with commas, in the same order
	ClientCA    string
	ClientAuth  string // "none", "request" or "require"; of a listener also inherit
	CRL         string
	MinVersion  string // "1.2" or "1.3"; of a listener also inherit
}

// inherit is the value of a listener that has none of its own.
const inherit = "inherit"

func tlsOptions() []Option {
	all := tlsFields("tls.", "", func(c *Config) *TLS { return &c.TLS })
	for i := range all {
		all[i].Reload = true
	}
	return all
}

func limitHandshakes() []Option {
	return []Option{
		Option{Key: "limits.tls_handshakes", Default: "1024",
			Doc: "How many handshakes of TLS may be under way, of all doors together. Each has " +
				"limits.connect_timeout, and all together at most half of the processors.",
			Shows: "connections wait to be accepted; those that let us wait for a second or more make room: " +
				"`firth_tls_handshakes_failed_total{reason=\"crowded\"}`",
		}.count(func(c *Config) *int { return &c.Limits.TLSHandshakes }, 1, 100_000),
	}
}

// tlsFields are the options of a TLS in a C. With inherited, an empty value or that word stands for what tls says.
func tlsFields[C any](prefix, inherited string, of func(*C) *TLS) []OptionOf[C] {
	type option = OptionOf[C]
	auths, versions := []string{"none", "request", "require"}, []string{"1.2", "1.3"}
	auth, version, more := "none", "1.2", ""
	if inherited != "" {
		auths, versions = append([]string{inherited}, auths...), append([]string{inherited}, versions...)
		auth, version, more = inherited, inherited, " Empty: as tls says."
	}
	anyPath := func(string) error { return nil }
	return []option{
		option{Key: prefix + "certificate", Type: "list of paths", list: true,
			Doc: "The certificate that is shown, with its chain, as PEM (certfile of Mosquitto). Of several the one is " +
				"shown that fits the name that a client asks for. The files of TLS are looked at every 2 s: new ones take " +
				"effect at once and no connection ends; bad ones are told of, and the old stay in force." + more,
		}.text(func(c *C) *string { return &of(c).Certificate }, anyPath),
		option{Key: prefix + "key", Type: "list of paths", list: true,
			Doc: "The key of each certificate, as PEM (keyfile of Mosquitto). Nobody else may be able to read it: mode " +
				"0600, or 0640 where it belongs to root." + more,
		}.text(func(c *C) *string { return &of(c).Key }, anyPath),
		option{Key: prefix + "client_ca", Type: "path",
			Doc: "The certificates of the authorities that clients' certificates come from, as PEM (cafile of Mosquitto)." +
				more,
		}.text(func(c *C) *string { return &of(c).ClientCA }, anyPath),
		option{Key: prefix + "client_auth", Default: auth,
			Doc: "Whether clients show a certificate: none, they are not asked; request, those that show one show a good " +
				"one; require, all show a good one (require_certificate of Mosquitto). A listener that requires one may be " +
				"reached from other machines.",
		}.choice(func(c *C) *string { return &of(c).ClientAuth }, auths...),
		option{Key: prefix + "crl", Type: "path",
			Doc: "Lists of certificates that are revoked, of authorities in client_ca, as PEM (crlfile of Mosquitto). " +
				"They are refused, and connections that show one end as soon as the list says so." + more,
		}.text(func(c *C) *string { return &of(c).CRL }, anyPath),
		option{Key: prefix + "min_version", Default: version,
			Doc: "The oldest version of TLS that clients may speak. The suites of ciphers are those that Go takes for good.",
		}.choice(func(c *C) *string { return &of(c).MinVersion }, versions...),
	}
}

// over is what a listener says, over what holds for all.
func (t TLS) over(all TLS) TLS {
	pick := func(own, all string) string {
		if own == "" || own == inherit {
			return all
		}
		return own
	}
	if t.Certificate == "" {
		t.Certificate, t.Key = all.Certificate, pick(t.Key, all.Key)
	}
	return TLS{
		Certificate: t.Certificate, Key: t.Key, ClientCA: pick(t.ClientCA, all.ClientCA),
		ClientAuth: pick(t.ClientAuth, all.ClientAuth), CRL: pick(t.CRL, all.CRL),
		MinVersion: pick(t.MinVersion, all.MinVersion),
	}
}

func (t TLS) files() secure.Files {
	f := secure.Files{
		Certificates: splitPaths(t.Certificate), Keys: splitPaths(t.Key), ClientCA: t.ClientCA, CRL: t.CRL,
		ClientAuth: secure.ClientAuth(t.ClientAuth), MinVersion: tls.VersionTLS12,
	}
	if t.MinVersion == "1.3" {
		f.MinVersion = tls.VersionTLS13
	}
	return f
}

// splitPaths gives the paths of a list with commas.
func splitPaths(s string) (paths []string) {
	for path := range strings.SplitSeq(s, ",") {
		if path = strings.TrimSpace(path); path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

// tlsOf is what holds for a door with TLS.
func (c *Config) tlsOf(d *door) TLS {
	if d.own == nil {
		return c.TLS
	}
	return d.own.TLS.over(c.TLS)
}

// asksWho tells whether whoever connects to a door has to say who it is.
func (c *Config) asksWho(d *door) bool {
	return d.tls && (c.tlsOf(d).ClientAuth == string(secure.RequireClientAuth) || c.Access.Anonymous == "deny")
}

// checkTLS looks at what a door with TLS needs.
func (l *loader) checkTLS(d *door, at spot) {
	t := l.config.tlsOf(d)
	switch {
	case !d.tls:
	case t.Certificate == "" || t.Key == "":
		l.report(at, "%s: TLS needs a certificate and its key: set tls.certificate and tls.key", d.key)
	case len(splitPaths(t.Certificate)) != len(splitPaths(t.Key)):
		l.report(at, "%s: %d certificates and %d keys: each needs the other", d.key, len(splitPaths(t.Certificate)),
			len(splitPaths(t.Key)))
	case t.ClientAuth != string(secure.NoClientAuth) && t.ClientCA == "":
		l.report(at, "%s: client_auth: %s needs client_ca, the authorities that clients' certificates come from", d.key,
			t.ClientAuth)
	}
}

// secured is TLS on the listeners of a node.
type secured struct {
	gate    *secure.Gate
	metrics *secure.Metrics
	sources map[string]*secure.Source // by sourceName
}

// sourceName names what a door shows; "": what those of listen share.
func sourceName(d *door) string {
	if d.own == nil {
		return ""
	}
	return d.label()
}

// openTLS reads the files of all doors with TLS and watches them.
func (n *Node) openTLS(context.Context) error {
	var errs []error
	for _, d := range n.cfg.doors() {
		if !d.tls || n.tls.sources[sourceName(&d)] != nil {
			continue
		}
		if n.tls.gate == nil {
			n.tls = secured{gate: secure.NewGate(n.cfg.Limits.TLSHandshakes), metrics: secure.NewMetrics(n.metrics),
				sources: map[string]*secure.Source{}}
		}
		s, err := secure.Open(n.cfg.filesOf(n.cfg.tlsOf(&d)), secure.Options{
			Name: cmp.Or(sourceName(&d), "listen"), Logger: n.log, Metrics: n.tls.metrics,
		})
		if err != nil {
			errs = append(errs, fault.New(fault.KindOf(err), d.key, "%w", err).WithHint("%s", fault.HintOf(err)))
			continue
		}
		n.tls.sources[sourceName(&d)] = s
	}
	if err := errors.Join(errs...); err != nil || len(n.tls.sources) == 0 {
		return err
	}
	n.opened("tls files", n.run("tls files", n.watchFiles))
	return nil
}

// watchFiles watches the files of all sources.
func (n *Node) watchFiles(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(n.tls.sources))
	for i, name := range slices.Sorted(maps.Keys(n.tls.sources)) {
		wg.Go(func() { errs[i] = n.tls.sources[name].Run(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// reloadTLS reads the files of all doors again, those of tls by their new names. It takes all of them or none.
func (n *Node) reloadTLS(next *Config) error {
	files := map[string]secure.Files{}
	for _, d := range n.cfg.doors() {
		if name := sourceName(&d); n.tls.sources[name] != nil {
			mixed := *n.cfg // what a listener says by itself waits for a restart
			mixed.TLS = next.TLS
			files[name] = mixed.filesOf(mixed.tlsOf(&d))
		}
	}
	for _, f := range files {
		if err := secure.Check(f); err != nil {
			return err
		}
	}
	var errs []error
	for name, f := range files {
		errs = append(errs, n.tls.sources[name].Reload(f))
	}
	return errors.Join(errs...)
}

// encrypted has a listener do the handshakes of TLS, if its door has that.
func (n *Node) encrypted(d door, l net.Listener) net.Listener {
	if !d.tls {
		return l
	}
	var protocols []string
	switch d.name {
	case "mqtt":
		protocols = []string{"mqtt"}
	case "ws", "http":
		protocols = []string{"http/1.1"}
	}
	return secure.Listen(l, secure.ListenOptions{
		Source: n.tls.sources[sourceName(&d)], Detach: d.name == "mqtt", Gate: n.tls.gate, Protocols: protocols,
		Timeout: n.cfg.Limits.ConnectTimeout, Name: d.label(),
		Failed: func(f secure.Failure) { n.tellHandshake(d.label(), f) },
	})
}
