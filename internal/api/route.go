package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// route is one line of the table.
type route struct {
	method, path string // below Path, in the patterns of http.ServeMux
	id           string // operationId of OpenAPI
	tag          string
	summary      string // one line
	text         string // more; "": nothing
	right        right
	open         bool // for everybody, known or not: it tells nothing of the node
	walks        bool // it reads much: a few are served at a time
	params       []param
	body         any  // a value of the type of what a request says; nil: nothing
	edits        bool // it changes what others may have changed meanwhile: it takes a condition
	makes        bool // it may make what it names
	tagged       bool // the answer has an entity tag
	raw          bool // what a request says may be bytes as they are, too
	answer       any  // a value of the type of the answer
	do           func(a *API, q *ask) (any, error)
	flow         func(a *API, q *ask, w http.ResponseWriter) error // in place of do: it answers with events, until it ends
}

// right is what who asks has to have.
type right struct {
	operation rule.Operation
	on        rule.Kind
	by        string // the parameter of the path that names the resource; "": the cluster
	each      bool   // a list: what may not be seen is left out
	of        naming // what by names, where that is no resource
	orCluster bool   // the same right to the cluster is as good
}

// naming is what somebody has a right to besides resources.
type naming uint8

const (
	ofResource naming = iota
	ofName            // a topic name of MQTT
	ofFilter          // a topic filter of MQTT
)

// watching is the right to look at the cluster.
var watching = right{operation: rule.Describe, on: rule.Cluster}

// param is a parameter of the query, or ({name} in the path) of the path.
type param struct {
	name, doc string
	kind      string   // string, integer, int64, time, boolean
	many      bool     // it may be given again and again
	values    []string // the only ones
	low, high int      // of an integer
	value     string   // the default
	inPath    bool
}

// judge tells whether who asks may. Errors: Denied.
func (rt *route) judge(q *ask) error {
	switch r := &rt.right; {
	case r.each:
		return nil
	case r.by == "":
		return q.v.May(r.operation, r.on, rule.ClusterName)
	case r.of == ofName:
		return q.v.MayName(r.operation, q.r.PathValue(r.by))
	case r.of == ofFilter:
		return q.v.MayFilter(q.r.PathValue(r.by))
	case r.orCluster && q.v.Sees(r.operation, rule.Cluster, rule.ClusterName):
		return nil
	default:
		return q.v.May(r.operation, r.on, q.r.PathValue(r.by))
	}
}

// parse reads the query by the parameters that a route has. Errors: Invalid.
func (rt *route) parse(r *http.Request) (url.Values, error) {
	given, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "the query is not understood: %w", err)
	}
	for name, values := range given {
		at := slices.IndexFunc(rt.params, func(p param) bool { return p.name == name && !p.inPath })
		switch {
		case at < 0:
			return nil, fault.New(fault.Invalid, op, "there is no parameter %s", fault.Text(name)).
				WithHint("there are: %s", cmp.Or(rt.parameters(), "none"))
		case len(values) > 1 && !rt.params[at].many:
			return nil, fault.New(fault.Invalid, op, "%s is given more than once", name)
		}
		for _, value := range values {
			if err := rt.params[at].check(value); err != nil {
				return nil, fault.New(fault.Invalid, op, "%s=%s: %w", name, fault.Text(value), err)
			}
		}
	}
	for _, p := range rt.params {
		if _, is := given[p.name]; !is && p.value != "" {
			given.Set(p.name, p.value)
		}
	}
	return given, nil
}

// parameters are the names of those of the query.
func (rt *route) parameters() string {
	var names []string
	for _, p := range rt.params {
		if !p.inPath {
			names = append(names, p.name)
		}
	}
	return strings.Join(names, ", ")
}

// check tells what is wrong with a value.
func (p *param) check(value string) error {
	switch p.kind {
	case "integer":
		if n, err := strconv.Atoi(value); err != nil || n < p.low || n > p.high {
			return fmt.Errorf("it is no number from %d to %d", p.low, p.high)
		}
	case "int64":
		if n, err := strconv.ParseInt(value, 10, 64); err != nil || n < 0 {
			return fmt.Errorf("it is no number from 0 to 9223372036854775807")
		}
	case "boolean":
		if value != "true" && value != "false" {
			return fmt.Errorf("it is neither true nor false")
		}
	case "time":
		if _, err := time.Parse(time.RFC3339, value); err != nil {
			return fmt.Errorf("it is no time as 2026-01-31T12:00:00Z")
		}
	}
	if len(p.values) > 0 && !slices.Contains(p.values, value) {
		return fmt.Errorf("there are: %s", strings.Join(p.values, ", "))
	}
	return nil
}

// ask is one request that is let in, with what it asks for.
type ask struct {
	v      Visitor
	r      *http.Request
	values url.Values // checked, with defaults
	only   Only       // of a route that edits
}

// text is a parameter of the query; "": it is not given.
func (q *ask) text(name string) string { return q.values.Get(name) }

// number is a parameter that is a number, which parse has checked; 0: it is not given.
func (q *ask) number(name string) int64 {
	n, _ := strconv.ParseInt(q.values.Get(name), 10, 64)
	return n
}

// time is a parameter that is a time, which parse has checked; zero: it is not given.
func (q *ask) time(name string) time.Time {
	t, _ := time.Parse(time.RFC3339, q.values.Get(name))
	return t
}

// has tells whether a parameter is given.
func (q *ask) has(name string) bool { return q.values.Has(name) }

// is tells whether a parameter that is a boolean is true.
func (q *ask) is(name string) bool { return q.values.Get(name) == "true" }
