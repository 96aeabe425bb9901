package oidc_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/keys"
	"github.com/firthmq/firth/internal/access/oidc"
	"github.com/firthmq/firth/internal/access/oidc/oidctest"
	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/access/token/tokentest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
)

const callback = "https://firth.example.org/auth/oidc/callback"

// relying is a provider, and who relies on it, with a clock that the test sets.
type relying struct {
	*oidc.Provider
	id    *oidctest.Provider
	ahead atomic.Int64
}

func open(t *testing.T, change func(*oidc.Options)) *relying {
	t.Helper()
	r := &relying{id: oidctest.New(t)}
	source, err := keys.Open(keys.Options{Issuer: r.id.URL, Discover: true, Patience: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	opt := oidc.Options{Issuer: r.id.URL, ClientID: oidctest.ClientID, Callback: callback, Keys: source,
		Secret: securetest.Write(t, t.TempDir(), "secret", []byte(oidctest.Secret+"\n")), Skew: 30 * time.Second,
		Now: func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }}
	if change != nil {
		change(&opt)
	}
	if r.Provider, err = oidc.New(opt); err != nil {
		t.Fatal(err)
	}
	return r
}

// login goes all the way; back changes what the provider has the browser bring along.
func (r *relying) login(t *testing.T, back func(url.Values)) (token.Identity, string, error) {
	t.Helper()
	where, flow, err := r.Begin(t.Context(), "/topics")
	if err != nil {
		return token.Identity{}, "", err
	}
	q := r.id.Login(t, where).Query()
	if back != nil {
		back(q)
	}
	return r.Finish(t.Context(), flow, q)
}

func TestLogin(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*oidc.Options)
		claims map[string]any
		want   token.Identity
	}{
		"sub": {nil, nil, token.Identity{User: "ana"}},
		"groups give roles": {func(o *oidc.Options) {
			o.User, o.Groups = "preferred_username", "realm_access.roles"
			o.Scopes, o.Roles = []string{"profile"}, map[string][]string{"/ops": {"operator", "viewer"}, "x": {"admin"}}
		}, map[string]any{"preferred_username": "ana.b", "realm_access": map[string]any{"roles": []string{"/ops", "y"}}},
			token.Identity{User: "ana.b", Groups: []string{"/ops", "y"}, Roles: []string{"operator", "viewer"}}},
		"a verified email": {func(o *oidc.Options) { o.User = "email" },
			map[string]any{"email": "ana@example.org", "email_verified": true}, token.Identity{User: "ana@example.org"}},
		"several audiences": {nil, map[string]any{"aud": []string{"x", "firth"}, "azp": "firth"},
			token.Identity{User: "ana"}},
	} {
		r := open(t, tc.change)
		r.id.Claims = func(c map[string]any) { maps.Copy(c, tc.claims) }
		who, to, err := r.login(t, nil)
		who.Ends = time.Time{}
		if tc.want.Issuer = r.id.URL; err != nil || to != "/topics" || !reflect.DeepEqual(who, tc.want) {
			t.Errorf("%s: %+v, %q, %v", name, who, to, err)
		}
	}
}

// TestUserInfo: what an ID token does not say of its user the provider may say besides, of that user and nothing else.
func TestUserInfo(t *testing.T) {
	verified := map[string]any{"sub": "ana", "email": "ana@example.org", "email_verified": true, "groups": "ops",
		"iss": "https://evil.example", "nonce": "x"}
	for name, tc := range map[string]struct {
		claims, more map[string]any
		want         string // the user; "" and what is refused
		refused      string
	}{
		"told besides":  {nil, verified, "ana@example.org", ""},
		"told together": {map[string]any{"email": "bo@example.org"}, verified, "ana@example.org", ""},
		"told by the token": {map[string]any{"email": "bo@example.org", "email_verified": true, "groups": "ops"}, nil,
			"bo@example.org", ""},
		"not verified": {nil, map[string]any{"sub": "ana", "email": "ana@example.org", "email_verified": false}, "",
			"email_verified"},
		"of somebody else": {nil, map[string]any{"sub": "bo", "email": "bo@example.org", "email_verified": true}, "",
			"somebody else"},
		"of nobody": {nil, map[string]any{"sub": nil, "email": "bo@example.org", "email_verified": true}, "",
			"somebody else"},
		"nothing":           {nil, map[string]any{"sub": "ana"}, "", "email"},
		"without a nonce":   {map[string]any{"nonce": nil}, verified, "", "nonce"},
		"of another issuer": {map[string]any{"iss": nil}, verified, "", "another issuer"},
	} {
		r := open(t, func(o *oidc.Options) { o.User, o.Groups = "email", "groups" })
		r.id.Claims = func(c map[string]any) { maps.Copy(c, tc.claims) }
		r.id.More = tc.more
		who, _, err := r.login(t, nil)
		if tc.want != "" && (err != nil || who.User != tc.want || !reflect.DeepEqual(who.Groups, []string{"ops"})) ||
			tc.want == "" && (!fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), tc.refused)) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
}

