// Package access knows who is who and who may do what: the one guard that the doors ask (rule decides, credential
// proves).
//
// Users and rules are the catalog, a fold of the topic __firth_access. A connection enters with what it says of itself
// and gets a Pass, which answers for as long as the connection lives, by the rules of the moment:
//
//	a, err := access.Open(ctx, access.Options{Log: log, Mapping: table})
//	pass, err := a.Enter(ctx, who, password)
//	a.MayName(pass, rule.Write, topicName, logTopic)
//
// While there is no user and no rule everybody may do everything; from the first on, what no rule allows is denied. A
// change is stored before it is in force, and in force for everybody before who asked for it is told.
package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/replica"
	"github.com/firthmq/firth/internal/log/stream"
)

// TopicName is the topic of the log that holds the catalog. No client sees it, for it holds verifiers of passwords.
const TopicName = rule.InternalPrefix + "access"

// Anonymous says whether connections are served that do not say whose they are.
type Anonymous uint8

// The ways to treat them.
const (
	// UntilUsers serves them while there are no users.
	UntilUsers Anonymous = iota
	// Always serves them, with the rights of User:ANONYMOUS and User:*.
	Always
	// Never serves them.
	Never
)

// Options of the room. Log and Mapping are needed.
type Options struct {
	Log     stream.Keeper
	Mapping rule.Mapping
	// Anonymous says whether who does not say who it is gets in.
	Anonymous Anonymous
	// TryOut lets through what rules would deny of the log to its clients, and tells it. Who somebody is has to be proven
	// all the same.
	TryOut bool
	// Identity tells whose a certificate is. Default: its common name's.
	Identity Identity
	// Tokens judges tokens of issuers; nil: none is good. With it nobody comes in unknown but by Anonymous, and nothing is
	// allowed that no rule allows.
	Tokens Tokens
	// People says that an identity provider tells who people are, besides the users: as with Tokens, nobody comes in
	// unknown, and nothing is allowed that no rule allows.
	People bool
	// Service knows users whom the catalog has no password of; nil: nobody does. With it, it is as with Tokens.
	Service Service
	// Shared says that other nodes change the catalog, too: it is followed, by Run. There is no Audit then.
	Shared bool
	// Unsure tells why something else is not known that decides who may come in; nil: it is known. It is asked where
	// the catalog is Shared. Default: there is nothing else.
	Unsure func() error
	// AcceptDamage goes on with what can be read of a damaged catalog. Otherwise Open fails: what is missing may be what
	// denies.
	AcceptDamage bool
	// Audit is told of every change before it is made. nil: nobody is.
	Audit *audit.Trail
	// FS is the data folder, for the secret of delegation tokens. nil: there are no such tokens.
	FS vfs.FS
	// Metrics receives the metrics. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger receives the log lines. Default: none.
	Logger *slog.Logger
	// Clock is the wall clock, for the records. Default: time.Now.
	Clock func() time.Time
	// Passed is the time that has passed, since whenever, for a catalog that is Shared. Default: that of the machine.
	Passed func() time.Duration
}

// Access is the catalog and the guard. Make one with Open.
type Access struct {
	opt       Options
	logins    telemetry.Counters
	would     telemetry.Counters // be denied
	passwords *verify.Logins
	tryout    atomic.Pointer[tryout] // nil: rules are in force
	damaged   bool                   // some of the catalog is missing: who it was that somebody asked for is not known
	fresh     []byte                 // the secret of this catalog, if it has stored none

	replica  *replica.Replica // of a catalog that is shared; nil: nobody else changes it
	changing sync.Mutex       // held over a change, the log included: one at a time

	enforcing sync.Mutex // held while a policy is made: the last one is that of the last change

	// version counts the changes: who has an answer of an older version asks again. It is raised behind the policy.
	version atomic.Uint64
	policy  atomic.Pointer[rule.Policy] // nil: there is neither a user nor a rule, and nobody else knows any

	mu struct {
		sync.RWMutex
		users       map[string]*User
		rules       map[string]rule.Rule   // by their ids
		tokens      map[string]*Token      // by their ids
		secret      []byte                 // what users seem to have who are not there; nil: none is stored
		delegations map[string]*Delegation // by their ids
		master      []byte                 // the secret of delegation tokens; nil: there is none
		masterName  string                 // names it
		watchers    []func()
	}
}

