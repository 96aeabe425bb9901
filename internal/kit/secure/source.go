// Package secure is TLS for listeners: certificates that are watched and replaced while connections live on, handshakes
// that are bounded in number, time, bytes and processors, and who is at the other end of a connection.
//
//	source, err := secure.Open(files, secure.Options{Name: "mqtts", Logger: log, Metrics: set})
//	go source.Run(ctx)
//	l := secure.Listen(tcp, secure.ListenOptions{Source: source, Protocols: []string{"mqtt"}, Gate: gate})
//	c, err := l.Accept() // a *secure.Conn, its handshake done
package secure

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

// Options of a Source. The zero value of a field is its default.
type Options struct {
	// Name is what log lines and metrics call it.
	Name string
	// Logger receives the log lines. Nil: none.
	Logger *slog.Logger
	// Metrics receive how long the certificate is good and whether the files are. Nil: nobody looks.
	Metrics *Metrics
	// Every is how often the files are looked at. Default 2 s.
	Every time.Duration
	// Clock tells the time that certificates are held against. Default time.Now.
	Clock func() time.Time
}

// Metrics are the metrics of all sources and listeners of a process.
type Metrics struct {
	expiry     telemetry.Gauges
	bad        telemetry.Gauges
	stale      telemetry.Gauges
	reloads    telemetry.Counters
	handshakes telemetry.Counters
	failures   telemetry.Counters
	revoked    telemetry.Counters
	pending    telemetry.Gauges
}

// NewMetrics registers the metrics in a set.
func NewMetrics(set *telemetry.Set) *Metrics {
	return &Metrics{
		expiry: set.Gauge("firth_tls_certificate_expiry_seconds",
			"Seconds until the certificate that is shown ends; below 0 when it has.", "listener"),
		bad: set.Gauge("firth_tls_files_bad",
			"1 while the files of a listener are bad and those read before are in force, else 0.", "listener"),
		stale: set.Gauge("firth_tls_crl_expiry_seconds",
			"Seconds until the list of revoked certificates should be followed by another; below 0 when it is late.",
			"listener"),
		reloads: set.Counter("firth_tls_reloads_total", "Times that changed files were taken.", "listener"),
		handshakes: set.Counter("firth_tls_handshakes_total",
			"Handshakes that were done, full or resumed, by version of TLS.", "listener", "version", "kind"),
		failures: set.Counter("firth_tls_handshakes_failed_total", "Handshakes that failed, by reason.",
			"listener", "reason"),
		revoked: set.Counter("firth_tls_revoked_connections_total",
			"Connections that were ended because their certificate was revoked.", "listener"),
		pending: set.Gauge("firth_tls_handshakes_pending", "Handshakes under way.", "listener"),
	}
}

// Source holds what listeners show and ask for, as their files say now.
type Source struct {
	opt    Options
	now    atomic.Pointer[loaded]
	warned atomic.Int64 // when an end that is near was last told, Unix seconds

	mu struct {
		sync.Mutex
		files  Files
		stamps []given.Stamp
		failed string // why the files are bad; "": they are not
	}
	live struct {
		sync.Mutex
		peers map[*Peer]struct{}
	}
}

// Open reads files. Errors: Invalid, NotFound, Denied (a key that others can read) and IO, with a hint.
func Open(f Files, opt Options) (*Source, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Metrics == nil {
		opt.Metrics = NewMetrics(nil)
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	opt.Every = cmp.Or(opt.Every, 2*time.Second)
	s := &Source{opt: opt}
	s.live.peers = map[*Peer]struct{}{}
	s.mu.files, s.mu.stamps = f, f.stamps()
	l, err := load(f)
	if err != nil {
		return nil, err
	}
	s.take(l)
	return s, nil
}

// Check reads files and takes nothing of them. Errors: as those of Open.
func Check(f Files) error {
	_, err := load(f)
	return err
}

// Run watches the files until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	t := time.NewTicker(s.opt.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.Look()
		}
	}
}

// Look reads the files if one of them changed, and tells of an end that is near. Who has changed one need not wait
// until Run looks: connections whose certificates a new list revokes have been ended when it returns.
func (s *Source) Look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stamps := s.mu.files.stamps(); !slices.Equal(stamps, s.mu.stamps) || s.mu.failed != "" {
		// Files are not changed together: what does not fit is looked at once more before anybody is told.
		settled := slices.Equal(stamps, s.mu.stamps)
		s.mu.stamps = stamps
		_ = s.reloadLocked(s.mu.files, settled) // it tells
	}
	s.tellTimes(s.now.Load())
}

// Reload reads the files now, or other files. Errors: as those of Open; then those that were read before stay in force.
func (s *Source) Reload(f Files) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.stamps = f.stamps()
	return s.reloadLocked(f, true)
}

