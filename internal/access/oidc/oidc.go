// Package oidc has people log in at an OpenID provider: OpenID Connect Core 1.0, section 3.1, the authorization code
// flow with PKCE (RFC 7636, S256), a state and a nonce.
//
//	p, err := oidc.New(oidc.Options{Issuer: "https://id.example.org", ClientID: "firth", Callback: ours, Keys: source})
//	where, flow, err := p.Begin(ctx, "/topics") // the browser goes there, and keeps flow
//	who, to, err := p.Finish(ctx, flow, query)  // when it is back at the callback
//
// A login that is under way is in the browser alone, sealed with a key of this process: whoever begins many costs no
// memory. What the provider says of itself is fetched when it is needed, and known for an hour.
package oidc

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/access/keys"
	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/recent"
)

const op = "oidc"

// Lasts is how long somebody may take to log in at the provider.
const Lasts = 10 * time.Minute

// Keys are those that a provider signs with. *keys.Source has them.
type Keys interface {
	// Keys are those in force now; nil: none are.
	Keys() *token.Keys
	// Miss waits for keys to be read again, if they may be, because one is not among them.
	Miss(ctx context.Context)
}

// Options of a Provider. Issuer, ClientID, Callback and Keys are needed.
type Options struct {
	// Issuer is the URL of the provider, to the letter as it calls itself.
	Issuer string
	// ClientID is what the provider calls us; Secret a file with what proves that we are it. "": nothing does, and PKCE
	// has to do (RFC 6749, section 2.1, a public client).
	ClientID, Secret string
	// Callback is where the provider sends people back to.
	Callback string
	// Scopes are asked for. Default: openid.
	Scopes []string
	// User is the claim that names the user. Default: sub. An email has to be one that the provider has verified.
	User string
	// Groups is the claim that lists the groups of the user; "": none does. Roles are the roles that groups give.
	Groups string
	Roles  map[string][]string
	// Skew is by how much the clocks may differ.
	Skew time.Duration
	// Keys are those of the provider.
	Keys Keys
	// Client asks. Default: that of the package keys.
	Client *http.Client
	// Now is the wall clock. Default: time.Now.
	Now func() time.Time
}

// Provider logs people in. It may be used from any goroutine.
type Provider struct {
	opt   Options
	seal  cipher.AEAD // of flows, by a key of this process
	about atomic.Pointer[description]

	mu   sync.Mutex
	done recent.Map[[sha256.Size]byte, struct{}] // flows that have ended, by their states
}

// remembered is how many flows that have ended are known, at least.
const remembered = 10_000

// New makes a provider; it is not asked for anything yet. Errors: Invalid; those of reading the secret.
func New(opt Options) (*Provider, error) {
	opt.User = cmp.Or(opt.User, "sub")
	if !slices.Contains(opt.Scopes, "openid") {
		opt.Scopes = append([]string{"openid"}, opt.Scopes...)
	}
	if opt.Client == nil {
		opt.Client = keys.NewClient()
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if err := keys.CheckURL(opt.Issuer); err != nil {
		return nil, err
	}
	p := &Provider{opt: opt}
	if _, err := p.secret(); err != nil {
		return nil, err
	}
	var key [32]byte
	rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err == nil {
		p.seal, err = cipher.NewGCMWithRandomNonce(block)
	}
	return p, fault.Wrap(fault.Internal, op, err)
}

// secret reads what proves who we are: each time, for it may be another one. Errors: Denied, NotFound, Invalid, IO.
func (p *Provider) secret() (string, error) {
	if p.opt.Secret == "" {
		return "", nil
	}
	text, err := given.ReadPrivate(op, p.opt.Secret)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(text))
	if s == "" {
		return "", fault.New(fault.Invalid, op, "the secret in %s is empty", p.opt.Secret)
	}
	return s, nil
}

// flow is a login under way.
type flow struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // of PKCE
	Return   string `json:"r"`
	Ends     int64  `json:"e"` // seconds since 1970
}

// Begin says where at the provider somebody logs in, and what the browser has to keep meanwhile. To is given back by
// Finish. Errors: Timeout, the provider does not answer; Invalid.
func (p *Provider) Begin(ctx context.Context, to string) (where, sealed string, err error) {
	about, err := p.describe(ctx)
	if err != nil {
		return "", "", err
	}
	f := flow{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(), Return: to,
		Ends: p.opt.Now().Add(Lasts).Unix()}
	u, err := url.Parse(about.Authorize)
	if err != nil {
		return "", "", fault.Wrap(fault.Invalid, op, err)
	}
	challenge := sha256.Sum256([]byte(f.Verifier))
	q := u.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": p.opt.ClientID, "redirect_uri": p.opt.Callback,
		"scope": strings.Join(p.opt.Scopes, " "), "state": f.State, "nonce": f.Nonce,
		"code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
	} {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	text, err := json.Marshal(f)
	if err != nil {
		return "", "", fault.Wrap(fault.Internal, op, err)
	}
	return u.String(), base64.RawURLEncoding.EncodeToString(p.seal.Seal(nil, nil, text, nil)), nil
}

