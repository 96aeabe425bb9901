// Package verify checks the passwords of logins: a few at a time, for a hash takes much memory and a processor on
// purpose; without a hash where the same password was right a short while ago, so that a fleet that comes back is not
// held up; and later for who failed often.
//
//	logins := verify.New(verify.Options{})
//	err := logins.Password(ctx, verify.Login{User: "alice", Address: from, Password: password}, &verifiers)
//
// It has locks and no goroutine: a hash is computed by who asks for it.
package verify

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/recent"
	"github.com/firthmq/firth/internal/kit/turns"
)

const op = "verify"

// Options is how logins are checked. Zero values are replaced by the defaults.
type Options struct {
	// Hashes is how many are computed together, each in the memory of credential.DefaultParams. 0: one for every two
	// processors.
	Hashes int
	// Patience is how long a login waits for its turn to be hashed. 0: 10 s.
	Patience time.Duration
	// Cached is how many verified credentials are remembered at least, in 80 bytes each; twice as many at most.
	// 0: 50,000; below 0: none.
	Cached int
	// Keep is how long they are. 0: one hour.
	Keep time.Duration
	// Secret is what the salts of users come from who are not there, for SCRAM: the same after a restart, or who compares
	// sees who is not there. Default: one of this process.
	Secret []byte
	// Now is the time since any fixed moment, by a clock that does not step. nil: since New.
	Now func() time.Duration
}

func (o *Options) fill() {
	if o.Hashes <= 0 {
		o.Hashes = max(runtime.GOMAXPROCS(0)/2, 1)
	}
	if o.Patience <= 0 {
		o.Patience = 10 * time.Second
	}
	if o.Cached == 0 {
		o.Cached = 50_000
	}
	if o.Keep <= 0 {
		o.Keep = time.Hour
	}
	if len(o.Secret) == 0 {
		o.Secret = []byte(Nonce())
	}
	if o.Now == nil {
		start := time.Now()
		o.Now = func() time.Duration { return time.Since(start) }
	}
}

// Users are those who may log in.
type Users interface {
	// Lookup finds the verifiers of a user. It may be called from any goroutine, and nobody changes what it gives.
	Lookup(name string) (*credential.Verifiers, bool)
}

// Login is somebody who wants in.
type Login struct {
	User     string
	Address  netip.Addr // zero: a Unix socket
	Password []byte
}

// Stats counts since the start.
type Stats struct {
	Hashed  int64 // passwords that were hashed
	Cached  int64 // logins that a verified credential was remembered for
	Failed  int64 // wrong users and passwords
	Crowded int64 // logins refused because they waited too long for their turn
	Held    int64 // logins held back because others failed before them
}

// mark is a verified credential: who knows it learns neither the user nor the password.
type mark [sha256.Size]byte

// Logins checks logins. It may be used from any goroutine.
type Logins struct {
	opt   Options
	key   [32]byte            // of the marks, of this process only
	decoy credential.Password // of users who are not there; no password fits
	turns *turns.Queue        // a turn is one hash

	mu       sync.Mutex
	marks    recent.Map[mark, time.Duration] // and when the password was hashed
	slowdown credential.Slowdown
	stats    Stats
}

// New makes a checker of logins.
func New(o Options) *Logins {
	o.fill()
	l := &Logins{opt: o, turns: turns.New(o.Hashes), decoy: decoy()}
	rand.Read(l.key[:]) // never fails
	return l
}

// decoy is a verifier that costs what others do and that nobody knows a password for.
func decoy() credential.Password {
	p, text := credential.DefaultParams, base64.RawStdEncoding.EncodeToString
	made, err := credential.ParsePassword(fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.Memory, p.Time, p.Threads,
		text(Salt()), text(append(Salt(), Salt()...))))
	if err != nil {
		panic(err) // of our own making
	}
	return made
}

// Password tells whether a login has the password of its user, whose verifiers are v; nil: there is no such user, which
// takes as long and cannot be told from a wrong password. It may wait: for a turn, and because others failed.
// Errors: Denied; Limited when too many logins wait; that of ctx when it ends.
func (l *Logins) Password(ctx context.Context, who Login, v *credential.Verifiers) error {
	if err := l.Hold(ctx, who.User, who.Address); err != nil {
		return err
	}
	ok, err := l.check(ctx, who, v)
	if err != nil {
		return err
	}
	l.Settle(who.User, who.Address, ok)
	if !ok {
		return fault.New(fault.Denied, op, "wrong user or password")
	}
	return nil
}

