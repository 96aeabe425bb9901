package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// browser asks a node as a page of it does, with the cookies that it was given.
type browser struct {
	t       testing.TB
	at      string
	host    string // that it names; "": at
	cookies map[string]*http.Cookie
	csrf    string
}

func newBrowser(t testing.TB, n *Node) *browser {
	return &browser{t: t, at: n.Addresses().HTTP, cookies: map[string]*http.Cookie{}}
}

// open asks, and gives the answer as it comes. Headers are "Name: value".
func (b *browser) open(method, path, body string, headers ...string) *http.Response {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+b.at+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Host = b.host
	r.Header.Set("Content-Type", adminType)
	r.Header.Set(people.CSRFHeader, b.csrf)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	for _, c := range b.cookies {
		r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		if b.cookies[c.Name] = c; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return resp
}

func (b *browser) do(method, path, body string, headers ...string) (int, string) {
	b.t.Helper()
	resp := b.open(method, path, body, headers...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// login logs in, and keeps the token.
func (b *browser) login(user, password string, headers ...string) (int, string) {
	b.t.Helper()
	text, err := json.Marshal(map[string]string{"name": user, "password": password})
	if err != nil {
		b.t.Fatal(err)
	}
	status, body := b.do("POST", "/auth/login", string(text), headers...)
	var who people.Standing
	if json.Unmarshal([]byte(body), &who) == nil {
		b.csrf = who.CSRF
	}
	return status, body
}

func addUser(t *testing.T, n *Node, name string, roles ...string) {
	t.Helper()
	err := n.access.AddUser(t.Context(), access.UserChange{Name: name, Password: []byte(mxPassword), Generated: true,
		Roles: &roles})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPeople: who has logged in does by its cookie what it may do by its password, and nothing without the token.
func TestPeople(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "alice", "admin")
	addUser(t, n, "bob", "viewer")
	alice, bob := newBrowser(t, n), newBrowser(t, n)
	for _, tc := range []struct {
		name         string
		who          *browser
		method, path string
		body         string
		header       string
		status       int
		want         string
	}{
		{"nobody yet", alice, "GET", "/admin/v1/users", "", "X: y", 401, "only who is known"},
		{"login", alice, "LOGIN", "alice", mxPassword, "X: y", 200, `"cluster":["`},
		{"login of a viewer", bob, "LOGIN", "bob", mxPassword, "X: y", 200, `"roles":["viewer"]`},
		{"who", alice, "GET", "/auth/session", "", "X: y", 200, `"known":true,"user":"alice"`},
		{"a look", alice, "GET", "/admin/v1/users", "", "X: y", 200, "bob"},
		{"a change", alice, "POST", "/admin/v1/user?new=true", `{"name":"carol"}`, "X: y", 200, "carol"},
		{"without the token", alice, "DELETE", "/admin/v1/user?name=carol", "", people.CSRFHeader + ": ", 403,
			"a change needs the token"},
		{"from another page", alice, "DELETE", "/admin/v1/user?name=carol", "", "Sec-Fetch-Site: same-site", 403,
			"another site"},
		{"by a proxy", alice, "GET", "/admin/v1/users", "", "X-Forwarded-For: 192.0.2.1", 403, "none by a proxy"},
		{"a viewer looks", bob, "GET", "/admin/v1/users", "", "X: y", 200, "alice"},
		{"and changes nothing", bob, "DELETE", "/admin/v1/user?name=carol", "", "X: y", 403, "bob may not alter"},
		{"a wrong password beside the cookie", alice, "GET", "/admin/v1/users", "",
			basicHeader("alice", "x"), 401, "wrong user name or password"},
		{"who is there", alice, "GET", "/admin/v1/logins?user=bob", "", "X: y", 200, `"user":"bob","method":"password"`},
		{"ended by an administrator", alice, "DELETE", "/admin/v1/logins?user=bob", "", "X: y", 200, `"ended":1`},
		{"is out", bob, "GET", "/admin/v1/users", "", "X: y", 401, "the session has ended"},
		{"nobody to end", alice, "DELETE", "/admin/v1/logins?user=bob", "", "X: y", 404, "no such session"},
		{"a ban", alice, "POST", "/admin/v1/ban?kind=user&who=alice&for=1h", "", "X: y", 200, "alice"},
		{"and out", alice, "GET", "/admin/v1/users", "", "X: y", 401, "the session has ended"},
		{"and not in", alice, "LOGIN", "alice", mxPassword, "X: y", 403, "banned"},
	} {
		var status int
		var body string
		if tc.method == "LOGIN" {
			status, body = tc.who.login(tc.path, tc.body, tc.header)
		} else {
			status, body = tc.who.do(tc.method, tc.path, tc.body, tc.header)
		}
		if status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s", tc.name, status, body)
		}
	}
}

// TestWrongLogin: nobody learns from the answer which users there are.
func TestWrongLogin(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "alice", "admin")
	b := newBrowser(t, n)
	var said []string
	for _, name := range []string{"alice", "nobody"} {
		answer := b.open("POST", "/auth/login", `{"name":"`+name+`","password":"wrong"}`)
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d %s, %v", name, answer.StatusCode, text, err)
		}
		if got := answer.Header.Get("WWW-Authenticate"); got != bearerChallenge {
			t.Errorf("%s: the challenge is %q", name, got)
		}
		said = append(said, string(text))
	}
	if said[0] != said[1] {
		t.Errorf("the answers differ: %s, %s", said[0], said[1])
	}
}

