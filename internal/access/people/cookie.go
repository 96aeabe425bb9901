package people

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/secure"
)

// secret is what a cookie holds: 256 bits of chance. key is what is kept of it: who reads that cannot make a cookie.
type (
	secret [32]byte
	key    [sha256.Size]byte
)

func newSecret() (s secret) {
	rand.Read(s[:]) // never fails
	return s
}

func (s secret) key() key { return sha256.Sum256(s[:]) }

func (s secret) text() string { return base64.RawURLEncoding.EncodeToString(s[:]) }

// parseSecret reads what a cookie holds.
func parseSecret(text string) (s secret, is bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != len(s) {
		return s, false
	}
	s = secret(raw)
	return s, s.text() == text // in the one form that we write
}

// csrf is the token that goes with a session: who has the cookie can make it, and who has the token not the cookie.
func (s secret) csrf() string {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte("firth csrf"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// fits tells whether a token goes with the session.
func (s secret) fits(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.csrf())) == 1
}

// The names of the cookie of a session. With the prefix, browsers take it only by TLS, from this very host, for all of
// it: no other host of the domain can plant one. Without TLS they would not take it.
const (
	securePrefix = "__Host-"
	cookieName   = "firth_session"
)

// encrypted tells whether a request came by TLS, to us or to the proxy in front.
func (d *Desk) encrypted(r *http.Request) bool {
	return secure.ConnOf(r.Context()) != nil || strings.HasPrefix(d.opt.PublicURL, "https:")
}

func (d *Desk) cookie(r *http.Request, name, value string, site http.SameSite) *http.Cookie {
	c := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: site}
	if d.encrypted(r) {
		c.Name, c.Secure = securePrefix+name, true
	}
	return c
}

// given is what a cookie holds; not one of several of a name, of which somebody else may have planted some.
func (d *Desk) given(r *http.Request, name string) string {
	if d.encrypted(r) {
		name = securePrefix + name
	}
	if all := r.CookiesNamed(name); len(all) == 1 {
		return all[0].Value
	}
	return ""
}

// secretOf is what the cookie of a session holds.
func (d *Desk) secretOf(r *http.Request) (secret, bool) { return parseSecret(d.given(r, cookieName)) }

// keep has the browser keep the cookie of a session. It lasts as long as the browser, or the session, is there.
func (d *Desk) keep(w http.ResponseWriter, r *http.Request, id secret, s *session) {
	c := d.cookie(r, cookieName, id.text(), http.SameSiteStrictMode)
	c.MaxAge = max(int(s.ends.Sub(d.opt.Now())/time.Second), 1)
	http.SetCookie(w, c)
}

// forget has the browser forget a cookie.
func (d *Desk) forget(w http.ResponseWriter, r *http.Request, name string, site http.SameSite) {
	c := d.cookie(r, name, "", site)
	c.MaxAge = -1
	http.SetCookie(w, c)
}
