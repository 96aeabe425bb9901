// Package people has the sessions of people who use a browser: they log in once, and a cookie stands for them until
// they log out, do nothing for long, or may not be here any more.
//
//	desk := people.New(people.Options{Access: a, From: asking, Refuse: refuse, Answer: answer})
//	mux.Handle(people.Path, desk.Handler())
//	visit, err := desk.Enter(r) // whose cookie a request has
//
// Sessions are in memory: who has the disk has none of them, a use of one costs no write, and after a restart people
// log in again. What is kept of a cookie is a hash. A request that may change something needs the token of its session
// besides, which a page of another site cannot read (CSRF). A session has the rights that its user has at the moment;
// it ends at once when the user is removed, disabled or banned, or gets another password, other roles or other groups.
package people

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/oidc"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

const op = "people"

// Options of a Desk. Access, From, Refuse and Answer are needed.
type Options struct {
	Access *access.Access
	// From tells where a request comes from; it does not say who asks.
	From func(r *http.Request) rule.Subject
	// Refuse answers a request with an error, access.ErrCredentials among them; Answer with a value.
	Refuse func(w http.ResponseWriter, err error)
	Answer func(w http.ResponseWriter, v any)
	// Provider is where people log in besides, and PublicURL is needed with it. nil: nowhere.
	Provider *oidc.Provider
	// Banned tells whether a user, or who comes from an address, is kept out. nil: nobody is.
	Banned func(user string, address netip.Addr) bool
	// PublicURL is where people find us, if a proxy stands between: https://firth.example.org. "": by the host they name.
	PublicURL string
	// Idle is how long a session lasts that is not used. Default 30 minutes.
	Idle time.Duration
	// Lifetime is how long a session lasts at most. Default 12 hours.
	Lifetime time.Duration
	// PerUser is how many sessions a user may have, Most how many there may be in all: one more ends that which was not
	// used for longest. Defaults: 10 and 10,000.
	PerUser, Most int
	// Audit is told of logins, logouts and refusals. nil: nobody is.
	Audit *audit.Trail
	// Metrics receives the metrics. Default: nobody looks.
	Metrics *telemetry.Set
	// Now is the time. Default: time.Now.
	Now func() time.Time
}

// Desk lets people in. It may be used from any goroutine.
type Desk struct {
	opt    Options
	origin *http.CrossOriginProtection
	turns  chan struct{} // logins under way
	logins telemetry.Counters

	mu struct {
		sync.Mutex
		sessions map[key]*session
		users    map[string]int // how many sessions each has
	}
}

// together is how many people log in at a time: each may wait for some seconds.
const together = 64

// New makes a desk. Errors: Invalid, PublicURL.
func New(opt Options) (*Desk, error) {
	opt.Idle, opt.Lifetime = cmp.Or(opt.Idle, 30*time.Minute), cmp.Or(opt.Lifetime, 12*time.Hour)
	opt.PerUser, opt.Most = cmp.Or(opt.PerUser, 10), cmp.Or(opt.Most, 10_000)
	if opt.Metrics == nil {
		opt.Metrics = telemetry.New()
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Banned == nil {
		opt.Banned = func(string, netip.Addr) bool { return false }
	}
	d := &Desk{opt: opt, origin: http.NewCrossOriginProtection(), turns: make(chan struct{}, together)}
	if opt.PublicURL != "" {
		if err := d.origin.AddTrustedOrigin(opt.PublicURL); err != nil {
			return nil, fault.Wrap(fault.Invalid, op, err)
		}
	}
	d.mu.sessions, d.mu.users = map[key]*session{}, map[string]int{}
	d.logins = opt.Metrics.Counter("firth_http_logins_total",
		"Logins of people by HTTP, by how they prove who they are and whether they were let in.", "method", "result")
	opt.Metrics.GaugeFunc("firth_http_sessions", "People who are logged in by HTTP.", func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(len(d.mu.sessions))
	})
	return d, nil
}

// session is somebody who has logged in.
type session struct {
	key    key
	pass   *access.Pass
	method string // how who it is was proven
	roles  []string
	groups []string
	began  time.Time
	ends   time.Time
	late   *time.Timer // ends it in time, though nobody asks

	// Guarded by the desk.
	used  time.Time
	under map[*Visit]func() // ends what is under way
}

// idleAt is when the session ends unless it is used. The desk is locked.
func (d *Desk) idleAt(s *session) time.Time {
	if at := s.used.Add(d.opt.Idle); at.Before(s.ends) {
		return at
	}
	return s.ends
}

// begin makes a session of who has proven who it is, and gives what goes into its cookie. Those that have ended go; so
// does the one that was not used for longest, where there are too many.
func (d *Desk) begin(pass *access.Pass, method string, ends time.Time) (id secret, s *session) {
	id, now := newSecret(), d.opt.Now()
	s = &session{key: id.key(), pass: pass, method: method, began: now, ends: ends, used: now}
	s.roles, s.groups = pass.Memberships()
	user := pass.Who().User
	d.mu.Lock()
	defer d.mu.Unlock()
	s.late = time.AfterFunc(ends.Sub(now), func() { d.lapse(s) })
	if len(d.mu.sessions) >= d.opt.Most || d.mu.users[user] >= d.opt.PerUser {
		d.sweep(now)
	}
	if d.mu.users[user] >= d.opt.PerUser {
		d.remove(d.oldest(user))
	}
	if len(d.mu.sessions) >= d.opt.Most {
		d.remove(d.oldest(""))
	}
	d.mu.sessions[s.key] = s
	d.mu.users[user]++
	return id, s
}

