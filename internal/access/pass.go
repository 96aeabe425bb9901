package access

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kit/fault"
)

// ErrCredentials refuses who says who it is and does not prove it. It does not tell whether there is such a user.
var ErrCredentials = fault.New(fault.Denied, "access.Enter", "wrong user name or password")

// Pass is what a connection may do. It follows the changes of the catalog. Any goroutine may ask it.
type Pass struct {
	access    *Access
	who       rule.Subject          // without roles
	proof     string                // the verifiers of the catalog that who it is was proven by; "": it was not
	certified bool                  // who it is was proven by a certificate
	recalled  bool                  // it was proven before
	listed    bool                  // and by what the catalog has: without its user it is nobody
	nameless  error                 // why its certificate does not tell who it is; nil: it does, or there is none
	grant     atomic.Pointer[Grant] // of the token or the service that it was proven by; nil: it was not
	now       atomic.Pointer[standing]
}

// standing is how a pass stands at one version of the catalog.
type standing struct {
	version uint64
	grant   *Grant
	rights  *rule.Rights
	within  *rule.Rights // the scope of its token, which has to allow it too; nil: all is within it
	over    error        // the connection must end
	ends    time.Time    // when its grant does; zero: never, or it has
	names   atomic.Pointer[answers]
	topics  atomic.Pointer[answers]
}

// Enter lets a connection in that says who it is, or not (an empty user): who is told, but for the roles. A password
// of nil is none: then a certificate that was verified says who it is. Errors: ErrCredentials; Denied; Timeout or
// Limited when too many are being looked at; Unavailable when the service that may know it does not answer, or the
// catalog is Unsure.
func (a *Access) Enter(ctx context.Context, who rule.Subject, password []byte) (*Pass, error) {
	p, err := a.enter(ctx, who, password)
	switch {
	case err == nil:
		a.logins.With("proven").Inc()
	case a.IsToken(password): // Token has counted it
	case errors.Is(err, ErrCredentials):
		a.logins.With("wrong").Inc()
	default:
		a.logins.With("refused").Inc()
	}
	return p, err
}

func (a *Access) enter(ctx context.Context, who rule.Subject, password []byte) (*Pass, error) {
	if err := a.Unsure(); err != nil {
		return nil, fault.New(fault.Unavailable, "access.Enter", "it is not known now who may come in: %w", err)
	}
	var name string // that a certificate says
	var nameless error
	if password == nil {
		name, nameless = a.opt.Identity.of(&who)
	}
	if g, err := a.Granted(ctx, who, password); err != nil || g != nil {
		return a.admitBy(who, g), err
	}
	switch {
	case name != "" && (who.User == "" || who.User == name):
		who.User = rule.Anonymous // Admit knows better
	case who.User != "" && a.open(): // as long as nobody asked for users a name is only a name
		return &Pass{access: a, who: who}, nil
	case who.User != "" && password != nil:
		u := a.user(who.User)
		if err := a.prove(ctx, u, &who, password); err != nil {
			return nil, err
		}
		p := a.Admit(who)
		p.proof = u.proof() // what was held against, not what has taken its place while the hash was computed
		return p, nil
	case nameless != nil && !a.open():
		return nil, nameless
	case a.AnonymousMay():
		who.User = rule.Anonymous
	default:
		return nil, errDenied("who does not say who it is, with a password, is not served here")
	}
	return a.Admit(who), nil
}

// open tells whether everybody may do everything, because nobody has asked for users or rules.
func (a *Access) open() bool { return a.opt.Anonymous != Never && !a.damaged && a.policy.Load() == nil }

// prove holds a password against the user that it is said to be of; nil: there is none, which takes as long. Errors: as
// of Enter.
func (a *Access) prove(ctx context.Context, u *User, who *rule.Subject, password []byte) error {
	var v *credential.Verifiers
	if u != nil {
		v = &u.Verifiers
	}
	err := a.passwords.Password(ctx, verify.Login{User: who.User, Address: who.Address, Password: password}, v)
	switch {
	case fault.Is(err, fault.Denied):
		return ErrCredentials
	case err != nil && ctx.Err() != nil:
		return fault.New(fault.Timeout, "access.Enter", "too many passwords wait to be looked at")
	case err != nil:
		return err
	case u.Disabled:
		return errDenied("the user is disabled")
	case !u.binds(who.ClientID):
		return errDenied("the user may not have the client identifier %s", fault.Text(who.ClientID))
	}
	return nil
}

