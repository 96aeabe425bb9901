package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/oidc/oidctest"
	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
)

// withProvider starts a node whose people log in at a provider. They find it at a host of its own.
func withProvider(t *testing.T) (*Node, *oidctest.Provider) {
	t.Helper()
	id := oidctest.New(t)
	secret := securetest.Write(t, t.TempDir(), "secret", []byte(oidctest.Secret))
	c, err := Load(Sources{File: "firth.yaml", Text: fmt.Appendf(nil, `http: { public_url: "https://firth.example.org" }
access:
  oidc:
    issuer: %q
    client_id: %s
    client_secret_file: %q
    name_claim: preferred_username
    groups_claim: groups
    roles: [ops=viewer, admins=admin, admins=viewer]
`, id.URL, oidctest.ClientID, secret)})
	if err != nil {
		t.Fatal(err)
	}
	ready := local(t)
	ready.Access, ready.HTTP = c.Access, c.HTTP
	id.Claims = func(c map[string]any) { c["preferred_username"], c["groups"] = "ana", []string{"admins"} }
	return start(t, ready), id
}

// arrive logs in at the provider, and gives the answer to what that sends the browser back with. Change changes it.
func (b *browser) arrive(id *oidctest.Provider, to string, change func(url.Values)) (status int, page string) {
	b.t.Helper()
	begun := b.open("GET", "/auth/oidc/start?return="+url.QueryEscape(to), "")
	defer begun.Body.Close()
	if begun.StatusCode != http.StatusSeeOther {
		b.t.Fatalf("start: %s", begun.Status)
	}
	back := id.Login(b.t, begun.Header.Get("Location"))
	q := back.Query()
	if change != nil {
		change(q)
	}
	return b.do("GET", back.Path+"?"+q.Encode(), "", "Sec-Fetch-Site: cross-site")
}

func (b *browser) standing() (who people.Standing) {
	b.t.Helper()
	_, body := b.do("GET", "/auth/session", "")
	if err := json.Unmarshal([]byte(body), &who); err != nil {
		b.t.Fatal(err)
	}
	b.csrf = who.CSRF
	return who
}

// TestOIDC: who has logged in at the provider has the roles that its groups give, until it logs out.
func TestOIDC(t *testing.T) {
	n, id := withProvider(t)
	b := newBrowser(t, n)
	b.host = "firth.example.org"
	if who := b.standing(); who.Known || who.Open || strings.Join(who.Ways, " ") != "password oidc" {
		t.Errorf("before: %+v", who)
	}
	if status, _ := request(t, b.at, get("/admin/v1/users", b.at)); status != 401 {
		t.Errorf("a stranger: %d", status)
	}
	planted := &http.Cookie{Name: "__Host-firth_session", Value: strings.Repeat("A", 43)}
	b.cookies[planted.Name] = planted
	status, page := b.arrive(id, "/topics?x='\"<>&y", nil)
	if status != 200 || !strings.Contains(page, `content="0;url=/topics?x=&#39;&#34;&lt;&gt;&amp;y"`) {
		t.Errorf("back: %d %s", status, page)
	}
	c := b.cookies["__Host-firth_session"]
	if c == nil || c.Value == planted.Value || c.SameSite != http.SameSiteStrictMode || !c.Secure || !c.HttpOnly ||
		b.cookies["__Host-firth_login"] != nil {
		t.Errorf("cookies: %+v", b.cookies)
	}
	who := b.standing()
	if who.User != "ana" || who.Method != "oidc" || strings.Join(who.Roles, " ") != "admin viewer" ||
		strings.Join(who.Groups, " ") != "admins" || len(who.Cluster) == 0 {
		t.Errorf("who: %+v", who)
	}
	here := *b
	here.host = ""
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{{"GET", "/admin/v1/users", "", 200}, {"POST", "/admin/v1/user?new=true", `{"name":"bo"}`, 200}} {
		if status, body := here.do(tc.method, tc.path, tc.body); status != tc.status {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, status, body)
		}
	}
	status, body := b.do("POST", "/auth/logout", "")
	if status != 200 || !strings.Contains(body, `"leave":"`+id.URL+`/end?client_id=firth`) {
		t.Errorf("logout: %d %s", status, body)
	}
	b.cookies[c.Name] = c // stolen before
	if status, _ := b.do("GET", "/metrics", ""); status != 401 {
		t.Errorf("a cookie of before the logout: %d", status)
	}
}

