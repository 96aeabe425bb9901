package credential

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/firthmq/firth/internal/kit/recent"
)

// The slowdown of failed logins.
const (
	free      = 3                      // failures that cost nothing: people mistype
	shortest  = 100 * time.Millisecond // after the first that does; each further one doubles it
	doublings = 6                      // reach MaxWait
	// MaxWait is the longest that a login is held back: who has the right password always gets in.
	MaxWait = 5 * time.Second
	// forgiven is the time after which one failure is forgotten.
	forgiven = 30 * time.Second
	// trusted is how long a user who has logged in from an address is not held back there for what others do.
	trusted = 24 * time.Hour
	// sources is how many addresses, users and pairs of them are remembered, each.
	sources = 16_384
)

// from names an address, a user, or both, in so many bytes whatever the client sends.
type from [16]byte

// failures is how many logins failed, and when the last did.
type failures struct {
	n  int
	at time.Duration
}

// Slowdown says how long a login is held back because others failed before it, from the same address or for the same
// user. It locks nobody out: a login waits MaxWait at the most, and a user who has logged in from an address waits for
// what itself did wrong there, not for what somebody else tries with its name or from its address. Times are durations
// since any fixed moment. Its memory is bounded. The zero Slowdown is ready; it is not safe for concurrent use.
type Slowdown struct {
	addresses, users, pairs recent.Map[from, failures]
	trust                   recent.Map[from, time.Duration] // pairs, and when they last logged in
}

// Wait is how long a login is held back that comes now. No address (a Unix socket has none) is nobody's.
func (s *Slowdown) Wait(user string, address netip.Addr, now time.Duration) time.Duration {
	a, u, pair := keys(user, address)
	wait := s.pairs.Get(pair).wait(now)
	if at, is := s.trust.Find(pair); is && now-at < trusted {
		return wait
	}
	return max(wait, s.addresses.Get(a).wait(now), s.users.Get(u).wait(now))
}

// Failed notes that a login failed.
func (s *Slowdown) Failed(user string, address netip.Addr, now time.Duration) {
	a, u, pair := keys(user, address)
	if address.IsValid() {
		s.addresses.Put(a, s.addresses.Get(a).more(now), sources)
	}
	s.users.Put(u, s.users.Get(u).more(now), sources)
	s.pairs.Put(pair, s.pairs.Get(pair).more(now), sources)
}

// Succeeded notes that a login did not fail. What failed for the user elsewhere, and at the address for others, still
// counts: who knows one password must not buy guesses at others with it.
func (s *Slowdown) Succeeded(user string, address netip.Addr, now time.Duration) {
	_, _, pair := keys(user, address)
	s.trust.Put(pair, now, sources)
	s.pairs.Delete(pair)
}

// left is how many failures are not forgotten yet.
func (f failures) left(now time.Duration) int {
	return max(f.n-int(max(now-f.at, 0)/forgiven), 0)
}

func (f failures) more(now time.Duration) failures {
	return failures{n: min(f.left(now)+1, free+doublings+1), at: now}
}

func (f failures) wait(now time.Duration) time.Duration {
	n := f.left(now) - free
	if n <= 0 {
		return 0
	}
	return min(shortest<<(n-1), MaxWait)
}

// v6Site is the part of an address of IPv6 that one customer has for itself.
const v6Site = 64

// Site is the address of who is counted as one: of IPv6 the network that one customer has.
func Site(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		address = netip.PrefixFrom(address, v6Site).Masked().Addr()
	}
	return address
}

func keys(user string, address netip.Addr) (a, u, pair from) {
	where := Site(address).String()
	return key("a", where), key("u", user), key("p", where+" "+user)
}

func key(kind, who string) from {
	sum := sha256.Sum256([]byte(kind + who))
	return from(sum[:16])
}
