package keys_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/keys"
	"github.com/firthmq/firth/internal/access/token/tokentest"
	"github.com/firthmq/firth/internal/kit/fault"
)

// provider publishes keys.
type provider struct {
	*httptest.Server
	keys  atomic.Pointer[[]byte] // nil: it is down
	asked atomic.Int64
	name  string // by which it calls itself; "": its own
}

func newProvider(t *testing.T, text []byte) *provider {
	t.Helper()
	p := &provider{}
	p.keys.Store(&text)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch text := p.keys.Load(); {
		case r.URL.Path == "/.well-known/openid-configuration":
			name := p.name
			if name == "" {
				name = p.URL
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": p.URL + "/jwks"})
		case r.URL.Path == "/away":
			http.Redirect(w, r, "/jwks", http.StatusFound)
		case text == nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			p.asked.Add(1)
			_, _ = w.Write(*text)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// run opens a source and runs it for the length of the test.
func run(t *testing.T, opt keys.Options) *keys.Source {
	t.Helper()
	s, err := keys.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestURL(t *testing.T) {
	one := tokentest.New(t, "ES256").Keys()
	p := newProvider(t, one)
	s := run(t, keys.Options{Issuer: "x", URL: p.URL + "/jwks", Patience: time.Millisecond, MaxAge: 3 * time.Second})
	first := s.Keys()
	eventually(t, "no keys were fetched", func() bool {
		s.Miss(t.Context())
		first = s.Keys()
		return first != nil
	})
	two := tokentest.New(t, "EdDSA").Keys()
	p.keys.Store(&two)
	eventually(t, "the keys are those before", func() bool {
		s.Miss(t.Context())
		return s.Keys() != first
	})
	p.keys.Store(nil)
	asks := func(want bool) func() bool {
		return func() bool {
			s.Miss(t.Context())
			k := s.Keys()
			if k == first {
				t.Fatal("the first keys came back")
			}
			return (k != nil) == want
		}
	}
	eventually(t, "keys that are too old are in force", asks(false))
	p.keys.Store(&one)
	eventually(t, "keys do not come back", asks(true))
}

// TestMissIsBounded: who makes up the names of keys does not have us ask for each.
func TestMissIsBounded(t *testing.T) {
	p := newProvider(t, tokentest.New(t, "ES256").Keys())
	s := run(t, keys.Options{Issuer: "x", URL: p.URL + "/jwks", Patience: time.Hour})
	eventually(t, "no keys", func() bool { return s.Keys() != nil })
	for range 100 {
		s.Miss(t.Context())
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestDiscovery(t *testing.T) {
	p := newProvider(t, tokentest.New(t, "ES256").Keys())
	s := run(t, keys.Options{Issuer: p.URL, Discover: true, Patience: time.Millisecond})
	eventually(t, "no keys", func() bool { return s.Keys() != nil })

	p = newProvider(t, tokentest.New(t, "ES256").Keys())
	p.name = "https://other.example.org"
	s = run(t, keys.Options{Issuer: p.URL, Discover: true, Patience: time.Millisecond})
	for range 3 {
		s.Miss(t.Context())
	}
	if s.Keys() != nil {
		t.Error("an issuer that calls itself something else gave keys")
	}
}

func TestBadAnswers(t *testing.T) {
	large := bytes.Repeat([]byte(" "), 2<<20)
	large = append(large, tokentest.New(t, "ES256").Keys()...)
	for name, text := range map[string][]byte{"large": large, "empty": {}, "not JSON": []byte("<html>")} {
		p := newProvider(t, text)
		s := run(t, keys.Options{Issuer: "x", URL: p.URL + "/jwks", Patience: time.Millisecond})
		for range 3 {
			s.Miss(t.Context())
		}
		if s.Keys() != nil {
			t.Errorf("%s: there are keys", name)
		}
	}
	p := newProvider(t, tokentest.New(t, "ES256").Keys())
	s := run(t, keys.Options{Issuer: "x", URL: p.URL + "/away", Patience: time.Millisecond})
	for range 3 {
		s.Miss(t.Context())
	}
	if s.Keys() != nil {
		t.Error("we followed elsewhere")
	}
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keys.json")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(name+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	write(tokentest.New(t, "ES256").Keys())
	s := run(t, keys.Options{Issuer: "x", File: name})
	first := s.Keys()
	if first == nil {
		t.Fatal("no keys")
	}
	write(tokentest.New(t, "ES384").Keys())
	eventually(t, "the file is not read again", func() bool { return s.Keys() != first })
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, bytes.Repeat([]byte("x"), 40), 0o644); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("too short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		opt  keys.Options
		kind fault.Kind
	}{
		"no file":       {keys.Options{File: filepath.Join(dir, "none")}, fault.NotFound},
		"open secret":   {keys.Options{Secret: open}, fault.Denied},
		"short secret":  {keys.Options{Secret: short}, fault.Invalid},
		"no keys":       {keys.Options{File: short}, fault.Invalid},
		"http":          {keys.Options{URL: "http://id.example.org/jwks"}, fault.Invalid},
		"a password":    {keys.Options{URL: "https://a:b@id.example.org/jwks"}, fault.Invalid},
		"a file's URL":  {keys.Options{URL: "file:///etc/keys"}, fault.Invalid},
		"no name":       {keys.Options{URL: "https:///keys"}, fault.Invalid},
		"like loopback": {keys.Options{URL: "http://127.0.0.1.example.org/jwks"}, fault.Invalid},
		"discover":      {keys.Options{Issuer: "id", Discover: true}, fault.Invalid},
	} {
		if _, err := keys.Open(test.opt); fault.KindOf(err) != test.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}
