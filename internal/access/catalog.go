package access

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/replica"
	"github.com/firthmq/firth/internal/log/stream"
)

// How the keys of the catalog begin.
const (
	userKey       = "user/"
	ruleKey       = "rule/"
	tokenKey      = "token/"
	delegationKey = "delegation/"
	secretKey     = "secret" // the whole of it
)

// maxUsers and maxRules bound the catalog.
const (
	maxUsers = 1_000_000
	maxRules = 100_000
)

// read folds the catalog.
func (a *Access) read(ctx context.Context) (err error) {
	var folded stream.Folded
	if a.opt.Shared {
		a.replica, folded, err = replica.Open(ctx, replica.Options{Log: a.opt.Log, Topic: TopicName, Take: a.take,
			AcceptDamage: a.opt.AcceptDamage, Logger: a.opt.Logger, Passed: a.opt.Passed})
	} else {
		folded, err = stream.FoldState(ctx, a.opt.Log, TopicName, a.apply)
	}
	if err != nil || folded.Complete() {
		return err
	}
	if !a.opt.AcceptDamage {
		return folded.Damage("access.Open", TopicName).WithHint("what is missing may be what keeps somebody " +
			"out. Restore the data directory, or look at the rules (firth acl list) after a start with access.damaged: accept")
	}
	a.damaged = true
	a.opt.Logger.Error("users or access rules are missing: their records cannot be read", "lost", folded.Lost,
		"strange", folded.Strange, "error", folded.First)
	return nil
}

// apply takes a record of the catalog. Errors: Corrupt, Invalid, Unsupported.
func (a *Access) apply(key string, value []byte) error {
	if name, is := strings.CutPrefix(key, userKey); is {
		if value == nil {
			delete(a.mu.users, name)
			return nil
		}
		u, err := parseUser(name, value)
		if err == nil {
			a.mu.users[name] = u
		}
		return err
	}
	if key == secretKey {
		a.mu.secret = bytes.Clone(value)
		return nil
	}
	if id, is := strings.CutPrefix(key, tokenKey); is {
		if value == nil {
			delete(a.mu.tokens, id)
			return nil
		}
		t, err := parseToken(id, value)
		if err == nil {
			a.mu.tokens[id] = t
		}
		return err
	}
	if id, is := strings.CutPrefix(key, delegationKey); is {
		return a.foldDelegation(id, value)
	}
	id, is := strings.CutPrefix(key, ruleKey)
	if !is {
		return fault.New(fault.Unsupported, "access.Open", "a record with the key %s", fault.Text(key))
	}
	if value == nil {
		delete(a.mu.rules, id)
		return nil
	}
	var r rule.Rule
	if err := json.Unmarshal(value, &r); err != nil {
		return err
	}
	if r.ID() != id {
		return fault.New(fault.Corrupt, "access.Open", "the rule %s is called %s", r.ID(), fault.Text(id))
	}
	a.mu.rules[id] = r
	return nil
}

// Change is what is to become of the catalog: all of it in one unit of the log.
type Change struct {
	Users   []*User     // made, or put in the place of those of the same names
	Leave   []string    // users that go
	Rules   []rule.Rule // added; those that are there already stay
	Removed []string    // rules that go, by their ids
	Tokens  []*Token    // made
	Revoked []string    // tokens that go, by their ids, besides those of users that go
	// Delegations are delegation tokens that are made, or put in the place of those of the same ids; Undelegated those
	// that go, by their ids, besides those of users that go or get another password.
	Delegations []*Delegation
	Undelegated []string
}

// Apply stores a change and puts it in force. Errors: Invalid, and nothing is changed; Limited; those of the log.
func (a *Access) Apply(ctx context.Context, c *Change) error {
	return a.Edit(ctx, func(*Catalog) (*Change, error) { return new(*c), nil })
}

// Edit is Apply of what find finds by what is there; nobody else changes anything meanwhile. Where the catalog is
// shared, find is asked again when another node has changed something; it is Unavailable while that is always so.
func (a *Access) Edit(ctx context.Context, find func(*Catalog) (*Change, error)) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.replica != nil {
		return a.replica.Edit(ctx, func() ([]record.Record, error) {
			c, err := find(&Catalog{a})
			if err != nil || c == nil {
				return nil, err
			}
			return a.recordsOf(c)
		})
	}
	c, err := find(&Catalog{a})
	if err != nil || c == nil {
		return err
	}
	records, err := a.recordsOf(c)
	if err != nil || len(records) == 0 {
		return err
	}
	return a.audited(ctx, c, func() error { return replica.StoreAlone(ctx, a.opt.Log, TopicName, records, a.take) })
}