// Open reads the catalog. Errors: Corrupt when some of it cannot be read; those of the log.
func Open(ctx context.Context, opt Options) (*Access, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Metrics == nil {
		opt.Metrics = telemetry.New()
	}
	a := &Access{opt: opt}
	a.logins = opt.Metrics.Counter("firth_access_logins_total",
		"Connections that came to be known, by whether who they are was proven, wrong, or refused.", "result")
	a.clear()
	a.would = wouldDeny(opt.Metrics)
	if opt.TryOut {
		a.tryout.Store(newTryout())
	}
	if err := a.readDelegationSecret(); err != nil {
		return nil, err
	}
	err := a.read(ctx)
	if err != nil {
		return nil, err
	}
	secret := a.secret()
	if secret == nil { // stored with the first change
		secret = []byte(verify.Nonce())
	}
	a.fresh = secret
	if a.replica != nil {
		if secret, err = a.agree(ctx); err != nil {
			return nil, err
		}
	}
	a.passwords = verify.New(verify.Options{Secret: secret})
	opt.Metrics.GaugeFunc("firth_access_users", "Users in the catalog.", func() float64 {
		a.mu.RLock()
		defer a.mu.RUnlock()
		return float64(len(a.mu.users))
	})
	opt.Metrics.GaugeFunc("firth_access_rules", "Access rules in the catalog.", func() float64 {
		a.mu.RLock()
		defer a.mu.RUnlock()
		return float64(len(a.mu.rules))
	})
	a.enforce()
	return a, nil
}

// clear forgets what the catalog says. It needs the lock of mu.
func (a *Access) clear() {
	a.mu.users, a.mu.rules, a.mu.tokens = map[string]*User{}, map[string]rule.Rule{}, map[string]*Token{}
	a.mu.delegations, a.mu.secret = map[string]*Delegation{}, nil
}

// secret is what is stored of it; nil: none is.
func (a *Access) secret() []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.mu.secret
}

// agree has all nodes that share a catalog have one secret, from before the first user on.
func (a *Access) agree(ctx context.Context) ([]byte, error) {
	err := a.replica.Edit(ctx, func() ([]record.Record, error) {
		if a.secret() != nil {
			return nil, nil
		}
		return []record.Record{a.freshSecret(a.opt.Clock().UnixMilli())}, nil
	})
	return a.secret(), err
}

// Run follows a catalog that is shared, until ctx ends.
func (a *Access) Run(ctx context.Context) error { return a.replica.Run(ctx) }

// Unsure tells why it is not known who may come in: others may have changed a catalog that is shared, and that cannot
// be read, or what Options.Unsure tells. nil: it is known. Errors: Unavailable, Corrupt; those of Options.Unsure.
func (a *Access) Unsure() error {
	if a.replica == nil {
		return nil
	}
	if err := a.replica.Unsure(); err != nil || a.opt.Unsure == nil {
		return err
	}
	return a.opt.Unsure()
}

// enforce puts what the catalog says in force.
func (a *Access) enforce() {
	a.enforcing.Lock()
	defer a.enforcing.Unlock()
	a.mu.RLock()
	some := len(a.mu.users) > 0 || len(a.mu.rules) > 0 || a.vouched()
	rules, secret := slices.Collect(maps.Values(a.mu.rules)), a.mu.secret
	a.mu.RUnlock()
	if secret == nil {
		secret = a.fresh
	}
	var policy *rule.Policy
	if some {
		policy = rule.New(rules, a.opt.Mapping).HashBy(hashKey(secret))
	}
	a.policy.Store(policy)
	a.version.Add(1)
}

// hashKey is the key by which masks hash, of the secret of a catalog: every node with the catalog has the same.
func hashKey(secret []byte) []byte {
	key := hmac.New(sha256.New, secret)
	key.Write([]byte("firth mask")) // never fails
	return key.Sum(nil)
}

// Remapped is told that the mapping has changed: what names may be done to is judged anew.
func (a *Access) Remapped() {
	a.changing.Lock()
	defer a.changing.Unlock()
	a.enforce()
}

// Watch has f be called after each change, on the goroutine of who made it. It must not ask for a change itself.
func (a *Access) Watch(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.watchers = append(a.mu.watchers, f)
}

// AnonymousMay tells whether who does not say who it is gets in.
func (a *Access) AnonymousMay() bool {
	switch a.opt.Anonymous {
	case Always:
		return true
	case Never:
		return false
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.mu.users) == 0 && !a.vouched() && !a.damaged
}

// vouched tells whether somebody else says who is who, besides the users.
func (a *Access) vouched() bool { return a.opt.Tokens != nil || a.opt.Service != nil || a.opt.People }

// user finds a user; nil: there is none.
func (a *Access) user(name string) *User {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.mu.users[name]
}

// errDenied is what who may not be here is told.
func errDenied(format string, args ...any) error {
	return fault.New(fault.Denied, "access", format, args...)
}
