package people

import (
	"cmp"
	"context"
	"html"
	"net/http"
	"net/url"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/oidc"
	"github.com/firthmq/firth/internal/kit/fault"
)

// byOIDC is the method of who has logged in at the identity provider.
const byOIDC = "oidc"

// Callback is where the identity provider sends people back to, below Options.PublicURL.
const Callback = Path + "oidc/callback"

// flowName is the cookie of a login under way at the identity provider. It is lax: the page of that leads to us with
// it.
const flowName = "firth_login"

// callbackWithin is how long a login may take once the identity provider has sent somebody back.
const callbackWithin = 20 * time.Second

// start sends somebody to the identity provider, and has it come back to the page that return names.
func (d *Desk) start(w http.ResponseWriter, r *http.Request) {
	to := cmp.Or(r.URL.Query().Get("return"), "/")
	err := checkReturn(to)
	if err == nil {
		err = d.private(r)
	}
	var where, flow string
	if err == nil {
		where, flow, err = d.opt.Provider.Begin(r.Context(), to)
	}
	if err != nil {
		d.opt.Refuse(w, err)
		return
	}
	c := d.cookie(r, flowName, flow, http.SameSiteLaxMode)
	c.MaxAge = int(oidc.Lasts / time.Second)
	http.SetCookie(w, c)
	quiet(w)
	http.Redirect(w, r, where, http.StatusSeeOther)
}

// callback lets somebody in whom the identity provider sends back.
func (d *Desk) callback(w http.ResponseWriter, r *http.Request) {
	flow, who := d.given(r, flowName), d.opt.From(r)
	d.forget(w, r, flowName, http.SameSiteLaxMode)
	select {
	case d.turns <- struct{}{}:
		defer func() { <-d.turns }()
	default:
		page(w, http.StatusServiceUnavailable, "Too many people log in at a time.", "/")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callbackWithin)
	defer cancel()
	ends := d.opt.Now().Add(d.opt.Lifetime)
	pass, to, err := d.byProvider(ctx, flow, r, ends)
	if err != nil {
		d.logins.With(byOIDC, "bad").Inc()
		d.tellLogin(access.By(&who), byOIDC, err)
		status := http.StatusForbidden
		if !fault.Is(err, fault.Denied) {
			status = http.StatusServiceUnavailable
		}
		page(w, status, err.Error(), "/")
		return
	}
	d.welcome(w, r, pass, byOIDC, ends)
	page(w, http.StatusOK, "", to)
}

// byProvider lets in whom the identity provider has named. Who fails makes the next ones from its address wait. Errors:
// Denied; Timeout.
func (d *Desk) byProvider(
	ctx context.Context, flow string, r *http.Request, ends time.Time,
) (pass *access.Pass, to string, err error) {
	who, logins := d.opt.From(r), d.opt.Access.Passwords()
	stranger := "oidc@" + who.Address.String() // it is nobody yet, and others need not wait for it
	if err := logins.Hold(ctx, stranger, who.Address); err != nil {
		return nil, "", err
	}
	named, to, err := d.opt.Provider.Finish(ctx, flow, r.URL.Query())
	if err == nil || fault.Is(err, fault.Denied) {
		logins.Settle(stranger, who.Address, err == nil)
	}
	if err != nil {
		return nil, "", err
	}
	named.Ends = ends
	grant, err := d.opt.Access.Vouch(&named)
	if err != nil {
		return nil, "", fault.New(fault.Denied, op, "%w", err)
	}
	pass = d.opt.Access.AdmitBy(who, grant)
	if err := pass.Over(); err != nil {
		return nil, "", err
	}
	if d.opt.Banned(named.User, who.Address) {
		return nil, "", errBanned
	}
	return pass, to, nil
}

// quiet has nobody keep a page, or learn its address, in which there may be a code.
func quiet(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
}

// page answers with a page that says something, or leads on by itself: the cookie is sent with what a page of ours asks
// for, not with what the provider's page leads to.
func page(w http.ResponseWriter, status int, text, to string) {
	quiet(w)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	at, more := html.EscapeString(to), ""
	if text == "" {
		more = `<meta http-equiv="refresh" content="0;url=` + at + `">`
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte("<!doctype html>" + more + "<title>Firth</title><p>" + html.EscapeString(text) +
		`</p><p><a href="` + at + `">Go on</a></p>` + "\n")) // a client that has gone needs no answer
}

// leave is where somebody logs out at the identity provider; "": nowhere.
func (d *Desk) leave(s *session) string {
	if s.method != byOIDC || d.opt.Provider == nil {
		return ""
	}
	home, err := url.JoinPath(d.opt.PublicURL, "/")
	if err != nil {
		return ""
	}
	return d.opt.Provider.Leave(home)
}
