package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/rule"
)

// Tags tell states of the catalog apart, for who changes what somebody else may have changed meanwhile. They are the
// same on every node that has the catalog, and after a restart.

// tagLength is that of a tag, in bytes: to be changed unseen something would have to be changed some 2^64 times.
const tagLength = 16

// UserTag is the tag of a user; another password changes it, too. Nothing can be learnt of the password by it.
func (c *Catalog) UserTag(u *User) string { return c.a.userTag(u) }

func (a *Access) userTag(u *User) string {
	a.mu.RLock()
	secret := a.mu.secret // there is one, for there is a user
	a.mu.RUnlock()
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, "tag of a user\x00"+u.Name+"\x00")
	mac.Write(u.value())
	return hex.EncodeToString(mac.Sum(nil)[:tagLength])
}

// RulesTag is the tag of all rules of a principal; "": there are none.
func RulesTag(rules []rule.Rule) string {
	if len(rules) == 0 {
		return ""
	}
	ids := make([]string, len(rules))
	for i := range rules {
		ids[i] = rules[i].ID()
	}
	slices.Sort(ids)
	sum := sha256.New()
	for _, id := range ids {
		_, _ = io.WriteString(sum, id)
	}
	return hex.EncodeToString(sum.Sum(nil)[:tagLength])
}

// EachUser visits the users, in any order.
func (c *Catalog) EachUser(visit func(*User)) {
	c.a.mu.RLock()
	all := slices.Collect(maps.Values(c.a.mu.users)) // nobody waits for who looks at them
	c.a.mu.RUnlock()
	for _, u := range all {
		visit(u)
	}
}

// EachRule visits the rules, in any order. The ready roles are not among them.
func (c *Catalog) EachRule(visit func(*rule.Rule)) {
	c.a.mu.RLock()
	all := slices.Collect(maps.Values(c.a.mu.rules))
	c.a.mu.RUnlock()
	for i := range all {
		visit(&all[i])
	}
}

// RulesOf lists the rules of a principal.
func (c *Catalog) RulesOf(principal string) (rules []rule.Rule) {
	c.EachRule(func(r *rule.Rule) {
		if r.Principal == principal {
			rules = append(rules, *r)
		}
	})
	slices.SortFunc(rules, func(x, y rule.Rule) int { return strings.Compare(x.String(), y.String()) })
	return rules
}
