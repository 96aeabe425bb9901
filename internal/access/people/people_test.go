package people

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

const password = "a password that a machine made of much chance"

// front is a desk behind a real server, with a clock that the test sets and users alice (admin) and bob.
type front struct {
	t *testing.T
	*Desk
	access *access.Access
	at     string // of the server
	ahead  atomic.Int64
	banned atomic.Pointer[string]
	from   atomic.Pointer[netip.Addr] // where requests seem to come from; nil: here
}

func open(t *testing.T, opt Options, users ...string) *front {
	t.Helper()
	log, err := store.Open(t.Context(), store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	table, err := hinge.New(nil, hinge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t}
	if f.access, err = access.Open(t.Context(), access.Options{Log: log, Mapping: table}); err != nil {
		t.Fatal(err)
	}
	for i, name := range users {
		roles := []string{[]string{"admin", "viewer"}[i%2]}
		err := f.access.AddUser(t.Context(), access.UserChange{Name: name, Password: []byte(password), Generated: true,
			Roles: &roles})
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	opt.Access, opt.Now = f.access, func() time.Time { return begin.Add(time.Duration(f.ahead.Load())) }
	opt.From = func(r *http.Request) rule.Subject {
		who := rule.Subject{Listener: "http", Address: netip.MustParseAddrPort(r.RemoteAddr).Addr()}
		if at := f.from.Load(); at != nil {
			who.Address = *at
		}
		return who
	}
	opt.Banned = func(user string, _ netip.Addr) bool {
		who := f.banned.Load()
		return who != nil && *who == user
	}
	opt.Refuse = func(w http.ResponseWriter, err error) {
		status := map[fault.Kind]int{fault.Denied: 403, fault.Invalid: 400}[fault.KindOf(err)]
		if errors.Is(err, access.ErrCredentials) {
			status = 401
		}
		w.WriteHeader(status)
		fmt.Fprint(w, err)
	}
	opt.Answer = func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	if f.Desk, err = New(opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	f.access.Watch(f.Recheck)
	mux := http.NewServeMux()
	mux.Handle(Path, f.Handler())
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		switch v, err := f.Enter(r); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusForbidden)
		case v == nil:
			http.Error(w, "who", http.StatusUnauthorized)
		default:
			fmt.Fprint(w, v.Pass.Who().User)
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	f.at = s.URL
	return f
}

// answer is what a server has said.
type answer struct {
	status  int
	body    string
	header  http.Header
	cookies map[string]*http.Cookie
}

// do asks with headers, each "Name: value".
func (f *front) do(method, path, body string, headers ...string) answer {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, f.at+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(r) // it does not follow
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	a := answer{resp.StatusCode, string(text), resp.Header, map[string]*http.Cookie{}}
	for _, c := range resp.Cookies() {
		a.cookies[c.Name] = c
	}
	return a
}

const asJSON = "Content-Type: application/json"

func credentials(name, password string) string {
	text, _ := json.Marshal(map[string]string{"name": name, "password": password})
	return string(text)
}

// login logs in, and gives the cookie as a header and the token.
func (f *front) login(name string, headers ...string) (cookie, csrf string) {
	f.t.Helper()
	a := f.do("POST", "/auth/login", credentials(name, password), append(headers, asJSON)...)
	var who Standing
	if err := json.Unmarshal([]byte(a.body), &who); err != nil || a.status != 200 || who.User != name {
		f.t.Fatalf("login: %d %s", a.status, a.body)
	}
	return "Cookie: " + cookieName + "=" + a.cookies[cookieName].Value, who.CSRF
}

func TestLogin(t *testing.T) {
	f := open(t, Options{}, "alice", "bob")
	const form = "Content-Type: application/x-www-form-urlencoded"
	good := credentials("alice", password)
	for _, tc := range []struct {
		name, body string
		headers    []string
		status     int
		want       string
	}{
		{"JSON", good, []string{asJSON}, 200, `"user":"alice"`},
		{"our own page", good, []string{asJSON, "Origin: " + f.at, "Sec-Fetch-Site: same-origin"}, 200, `"cluster":["`},
		{"another page", good, []string{asJSON, "Sec-Fetch-Site: cross-site"}, 403, "another site"},
		{"another port", good, []string{asJSON, "Sec-Fetch-Site: same-site"}, 403, "another site"},
		{"another origin", good, []string{asJSON, "Origin: https://evil.example"}, 403, "another site"},
		{"no origin", good, []string{asJSON, "Origin: null"}, 403, "another site"},
		{"no type", good, nil, 400, "neither"},
		{"text", good, []string{"Content-Type: text/plain"}, 400, "neither"},
		{"no JSON", `{"name":"alice","password":"x`, []string{asJSON}, 400, "no JSON object"},
		{"too large", strings.Repeat(" ", maxLogin) + good, []string{asJSON}, 400, "more than"},
		{"no name", `{"password":"x"}`, []string{asJSON}, 401, "wrong user name or password"},
		{"no password", `{"name":"alice"}`, []string{asJSON}, 401, "wrong user name or password"},
		{"a form", "name=bob&password=" + password, []string{form}, 303, ""},
		{"a form elsewhere", "name=bob&return=//evil.example&password=" + password, []string{form}, 400, "no path"},
		{"no form", "name=%zz&password=x", []string{form}, 400, "no form"},
	} {
		a := f.do("POST", "/auth/login", tc.body, tc.headers...)
		if a.status != tc.status || !strings.Contains(a.body, tc.want) {
			t.Errorf("%s: %d %s", tc.name, a.status, a.body)
		}
		if got := a.cookies[cookieName] != nil; got != (tc.status < 400) || strings.Contains(a.body, password) {
			t.Errorf("%s: a cookie %v", tc.name, got)
		}
	}
	wrong := f.do("POST", "/auth/login", credentials("alice", "x"), asJSON)
	nobody := f.do("POST", "/auth/login", credentials("carol", "x"), asJSON)
	if wrong.status != 401 || nobody.status != 401 || wrong.body != nobody.body {
		t.Errorf("a wrong password and an unknown user differ: %+v, %+v", wrong, nobody)
	}
}

// TestNoLoginWhereAllMay: while there are no users a name proves nothing.
func TestNoLoginWhereAllMay(t *testing.T) {
	f := open(t, Options{})
	if a := f.do("POST", "/auth/login", credentials("alice", "x"), asJSON); a.status != 403 || len(a.cookies) > 0 {
		t.Errorf("login: %+v", a)
	}
	if a := f.do("GET", "/auth/session", ""); !strings.Contains(a.body, `"known":false,"open":true`) {
		t.Errorf("session: %+v", a)
	}
}

func TestCookie(t *testing.T) {
	for _, tc := range []struct{ public, name, attributes string }{
		{"", "firth_session", "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"},
		{"https://firth.example.org", "__Host-firth_session",
			"Path=/; Max-Age=43200; HttpOnly; Secure; SameSite=Strict"},
	} {
		f := open(t, Options{PublicURL: tc.public}, "alice")
		a := f.do("POST", "/auth/login", credentials("alice", password), asJSON)
		c := a.cookies[tc.name]
		if c == nil || len(c.Value) != 43 || !strings.HasSuffix(c.Raw, "; "+tc.attributes) {
			t.Fatalf("%q: %v", tc.public, a.header["Set-Cookie"])
		}
		for name, status := range map[string]int{tc.name: 200, "x" + tc.name: 401,
			map[bool]string{true: "firth_session", false: "__Host-firth_session"}[c.Secure]: 401} {
			if got := f.do("GET", "/work", "", "Cookie: "+name+"="+c.Value).status; got != status {
				t.Errorf("%q: %s: %d, want %d", tc.public, name, got, status)
			}
		}
	}
}

// TestPrivate: a password from another machine is not taken without TLS.
func TestPrivate(t *testing.T) {
	far := netip.MustParseAddr("192.0.2.7")
	for public, status := range map[string]int{"": 403, "https://firth.example.org": 200} {
		f := open(t, Options{PublicURL: public}, "alice")
		f.from.Store(&far)
		if a := f.do("POST", "/auth/login", credentials("alice", password), asJSON); a.status != status {
			t.Errorf("%q: %d %s", public, a.status, a.body)
		}
	}
}

func TestSessionEnds(t *testing.T) {
	roles, disabled := []string{"viewer"}, true
	set := func(c access.UserChange) func(f *front, cookie, csrf string) {
		return func(f *front, _, _ string) {
			if c.Name = "alice"; f.access.SetUser(f.t.Context(), c) != nil {
				f.t.Error("the user could not be changed")
			}
		}
	}
	for name, end := range map[string]func(f *front, cookie, csrf string){
		"disabled":     set(access.UserChange{Disabled: &disabled}),
		"password":     set(access.UserChange{Password: []byte("another " + password), Generated: true}),
		"other roles":  set(access.UserChange{Roles: &roles}),
		"other groups": set(access.UserChange{Groups: &roles}),
		"removed": func(f *front, _, _ string) {
			if err := f.access.RemoveUser(f.t.Context(), "alice"); err != nil {
				f.t.Error(err)
			}
		},
		"banned": func(f *front, _, _ string) {
			who := "alice"
			f.banned.Store(&who)
			f.Recheck()
		},
		"logout": func(f *front, cookie, csrf string) {
			a := f.do("POST", "/auth/logout", "", cookie, CSRFHeader+": "+csrf)
			if c := a.cookies[cookieName]; a.status != 200 || c == nil || c.MaxAge >= 0 {
				f.t.Errorf("logout: %+v", a)
			}
		},
		"an administrator": func(f *front, _, _ string) {
			if n, err := f.End(f.List("alice")[0].ID, ""); n != 1 || err != nil {
				f.t.Errorf("ended %d, %v", n, err)
			}
		},
		"another login": func(f *front, cookie, _ string) { f.login("alice", cookie) },
		"the end":       func(f *front, _, _ string) { f.Close() },
	} {
		f := open(t, Options{}, "alice", "bob")
		cookie, csrf := f.login("alice")
		bobs, _ := f.login("bob")
		over := map[string]bool{}
		for _, s := range f.all() {
			user := s.pass.Who().User
			v := Visit{s.pass, f.Desk, s}
			v.During(func() { over[user] = true })
		}
		end(f, cookie, csrf)
		if a := f.do("GET", "/work", "", cookie); a.status != 403 && a.status != 401 {
			t.Errorf("%s: the cookie is good: %+v", name, a)
		}
		if !over["alice"] || over["bob"] != (name == "the end") {
			t.Errorf("%s: what is under way has ended: %v", name, over)
		}
		if a := f.do("GET", "/auth/session", "", cookie); !strings.Contains(a.body, `"known":false`) {
			t.Errorf("%s: the session is known: %+v", name, a)
		}
		if got := f.do("GET", "/work", "", bobs).status; (got == 200) == (name == "the end") {
			t.Errorf("%s: of bob: %d", name, got)
		}
	}
}

func TestIdleAndLifetime(t *testing.T) {
	f := open(t, Options{Idle: time.Hour, Lifetime: 3 * time.Hour}, "alice")
	cookie, _ := f.login("alice")
	for i, tc := range []struct {
		after  time.Duration
		path   string
		status int
	}{
		{59 * time.Minute, "/work", 200},
		{59 * time.Minute, "/work", 200},
		{59 * time.Minute, "/work", 200},
		{4 * time.Minute, "/work", 403}, // 3 h 1 min
	} {
		f.ahead.Add(int64(tc.after))
		if a := f.do("GET", tc.path, "", cookie); a.status != tc.status {
			t.Errorf("%d: %d %s", i, a.status, a.body)
		}
	}
	cookie, _ = f.login("alice")
	for range 2 {
		f.ahead.Add(int64(31 * time.Minute))
		f.do("GET", "/auth/session", "", cookie) // which is no use
	}
	if a := f.do("GET", "/work", "", cookie); a.status != 403 {
		t.Errorf("asking who one is keeps a session: %+v", a)
	}
	f.ahead.Add(-int64(24 * time.Hour)) // a clock that is set back brings nothing back
	if a := f.do("GET", "/work", "", cookie); a.status != 403 {
		t.Errorf("it is back: %+v", a)
	}
}

func TestCSRF(t *testing.T) {
	f := open(t, Options{}, "alice", "bob")
	cookie, csrf := f.login("alice")
	_, other := f.login("bob")
	for _, tc := range []struct {
		method  string
		headers []string
		status  int
	}{
		{"GET", nil, 200},
		{"POST", nil, 403},
		{"PUT", []string{CSRFHeader + ": "}, 403},
		{"DELETE", []string{CSRFHeader + ": " + other}, 403},
		{"POST", []string{CSRFHeader + ": " + csrf + "x"}, 403},
		{"POST", []string{CSRFHeader + ": " + csrf}, 200},
		{"POST", []string{CSRFHeader + ": " + csrf, "Origin: " + f.at}, 200},
		{"POST", []string{CSRFHeader + ": " + csrf, "Origin: https://evil.example"}, 403},
		{"POST", []string{CSRFHeader + ": " + csrf, "Sec-Fetch-Site: cross-site"}, 403},
		{"PATCH", []string{CSRFHeader + ": " + csrf, "Sec-Fetch-Site: same-origin"}, 200},
	} {
		if a := f.do(tc.method, "/work", "", append(tc.headers, cookie)...); a.status != tc.status {
			t.Errorf("%s %v: %d %s, want %d", tc.method, tc.headers, a.status, a.body, tc.status)
		}
	}
	if a := f.do("POST", "/auth/logout", "", cookie); a.status != 403 {
		t.Errorf("logout without the token: %+v", a)
	}
}

// TestFixation: a cookie that somebody else knows stands for nobody after a login.
func TestFixation(t *testing.T) {
	f := open(t, Options{}, "alice", "bob")
	planted := "Cookie: " + cookieName + "=" + newSecret().text()
	mine, _ := f.login("alice", planted)
	if a := f.do("GET", "/work", "", planted); mine == planted || a.status != 403 {
		t.Errorf("a planted cookie is taken: %+v", a)
	}
	theirs, _ := f.login("bob")
	both := theirs + "; " + strings.TrimPrefix(mine, "Cookie: ")
	if a := f.do("GET", "/work", "", both); a.status != 401 {
		t.Errorf("of two cookies one is taken: %+v", a)
	}
}

// TestElsewhere: rules hold for where a request comes from, not where its user logged in.
func TestElsewhere(t *testing.T) {
	f := open(t, Options{}, "alice")
	here := netip.MustParsePrefix("127.0.0.0/8")
	err := f.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{{Effect: rule.Deny, Principal: "User:alice",
		Operations: rule.Of(rule.All), Resource: rule.Resource{Kind: rule.Cluster, Pattern: rule.Literal,
			Name: rule.ClusterName}, When: rule.Conditions{Networks: []netip.Prefix{here}}}}})
	if err != nil {
		t.Fatal(err)
	}
	far := netip.MustParseAddr("::1")
	f.from.Store(&far)
	cookie, _ := f.login("alice")
	if a := f.do("GET", "/auth/session", "", cookie); !strings.Contains(a.body, `"cluster"`) {
		t.Errorf("from there: %s", a.body)
	}
	f.from.Store(nil)
	if a := f.do("GET", "/auth/session", "", cookie); !strings.Contains(a.body, "alice") ||
		strings.Contains(a.body, `"cluster"`) {
		t.Errorf("from here: %s", a.body)
	}
}

