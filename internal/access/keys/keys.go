// Package keys has the keys of an issuer of tokens at hand: from a file that is watched, or from where the issuer
// publishes them, fetched again now and then, and when a token names a key that is not among them.
//
//	s, err := keys.Open(keys.Options{Issuer: "https://id.example.org", URL: "https://id.example.org/jwks.json"})
//	go s.Run(ctx)
//	set := s.Keys() // nil: none that are recent enough
//
// When an issuer does not answer, the keys that are known go on for Options.MaxAge; then no token of it is good.
package keys

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

const op = "keys"

// Options say where the keys are. One of File, Secret and URL is given, or Discover.
type Options struct {
	// Issuer is what log lines and metrics call it.
	Issuer string
	// File holds a JWK Set or PEM.
	File string
	// Secret is a file whose text is the one secret of HS256, without white space at its end. Nobody else may read it.
	Secret string
	// URL is where a JWK Set is: https, or http on this machine.
	URL string
	// Discover finds URL by OpenID Connect Discovery, at Issuer.
	Discover bool
	// Every is how often a URL is asked. Default 15 minutes. Files are looked at every 2 s.
	Every time.Duration
	// MaxAge is how long keys of a URL are good that could not be fetched again. Default one day.
	MaxAge time.Duration
	// Patience is how long lies between two fetches that tokens ask for, at least. Default 10 s.
	Patience time.Duration
	// Client asks. Default: one with the bounds of this package.
	Client *http.Client
	// Logger receives the log lines. Nil: none.
	Logger *slog.Logger
	// Metrics of all sources. Nil: nobody looks.
	Metrics *Metrics
}

// Metrics are those of all sources of a process.
type Metrics struct {
	age     telemetry.Gauges
	fetches telemetry.Counters
}

// NewMetrics registers the metrics in a set.
func NewMetrics(set *telemetry.Set) *Metrics {
	return &Metrics{
		age: set.Gauge("firth_access_keys_read_timestamp_seconds",
			"When the keys of an issuer of tokens were last read, in seconds since 1970.", "issuer"),
		fetches: set.Counter("firth_access_keys_reads_total", "Times that the keys of an issuer of tokens were read.",
			"issuer", "result"),
	}
}

const lookEvery = 2 * time.Second // at files

// Source has the keys of one issuer at hand. It may be used from any goroutine.
type Source struct {
	opt   Options
	now   atomic.Pointer[known]
	start time.Time
	asked chan struct{} // somebody misses a key

	mu struct {
		sync.Mutex
		next  chan struct{} // is closed when the fetch is over that is under way or comes next
		began time.Duration // when the last one began; below 0: none did
		stamp given.Stamp
		told  string // the error that was told last
		text  []byte // that was read last
	}
}

// known are keys and when they were read. It does not change.
type known struct {
	keys *token.Keys
	at   time.Duration
}

