// Package hook asks a service of somebody else's, over HTTP, who users are: one that knows their passwords, and perhaps
// what they may do.
//
//	s, err := hook.Open(hook.Options{URL: "https://id.example.org/firth", TokenFile: file})
//	defer s.Close()
//	answer, err := s.Ask(ctx, hook.Login{User: "alice", Password: password, Protocol: "mqtt"})
//
// A login is asked about once, whoever else waits for the same answer; one that was let in is remembered for a time. So
// many are asked about at a time, and while the service does not answer, nobody is: a request now and then finds out
// whether it is back. It has no goroutine: who logs in asks.
package hook

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/recent"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/turns"
)

const op = "access.http"

// Options say where the service is and how it is asked. URL is needed; zero values are replaced by the defaults.
type Options struct {
	// URL is asked by POST: https, or http on this machine, or with Plain anywhere.
	URL   string
	Plain bool
	// TokenFile holds what proves to the service who asks: the bearer of each request. Nobody else may read it. "": none.
	TokenFile string
	// CA holds the authorities that know the service. "": the system's. Certificate and Key are what is shown to it.
	CA, Certificate, Key string
	// Timeout is how long one answer may take, and how long a login waits until it is asked about. 0: 5 s.
	Timeout time.Duration
	// InFlight is how many are asked about at a time. 0: 16.
	InFlight int
	// Keep is how long a login that was let in is remembered. 0: not at all.
	Keep time.Duration
	// Pause is how long the service is not asked that does not answer; it grows to 32 times as much. 0: 1 s.
	Pause time.Duration
	// Logger receives the log lines. Nil: none.
	Logger *slog.Logger
	// Metrics receives the metrics. Nil: nobody looks.
	Metrics *telemetry.Set
	// Now is the wall clock. Nil: time.Now.
	Now func() time.Time
}

func (o *Options) fill() {
	o.Timeout, o.InFlight = cmp.Or(o.Timeout, 5*time.Second), cmp.Or(o.InFlight, 16)
	o.Pause = cmp.Or(o.Pause, time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

const (
	remembered = 10_000  // logins, at least
	mostHeld   = 8 << 20 // bytes of answers that are remembered, about, in each of two generations
)

// mark is a login: who knows it learns neither the user nor the password.
type mark [sha256.Size]byte

// Service is what is asked. It may be used from any goroutine. Make one with Open.
type Service struct {
	opt     Options
	key     [32]byte // of the marks, of this process only
	turns   *turns.Queue
	lines   *limit.Lines
	metrics metrics

	mu struct {
		sync.Mutex
		breaker breaker
		client  *client // by the files of the moment
		stamps  [4]given.Stamp
		looked  time.Time // at the files
		asked   map[mark]*question
		good    recent.Map[mark, letIn]
		young   int // entries of the generation that good fills
		held    int // their bytes, about
	}
}

// letIn is an answer that is remembered.
type letIn struct {
	answer Answer
	until  time.Time
}

// question is one that is under way.
type question struct {
	done    chan struct{} // closed when it is over
	answer  Answer
	err     error
	dropped bool // who asked could not wait for the answer
}

// Open makes a service of what is said of it, and reads the files that are named. It is not asked yet: whoever starts
// before its service does is not kept from it. Errors: Invalid; those of the files: NotFound, Denied, IO.
func Open(opt Options) (*Service, error) {
	opt.fill()
	if err := given.CheckURL(op, opt.URL, opt.Plain); err != nil {
		return nil, err
	}
	s := &Service{opt: opt, turns: turns.New(opt.InFlight), lines: limit.NewLines(time.Minute, 100),
		metrics: newMetrics(opt.Metrics)}
	rand.Read(s.key[:]) // never fails
	s.mu.asked, s.mu.breaker.pause = map[mark]*question{}, opt.Pause
	stamps := s.stamps()
	made, err := newClient(&opt)
	if err != nil {
		return nil, err
	}
	s.mu.client, s.mu.stamps, s.mu.looked = made, stamps, opt.Now()
	return s, nil
}

// Close gives back the connections to the service. Nobody asks any more.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.client.http.CloseIdleConnections()
}

// Ask finds out who somebody is. It may wait until ctx ends. Errors: Unavailable when the service cannot be asked, or
// gives no answer that is one; Limited when too many wait; Timeout when ctx ends. They tell nothing about the service:
// a client may see them.
func (s *Service) Ask(ctx context.Context, who Login) (Answer, error) {
	text, err := who.text()
	if fault.Is(err, fault.Invalid) {
		return Answer{Result: Deny}, nil // nobody whom the service could know has such a name or password
	}
	if err != nil {
		return Answer{}, err
	}
	m := s.mark(&who)
	for {
		q, mine := s.begin(m)
		if mine {
			q.answer, q.err = s.ask(ctx, &who, text)
			q.dropped = ctx.Err() != nil
			s.end(m, q)
			return q.answer, q.err
		}
		select {
		case <-q.done:
			if !q.dropped {
				return q.answer, q.err
			}
		case <-ctx.Done():
			return Answer{}, fault.Wrap(fault.Timeout, op, ctx.Err())
		}
	}
}

// begin finds the question about a login: one that is answered, one that somebody else asks, or mine.
func (s *Service) begin(m mark) (q *question, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opt.Now()
	if in, is := s.mu.good.Find(m); is && now.Before(in.until) {
		s.metrics.cached.Inc()
		q = &question{done: make(chan struct{}), answer: in.answer}
		close(q.done)
		return q, false
	}
	if q := s.mu.asked[m]; q != nil {
		s.metrics.cached.Inc()
		return q, false
	}
	q = &question{done: make(chan struct{})}
	s.mu.asked[m] = q
	return q, true
}

// end tells those who wait for the answer, and remembers it if it lets somebody in.
func (s *Service) end(m mark, q *question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.asked, m)
	close(q.done)
	if q.err != nil || q.answer.Result != Allow || s.opt.Keep <= 0 {
		return
	}
	until := s.opt.Now().Add(s.opt.Keep)
	if ends := q.answer.Ends; !ends.IsZero() && ends.Before(until) {
		until = ends
	}
	most := remembered
	s.mu.young, s.mu.held = s.mu.young+1, s.mu.held+q.answer.size
	if s.mu.young > remembered || s.mu.held > mostHeld {
		most, s.mu.young, s.mu.held = 0, 1, q.answer.size // a new generation
	}
	s.mu.good.Put(m, letIn{q.answer, until}, most)
}