func basicHeader(user, password string) string {
	return strings.TrimSuffix(basicAuth(user, password), "\n")
}

// TestStreamEndsWithSession: what goes on for a session does not outlive it.
func TestStreamEndsWithSession(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "alice", "admin")
	b := newBrowser(t, n)
	if status, body := b.login("alice", mxPassword); status != 200 {
		t.Fatalf("login: %d %s", status, body)
	}
	trace := b.open("GET", "/admin/v1/trace?client=x", "")
	defer trace.Body.Close()
	if trace.StatusCode != http.StatusOK {
		t.Fatalf("trace: %d", trace.StatusCode)
	}
	if status, body := b.do("POST", "/auth/logout", ""); status != 200 || len(b.cookies) != 0 {
		t.Fatalf("logout: %d %s", status, body)
	}
	if text, err := io.ReadAll(trace.Body); err != nil { // it ends
		t.Errorf("the trace ends with %q, %v", text, err)
	}
}

// TestPublicURL: the host that a proxy has is answered on loopback, but not as this machine.
func TestPublicURL(t *testing.T) {
	c := local(t)
	c.HTTP = HTTP{PublicURL: "https://firth.example.org", Proxies: "127.0.0.0/8"}
	n := start(t, c)
	addUser(t, n, "alice", "admin")
	b := newBrowser(t, n)
	b.host = "firth.example.org"
	if status, body := b.do("GET", "/metrics", ""); status != 401 {
		t.Errorf("metrics of a stranger: %d %.80s", status, body)
	}
	status, body := b.login("alice", mxPassword, "Origin: https://firth.example.org", "X-Forwarded-For: 192.0.2.1")
	if status != 200 || b.cookies["__Host-firth_session"] == nil {
		t.Fatalf("login: %d %s, %v", status, body, b.cookies)
	}
	if status, body := b.do("GET", "/metrics", "", "X-Forwarded-For: 192.0.2.1"); status != 200 {
		t.Errorf("metrics: %d %.80s", status, body)
	}
	if lines := n.people.List(""); len(lines) != 1 || lines[0].Address != "192.0.2.1" {
		t.Errorf("from %+v", lines)
	}
	if status, _ := b.do("GET", "/admin/v1/users", ""); status != 403 {
		t.Errorf("the interface of this machine: %d", status)
	}
	b.host = "evil.example"
	if status, _ := b.do("GET", "/healthz", ""); status != 403 {
		t.Errorf("another host: %d", status)
	}
}

