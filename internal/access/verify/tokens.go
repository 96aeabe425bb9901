package verify

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/recent"
)

// Keys are those of an issuer of tokens.
type Keys interface {
	// Keys are those in force now; nil: none are. Others are another pointer.
	Keys() *token.Keys
	// Miss waits for keys to be read again, if they may be, because one is not among them.
	Miss(ctx context.Context)
}

// Issuer is one whose tokens are good here.
type Issuer struct {
	token.Issuer
	From Keys
}

// Tokens checks tokens of issuers. One that was good is remembered, as long as it is and the keys stay, so that devices
// that come back together cost no signature each. It may be used from any goroutine.
type Tokens struct {
	issuers map[string]*Issuer
	cached  int
	now     func() time.Time // the wall clock: tokens know no other
	key     [32]byte         // of the marks, of this process only

	mu    sync.Mutex
	good  recent.Map[mark, verified]
	known int64 // tokens that were remembered
}

// verified is a token that was good by some keys.
type verified struct {
	keys *token.Keys
	who  token.Identity
}

// NewTokens makes a checker. Cached is how many tokens are remembered at least; 0: 10,000.
func NewTokens(issuers []Issuer, cached int, now func() time.Time) *Tokens {
	if cached == 0 {
		cached = 10_000
	}
	t := &Tokens{issuers: map[string]*Issuer{}, cached: cached, now: now}
	for i := range issuers {
		t.issuers[issuers[i].Name] = &issuers[i]
	}
	rand.Read(t.key[:]) // never fails
	return t
}

// Check judges a token. It may wait until ctx ends, for keys. Errors: Denied.
func (t *Tokens) Check(ctx context.Context, raw string) (token.Identity, error) {
	m := t.mark(raw)
	if who, is := t.remembers(m); is {
		return who, nil
	}
	name, _, err := token.Peek(raw)
	if err != nil {
		return token.Identity{}, err
	}
	from := t.issuers[name]
	if from == nil {
		return token.Identity{}, fault.New(fault.Denied, op, "the token: %s is not known here", fault.Text(name)).
			WithHint("access.jwt lists the issuers whose tokens are good")
	}
	keys := from.From.Keys()
	who, err := t.held(from, raw, keys)
	if fault.Is(err, fault.NotFound) {
		from.From.Miss(ctx)
		if keys = from.From.Keys(); keys != nil {
			who, err = t.held(from, raw, keys)
		}
	}
	if err != nil {
		return token.Identity{}, fault.New(fault.Denied, op, "%w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.good.Put(m, verified{keys, who}, t.cached)
	return who, nil
}

// held holds a token against keys. Errors: Denied; NotFound when others are needed.
func (t *Tokens) held(from *Issuer, raw string, keys *token.Keys) (token.Identity, error) {
	if keys == nil {
		return token.Identity{}, fault.New(fault.NotFound, op, "the token: there are no keys of its issuer, or none that "+
			"are recent enough")
	}
	return from.Verify(raw, keys, t.now())
}

// mark is a token that nobody can read back.
func (t *Tokens) mark(raw string) (m mark) {
	h := hmac.New(sha256.New, t.key[:])
	h.Write([]byte(raw))
	h.Sum(m[:0])
	return m
}

// remembers finds a token that was good, and is by the keys of the moment.
func (t *Tokens) remembers(m mark) (token.Identity, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, is := t.good.Find(m)
	if !is || !t.now().Before(v.who.Ends) || t.issuers[v.who.Issuer].From.Keys() != v.keys {
		return token.Identity{}, false
	}
	t.good.Put(m, v, t.cached) // it is in use
	t.known++
	return v.who, true
}

// Remembered counts the tokens that cost no signature.
func (t *Tokens) Remembered() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known
}