// mark is that of a login, with everything that the service is told: the answer may be another one for another address.
func (s *Service) mark(who *Login) (m mark) {
	h := hmac.New(sha256.New, s.key[:])
	for _, part := range [...]string{who.User, who.ClientID, who.Protocol, who.Listener, who.CommonName,
		who.Address.String(), strconv.FormatBool(who.Encrypted), string(who.Password)} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	h.Sum(m[:0])
	return m
}

// ask asks the service about a login, in its turn. Errors: as of Ask.
func (s *Service) ask(ctx context.Context, who *Login, text []byte) (Answer, error) {
	if s.isDown() { // nobody waits in a queue for that
		return Answer{}, s.unasked("down", fault.Unavailable)
	}
	switch err := s.turns.Wait(ctx, credential.Site(who.Address), s.opt.Timeout); {
	case errors.Is(err, turns.ErrLate):
		return Answer{}, s.unasked("crowded", fault.Limited)
	case err != nil:
		return Answer{}, fault.Wrap(fault.Timeout, op, err)
	}
	defer s.turns.Done()
	if !s.enter() {
		return Answer{}, s.unasked("down", fault.Unavailable)
	}
	s.metrics.inFlight.Add(1)
	begun := time.Now()
	answer, err := s.post(ctx, text, who.User)
	s.metrics.took.Observe(time.Since(begun).Seconds())
	s.metrics.inFlight.Add(-1)
	if err != nil && ctx.Err() != nil {
		s.settle(dropped, nil)
		return Answer{}, fault.Wrap(fault.Timeout, op, ctx.Err())
	}
	if err != nil {
		return Answer{}, s.failed(who, err)
	}
	s.settle(answered, nil)
	s.metrics.answers.With(answer.Result.String()).Inc()
	return answer, nil
}

// unasked is for a login that the service is not asked about.
func (s *Service) unasked(why string, kind fault.Kind) error {
	s.metrics.unasked.With(why).Inc()
	return cannotAsk(kind)
}

// cannotAsk is all that a client is told.
func cannotAsk(kind fault.Kind) error {
	return fault.New(kind, op, "who is who cannot be found out now").
		WithHint("the log of the server says why; try again later")
}

// post asks, by the files of the moment and within the time that an answer may take. Errors: those of client.post, and
// of judge.
func (s *Service) post(ctx context.Context, text []byte, user string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	status, said, err := s.look().post(ctx, text)
	if err != nil {
		return Answer{}, err
	}
	return judge(status, said, user, s.opt.Now())
}

// failed notes that there was no answer that is one.
func (s *Service) failed(who *Login, err error) error {
	if away, is := errors.AsType[*awayError](err); is {
		s.metrics.answers.With("none").Inc()
		s.settle(missed, away.cause)
		return cannotAsk(fault.Unavailable)
	}
	s.settle(answered, nil)
	s.metrics.answers.With("bad").Inc()
	if held, ok := s.lines.Pass("bad"); ok {
		s.opt.Logger.Warn("the service of access.http gives an answer that is none", "user", fault.Text(who.User),
			"error", err, "more", held)
	}
	return cannotAsk(fault.Unavailable)
}

// isDown tells whether the service is not to be asked now.
func (s *Service) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.breaker.isOpen(s.opt.Now())
}

// enter tells whether the service may be asked. What comes of it is settled.
func (s *Service) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.breaker.enter(s.opt.Now())
}

// settle notes what came of a request, and tells when the service is away and when it is back.
func (s *Service) settle(o outcome, cause error) {
	s.mu.Lock()
	turned := s.mu.breaker.settle(o, s.opt.Now())
	s.mu.Unlock()
	switch {
	case turned && o == missed:
		s.metrics.down.Set(1)
		s.opt.Logger.Warn("the service of access.http does not answer: whom it knows is not let in", "error", cause)
	case turned:
		s.metrics.down.Set(0)
		s.opt.Logger.Info("the service of access.http answers again")
	case o == missed:
		s.opt.Logger.Debug("the service of access.http does not answer", "error", cause)
	}
}
