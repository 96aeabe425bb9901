package verify

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kit/fault"
)

var home = netip.MustParseAddr("192.0.2.7")

// hashed has a slow hash that is quick enough for tests.
func hashed(t testing.TB, password string) *credential.Verifiers {
	t.Helper()
	p, err := credential.HashPassword([]byte(password), Salt(), credential.Params{Memory: 64, Time: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return &credential.Verifiers{Password: p}
}

func login(user, password string) Login {
	return Login{User: user, Address: home, Password: []byte(password)}
}

// clock is a time that the test lets pass.
type clock struct{ now atomic.Int64 }

func (c *clock) Now() time.Duration { return time.Duration(c.now.Load()) }

func (c *clock) pass(d time.Duration) { c.now.Add(int64(d)) }

// TestCache: the second login of a device takes no hash, until the verifier changes or an hour has passed; nobody else
// profits from it.
func TestCache(t *testing.T) {
	var c clock
	l := New(Options{Now: c.Now})
	alice, bob := hashed(t, "pencil"), hashed(t, "pencil")
	check := func(what string, who Login, v *credential.Verifiers, ok bool, hashes int64) {
		t.Helper()
		before := l.Stats().Hashed
		err := l.Password(context.Background(), who, v)
		if (err == nil) != ok || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", what, err)
		}
		if n := l.Stats().Hashed - before; n != hashes {
			t.Errorf("%s: %d hashes, want %d", what, n, hashes)
		}
	}
	check("the first", login("alice", "pencil"), alice, true, 1)
	check("the second", login("alice", "pencil"), alice, true, 0)
	check("another password", login("alice", "pencil2"), alice, false, 1)
	check("another password again", login("alice", "pencil2"), alice, false, 1)
	check("another user", login("bob", "pencil"), bob, true, 1)
	check("no user", login("carol", "pencil"), nil, false, 1)
	check("a user without a password", login("dave", "pencil"), &credential.Verifiers{}, false, 1)
	changed := hashed(t, "pencil")
	check("the verifier changed", login("alice", "pencil"), changed, true, 1)
	check("and again", login("alice", "pencil"), changed, true, 0)
	check("the password changed", login("alice", "pencil"), hashed(t, "other"), false, 1)
	c.pass(59 * time.Minute)
	check("an hour less a minute later", login("alice", "pencil"), changed, true, 0)
	c.pass(time.Minute)
	check("an hour later", login("alice", "pencil"), changed, true, 1)
	check("names do not run into each other", Login{User: "alic", Password: []byte("epencil")}, changed, false, 1)
}

// TestQuick: a generated secret takes no slow hash, and a wrong one takes one, as for everybody.
func TestQuick(t *testing.T) {
	l := New(Options{})
	secret, p, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	v := &credential.Verifiers{Password: p}
	if err := l.Password(context.Background(), login("device", secret), v); err != nil || l.Stats().Hashed != 0 {
		t.Errorf("%v, %d hashes", err, l.Stats().Hashed)
	}
	if err := l.Password(context.Background(), login("device", secret+"x"), v); !fault.Is(err, fault.Denied) {
		t.Error(err)
	}
	if n := l.Stats().Hashed; n != 1 {
		t.Errorf("%d hashes for a wrong one", n)
	}
	made, err := NewSCRAM(credential.SHA256, []byte("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	kafkas := &credential.Verifiers{SCRAM256: made}
	for range 2 {
		if err := l.Password(context.Background(), login("consumer", "pencil"), kafkas); err != nil {
			t.Error(err)
		}
	}
	if n := l.Stats().Hashed; n != 2 {
		t.Errorf("%d hashes after two logins with a verifier of SCRAM", n)
	}
}

// TestCrowd: no more hashes are under way than there are turns; who waits too long is told so, and who leaves leaves.
func TestCrowd(t *testing.T) {
	l := New(Options{Hashes: 1, Patience: 20 * time.Millisecond})
	v := hashed(t, "pencil")
	if err := l.turns.Wait(t.Context(), home, time.Hour); err != nil { // a hash that takes for ever
		t.Fatal(err)
	}
	err := l.Password(context.Background(), login("alice", "pencil"), v)
	if !fault.Is(err, fault.Limited) || fault.HintOf(err) == "" || l.Stats().Crowded != 1 {
		t.Errorf("who waits too long: %v", err)
	}
	l.opt.Patience = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Password(ctx, login("alice", "pencil"), v); !fault.Is(err, fault.Timeout) {
		t.Errorf("who leaves: %v", err)
	}
	if _, err := l.Hash(ctx, []byte("pencil")); !fault.Is(err, fault.Timeout) {
		t.Errorf("who makes a verifier: %v", err)
	}
	if l.Stats().Failed != 0 {
		t.Error("who was not checked has failed")
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := l.Password(context.Background(), login("alice", "pencil"), v); err != nil {
				t.Error(err)
			}
		})
	}
	l.done()
	wg.Wait()
	if s := l.Stats(); s.Hashed != 1 || s.Cached != 49 {
		t.Errorf("one password of fifty connections: %+v", s)
	}
}

// TestHeld: who fails often waits, and leaves when it likes; the right password gets in then.
func TestHeld(t *testing.T) {
	var c clock
	l := New(Options{Now: c.Now})
	v := hashed(t, "pencil")
	for range 4 {
		if err := l.Password(context.Background(), login("alice", "wrong"), v); !fault.Is(err, fault.Denied) {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if err := l.Password(context.Background(), login("alice", "pencil"), v); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took < 100*time.Millisecond || l.Stats().Held != 1 {
		t.Errorf("a login after four that failed took %s, %d were held", took, l.Stats().Held)
	}
	for range 20 {
		l.Settle("alice", home, false)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Password(ctx, login("alice", "pencil"), v); !fault.Is(err, fault.Timeout) {
		t.Errorf("who leaves: %v", err)
	}
}

// users are those of a test.
type users map[string]*credential.Verifiers

func (u users) Lookup(name string) (*credential.Verifiers, bool) {
	v, is := u[name]
	return v, is
}

// TestExchange: failed runs of SCRAM and PLAIN slow down the next, whatever its mechanism.
func TestExchange(t *testing.T) {
	var c clock
	l := New(Options{Now: c.Now})
	made, err := NewSCRAM(credential.SHA256, []byte("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	all := users{"alice": {SCRAM256: made}}
	proof := ",p=" + strings.Repeat("A", 43) + "="
	for range 2 {
		e := l.SCRAM(credential.SHA256, all, nil, home)
		said, _, err := e.Step(context.Background(), []byte("n,,n=alice,r=abc"))
		if err != nil || e.User() != "alice" {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(string(said), ",")
		_, done, err := e.Step(context.Background(), []byte("c=biws,"+nonce+proof))
		if done || !fault.Is(err, fault.Denied) {
			t.Fatal(err)
		}
	}
	for range 2 {
		_, err := l.Plain(context.Background(), all, home, []byte("\x00alice\x00pen"))
		if !fault.Is(err, fault.Denied) {
			t.Fatal(err)
		}
	}
	if _, err := l.Plain(context.Background(), all, home, []byte("alice")); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	if s := l.Stats(); s.Failed != 4 || s.Held != 0 {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err = l.SCRAM(credential.SHA512, all, nil, home).Step(ctx, []byte("n,,n=alice,r=abc"))
	if !fault.Is(err, fault.Timeout) {
		t.Errorf("who leaves instead of waiting: %v", err)
	}
	user, err := l.Plain(context.Background(), all, home, []byte("\x00alice\x00pencil"))
	if err != nil || user != "alice" {
		t.Error(user, err)
	}
	if s := l.Stats(); s.Failed != 4 || s.Held != 2 {
		t.Errorf("%+v", s)
	}
}

// TestExchangeWhileThePasswordChanges: who began with the old password does not get in with it any more.
func TestExchangeWhileThePasswordChanges(t *testing.T) {
	old, err := NewSCRAM(credential.SHA256, []byte("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	changed, err := NewSCRAM(credential.SHA256, []byte("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		after users
		ok    bool
	}{
		"as before": {users{"alice": {SCRAM256: old}}, true},
		"changed":   {users{"alice": {SCRAM256: changed}}, false},
		"gone":      {users{}, false},
	} {
		l, all := New(Options{}), users{"alice": {SCRAM256: old}}
		session, first, err := scram.Auth{User: "alice", Pass: "pencil"}.AsSha256Mechanism().Authenticate(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		e := l.SCRAM(credential.SHA256, all, nil, home)
		said, _, err := e.Step(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		_, final, err := session.Challenge(said)
		if err != nil {
			t.Fatal(err)
		}
		clear(all)
		maps.Copy(all, c.after)
		if _, done, err := e.Step(t.Context(), final); done != c.ok || !c.ok && !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v, %v", what, done, err)
		}
	}
}

// TestStorm: a fleet that was there an instant ago comes back at once, each with a password of its own.
func TestStorm(t *testing.T) {
	const devices = 10_000
	l := New(Options{Patience: time.Hour})
	v := hashed(t, "pencil")
	storm := func() time.Duration {
		begun := time.Now()
		var wg sync.WaitGroup
		for from := range 100 {
			wg.Go(func() {
				for i := from; i < devices; i += 100 {
					if err := l.Password(context.Background(), login(fmt.Sprint("device", i), "pencil"), v); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return time.Since(begun)
	}
	first, again := storm(), storm()
	if s := l.Stats(); s.Hashed != devices || s.Cached != devices {
		t.Errorf("%+v", s)
	}
	t.Logf("%d devices: %s, and again %s", devices, first, again)
}

func BenchmarkCached(b *testing.B) {
	l := New(Options{})
	v := hashed(b, "pencil")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Password(context.Background(), login("alice", "pencil"), v); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkHashed is what the first logins of a fleet cost, with the memory that the process takes from the system.
func BenchmarkHashed(b *testing.B) {
	for _, hashes := range []int{1, 2} {
		b.Run(fmt.Sprint(hashes), func(b *testing.B) {
			l := New(Options{Hashes: hashes, Cached: -1, Patience: time.Hour})
			p, err := NewPassword([]byte("pencil"))
			if err != nil {
				b.Fatal(err)
			}
			v := &credential.Verifiers{Password: p}
			b.SetParallelism(50)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := l.Password(context.Background(), login("alice", "pencil"), v); err != nil {
						b.Error(err)
					}
				}
			})
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapSys-m.HeapReleased)/(1<<20), "MiB")
		})
	}
}