func TestBegin(t *testing.T) {
	r := open(t, nil)
	where, flow, err := r.Begin(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(where)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": "firth", "redirect_uri": callback,
		"scope": "openid", "code_challenge_method": "S256", "tenant": "1"} {
		if q.Get(name) != want {
			t.Errorf("%s=%s, want %s", name, q.Get(name), want)
		}
	}
	again, _, err := r.Begin(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	other, err := url.Parse(again)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if v := q.Get(name); len(v) < 22 || v == other.Query().Get(name) || strings.Contains(flow, v) {
			t.Errorf("%s=%s", name, v)
		}
	}
}

// TestRefusedTokens: of what a provider may send for a code, only what is its own, for us, now and for this login is
// good.
func TestRefusedTokens(t *testing.T) {
	now := time.Now()
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	stranger := tokentest.New(t, "ES256")
	hs := tokentest.New(t, "HS256")
	none := func(claims map[string]any) string {
		text, _ := json.Marshal(claims)
		enc := base64.RawURLEncoding.EncodeToString
		return enc([]byte(`{"alg":"none"}`)) + "." + enc(text) + "."
	}
	for name, tc := range map[string]struct {
		claims func(map[string]any)
		sign   func(map[string]any) string
		want   string // "": it is good
	}{
		"good":                        {},
		"another nonce":               {set("nonce", "x"), nil, "nonce"},
		"no nonce":                    {set("nonce", nil), nil, "nonce"},
		"another audience":            {set("aud", "x"), nil, "(aud)"},
		"no audience":                 {set("aud", nil), nil, "(aud)"},
		"made for another":            {set("azp", "x"), nil, "(azp)"},
		"made for nobody":             {set("azp", []string{"firth"}), nil, "(azp)"},
		"several, made for nobody":    {set("aud", []string{"firth", "x"}), nil, "(azp)"},
		"another issuer":              {set("iss", "https://evil.example"), nil, "another issuer"},
		"ended":                       {set("exp", now.Add(-time.Minute).Unix()), nil, "it has ended"},
		"ended within the skew":       {set("exp", now.Add(20*time.Minute).Unix()), nil, ""},
		"without an end":              {set("exp", nil), nil, "(exp)"},
		"of the future":               {set("iat", now.Add(time.Hour).Unix()), nil, "not good yet"},
		"of a clock that is ahead":    {set("iat", now.Add(20*time.Second).Unix()), nil, ""},
		"not before":                  {set("nbf", now.Add(time.Hour).Unix()), nil, "not good yet"},
		"no user":                     {set("sub", nil), nil, "names no user"},
		"a user that is none":         {set("sub", 7), nil, "names no user"},
		"signed by none":              {nil, none, "algorithm"},
		"signed by a stranger":        {nil, stranger.Token, "signature"},
		"signed by a stranger's name": {nil, stranger.Named("x").Token, "key"},
		"signed by a secret":          {nil, hs.Token, "algorithm"},
		"no token":                    {nil, func(map[string]any) string { return "" }, "no ID token"},
		"nonsense":                    {nil, func(map[string]any) string { return "x.y.z" }, "no signed token"},
		"large": {nil, func(map[string]any) string { return strings.Repeat("x", token.MaxSize+1) },
			"at most"},
	} {
		r := open(t, nil)
		r.id.Claims, r.id.Sign = tc.claims, tc.sign
		who, _, err := r.login(t, nil)
		if tc.want == "" {
			if err != nil || who.User != "ana" {
				t.Errorf("%s: %+v, %v", name, who, err)
			}
			continue
		}
		if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	r := open(t, func(o *oidc.Options) { o.User = "email" })
	r.id.Claims = set("email", "root@example.org")
	if who, _, err := r.login(t, nil); !fault.Is(err, fault.Denied) {
		t.Errorf("an email that nobody has verified: %+v, %v", who, err)
	}
}

// TestRefusedAnswers: of what a browser may bring along, only the answer to what was asked from it is good, once.
func TestRefusedAnswers(t *testing.T) {
	r := open(t, nil)
	for name, tc := range map[string]struct {
		back func(url.Values)
		want string
	}{
		"another state":    {func(q url.Values) { q.Set("state", "x") }, "(state)"},
		"no state":         {func(q url.Values) { q.Del("state") }, "(state)"},
		"another provider": {func(q url.Values) { q.Set("iss", "https://evil.example") }, "(iss)"},
		"no provider":      {func(q url.Values) { q.Del("iss") }, "(iss)"},
		"no code":          {func(q url.Values) { q.Del("code") }, "no code"},
		"another code":     {func(q url.Values) { q.Set("code", "x") }, "invalid_grant"},
		"a long code":      {func(q url.Values) { q.Set("code", strings.Repeat("x", 1<<20)) }, "no code"},
		"a refusal":        {func(q url.Values) { q.Set("error", "access_denied\n\x1b[2J") }, `access_denied\n\x1b[2J`},
	} {
		var code string
		_, _, err := r.login(t, func(q url.Values) { tc.back(q); code = q.Get("code") })
		if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), tc.want) ||
			len(code) > 1 && strings.Contains(err.Error(), code) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	where, flow, err := r.Begin(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := r.Begin(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	q, spent := r.id.Login(t, where).Query(), r.id.Spent()
	for name, sealed := range map[string]string{"of nobody": "", "of another": other, "cut": flow[:len(flow)-4],
		"changed": flow[:20] + "AAAA" + flow[24:], "nonsense": "%%%", "of another process": sealedElsewhere(t, r.id)} {
		if _, _, err := r.Finish(t.Context(), sealed, q); !fault.Is(err, fault.Denied) {
			t.Errorf("a flow %s: %v", name, err)
		}
	}
	r.ahead.Store(int64(oidc.Lasts + time.Second))
	if _, _, err := r.Finish(t.Context(), flow, q); !fault.Is(err, fault.Denied) {
		t.Errorf("a flow of long ago: %v", err)
	}
	r.ahead.Store(0)
	if n := r.id.Spent(); n != spent {
		t.Errorf("the provider was asked for %d tokens by what is refused", n-spent)
	}
	if _, _, err := r.Finish(t.Context(), flow, q); err != nil {
		t.Errorf("the one that is good: %v", err)
	}
	if _, _, err := r.Finish(t.Context(), flow, q); !fault.Is(err, fault.Denied) || r.id.Spent() != spent+1 {
		t.Errorf("once more: %v", err)
	}
}

func sealedElsewhere(t *testing.T, id *oidctest.Provider) string {
	t.Helper()
	p, err := oidc.New(oidc.Options{Issuer: id.URL, ClientID: oidctest.ClientID, Callback: callback})
	if err != nil {
		t.Fatal(err)
	}
	_, flow, err := p.Begin(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

// TestProviderDown: a login fails in time and says why; one that comes when the provider is back is let in.
func TestProviderDown(t *testing.T) {
	r := open(t, nil)
	r.id.Set(func() { r.id.Down = http.StatusInternalServerError })
	if _, _, err := r.login(t, nil); !fault.Is(err, fault.Timeout) || !strings.Contains(err.Error(), "answers 500") {
		t.Errorf("begun: %v", err)
	}
	r.id.Set(func() { r.id.Down = 0 })
	where, flow, err := r.Begin(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	q := r.id.Login(t, where).Query()
	r.id.Set(func() { r.id.Down = http.StatusServiceUnavailable })
	if _, _, err := r.Finish(t.Context(), flow, q); !fault.Is(err, fault.Timeout) {
		t.Errorf("ended: %v", err)
	}
	r.ahead.Store(int64(2 * time.Hour)) // what it says of itself is old, and has to do
	if _, _, err := r.Begin(t.Context(), "/"); err != nil {
		t.Errorf("with what is known: %v", err)
	}
	r.ahead.Store(0)
	r.id.Set(func() { r.id.Down = 0 })
	if _, _, err := r.login(t, nil); err != nil {
		t.Errorf("back: %v", err)
	}
}

func TestDescriptions(t *testing.T) {
	for name, tc := range map[string]struct {
		set  map[string]any
		want string
	}{
		"good":               {nil, ""},
		"another name":       {map[string]any{"issuer": "https://evil.example"}, "calls itself"},
		"in the clear":       {map[string]any{"token_endpoint": "http://id.example.org/token"}, "not https"},
		"nowhere":            {map[string]any{"authorization_endpoint": ""}, "no address"},
		"an end elsewhere":   {map[string]any{"end_session_endpoint": "javascript:x"}, "no address"},
		"of another type":    {map[string]any{"issuer": 7}, "not understood"},
		"too large":          {map[string]any{"x": strings.Repeat("x", 2<<20)}, "answers more than"},
		"the secret by form": {map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}, ""},
	} {
		r := open(t, nil)
		r.id.Set(func() {
			r.id.Describe = func(m map[string]any) { maps.Copy(m, tc.set) }
		})
		_, _, err := r.login(t, nil)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) &&
			!strings.Contains(err.Error(), "no JSON that is understood")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSecret: a wrong one is told without showing it, and the file is read anew each time.
func TestSecret(t *testing.T) {
	dir := t.TempDir()
	file := securetest.Write(t, dir, "secret", []byte("a wrong secret"))
	r := open(t, func(o *oidc.Options) { o.Secret = file })
	_, _, err := r.login(t, nil)
	if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "invalid_client") ||
		strings.Contains(err.Error(), "wrong secret") {
		t.Errorf("a wrong secret: %v", err)
	}
	securetest.Write(t, dir, "secret", []byte(oidctest.Secret))
	if _, _, err := r.login(t, nil); err != nil {
		t.Errorf("the right one: %v", err)
	}
	securetest.Write(t, dir, "secret", []byte(" \n"))
	if _, err := oidc.New(oidc.Options{Issuer: r.id.URL, Secret: file}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an empty one: %v", err)
	}
}

func TestLeave(t *testing.T) {
	r := open(t, nil)
	if at := r.Leave("https://firth.example.org/"); at != "" {
		t.Errorf("before anybody has come: %s", at)
	}
	if _, _, err := r.login(t, nil); err != nil {
		t.Fatal(err)
	}
	want := r.id.URL + "/end?client_id=firth&post_logout_redirect_uri=https%3A%2F%2Ffirth.example.org%2F"
	if at := r.Leave("https://firth.example.org/"); at != want {
		t.Errorf("%s, want %s", at, want)
	}
}

// FuzzFinish: nothing that a browser brings along lets anybody in that the provider has not named.
func FuzzFinish(f *testing.F) {
	id := oidctest.New(f)
	p, err := oidc.New(oidc.Options{Issuer: id.URL, ClientID: oidctest.ClientID, Callback: callback})
	if err != nil {
		f.Fatal(err)
	}
	_, flow, err := p.Begin(context.Background(), "/")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(flow, "state=x&code=y")
	f.Add("", "")
	f.Add("AAAA", "%")
	f.Fuzz(func(t *testing.T, sealed, query string) {
		q, _ := url.ParseQuery(query)
		if who, to, err := p.Finish(t.Context(), sealed, q); err == nil || who.User != "" || to != "" {
			t.Fatalf("%+v, %q, %v", who, to, err)
		}
	})
}