// Admit makes the pass of a connection whose user has proven who it is, or need not. Who does not say, and has shown a
// certificate that was verified, is the user that it names, in the catalog or not. Over tells if it may not be here.
func (a *Access) Admit(who rule.Subject) *Pass {
	p := &Pass{access: a, who: who}
	if who.User == rule.Anonymous {
		var name string
		if name, p.nameless = a.opt.Identity.of(&who); name != "" {
			p.who.User, p.certified = name, true
		}
	}
	if u := a.user(p.who.User); u != nil && !p.certified {
		p.proof = u.proof()
	}
	return p
}

// Proven tells whether who it is was proven: by a password, a certificate, a token or the service.
func (p *Pass) Proven() bool { return p.proof != "" || p.certified || p.grant.Load() != nil }

// Who is who the pass is for.
func (p *Pass) Who() *rule.Subject { return &p.who }

// At is the pass of the same user on another connection, of which who says where it comes from.
func (p *Pass) At(who rule.Subject) *Pass {
	who.User = p.who.User
	other := &Pass{access: p.access, who: who, proof: p.proof, certified: p.certified, recalled: p.recalled,
		listed: p.listed}
	other.grant.Store(p.grant.Load())
	return other
}

// Memberships are the roles and the groups that the user has now, sorted.
func (p *Pass) Memberships() (roles, groups []string) {
	if g := p.grant.Load(); g != nil {
		roles, groups = slices.Clone(g.Roles), slices.Clone(g.Groups)
	}
	if u := p.access.user(p.who.User); u != nil {
		roles, groups = append(roles, u.Roles...), append(groups, u.Groups...)
	}
	slices.Sort(roles)
	slices.Sort(groups)
	return slices.Compact(roles), slices.Compact(groups)
}

// Over tells why the connection may not be here any more; nil: it may.
func (p *Pass) Over() error { return p.stand().over }

// stand is how the pass stands now. One whose grant has ended has no rights, whatever is under way for it.
func (p *Pass) stand() *standing {
	version, grant := p.access.version.Load(), p.grant.Load()
	if s := p.now.Load(); s != nil && s.version == version && s.grant == grant && !p.access.past(s.ends) {
		return s
	}
	s := p.access.judge(p, version, grant)
	p.now.Store(s)
	return s
}

// judge finds how a pass stands. What changes meanwhile has another version, and is seen by the next who asks.
func (a *Access) judge(p *Pass, version uint64, grant *Grant) *standing {
	s := &standing{version: version, grant: grant}
	if a.open() {
		return s
	}
	who := p.who
	u := a.user(who.User)
	var token *Token
	s.ends = a.endsOf(grant)
	switch {
	case a.past(s.ends):
		s.ends, s.over = time.Time{}, grant.ended()
	case grant != nil:
		token, s.over = a.judgeGrant(&who, grant, u)
	case p.nameless != nil:
		s.over = p.nameless
	case who.User == rule.Anonymous && !a.AnonymousMay():
		s.over = errDenied("who does not say who it is is not served any more")
	case who.User == rule.Anonymous, (p.certified || p.recalled && !p.listed) && u == nil:
	case u == nil && p.proof == "" && a.AnonymousMay(): // the name was never proven
		who.User = rule.Anonymous
	case u == nil:
		s.over = errDenied("there is no such user")
	case u.Disabled:
		s.over = errDenied("the user is disabled")
	case u.proof() != p.proof && !p.certified && !p.recalled:
		s.over = errDenied("the user's password was changed")
	case !u.binds(who.ClientID):
		s.over = errDenied("the user may not have this client identifier")
	default:
		who.Roles, who.Groups = u.Roles, u.Groups
	}
	s.rights = nobody
	if policy := a.policy.Load(); policy != nil && s.over == nil {
		s.rights = policy.Rights(&who, grant.rulesOf()...)
		if token != nil {
			s.within = policy.Within(&who, token.Roles, token.Rules)
		}
	}
	return s
}

// nobody are no rights at all.
var nobody = rule.New(nil, nil).Rights(&rule.Subject{})

// proof are the verifiers of a user as text: another one after each change of a password.
func (u *User) proof() string {
	v := &u.Verifiers
	return strings.Join([]string{v.Password.Text(), v.SCRAM256.Text(), v.SCRAM512.Text()}, " ")
}