func TestRemote(t *testing.T) {
	n := &Node{}
	for _, network := range []string{"10.0.0.0/8", "127.0.0.1", "2001:db8::/32"} {
		p, err := parseNetwork(network)
		if err != nil {
			t.Fatal(err)
		}
		n.proxies = append(n.proxies, p)
	}
	for _, tc := range []struct{ remote, said, want string }{
		{"192.0.2.1:80", "198.51.100.9", "192.0.2.1"}, // of nobody whom we believe
		{"127.0.0.1:80", "", "127.0.0.1"},
		{"127.0.0.1:80", "198.51.100.9", "198.51.100.9"},
		{"127.0.0.1:80", "127.0.0.1, 198.51.100.9, 10.1.1.1", "198.51.100.9"},
		{"[::ffff:10.0.0.1]:80", " 2001:db8::1 ,10.2.2.2", "2001:db8::1"},
		{"127.0.0.1:80", "198.51.100.9, nonsense", "127.0.0.1"},
		{"@", "198.51.100.9", "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: tc.remote, Header: http.Header{"X-Forwarded-For": {tc.said}}}
		if got := n.remote(r); got.String() != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

// FuzzRemote: nobody is somebody else whom a proxy that is not believed passes on.
func FuzzRemote(f *testing.F) {
	f.Add("1.2.3.4, ::1", "x")
	f.Add(",,", "10.0.0.1")
	n := &Node{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f.Fuzz(func(t *testing.T, a, b string) {
		r := &http.Request{RemoteAddr: "192.0.2.1:1", Header: http.Header{"X-Forwarded-For": {a, b}}}
		if got := n.remote(r); got.String() != "192.0.2.1" {
			t.Fatalf("%q %q: %v", a, b, got)
		}
		r.RemoteAddr = "10.0.0.1:1"
		n.remote(r)
	})
}

func TestPeopleOptions(t *testing.T) {
	for text, want := range map[string]string{
		"http: { public_url: \"https://a.example:8443\" }":            "",
		"http: { public_url: \"http://localhost:8080\" }":             "",
		"http: { public_url: \"http://a.example\" }":                  "plain http is for this machine only",
		"http: { public_url: \"https://a.example/\" }":                "no address of a host",
		"http: { public_url: \"https://me:secret@a.example\" }":       "no address of a host",
		"http: { public_url: \"a.example\" }":                         "no address of a host",
		"http: { trusted_proxies: [10.0.0.0/8, \"::1\", 127.0.0.1] }": "",
		"http: { trusted_proxies: proxy.example }":                    "neither an address nor a network",
		"access: { sessions: { idle: 0s } }":                          "out of range",
	} {
		_, err := Load(Sources{File: "firth.yaml", Text: []byte(text + "\n")})
		if said := fmt.Sprint(err); (err == nil) != (want == "") || !strings.Contains(said, want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestPeopleAudit: logins, logouts and refusals are told, and who did what by its session.
func TestPeopleAudit(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "alice", "admin")
	b := newBrowser(t, n)
	b.login("alice", "wrong")
	b.login("alice", mxPassword)
	b.do("POST", "/admin/v1/user?new=true", `{"name":"carol"}`)
	b.do("DELETE", "/admin/v1/user?name=carol", "", people.CSRFHeader+": x")
	b.do("POST", "/auth/logout", "")
	want := [][]string{
		{`"action":"login"`, `"method":"password"`, `"outcome":"failure"`},
		{`"action":"login"`, `"method":"password"`, `"outcome":"success"`, `"principal":"User:alice"`},
		{`"action":"user.add"`, `"principal":"User:alice"`, `carol`},
		{`"type":"firth.access.refused"`, `the token of the session`},
		{`"action":"logout"`, `"principal":"User:alice"`},
	}
	until(t, "in the audit", func() bool {
		_, text := request(t, b.at, get("/admin/v1/audit", b.at, "Authorization: Bearer "+n.token+"\n"))
		for _, words := range want {
			if !anyLine(text, words) {
				return false
			}
		}
		return true
	})
}

// anyLine tells whether some line has all these words.
func anyLine(text string, words []string) bool {
	lines := bufio.NewScanner(bytes.NewReader([]byte(text)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		all := true
		for _, word := range words {
			all = all && strings.Contains(lines.Text(), word)
		}
		if all {
			return true
		}
	}
	return false
}

// TestStreamEndsWithRight: what goes on for somebody with a password shows nothing that comes once the right to it is
// taken away, and ends.
func TestStreamEndsWithRight(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "alice")
	right := rule.Rule{Effect: rule.Allow, Principal: "User:alice", Operations: rule.Of(rule.Alter),
		Resource: rule.Resource{Kind: rule.Cluster, Pattern: rule.Literal, Name: rule.ClusterName}}
	if err := n.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{right}}); err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t, n)
	streams := map[string]io.ReadCloser{}
	for _, path := range []string{"/trace?client=x", "/audit?follow=true"} {
		s := b.open("GET", adminPath+path, "", basicHeader("alice", mxPassword))
		defer s.Body.Close()
		if s.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d", path, s.StatusCode)
		}
		streams[path] = s.Body
	}
	if err := n.access.RemoveRules(t.Context(), right.ID()); err != nil {
		t.Fatal(err)
	}
	addUser(t, n, "hidden") // is told to the audit
	device, err := client.Dial(t.Context(), n.Addresses().MQTT, client.Options{ClientID: "x", UserName: "root",
		Password: []byte(mxPassword)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(device.Abort)
	if err := device.Publish(&packet.Publish{Topic: []byte("hidden/topic"), QoS: 1}, 0); err != nil {
		t.Fatal(err)
	}
	for path, s := range streams {
		limit := time.AfterFunc(patience, func() { _ = s.Close() })
		text, err := io.ReadAll(s)
		limit.Stop()
		if strings.Contains(string(text), "hidden") {
			t.Errorf("%s: shows %s, %v", path, text, err)
		}
	}
}
