package credential

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var (
	home  = netip.MustParseAddr("192.0.2.7")
	other = netip.MustParseAddr("198.51.100.1")
)

// TestSlowdown: each failure after the third doubles the wait, up to a bound; time forgives.
func TestSlowdown(t *testing.T) {
	const ms = time.Millisecond
	var s Slowdown
	now := time.Duration(0)
	for i, want := range []time.Duration{
		0, 0, 0, 0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, MaxWait, MaxWait,
	} {
		if wait := s.Wait("alice", home, now); wait != want {
			t.Errorf("after %d failures: %s, want %s", i, wait, want)
		}
		s.Failed("alice", home, now)
		now += time.Second
	}
	for range 100 {
		s.Failed("alice", home, now)
	}
	for _, c := range []struct {
		after, want time.Duration
	}{{29 * time.Second, MaxWait}, {30 * time.Second, 3200 * ms}, {2 * time.Minute, 400 * ms}, {4 * time.Minute, 0}} {
		if wait := s.Wait("alice", home, now+c.after); wait != c.want {
			t.Errorf("%s later: %s, want %s", c.after, wait, c.want)
		}
	}
}

// TestSlowdownLocksNobodyOut: what others do with a name, or at an address, costs MaxWait at the most, and nothing who
// has logged in there before.
func TestSlowdownLocksNobodyOut(t *testing.T) {
	var s Slowdown
	s.Succeeded("alice", home, 0)
	for i := range 1000 {
		s.Failed("alice", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 0) // her name, from everywhere
		s.Failed(fmt.Sprint("guess", i), home, 0)                                    // her address, other names
	}
	if wait := s.Wait("alice", home, 0); wait != 0 {
		t.Errorf("alice waits %s at home", wait)
	}
	if wait := s.Wait("alice", other, 0); wait != MaxWait {
		t.Errorf("alice waits %s elsewhere", wait)
	}
	if wait := s.Wait("bob", home, 0); wait != MaxWait {
		t.Errorf("bob, who was never at home, waits %s", wait)
	}
	if wait := s.Wait("bob", other, 0); wait != 0 {
		t.Errorf("bob waits %s elsewhere", wait)
	}
	for range 4 {
		s.Failed("alice", home, 0)
	}
	if wait := s.Wait("alice", home, 0); wait != 100*time.Millisecond {
		t.Errorf("alice waits %s after mistakes of her own", wait)
	}
	s.Succeeded("alice", home, 0)
	if wait := s.Wait("alice", home, trusted+1); wait != 0 {
		t.Errorf("alice waits %s a day later", wait)
	}
}

// TestSlowdownOfOneKnown: who has an account buys no guesses with it.
func TestSlowdownOfOneKnown(t *testing.T) {
	var s Slowdown
	for range 20 {
		s.Succeeded("mallory", other, 0)
		s.Failed("alice", other, 0)
	}
	if wait := s.Wait("alice", other, 0); wait != MaxWait {
		t.Errorf("a guess waits %s", wait)
	}
}

// TestSlowdownAddresses: the addresses of one site of IPv6 are one, and so are the two forms of one of IPv4.
func TestSlowdownAddresses(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:2", true}, {"2001:db8::1", "2001:db8:0:1::1", false},
		{"192.0.2.7", "::ffff:192.0.2.7", true}, {"192.0.2.7", "192.0.2.8", false}, {"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		var s Slowdown
		for i := range 20 {
			s.Failed(fmt.Sprint(i), netip.MustParseAddr(c.a), 0)
		}
		if wait := s.Wait("alice", netip.MustParseAddr(c.b), 0); (wait > 0) != c.same {
			t.Errorf("%s after %s waits %s", c.b, c.a, wait)
		}
	}
	var s Slowdown
	for range 20 {
		s.Failed("alice", netip.Addr{}, 0) // a Unix socket
	}
	if s.Wait("alice", netip.Addr{}, 0) != MaxWait || s.Wait("bob", netip.Addr{}, 0) != 0 {
		t.Error("those without an address wait for each other")
	}
}

// TestSlowdownIsBounded: whatever comes, the memory has its bound.
func TestSlowdownIsBounded(t *testing.T) {
	var s Slowdown
	for i := range 5 * sources {
		s.Failed(fmt.Sprint(i), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 0)
		s.Succeeded(fmt.Sprint(-i), home, 0)
	}
	for name, n := range map[string]int{"addresses": s.addresses.Len(), "users": s.users.Len(), "pairs": s.pairs.Len(),
		"trust": s.trust.Len()} {
		if n > 2*sources || n < sources {
			t.Errorf("%d %s are remembered", n, name)
		}
	}
}