func (s *Source) reloadLocked(f Files, tell bool) error {
	l, err := load(f)
	if err == nil {
		err = s.checkTimes(l)
	}
	if err != nil {
		if tell && s.mu.failed != err.Error() {
			s.opt.Logger.Error("the files of TLS are bad, those read before stay in force", "listener", s.opt.Name,
				"error", err, "hint", fault.HintOf(err))
			s.opt.Metrics.bad.With(s.opt.Name).Set(1)
		}
		if tell {
			s.mu.failed = err.Error()
		} else {
			s.mu.failed = " "
		}
		return err
	}
	s.mu.files, s.mu.failed = f, ""
	s.opt.Metrics.reloads.With(s.opt.Name).Inc()
	s.take(l)
	s.opt.Logger.Info("the files of TLS were read", "listener", s.opt.Name,
		"certificate", l.leaves[0].Subject.String(), "until", l.notAfter.UTC().Format(time.RFC3339))
	return nil
}

// checkTimes refuses a certificate that is not good now in place of one that is.
func (s *Source) checkTimes(l *loaded) error {
	now := s.opt.Clock()
	if old := s.now.Load(); old == nil || now.After(old.notAfter) {
		return nil
	}
	for i, c := range l.leaves {
		if now.After(c.NotAfter) || now.Before(c.NotBefore) {
			return fault.New(fault.Invalid, op, "%s is good from %s to %s, not now", l.files.Certificates[i],
				c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// take puts what was read in force, and ends connections whose certificates it revokes.
func (s *Source) take(l *loaded) {
	l.config.VerifyConnection = l.verify
	s.opt.Metrics.bad.With(s.opt.Name).Set(0)
	s.warned.Store(0)
	s.live.Lock()
	s.now.Store(l) // under the lock: who joins later is held against it
	var gone []*Peer
	for p := range s.live.peers {
		if l.revoked.has(p.keys) {
			gone = append(gone, p)
		}
	}
	s.live.Unlock()
	for _, p := range gone {
		s.opt.Metrics.revoked.With(s.opt.Name).Inc()
		s.opt.Logger.Info("ended a connection: its certificate is revoked", "listener", s.opt.Name,
			"subject", p.Subject, "serial", p.Serial)
		p.revoke()
	}
	s.tellTimes(l)
}

// join notes a connection with a certificate; false: it is revoked by now.
func (s *Source) join(p *Peer) bool {
	s.live.Lock()
	defer s.live.Unlock()
	if s.now.Load().revoked.has(p.keys) {
		return false
	}
	s.live.peers[p] = struct{}{}
	return true
}

func (s *Source) forget(p *Peer) {
	s.live.Lock()
	defer s.live.Unlock()
	delete(s.live.peers, p)
}

const (
	nearEnd = 14 * 24 * time.Hour // of a certificate: it is told of
	toldFor = 24 * time.Hour      // how often
)

// tellTimes tells how long what is in force is good.
func (s *Source) tellTimes(l *loaded) {
	now := s.opt.Clock()
	left := l.notAfter.Sub(now)
	s.opt.Metrics.expiry.With(s.opt.Name).Set(left.Seconds())
	late := false
	if !l.crlUntil.IsZero() {
		s.opt.Metrics.stale.With(s.opt.Name).Set(l.crlUntil.Sub(now).Seconds())
		late = now.After(l.crlUntil)
	}
	if last := s.warned.Load(); left >= nearEnd && !late || last != 0 && now.Unix()-last < int64(toldFor/time.Second) {
		return
	}
	s.warned.Store(now.Unix())
	const day = 24 * time.Hour
	switch {
	case left < 0:
		s.opt.Logger.Error("the certificate has ended: clients that check it refuse us", "listener", s.opt.Name,
			"certificate", l.leaves[0].Subject.String(), "ended", l.notAfter.UTC().Format(time.RFC3339))
	case left < nearEnd:
		s.opt.Logger.Warn("the certificate ends soon", "listener", s.opt.Name,
			"certificate", l.leaves[0].Subject.String(), "days", int(left/day))
	}
	if late {
		s.opt.Logger.Warn("the list of revoked certificates is late: a newer one should be there", "listener", s.opt.Name,
			"until", l.crlUntil.UTC().Format(time.RFC3339))
	}
}

// configFor makes the configuration that a listener keeps for as long as it lives: its session tickets stay good when
// files change. The keys of the tickets change by themselves once a day.
func (s *Source) configFor(protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c := s.now.Load().config.Clone()
			c.NextProtos = protocols
			if b, ok := hello.Conn.(*beneath); ok && b.secrets != nil {
				c.KeyLogWriter = b.secrets
			}
			return c, nil
		},
	}
}
