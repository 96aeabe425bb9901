package node

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/webhook"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

const (
	hooksPath     = "/hooks/"
	hooksMost     = 1 << 16            // messages of one that are remembered
	hooksAtOnce   = 4                  // large bodies that are read at a time
	hooksSmall    = 64 * kib           // what is no larger does not wait
	hooksPatience = 5 * time.Second    // for its turn
	hooksStored   = requestTimeout * 2 // for what is on its way into the log, whether or not its sender waits
	hooksHeader   = kib                // bytes of a header that is kept
)

// hooks are the webhooks of a node.
type hooks struct {
	n     *Node
	of    map[string]*signedHook // by name; it does not change
	turns chan struct{}          // one for each large body that is read
}

// signedHook is one of them.
type signedHook struct {
	*Webhook
	scheme *webhook.Scheme
	count  func(outcome string)

	mu      sync.Mutex // guards what is below
	stamp   given.Stamp
	secrets [][]byte
	seen    *webhook.Seen
}

// serveHooks has the webhooks of the configuration be served. Errors: those of their secrets.
func (n *Node) serveHooks(mux *http.ServeMux) error {
	if len(n.cfg.Webhooks) == 0 {
		return nil
	}
	messages := n.metrics.Counter("firth_webhook_messages_total",
		"Messages of webhooks, by what became of them: stored, repeated, unsigned, refused.", "webhook", "outcome")
	h := &hooks{n: n, of: map[string]*signedHook{}, turns: make(chan struct{}, hooksAtOnce)}
	for i := range n.cfg.Webhooks {
		one, err := newHook(&n.cfg.Webhooks[i], messages)
		if err != nil {
			return err
		}
		h.of[one.Name] = one
	}
	mux.Handle("POST "+hooksPath+"{name}", h)
	return nil
}

func newHook(w *Webhook, messages telemetry.Counters) (*signedHook, error) {
	scheme, err := webhook.Parse(w.Scheme, w.Header, w.Tolerance)
	if err != nil {
		return nil, err
	}
	h := &signedHook{Webhook: w, scheme: scheme, seen: webhook.NewSeen(scheme.Keeps(), hooksMost),
		count: func(outcome string) { messages.With(w.Name, outcome).Inc() }}
	for _, outcome := range []string{"stored", "repeated", "unsigned", "refused"} {
		messages.With(w.Name, outcome)
	}
	_, err = h.read()
	return h, err
}

// read gives the secrets, read anew if their file has changed; those of before where it cannot be read now. Errors:
// those of the file, and Invalid.
func (h *signedHook) read() ([][]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stamp := given.StampOf(h.SecretFile)
	if h.secrets != nil && stamp == h.stamp {
		return h.secrets, nil
	}
	text, err := given.ReadPrivate("webhooks."+h.Name, h.SecretFile)
	if err != nil {
		return h.secrets, err
	}
	h.stamp = stamp // what is wrong in it is told once
	all, err := h.scheme.Secrets(text)
	if err == nil {
		h.secrets = all
	}
	return h.secrets, err
}

// ServeHTTP takes a message. What is stored, or was, is answered with 200.
func (s *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := s.of[r.PathValue("name")]
	if h == nil {
		refuse(w, fault.New(fault.NotFound, "webhook", "there is no such webhook").
			WithHint("webhooks of the configuration lists them"))
		return
	}
	outcome, err := s.take(h, w, r)
	h.count(outcome)
	switch {
	case err == nil:
		answerJSON(w, http.StatusOK, map[string]bool{"stored": true, "repeated": outcome == "repeated"})
	case errors.Is(err, webhook.ErrUnsigned):
		answerJSON(w, http.StatusUnauthorized, refusalOf(err))
	case fault.Is(err, fault.TooLarge):
		answerJSON(w, http.StatusRequestEntityTooLarge, refusalOf(err))
	default:
		if status := adminStatus(fault.KindOf(err)); status >= http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "5")
		}
		refuse(w, err)
	}
}

