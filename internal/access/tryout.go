package access

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

// tryout is what the rules would deny while they are tried out. nil: they are in force.
type tryout struct {
	mu struct {
		sync.Mutex
		found map[attempt]*tally
	}
}

// attempt is what somebody did that no rule allows, or one denies.
type attempt struct {
	user, client string
	operation    rule.Operation
	on           rule.Resource
}

// tally is how often something was tried.
type tally struct {
	pass        *Pass
	count       int64
	first, last time.Time
}

// mostFound is how many different attempts are remembered; the others are counted by the metric only.
const mostFound = 1000

func newTryout() *tryout {
	t := &tryout{}
	t.mu.found = map[attempt]*tally{}
	return t
}

func wouldDeny(set *telemetry.Set) telemetry.Counters {
	return set.Counter("firth_access_would_deny_total",
		"What rules would deny that are tried out only (access.mode).", "operation", "resource")
}

// TryOut has the rules be tried out only from now on, with nothing tried so far, or be in force. What is asked once it
// has returned is answered so.
func (a *Access) TryOut(only bool) {
	a.changing.Lock()
	defer a.changing.Unlock()
	switch {
	case only == a.TriesOut():
		return
	case only:
		a.tryout.Store(newTryout())
	default:
		a.tryout.Store(nil)
	}
	a.enforce() // who has an answer asks again
}

// TriesOut tells whether the rules are tried out only.
func (a *Access) TriesOut() bool { return a.tryout.Load() != nil }

// lets tells whether something that rules deny passes, because they are tried out: what is of the log for its clients.
// What is for Firth itself, the cluster and those who administer it, is kept by them in any case, and so is everything
// from who may not be here.
func (a *Access) lets(p *Pass, kind rule.Kind, name string) bool {
	switch {
	case !a.TriesOut() || p.stand().over != nil:
		return false
	case kind == rule.Topic:
		return !strings.HasPrefix(name, rule.InternalPrefix)
	}
	return kind == rule.Group || kind == rule.TransactionalID
}

// tries is lets for a name of devices, which goes to a topic of the log, and notes it.
func (a *Access) tries(p *Pass, o rule.Operation, name []byte, topic string) bool {
	if !a.lets(p, rule.Topic, topic) {
		return false
	}
	a.note(p, o, rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: string(name)})
	return true
}

// Tried notes that a client does something to a resource, which May has let through: it is for what would be refused
// otherwise, not for what would be left out.
func (p *Pass) Tried(o rule.Operation, kind rule.Kind, name string) {
	if p == nil || !p.access.TriesOut() || p.stand().rights.Resource(o, kind, name) {
		return
	}
	p.access.note(p, o, rule.Resource{Kind: kind, Pattern: rule.Literal, Name: name})
}

// note counts an attempt; the first of its kind is told.
func (a *Access) note(p *Pass, o rule.Operation, on rule.Resource) {
	t, now := a.tryout.Load(), a.opt.Clock()
	if t == nil { // they have come in force meanwhile
		return
	}
	kind := on.Kind.String()
	if on.Pattern == rule.Filter {
		kind = audit.KindName
		if strings.ContainsAny(on.Name, "+#") {
			kind = audit.KindFilter
		}
	}
	a.would.With(o.String(), kind).Inc()
	key := attempt{p.who.User, p.who.ClientID, o, on}
	t.mu.Lock()
	one := t.mu.found[key]
	known, room := one != nil, len(t.mu.found) < mostFound
	switch {
	case known:
		one.pass, one.last = p, now
		one.count++
	case room:
		t.mu.found[key] = &tally{pass: p, count: 1, first: now, last: now}
	}
	t.mu.Unlock()
	if known || !room {
		return
	}
	e := audit.Refusal(p.By(), o.String(), chain.Resource{Kind: kind, Name: on.Name})
	e.Outcome = chain.LetThrough
	a.opt.Audit.Tell(e)
	a.opt.Logger.Warn("access rules would deny this", "user", p.who.User, "client", p.who.ClientID, "operation", o,
		"on", on.String(), "hint", "firth acl denied shows which rule would allow it")
}

// Attempt is something that rules would deny, as often as it was tried.
type Attempt struct {
	User, ClientID string
	Operation      rule.Operation
	On             rule.Resource
	Count          int64
	First, Last    time.Time
	Deniers        []rule.Rule // the rules that deny it; none: no rule allows it
}

// Fix is the rule that would allow an attempt of which none denies; false: there is none that could be written.
func (t *Attempt) Fix() (rule.Rule, bool) {
	r := rule.Rule{Effect: rule.Allow, Principal: rule.UserPrefix + t.User, Operations: rule.Of(t.Operation),
		Resource: t.On}
	return r, len(t.Deniers) == 0 && r.Check() == nil
}

// Attempts is what was tried, since rules are tried out, that those of now deny, the most frequent first: up to 1,000
// different things. It is empty while they are in force.
func (a *Access) Attempts() (list []Attempt) {
	t := a.tryout.Load()
	if t == nil {
		return nil
	}
	t.mu.Lock()
	passes := make([]*Pass, 0, len(t.mu.found))
	for key, f := range t.mu.found {
		list = append(list, Attempt{User: key.user, ClientID: key.client, Operation: key.operation, On: key.on,
			Count: f.count, First: f.first, Last: f.last})
		passes = append(passes, f.pass)
	}
	t.mu.Unlock()
	still := list[:0]
	for i := range list {
		q := rule.Question{Operation: list[i].Operation, Resource: list[i].On}
		if passes[i].stand().rights.Answer(q) {
			continue
		}
		if answer := a.Explain(passes[i].who, q); !answer.Allowed {
			list[i].Deniers = answer.Rules
		}
		still = append(still, list[i])
	}
	slices.SortFunc(still, func(x, y Attempt) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.User, y.User), cmp.Compare(x.On.Name, y.On.Name),
			cmp.Compare(x.Operation, y.Operation), cmp.Compare(x.ClientID, y.ClientID))
	})
	return still
}