// recordsOf completes a change by what it entails, and gives what it stores. Errors: Invalid, Limited.
func (a *Access) recordsOf(c *Change) ([]record.Record, error) {
	for _, name := range c.Leave {
		c.Revoked = append(c.Revoked, a.tokensOf(name)...)
		c.Undelegated = append(c.Undelegated, a.delegationsOf(name)...)
	}
	for _, u := range c.Users { // who knew the password of before may have made tokens by it
		if was := a.user(u.Name); was != nil && was.proof() != u.proof() {
			c.Undelegated = append(c.Undelegated, a.delegationsOf(u.Name)...)
		}
	}
	slices.Sort(c.Undelegated)
	c.Undelegated = slices.Compact(c.Undelegated)
	records, err := c.records(a.opt.Clock().UnixMilli())
	if err != nil || len(records) == 0 {
		return nil, err
	}
	if err := a.roomFor(c); err != nil {
		return nil, err
	}
	if a.secret() == nil { // nobody else sets it meanwhile
		records = append(records, a.freshSecret(records[0].Timestamp))
	}
	return records, nil
}

// freshSecret is the record of the secret of a catalog that has none.
func (a *Access) freshSecret(now int64) record.Record {
	return record.Record{Timestamp: now, Key: []byte(secretKey), Value: a.fresh}
}

// take takes records in that are stored, and puts them in force. Anew, what was there before is not any more.
func (a *Access) take(anew bool, feed func(apply func(key string, value []byte) error)) {
	a.mu.Lock()
	if anew {
		a.clear()
	}
	feed(a.apply)
	watchers := slices.Clone(a.mu.watchers)
	a.mu.Unlock()
	a.enforce()
	for _, f := range watchers {
		f()
	}
}

func (a *Access) roomFor(c *Change) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if len(a.mu.users)+len(c.Users) > maxUsers || len(a.mu.rules)+len(c.Rules) > maxRules ||
		len(a.mu.tokens)+len(c.Tokens)+len(a.mu.delegations)+len(c.Delegations) > maxTokens {
		return fault.New(fault.Limited, "access", "there may be %d users, %d rules and %d tokens", maxUsers, maxRules,
			maxTokens)
	}
	return nil
}

// records are what a change stores. Errors: Invalid.
func (c *Change) records(now int64) (list []record.Record, err error) {
	add := func(key string, value []byte) {
		list = append(list, record.Record{Timestamp: now, Key: []byte(key), Value: value})
	}
	for _, u := range c.Users {
		if err := u.check(); err != nil {
			return nil, err
		}
		add(userKey+u.Name, u.value())
	}
	for _, name := range c.Leave {
		add(userKey+name, nil)
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if err := r.Check(); err != nil {
			return nil, err
		}
		value, err := json.Marshal(r)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "access", err)
		}
		add(ruleKey+r.ID(), value)
	}
	for _, id := range c.Removed {
		add(ruleKey+id, nil)
	}
	for _, t := range c.Tokens {
		if err := t.check(); err != nil {
			return nil, err
		}
		value, err := t.value()
		if err != nil {
			return nil, err
		}
		add(tokenKey+t.ID, value)
	}
	for _, id := range c.Revoked {
		add(tokenKey+id, nil)
	}
	for _, id := range c.Undelegated {
		add(delegationKey+id, nil)
	}
	for _, d := range c.Delegations {
		value, err := d.value()
		if err != nil {
			return nil, err
		}
		add(delegationKey+d.ID, value)
	}
	return list, nil
}

// Catalog is what is there, for who looks at it.
type Catalog struct{ a *Access }

// Catalog shows what is there.
func (a *Access) Catalog() *Catalog { return &Catalog{a} }

// User finds a user; nil: there is none.
func (c *Catalog) User(name string) *User { return c.a.user(name) }

// Users lists the users by name.
func (c *Catalog) Users() []*User {
	c.a.mu.RLock()
	defer c.a.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.a.mu.users), func(x, y *User) int { return cmp.Compare(x.Name, y.Name) })
}

// Rule finds a rule by its id.
func (c *Catalog) Rule(id string) (rule.Rule, bool) {
	c.a.mu.RLock()
	defer c.a.mu.RUnlock()
	r, ok := c.a.mu.rules[id]
	return r, ok
}

// Rules lists the rules, those of one principal together. The ready roles are not among them.
func (c *Catalog) Rules() []rule.Rule {
	c.a.mu.RLock()
	defer c.a.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.a.mu.rules),
		func(x, y rule.Rule) int { return cmp.Compare(x.String(), y.String()) })
}

// OnTopic is the topic of the log that a rule about names of devices is a rule about; see rule.Rule.OnTopic.
func (c *Catalog) OnTopic(r *rule.Rule) string { return r.OnTopic(c.a.opt.Mapping) }