// take reads, judges and publishes a message, and tells what became of it. Errors: webhook.ErrUnsigned; TooLarge;
// Unavailable; Limited; those of mqtt.Listener.Publish.
func (s *hooks) take(h *signedHook, w http.ResponseWriter, r *http.Request) (outcome string, err error) {
	done, err := s.turn(r)
	if err != nil {
		return "refused", err
	}
	defer done()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.MaxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return "refused", fault.New(fault.TooLarge, "webhook", "the message is longer than %d bytes", h.MaxBody)
	}
	if err != nil {
		return "refused", fault.New(fault.Invalid, "webhook", "the message cannot be read: %w", err)
	}
	secrets, err := h.read()
	if err != nil { // those of before are good still
		if _, pass := s.n.refusals.Pass(h.SecretFile); pass {
			s.n.log.Warn("the secret of a webhook cannot be read: those of before are good still", "webhook", h.Name,
				"error", err)
		}
	}
	now := s.n.clocks.wall()
	m, err := h.scheme.Verify(r.Header.Get, body, secrets, now)
	if err != nil {
		s.tellUnsigned(h, r, err)
		return "unsigned", err
	}
	h.mu.Lock()
	state := h.seen.Begin(m.Key, now)
	h.mu.Unlock()
	switch state {
	case webhook.Stored:
		return "repeated", nil
	case webhook.Under:
		return "refused", fault.New(fault.Unavailable, "webhook", "the message is on its way already")
	case webhook.Full:
		return "refused", fault.New(fault.Limited, "webhook", "more than %d messages came in %v", hooksMost,
			h.scheme.Keeps())
	}
	err = s.publish(h, r, &m, body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen.Done(m.Key, err == nil); err != nil {
		return "refused", err
	}
	return "stored", nil
}

// turn waits until there is room for a body that is large. Errors: Unavailable.
func (s *hooks) turn(r *http.Request) (done func(), err error) {
	if r.ContentLength >= 0 && r.ContentLength <= hooksSmall {
		return func() {}, nil
	}
	wait := time.NewTimer(hooksPatience)
	defer wait.Stop()
	select {
	case s.turns <- struct{}{}:
		return func() { <-s.turns }, nil
	case <-r.Context().Done():
	case <-wait.C:
	}
	return nil, fault.New(fault.Unavailable, "webhook", "%d large messages are read already", hooksAtOnce)
}

// publish publishes a message with the rights of the user of its webhook.
func (s *hooks) publish(h *signedHook, r *http.Request, m *webhook.Message, body []byte) error {
	who := s.n.comer(r)
	who.User = h.user()
	pass := s.n.access.Admit(who)
	p := &packet.Publish{Topic: []byte(h.TopicName), Payload: body, QoS: 1}
	if kind := api.SaidAs(r); kind != "" {
		p.Props.SetContentType([]byte(kind))
	}
	p.Props.AddUser("webhook", h.Name)
	if m.ID != "" {
		p.Props.AddUser("webhook-id", m.ID)
	}
	for _, name := range splitList(h.Keep) {
		if value := r.Header.Get(name); value != "" && len(value) <= hooksHeader && utf8.ValidString(value) {
			p.Props.AddUser(name, value)
		}
	}
	by := pass.By()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(audit.As(r.Context(), by)), hooksStored)
	defer cancel()
	_, err := s.n.guests.Publish(ctx, mqtt.Guest{Pass: pass, By: by}, p)
	return err
}

// tellUnsigned tells the audit of who came to a webhook without its signature.
func (s *hooks) tellUnsigned(h *signedHook, r *http.Request, err error) {
	who := s.n.comer(r)
	who.User = h.user()
	by := access.By(&who)
	by.Actor.Method = "webhook"
	s.n.audit.Tell(chain.Event{Type: chain.TypeLogin, Actor: by.Actor, Origin: by.Origin, Action: "publish",
		Resource: chain.Resource{Kind: "webhook", Name: h.Name}, Outcome: chain.Failure, Reason: err.Error()})
}