// oldest is the session that was not used for longest, of a user or ("") of all. The desk is locked.
func (d *Desk) oldest(user string) (oldest *session) {
	for _, s := range d.mu.sessions {
		if (user == "" || s.pass.Who().User == user) && (oldest == nil || s.used.Before(oldest.used)) {
			oldest = s
		}
	}
	return oldest
}

// sweep removes sessions whose time is over. The desk is locked.
func (d *Desk) sweep(now time.Time) {
	for _, s := range d.mu.sessions {
		if !now.Before(d.idleAt(s)) {
			d.remove(s)
		}
	}
}

// remove ends a session. The desk is locked.
func (d *Desk) remove(s *session) {
	if s == nil || d.mu.sessions[s.key] != s {
		return
	}
	delete(d.mu.sessions, s.key)
	user := s.pass.Who().User
	if d.mu.users[user]--; d.mu.users[user] == 0 {
		delete(d.mu.users, user)
	}
	s.late.Stop()
	for _, end := range s.under {
		end()
	}
}

// lapse ends a session whose time is over.
func (d *Desk) lapse(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(s)
}

// Visit is a request by somebody who has logged in.
type Visit struct {
	Pass    *access.Pass
	desk    *Desk
	session *session
}

// During has end be called when the session ends before over is. End must not wait.
func (v *Visit) During(end func()) (over func()) {
	v.desk.mu.Lock()
	defer v.desk.mu.Unlock()
	if v.desk.mu.sessions[v.session.key] != v.session {
		end()
		return func() {}
	}
	if v.session.under == nil {
		v.session.under = map[*Visit]func(){}
	}
	v.session.under[v] = end
	return func() {
		v.desk.mu.Lock()
		defer v.desk.mu.Unlock()
		delete(v.session.under, v)
	}
}

// find is the session of a cookie, if it has not ended; with use, it is used now. Errors: Denied.
func (d *Desk) find(id secret, use bool) (*session, error) {
	now := d.opt.Now()
	d.mu.Lock()
	s := d.mu.sessions[id.key()]
	switch {
	case s == nil:
	case !now.Before(d.idleAt(s)):
		d.remove(s)
		s = nil
	case use:
		s.used = now
	}
	d.mu.Unlock()
	if s == nil {
		return nil, ErrEnded
	}
	if err := d.why(s); err != nil {
		d.drop(s, err.Error())
		return nil, ErrEnded
	}
	return s, nil
}

// why tells why a session may not go on; nil: it may.
func (d *Desk) why(s *session) error {
	if err := s.pass.Over(); err != nil {
		return err
	}
	roles, groups := s.pass.Memberships()
	who := s.pass.Who()
	switch {
	case !slices.Equal(roles, s.roles), !slices.Equal(groups, s.groups):
		return fault.New(fault.Denied, op, "the user has other roles or groups now")
	case d.opt.Banned(who.User, who.Address):
		return errBanned
	}
	return nil
}

// drop ends a session that nobody asked to end, and tells the audit why.
func (d *Desk) drop(s *session, reason string) {
	d.mu.Lock()
	there := d.mu.sessions[s.key] == s
	d.remove(s)
	d.mu.Unlock()
	if there {
		d.tell(s.pass.By(), s.method, chain.Event{Action: "logout", Outcome: chain.Success, Reason: reason})
	}
}

// Recheck ends the sessions that may not go on: after a change of users, rules or bans.
func (d *Desk) Recheck() {
	for _, s := range d.all() {
		if err := d.why(s); err != nil {
			d.drop(s, err.Error())
		}
	}
}

// Close ends all sessions.
func (d *Desk) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.mu.sessions {
		d.remove(s)
	}
}

func (d *Desk) all() []*session {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*session, 0, len(d.mu.sessions))
	for _, s := range d.mu.sessions {
		list = append(list, s)
	}
	return list
}

// tellLogin tells the audit how a login ended.
func (d *Desk) tellLogin(by audit.By, method string, err error) {
	e := chain.Event{Action: "login", Outcome: chain.Success}
	if err != nil {
		e.Outcome, e.Reason = chain.Failure, err.Error()
	}
	d.tell(by, method, e)
}

// tell tells the audit of something that somebody did or wanted.
func (d *Desk) tell(by audit.By, method string, e chain.Event) {
	e.Type, e.Actor, e.Origin = cmp.Or(e.Type, chain.TypeLogin), by.Actor, by.Origin
	e.Actor.Method = method
	d.opt.Audit.Tell(e)
}

var errBanned = fault.New(fault.Denied, op, "the user is banned")

// ErrEnded refuses a cookie of no session. It does not tell whether there was one.
var ErrEnded = fault.New(fault.Denied, op, "the session has ended").WithHint("log in again")
