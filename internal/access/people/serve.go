package people

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Path is below which people log in.
const Path = "/auth/"

// CSRFHeader is the header of the token that a request needs which has the cookie of a session and may change
// something.
const CSRFHeader = "X-CSRF-Token"

// Handler serves what is below Path.
func (d *Desk) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Path+"login", d.login)
	mux.HandleFunc("POST "+Path+"logout", d.logout)
	mux.HandleFunc("GET "+Path+"session", d.session)
	if d.opt.Provider != nil {
		mux.HandleFunc("GET "+Path+"oidc/start", d.start)
		mux.HandleFunc("GET "+Callback, d.callback)
	}
	return mux
}

// Standing is who somebody is here, for the page that it sees.
type Standing struct {
	Known bool `json:"known"`
	// Open says that everybody may do everything, for nobody has asked for users or rules.
	Open    bool       `json:"open,omitempty"`
	User    string     `json:"user,omitempty"`
	Method  string     `json:"method,omitempty"` // password, oidc
	Roles   []string   `json:"roles,omitempty"`
	Groups  []string   `json:"groups,omitempty"`
	Cluster []string   `json:"cluster,omitempty"` // what it may do to the node: rule.Operations
	Ends    *time.Time `json:"ends,omitempty"`    // whatever it does
	IdleAt  *time.Time `json:"idle_at,omitempty"` // unless it does something before
	CSRF    string     `json:"csrf,omitempty"`    // for CSRFHeader
	Ways    []string   `json:"ways"`              // to log in: password, oidc
	Leave   string     `json:"leave,omitempty"`   // where to log out at the identity provider, too, after a logout
}

// standing is who the holder of a cookie is.
func (d *Desk) standing(id secret, s *session, pass *access.Pass) *Standing {
	d.mu.Lock()
	idle, ends := d.idleAt(s).UTC(), s.ends.UTC()
	d.mu.Unlock()
	v := &Standing{Known: true, User: pass.Who().User, Method: s.method, Roles: s.roles, Groups: s.groups, Ends: &ends,
		IdleAt: &idle, CSRF: id.csrf(), Ways: d.ways()}
	for _, o := range d.opt.Access.Operations(pass, rule.Cluster, rule.ClusterName).List() {
		v.Cluster = append(v.Cluster, o.String())
	}
	return v
}

// ways are those to log in.
func (d *Desk) ways() []string {
	if d.opt.Provider != nil {
		return []string{byPassword, byOIDC}
	}
	return []string{byPassword}
}

// byPassword is the method of who gives a password.
const byPassword = "password"

// session tells who asks. Asking is no use: a page may do so to see that a session ends soon.
func (d *Desk) session(w http.ResponseWriter, r *http.Request) {
	id, is := d.secretOf(r)
	if !is {
		d.opt.Answer(w, &Standing{Open: !d.opt.Access.Asked(), Ways: d.ways()})
		return
	}
	s, err := d.find(id, false)
	if err != nil {
		d.forget(w, r, cookieName, http.SameSiteStrictMode)
		d.opt.Answer(w, &Standing{Open: !d.opt.Access.Asked(), Ways: d.ways()})
		return
	}
	d.opt.Answer(w, d.standing(id, s, s.pass.At(d.opt.From(r))))
}

// Enter finds whose cookie a request has; nil: there is none. Errors: ErrEnded; Denied.
func (d *Desk) Enter(r *http.Request) (*Visit, error) {
	id, is := d.secretOf(r)
	if !is {
		return nil, nil
	}
	s, err := d.find(id, true)
	if err != nil {
		return nil, err
	}
	pass := s.pass.At(d.opt.From(r))
	who := pass.Who()
	switch {
	case d.opt.Banned(who.User, who.Address):
		err = fault.New(fault.Denied, op, "who comes from this address is banned")
	case !safe(r) && !id.fits(r.Header.Get(CSRFHeader)):
		err = fault.New(fault.Denied, op, "a change needs the token of the session").
			WithHint("GET %ssession tells it as csrf: send it as %s", Path, CSRFHeader)
	default:
		err = d.ofThisSite(r)
	}
	if err == nil {
		err = pass.Over()
	}
	if err != nil {
		d.tell(pass.By(), s.method, chain.Event{Type: chain.TypeRefused, Action: "administer", Outcome: chain.Denied,
			Reason: err.Error()})
		return nil, err
	}
	return &Visit{pass, d, s}, nil
}

// safe tells whether a request changes nothing (RFC 9110, section 9.2.1).
func safe(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
}

// ofThisSite refuses what a page of another site has a browser send. Errors: Denied.
func (d *Desk) ofThisSite(r *http.Request) error {
	if d.origin.Check(r) != nil {
		return fault.New(fault.Denied, op, "a page of another site asks").
			WithHint("behind a proxy, http.public_url says where people find the node")
	}
	return nil
}

