package chain

import (
	"path"
	"slices"
	"strings"
	"time"
)

// Query says which records somebody looks for. Zero fields mean all.
type Query struct {
	Since, Until time.Time
	Principal    string // User:alice, or alice
	Type         string // the type, or what it begins or ends with: firth.login, login
	Resource     string // a pattern as of a shell, on the name or on kind:name
	Outcome      Outcome
	Address      string
}

// Match tells whether a record is looked for.
func (q *Query) Match(r *Record) bool {
	e := &r.Data
	switch {
	case !q.Since.IsZero() && r.Time.Before(q.Since), !q.Until.IsZero() && !r.Time.Before(q.Until):
		return false
	case q.Principal != "" && e.Actor.Principal != q.Principal && e.Actor.Principal != "User:"+q.Principal:
		return false
	case q.Type != "" && r.Type != q.Type && !strings.HasPrefix(r.Type, q.Type+".") &&
		!strings.HasSuffix(r.Type, "."+q.Type) && !strings.HasPrefix(r.Type, "firth."+q.Type+"."):
		return false
	case q.Outcome != "" && e.Outcome != q.Outcome, q.Address != "" && e.Origin.Address != q.Address:
		return false
	}
	return q.Resource == "" || q.about(e.Resource) || slices.ContainsFunc(e.Also, q.about)
}

func (q *Query) about(r Resource) bool {
	return q.Resource == r.Name || matches(q.Resource, r.Name) || matches(q.Resource, r.Kind+":"+r.Name)
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