// binds tells whether a user may have a client identifier; "" is none.
func (u *User) binds(clientID string) bool {
	if u.ClientID == "" || clientID == "" {
		return true
	}
	pattern := strings.ReplaceAll(u.ClientID, "${username}", u.Name)
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(clientID, prefix)
	}
	return clientID == pattern
}

// MayName tells whether something may be done to a topic name of devices, which is valid. Topic is the topic of the log
// that it goes to or came from; "": the mapping is asked.
func (a *Access) MayName(p *Pass, o rule.Operation, name []byte, topic string) bool {
	s := p.stand()
	return s.mayName(o, name, topic) || s.within.Name(o, name, topic) && a.tries(p, o, name, topic)
}

// MaskName is what a client may not see of a message with a topic name of devices, as MayName has it; nil: it may see
// all of it.
func (a *Access) MaskName(p *Pass, name []byte, topic string) *mask.Set {
	s := p.stand()
	return s.rights.MaskOfName(name, topic).With(s.within.MaskOfName(name, topic))
}

// Masked tells whether there is anything that a client may not see of what it may read.
func (a *Access) Masked(p *Pass) bool {
	s := p.stand()
	return s.rights.Masked() || s.within.Masked()
}

// MaskTopic is what a client may not see of the records of a topic of the log; nil: it may see all of them.
func (a *Access) MaskTopic(p *Pass, topic string) *mask.Set {
	s := p.stand()
	return s.rights.MaskOfTopic(topic).With(s.within.MaskOfTopic(topic))
}

// MaskSome tells whether there may be somebody who may not see all of a topic of the log: by rules, by the scope of a
// token, or by what a service says of its users, which is not known before they come.
func (a *Access) MaskSome(topic string) bool {
	if a.opt.Service != nil {
		return true
	}
	a.mu.RLock()
	all := slices.Collect(maps.Values(a.mu.rules))
	for _, t := range a.mu.tokens {
		all = append(all, t.Rules...)
	}
	a.mu.RUnlock()
	return rule.MaskSome(all, topic, a.opt.Mapping)
}

// MayFilter tells whether a client may subscribe to a topic filter.
func (a *Access) MayFilter(p *Pass, filter string) bool {
	s := p.stand()
	return (s.rights.Filter(rule.Read, filter) || a.tries(p, rule.Read, []byte(filter), "")) &&
		s.within.Filter(rule.Read, filter)
}

// May tells whether something may be done to a resource. Nobody may do anything to the catalog as a topic.
func (a *Access) May(p *Pass, o rule.Operation, kind rule.Kind, name string) bool {
	if kind == rule.Topic && name == TopicName {
		return false
	}
	s := p.stand()
	if kind == rule.Topic && s.mayTopic(o, name) {
		return true
	}
	return s.within.Resource(o, kind, name) && (s.rights.Resource(o, kind, name) || a.lets(p, kind, name))
}

// MaySome tells whether something may be done to some resource of a kind.
func (a *Access) MaySome(p *Pass, o rule.Operation, kind rule.Kind) bool {
	s := p.stand()
	return (s.rights.Some(o, kind) || a.lets(p, kind, "")) && s.within.Some(o, kind)
}

// Operations is the set of what may be done to a resource.
func (a *Access) Operations(p *Pass, kind rule.Kind, name string) rule.Operations {
	if kind == rule.Topic && name == TopicName {
		return 0
	}
	s := p.stand()
	return s.rights.Operations(kind, name) & s.within.Operations(kind, name)
}

// NamedBy is the user that the certificate of a subject names; "": it has none, or as long as nobody asked for users or
// rules. Errors: Denied when it names nobody.
func (a *Access) NamedBy(who rule.Subject) (string, error) {
	if a.open() {
		return "", nil
	}
	return a.opt.Identity.of(&who)
}

// Explain says what somebody may do, and by which rules. While nobody has asked for users or rules, that is everything.
func (a *Access) Explain(who rule.Subject, q rule.Question) rule.Answer {
	if a.open() {
		return rule.Answer{Allowed: true}
	}
	if u := a.user(who.User); u != nil {
		who.Roles, who.Groups = u.Roles, u.Groups
	}
	policy := a.policy.Load()
	if policy == nil {
		policy = rule.New(nil, a.opt.Mapping)
	}
	return policy.Explain(&who, q)
}