// login lets somebody in by a password: JSON, or a form, which is answered by the page that its field return names.
func (d *Desk) login(w http.ResponseWriter, r *http.Request) {
	said, form, err := d.credentials(w, r)
	if err != nil {
		d.opt.Refuse(w, err)
		return
	}
	select {
	case d.turns <- struct{}{}:
		defer func() { <-d.turns }()
	default:
		d.opt.Refuse(w, fault.New(fault.Limited, op, "too many people log in at a time"))
		return
	}
	who := d.opt.From(r)
	who.User = said.Name
	pass, err := d.byPassword(r.Context(), who, said.Password)
	if err != nil {
		d.refuseLogin(w, &who, byPassword, err)
		return
	}
	id, s := d.welcome(w, r, pass, byPassword, d.opt.Now().Add(d.opt.Lifetime))
	if form {
		http.Redirect(w, r, said.Return, http.StatusSeeOther)
		return
	}
	d.opt.Answer(w, d.standing(id, s, pass))
}

// welcome begins the session of who has proven who it is; one that the browser had ends, whose cookie somebody else may
// know.
func (d *Desk) welcome(
	w http.ResponseWriter, r *http.Request, pass *access.Pass, method string, ends time.Time,
) (secret, *session) {
	if id, is := d.secretOf(r); is {
		d.mu.Lock()
		d.remove(d.mu.sessions[id.key()])
		d.mu.Unlock()
	}
	id, s := d.begin(pass, method, ends)
	d.keep(w, r, id, s)
	d.logins.With(method, "good").Inc()
	d.tellLogin(pass.By(), method, nil)
	return id, s
}

// refuseLogin refuses somebody.
func (d *Desk) refuseLogin(w http.ResponseWriter, who *rule.Subject, method string, err error) {
	d.logins.With(method, "bad").Inc()
	d.tellLogin(access.By(who), method, err)
	d.opt.Refuse(w, err)
}

// byPassword lets in who has the password of a user. Errors: those of access.Enter.
func (d *Desk) byPassword(ctx context.Context, who rule.Subject, password string) (*access.Pass, error) {
	switch {
	case !d.opt.Access.Asked():
		return nil, fault.New(fault.Denied, op, "there are no users: everybody may do everything").
			WithHint("firth user add NAME --role admin makes the first")
	case who.User == "" || password == "" || d.opt.Access.IsToken([]byte(password)): // tokens are for programs
		return nil, access.ErrCredentials
	}
	pass, err := d.opt.Access.Enter(ctx, who, []byte(password))
	switch {
	case err != nil:
		return nil, err
	case !pass.Proven():
		return nil, access.ErrCredentials
	case d.opt.Banned(who.User, who.Address):
		return nil, errBanned
	}
	return pass, pass.Over()
}

// said is what somebody says to log in.
type said struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	Return   string `json:"-"` // which page of ours a form leads to
}

// maxLogin bounds what somebody says to log in, in bytes.
const maxLogin = 16 << 10

// credentials reads what somebody says to log in. Errors: Denied, Invalid.
func (d *Desk) credentials(w http.ResponseWriter, r *http.Request) (s said, form bool, err error) {
	if err := d.ofThisSite(r); err != nil {
		return s, false, err
	}
	if err := d.private(r); err != nil {
		return s, false, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogin))
	if err != nil {
		return s, false, fault.New(fault.Invalid, op, "the request cannot be read, or has more than %d bytes", maxLogin)
	}
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/json":
		if json.Unmarshal(body, &s) != nil { // the error may show some of it
			err = errors.New("it is no JSON object with name and password")
		}
	case "application/x-www-form-urlencoded":
		var q url.Values
		if q, err = url.ParseQuery(string(body)); err != nil {
			err = errors.New("it is no form")
		}
		form = true
		s.Name, s.Password, s.Return = q.Get("name"), q.Get("password"), cmp.Or(q.Get("return"), "/")
		if err == nil {
			err = checkReturn(s.Return)
		}
	default:
		err = errors.New("it is neither application/json nor application/x-www-form-urlencoded")
	}
	if err != nil {
		return said{}, form, fault.New(fault.Invalid, op, "the request is not understood: %w", err)
	}
	return s, form, nil
}

// private refuses logins that anybody on the way could hear. Errors: Denied.
func (d *Desk) private(r *http.Request) error {
	who := d.opt.From(r)
	if d.encrypted(r) || !who.Address.IsValid() || who.Address.Unmap().IsLoopback() {
		return nil
	}
	return fault.New(fault.Denied, op, "a password is not taken without TLS from another machine").
		WithHint("use listen.https; or say in http.public_url at which https address a proxy has it")
}

// logout ends the session of who asks.
func (d *Desk) logout(w http.ResponseWriter, r *http.Request) {
	v, err := d.Enter(r)
	if err != nil && !errors.Is(err, ErrEnded) {
		d.opt.Refuse(w, err)
		return
	}
	said := &Standing{Open: !d.opt.Access.Asked(), Ways: d.ways()}
	if v != nil {
		said.Leave = d.leave(v.session)
		d.mu.Lock()
		d.remove(v.session)
		d.mu.Unlock()
		d.tell(v.Pass.By(), v.session.method, chain.Event{Action: "logout", Outcome: chain.Success})
	}
	d.forget(w, r, cookieName, http.SameSiteStrictMode)
	d.opt.Answer(w, said)
}