// Open reads the keys. Errors of a file: Invalid, NotFound, Denied (a secret that others can read), IO. A URL is asked
// by Run: whoever starts before its issuer does is not kept from it.
func Open(opt Options) (*Source, error) {
	opt.Every, opt.MaxAge = cmp.Or(opt.Every, 15*time.Minute), cmp.Or(opt.MaxAge, 24*time.Hour)
	opt.Patience = cmp.Or(opt.Patience, 10*time.Second)
	if opt.Client == nil {
		opt.Client = NewClient()
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Metrics == nil {
		opt.Metrics = NewMetrics(nil)
	}
	s := &Source{opt: opt, start: time.Now(), asked: make(chan struct{}, 1)}
	s.mu.next, s.mu.began = make(chan struct{}), -opt.Patience
	if s.remote() {
		if opt.Discover {
			return s, CheckURL(opt.Issuer)
		}
		return s, CheckURL(opt.URL)
	}
	s.mu.stamp = given.StampOf(s.file())
	text, err := s.readFile()
	if err != nil {
		return nil, err
	}
	return s, s.take(text)
}

func (s *Source) remote() bool { return s.opt.URL != "" || s.opt.Discover }

func (s *Source) file() string { return cmp.Or(s.opt.File, s.opt.Secret) }

func (s *Source) readFile() ([]byte, error) {
	if s.opt.Secret != "" {
		return given.ReadPrivate(op, s.opt.Secret)
	}
	return given.Read(op, s.opt.File)
}

// Keys are the keys that are in force; nil: none are. Others are another pointer.
func (s *Source) Keys() *token.Keys {
	k := s.now.Load()
	if k == nil || s.remote() && s.since()-k.at > s.opt.MaxAge {
		return nil
	}
	return k.keys
}

func (s *Source) since() time.Duration { return time.Since(s.start) }

// Miss waits for the keys to be fetched again, because one that a token names is not among them; not if they were a
// short while ago: who makes up names must not have us ask for each. It is back at once for a file.
func (s *Source) Miss(ctx context.Context) {
	if !s.remote() {
		return
	}
	s.mu.Lock()
	next, recent := s.mu.next, s.since()-s.mu.began < s.opt.Patience
	s.mu.Unlock()
	if recent && s.now.Load() != nil {
		return
	}
	select {
	case s.asked <- struct{}{}:
	default:
	}
	select {
	case <-next:
	case <-ctx.Done():
	}
}

// Run reads the keys again when it is time, until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	every := s.opt.Every
	if !s.remote() {
		every = lookEvery
	} else {
		s.fetch(ctx)
	}
	t := time.NewTicker(every)
	defer t.Stop()
	again := time.NewTimer(0) // after a fetch that failed, and for who came too early
	defer again.Stop()
	<-again.C
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-again.C:
		case <-s.asked:
		}
		if !s.remote() {
			s.look()
		} else if !s.fetch(ctx) {
			again.Reset(s.opt.Patience)
		}
	}
}

// look reads a file that has changed. A bad one keeps the keys before.
func (s *Source) look() {
	stamp := given.StampOf(s.file())
	s.mu.Lock()
	same := stamp == s.mu.stamp && s.mu.told == ""
	s.mu.stamp = stamp
	s.mu.Unlock()
	if same {
		return
	}
	text, err := s.readFile()
	if err == nil {
		err = s.take(text)
	}
	s.tell(err)
}

// fetch asks the issuer. It is false when the keys could not be had.
func (s *Source) fetch(ctx context.Context) bool {
	s.mu.Lock()
	if s.since()-s.mu.began < s.opt.Patience { // it was asked for by several
		s.mu.Unlock()
		return false
	}
	s.mu.began = s.since()
	s.mu.Unlock()
	text, err := s.get(ctx)
	if err == nil {
		err = s.take(text)
	}
	s.mu.Lock()
	close(s.mu.next)
	s.mu.next = make(chan struct{})
	s.mu.Unlock()
	if ctx.Err() == nil {
		s.tell(err)
	}
	return err == nil
}

// take puts keys in force. The same as before stay the same. Errors: Invalid.
func (s *Source) take(text []byte) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.now.Load()
	next := &known{at: s.since()}
	if old != nil && bytes.Equal(text, s.mu.text) {
		next.keys = old.keys
	} else if s.opt.Secret != "" {
		next.keys, err = token.Secret(bytes.TrimRight(text, " \t\r\n"))
	} else {
		next.keys, err = token.ParseKeys(text)
	}
	if err != nil {
		return fault.New(fault.Invalid, op, "the keys of %s: %w", s.opt.Issuer, err).WithHint("%s", fault.HintOf(err))
	}
	s.mu.text = bytes.Clone(text)
	s.now.Store(next)
	s.opt.Metrics.age.With(s.opt.Issuer).Set(float64(time.Now().Unix()))
	s.opt.Metrics.fetches.With(s.opt.Issuer, "good").Inc()
	return nil
}

// tell logs that keys could not be read, or can again; the same once.
func (s *Source) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
		s.opt.Metrics.fetches.With(s.opt.Issuer, "bad").Inc()
	}
	s.mu.Lock()
	same := text == s.mu.told
	s.mu.told = text
	s.mu.Unlock()
	switch {
	case same:
	case err == nil:
		s.opt.Logger.Info("the keys of an issuer of tokens were read", "issuer", s.opt.Issuer)
	default:
		s.opt.Logger.Warn("the keys of an issuer of tokens cannot be read, those read before stay in force for a time",
			"issuer", s.opt.Issuer, "error", err, "hint", fault.HintOf(err))
	}
}