func TestBounds(t *testing.T) {
	f := open(t, Options{PerUser: 3, Most: 5}, "alice", "bob", "carol")
	var cookies []string
	for i := range 4 {
		c, _ := f.login("alice")
		cookies = append(cookies, c)
		f.ahead.Add(int64(time.Second))
		if i < 3 {
			f.do("GET", "/work", "", cookies[0]) // the first is in use
			f.ahead.Add(int64(time.Second))
		}
	}
	for i, want := range []int{200, 403, 200, 200} {
		if got := f.do("GET", "/work", "", cookies[i]).status; got != want {
			t.Errorf("the session %d of a user: %d, want %d", i, got, want)
		}
	}
	for _, name := range []string{"bob", "bob", "carol", "carol"} {
		f.ahead.Add(int64(time.Second))
		f.login(name)
	}
	if all, of := f.List(""), f.List("alice"); len(all) != 5 || len(of) != 1 {
		t.Errorf("%d in all, %d of who did not use them", len(all), len(of))
	}
}

// TestMemory: ten thousand sessions are a few KiB each, and no more with more logins.
func TestMemory(t *testing.T) {
	f := open(t, Options{PerUser: 1_000_000}, "alice", "bob")
	cookie, _ := f.login("bob")
	pass, err := f.access.Enter(t.Context(), rule.Subject{User: "alice"}, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	used := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := used()
	for i := range 10_200 {
		f.begin(pass.At(*pass.Who()), byPassword, f.opt.Now().Add(time.Hour))
		if f.ahead.Add(1); i%500 == 0 {
			f.do("GET", "/work", "", cookie)
		}
	}
	n, each := len(f.all()), (used()-before)/10_000
	t.Logf("%d sessions, %d bytes each", n, each)
	if n != 10_000 || each > 4<<10 {
		t.Errorf("%d sessions, %d bytes each", n, each)
	}
	if a := f.do("GET", "/work", "", cookie); a.status != 200 {
		t.Errorf("one in use has ended: %+v", a)
	}
}

func TestConcurrentUse(t *testing.T) {
	f := open(t, Options{PerUser: 4, Most: 20}, "alice", "bob")
	var wg sync.WaitGroup
	for i := range 8 {
		name := []string{"alice", "bob"}[i%2]
		wg.Go(func() {
			pass, err := f.access.Enter(t.Context(), rule.Subject{User: name}, []byte(password))
			if err != nil {
				t.Error(err)
				return
			}
			for n := range 200 {
				id, _ := f.begin(pass, byPassword, f.opt.Now().Add(time.Hour))
				if s, err := f.find(id, true); err == nil && s.pass.Who().User != name || err != nil &&
					!errors.Is(err, ErrEnded) {
					t.Errorf("%s has the session of %s: %v", name, s.pass.Who().User, err)
				}
				switch n % 20 {
				case 5:
					f.Recheck()
				case 10:
					_, _ = f.End("", name)
				case 15:
					f.List("")
				}
			}
		})
	}
	wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range f.mu.users {
		if n > 4 {
			t.Errorf("%s has %d", name, n)
		}
	}
}