// TestOIDCRefused: nobody gets in whom the provider did not send, and no secret is told.
func TestOIDCRefused(t *testing.T) {
	n, id := withProvider(t)
	for name, tc := range map[string]struct {
		change func(url.Values)
		before func(b *browser)
		status int
	}{
		"another state":   {func(q url.Values) { q.Set("state", "x") }, nil, 403},
		"another code":    {func(q url.Values) { q.Set("code", "x") }, nil, 403},
		"a refusal":       {func(q url.Values) { q.Set("error", "<script>") }, nil, 403},
		"another browser": {nil, func(b *browser) { delete(b.cookies, "__Host-firth_login") }, 403},
		"the provider is down": {nil, func(*browser) {
			id.Set(func() { id.Down = 500 })
		}, 503},
	} {
		b := newBrowser(t, n)
		b.host = "firth.example.org"
		var code string
		status, page := b.arrive(id, "/", func(q url.Values) {
			if code = q.Get("code"); tc.change != nil {
				tc.change(q)
			}
			if tc.before != nil {
				tc.before(b)
			}
		})
		if status != tc.status || b.standing().Known || strings.Contains(page, code) ||
			strings.Contains(page, "<script>") || strings.Contains(page, "refresh") {
			t.Errorf("%s: %d %s", name, status, page)
		}
		id.Set(func() { id.Down = 0 })
	}
	b := newBrowser(t, n)
	b.host = "firth.example.org"
	for _, to := range []string{"//evil.example", `/\evil.example`, "https://evil.example", "/%2fevil.example", "x"} {
		resp := b.open("GET", "/auth/oidc/start?return="+url.QueryEscape(to), "")
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("to %s: %s", to, resp.Status)
		}
	}
}

// TestOIDCUser: a user of the list gives roles besides, and ends what its name has begun at the provider.
func TestOIDCUser(t *testing.T) {
	n, id := withProvider(t)
	id.Set(func() { id.Claims = func(c map[string]any) { c["preferred_username"] = "ana" } })
	b := newBrowser(t, n)
	b.host = "firth.example.org"
	b.arrive(id, "/", nil)
	if who := b.standing(); !who.Known || len(who.Roles) != 0 {
		t.Errorf("without a group: %+v", who)
	}
	addUser(t, n, "ana", "operator")
	if who := b.standing(); who.Known {
		t.Errorf("with other roles it goes on: %+v", who)
	}
	b.arrive(id, "/", nil)
	if who := b.standing(); strings.Join(who.Roles, " ") != "operator" {
		t.Errorf("with a user: %+v", who)
	}
	out := true
	if err := n.access.SetUser(t.Context(), access.UserChange{Name: "ana", Disabled: &out}); err != nil {
		t.Fatal(err)
	}
	if who := b.standing(); who.Known {
		t.Errorf("disabled: %+v", who)
	}
	if status, page := b.arrive(id, "/", nil); status != 403 || !strings.Contains(page, "disabled") {
		t.Errorf("disabled, again: %d %s", status, page)
	}
}

func TestOIDCOptions(t *testing.T) {
	const public = "http: { public_url: \"https://f.example\" }\n"
	for _, tc := range []struct{ text, want string }{
		{`access: { oidc: { issuer: "https://a.example" } }`, "access.oidc.client_id"},
		{`access: { oidc: { issuer: "https://a.example", client_id: x } }`, "http.public_url"},
		{`access: { oidc: { issuer: "http://a.example", client_id: x } }`, "is not https"},
		{`access: { oidc: { roles: [x] } }`, "not group=role"},
		{public + `access: { oidc: { issuer: "https://a.example", client_id: x } }`, ""},
	} {
		_, err := Load(Sources{File: "firth.yaml", Text: []byte(tc.text + "\n")})
		if said := fmt.Sprint(err); (err == nil) != (tc.want == "") || !strings.Contains(said, tc.want) {
			t.Errorf("%s: %v, want %q", tc.text, err, tc.want)
		}
	}
	o := OIDC{Roles: "a=x,a=y,/b=c=z"}
	if got := fmt.Sprint(o.roles()); got != "map[/b=c:[z] a:[x y]]" {
		t.Errorf("roles: %s", got)
	}
}
