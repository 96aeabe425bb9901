// Package oidctest is an OpenID provider for tests: a real HTTP server that has every visitor log in at once, and that
// holds a client to what it said at first (redirect_uri, PKCE, its secret, a code is good once).
//
//	id := oidctest.New(t)
//	id.Claims = func(c map[string]any) { c["groups"] = []string{"admins"} }
//	back := id.Login(t, where) // a browser: where it is sent, and back
package oidctest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/token/tokentest"
)

// What the client of the provider is called, and the secret of it.
const (
	ClientID = "firth"
	Secret   = "a secret of the client, which has to be: escaped & kept"
)

// Provider is an OpenID provider. The fields may be set between two logins.
type Provider struct {
	*tokentest.Issuer
	URL string // the issuer
	// Secret is that of the client.
	Secret string
	// Claims changes what the next ID tokens claim.
	Claims func(map[string]any)
	// More is what it tells of users besides, in place of their ID tokens.
	More map[string]any
	// Sign makes an ID token of what it claims. Default: that of Issuer.
	Sign func(map[string]any) string
	// Describe changes what the provider says of itself.
	Describe func(map[string]any)
	// Told is told of each code and each token that is made.
	Told func(what, secret string)
	// Down is what it answers in place of all else, such as 500; 0: it is up.
	Down int

	mu    sync.Mutex
	codes map[string]url.Values // what was asked, by the code that it was answered with
	spent int
	bears map[string]any // whose access tokens are
}

// New starts a provider.
func New(tb testing.TB) *Provider {
	tb.Helper()
	p := &Provider{Issuer: tokentest.New(tb, "ES256"), Secret: Secret, codes: map[string]url.Values{},
		bears: map[string]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.describe)
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.Keys()) })
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userInfo)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.Down != 0 {
			http.Error(w, "down", p.Down)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	p.URL = s.URL
	tb.Cleanup(s.Close)
	return p
}

// Set changes the provider while it is asked.
func (p *Provider) Set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// Spent is how many codes were given for tokens.
func (p *Provider) Spent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spent
}

// Login does what a browser and a person do: it goes to the provider, and tells where that leads it back to.
func (p *Provider) Login(tb testing.TB, where string) *url.URL {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, where, nil)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil || resp.StatusCode != http.StatusFound {
		tb.Fatalf("the provider answers %s: %v", resp.Status, err)
	}
	return back
}

func answer(w http.ResponseWriter, status int, v map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (p *Provider) describe(w http.ResponseWriter, _ *http.Request) {
	about := map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize?tenant=1",
		"token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/jwks",
		"userinfo_endpoint": p.URL + "/userinfo", "end_session_endpoint": p.URL + "/end",
		"authorization_response_iss_parameter_supported": true}
	if p.Describe != nil {
		p.Describe(about)
	}
	answer(w, http.StatusOK, about)
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != ClientID || q.Get("response_type") != "code" || q.Get("tenant") != "1" ||
		q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 {
		http.Error(w, "a bad request of the client", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	p.codes[code] = q
	p.tell("code", code)
	back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.URL}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	user, secret, basic := r.BasicAuth()
	if !basic {
		user, secret = url.QueryEscape(r.PostFormValue("client_id")), url.QueryEscape(r.PostFormValue("client_secret"))
	}
	if user != url.QueryEscape(ClientID) || secret != url.QueryEscape(p.Secret) {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	asked, is := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !is || asked.Get("redirect_uri") != r.PostFormValue("redirect_uri") ||
		asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) {
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	p.spent++
	claims := map[string]any{"iss": p.URL, "aud": ClientID, "sub": "ana", "nonce": asked.Get("nonce"),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	if p.Claims != nil {
		p.Claims(claims)
	}
	sign := p.Token
	if p.Sign != nil {
		sign = p.Sign
	}
	id, access := sign(claims), rand.Text()
	p.bears["Bearer "+access] = claims["sub"]
	p.tell("ID token", id)
	p.tell("access token", access)
	answer(w, http.StatusOK, map[string]any{"id_token": id, "access_token": access, "token_type": "Bearer"})
}

func (p *Provider) userInfo(w http.ResponseWriter, r *http.Request) {
	sub, is := p.bears[r.Header.Get("Authorization")]
	if !is {
		http.Error(w, "who", http.StatusUnauthorized)
		return
	}
	told := map[string]any{"sub": sub}
	maps.Copy(told, p.More)
	answer(w, http.StatusOK, told)
}

func (p *Provider) tell(what, secret string) {
	if p.Told != nil {
		p.Told(what, secret)
	}
}