// check holds a password against the verifiers.
func (l *Logins) check(ctx context.Context, who Login, v *credential.Verifiers) (bool, error) {
	against := ""
	if v != nil {
		against = v.OfPassword()
	}
	if against == "" {
		return false, l.waste(ctx, who)
	}
	m := l.mark(who, against)
	if l.remembers(m) {
		return true, nil
	}
	if !v.Password.IsZero() && !v.Password.Slow() {
		if v.VerifyPassword(who.Password) {
			return true, nil
		}
		return false, l.waste(ctx, who)
	}
	if err := l.turn(ctx, who.Address); err != nil {
		return false, err
	}
	defer l.done()
	if l.remembers(m) { // verified for another connection meanwhile
		return true, nil
	}
	l.count(&l.stats.Hashed)
	ok := v.VerifyPassword(who.Password)
	if ok {
		l.remember(m)
	}
	return ok, nil
}

// waste hashes a password for nothing, so that it cannot be told from the time that there is no such user.
func (l *Logins) waste(ctx context.Context, who Login) error {
	if err := l.turn(ctx, who.Address); err != nil {
		return err
	}
	defer l.done()
	l.count(&l.stats.Hashed)
	l.decoy.Verify(who.Password)
	return nil
}

// turn waits until there is room for one more hash of who comes from an address.
func (l *Logins) turn(ctx context.Context, address netip.Addr) error {
	err := l.turns.Wait(ctx, credential.Site(address), l.opt.Patience)
	if errors.Is(err, turns.ErrLate) {
		l.count(&l.stats.Crowded)
		return fault.New(fault.Limited, op, "too many logins wait for their password to be checked").
			WithHint("devices with generated secrets, certificates or SCRAM need no slow hash")
	}
	return fault.Wrap(fault.Timeout, op, err)
}

func (l *Logins) done() { l.turns.Done() }

// Hash makes a verifier of a password, in its turn. Errors: Invalid, and those of waiting.
func (l *Logins) Hash(ctx context.Context, password []byte) (credential.Password, error) {
	if err := l.turn(ctx, netip.Addr{}); err != nil {
		return credential.Password{}, err
	}
	defer l.done()
	return NewPassword(password)
}

// Hold waits as long as a login is held back because others failed before it: before anything is proven, whatever the
// mechanism. What became of the login is told with Settle. Errors: that of ctx when it ends.
func (l *Logins) Hold(ctx context.Context, user string, address netip.Addr) error {
	l.mu.Lock()
	wait := l.slowdown.Wait(user, address, l.opt.Now())
	if wait > 0 {
		l.stats.Held++
	}
	l.mu.Unlock()
	if wait == 0 {
		return nil
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	select {
	case <-over.C:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, op, ctx.Err())
	}
}

// Settle notes how a login ended.
func (l *Logins) Settle(user string, address netip.Addr, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ok {
		l.slowdown.Succeeded(user, address, l.opt.Now())
		return
	}
	l.stats.Failed++
	l.slowdown.Failed(user, address, l.opt.Now())
}

// Stats is what was counted so far.
func (l *Logins) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

func (l *Logins) count(n *int64) {
	l.mu.Lock()
	*n++
	l.mu.Unlock()
}

// mark is that of a login. It changes with the verifier, so that a changed password ends it.
func (l *Logins) mark(who Login, against string) (m mark) {
	h := hmac.New(sha256.New, l.key[:])
	for _, part := range [...]string{who.User, against} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	h.Write(who.Password)
	h.Sum(m[:0])
	return m
}

func (l *Logins) remembers(m mark) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, is := l.marks.Find(m)
	if !is || l.opt.Now()-at >= l.opt.Keep {
		return false
	}
	l.marks.Put(m, at, l.opt.Cached) // it is in use
	l.stats.Cached++
	return true
}

func (l *Logins) remember(m mark) {
	if l.opt.Cached < 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks.Put(m, l.opt.Now(), l.opt.Cached)
}