// open opens what a browser has kept. Errors: Denied.
func (p *Provider) open(sealed string) (f flow, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err == nil {
		raw, err = p.seal.Open(nil, nil, raw, nil)
	}
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil || p.opt.Now().Unix() >= f.Ends {
		return flow{}, denied("it was not begun here, or too long ago").WithHint("begin again")
	}
	return f, nil
}

// Finish ends a login by what the provider has the browser bring along: it finds who it is, and where Begin was told to
// lead it. It may wait until ctx ends. Errors, of which none shows what is secret: Denied; Timeout, the provider does
// not answer.
func (p *Provider) Finish(ctx context.Context, sealed string, q url.Values) (who token.Identity, to string, err error) {
	f, err := p.open(sealed)
	if err != nil {
		return who, "", err
	}
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(f.State)) != 1 {
		return who, "", denied("it is the answer to another one (state)").WithHint("begin again")
	}
	if !p.first(f.State) {
		return who, "", denied("it has ended already").WithHint("begin again")
	}
	about, err := p.describe(ctx)
	if err != nil {
		return who, "", err
	}
	if iss, is := q.Get("iss"), q.Has("iss"); is && iss != p.opt.Issuer || !is && about.NamesItself { // RFC 9207
		return who, "", denied("it is the answer of another provider (iss)")
	}
	if problem := q.Get("error"); problem != "" {
		return who, "", denied("the provider says %s", fault.Text(problem))
	}
	code := q.Get("code")
	if code == "" || len(code) > token.MaxSize {
		return who, "", denied("the provider has sent no code")
	}
	got, err := p.exchange(ctx, about, code, f.Verifier)
	if err != nil {
		return who, "", err
	}
	if who, err = p.judge(ctx, about, got, f.Nonce); err != nil {
		return token.Identity{}, "", err
	}
	return who, f.Return, nil
}

// first tells whether a flow has not ended before, and notes that it has now.
func (p *Provider) first(state string) bool {
	mark := sha256.Sum256([]byte(state))
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, was := p.done.Find(mark); was {
		return false
	}
	p.done.Put(mark, struct{}{}, remembered)
	return true
}

// judge judges an ID token (OpenID Connect Core, section 3.1.3.7), and tells whose it is: by its claims and, where it
// has not got them, by those that the provider tells besides. Errors: Denied; Timeout.
func (p *Provider) judge(ctx context.Context, about *description, got tokens, nonce string) (token.Identity, error) {
	i := token.Issuer{Name: p.opt.Issuer, Audiences: []string{p.opt.ClientID}, Party: p.opt.ClientID,
		Algorithms: token.Asymmetric(), User: "sub", Skew: p.opt.Skew, Required: map[string]string{"nonce": nonce}}
	who, err := p.verify(&i, got.ID, nil)
	if fault.Is(err, fault.NotFound) {
		p.opt.Keys.Miss(ctx)
		who, err = p.verify(&i, got.ID, nil)
	}
	if err != nil {
		return who, denied("%w", err)
	}
	i.User, i.Groups = p.opt.User, p.opt.Groups
	if p.opt.User == "email" { // else anybody could write any
		i.Required["email_verified"] = "true"
	}
	var more []byte
	if i.Lacks(got.ID) && about.UserInfo != "" && got.Access != "" {
		if more, err = p.userInfo(ctx, about, got.Access, who.User); err != nil {
			return who, err
		}
	}
	if who, err = p.verify(&i, got.ID, more); err != nil {
		return who, denied("%w", err)
	}
	for _, group := range who.Groups {
		who.Roles = append(who.Roles, p.opt.Roles[group]...)
	}
	return who, nil
}

func (p *Provider) verify(i *token.Issuer, raw string, more []byte) (token.Identity, error) {
	set := p.opt.Keys.Keys()
	if set == nil {
		return token.Identity{}, fault.New(fault.NotFound, op, "there are no keys of the provider")
	}
	return i.VerifyWith(raw, more, set, p.opt.Now())
}

// Leave is where somebody logs out at the provider, which leads it to a page of ours then; "": it has no such place.
// What is known of the provider has to do.
func (p *Provider) Leave(to string) string {
	about := p.about.Load()
	if about == nil || about.End == "" {
		return ""
	}
	u, err := url.Parse(about.End)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", p.opt.ClientID)
	q.Set("post_logout_redirect_uri", to)
	u.RawQuery = q.Encode()
	return u.String()
}

func denied(format string, args ...any) *fault.Error {
	return fault.New(fault.Denied, op, "the login: "+format, args...)
}
