// Package rewrite gives topic names and filters of clients other ones, by rules, and makes filters of templates.
//
//	table, err := rewrite.New([]rewrite.Rule{{Action: rewrite.All, From: "x/#", Match: "^x/(.+)$", To: "y/$1"}})
//	name = table.Name(name, rewrite.Who{Client: "c"})
package rewrite

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/firthmq/firth/internal/names"
)

// The actions that a rule is for.
const (
	Publish   = "publish"   // PUBLISH and wills
	Subscribe = "subscribe" // SUBSCRIBE and UNSUBSCRIBE
	All       = "all"
)

// Rule rewrites what a filter matches, level by level, and then a regular expression.
type Rule struct {
	Action string // Publish, Subscribe or All
	From   string // topic filter; wildcards in what a client subscribes to are matched as text
	Match  string // regular expression (RE2)
	To     string // template: $1 to $9 are the groups of Match, ${clientid} and ${username} whose it is
}

// Who is the client that asks.
type Who struct{ Client, User string }

// Table is rules in their order: the first that matches is taken. A nil Table has none. It is immutable.
type Table struct{ rules []rule }

type rule struct {
	Rule
	match *regexp.Regexp
	to    *Template
}

// New makes a table; nil of no rules. Errors: the field that is wrong, and why.
func New(rules []Rule) (*Table, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	t := &Table{}
	for i := range rules {
		one, field, err := compile(&rules[i])
		if err != nil {
			return nil, fmt.Errorf("rule %d: %s: %w", i+1, field, err)
		}
		t.rules = append(t.rules, one)
	}
	return t, nil
}

// Check tells what is wrong with a rule, and in which field.
func (r *Rule) Check() (field string, err error) {
	_, field, err = compile(r)
	return field, err
}

func compile(r *Rule) (one rule, field string, err error) {
	if err := names.CheckFilter(r.From); err != nil {
		return rule{}, "from", err
	}
	match, err := regexp.Compile(r.Match)
	if err != nil {
		return rule{}, "match", err
	}
	to, err := ParseTemplate(r.To, match.NumSubexp())
	if err != nil {
		return rule{}, "to", err
	}
	return rule{*r, match, to}, "", nil
}

// Name is the topic name that a client publishes to when it says name.
func (t *Table) Name(name []byte, who Who) []byte { return t.rewrite(Publish, name, who) }

// Filter is the topic filter that a client subscribes to when it says filter; of a shared subscription what is shared
// is rewritten.
func (t *Table) Filter(filter []byte, who Who) []byte {
	if t == nil {
		return filter
	}
	_, shared, is, err := names.ParseShare(string(filter))
	if err != nil || !is {
		return t.rewrite(Subscribe, filter, who)
	}
	head := len(filter) - len(shared)
	return append(bytes.Clone(filter[:head]), t.rewrite(Subscribe, filter[head:], who)...)
}

func (t *Table) rewrite(action string, text []byte, who Who) []byte {
	if t == nil {
		return text
	}
	for i := range t.rules {
		r := &t.rules[i]
		if r.Action != action && r.Action != All || !names.Match(r.From, text) {
			continue
		}
		at := r.match.FindSubmatchIndex(text)
		if at == nil {
			continue
		}
		if to, ok := r.to.Expand(who, text, at); ok {
			return to
		}
	}
	return text
}

// Template is text with places for what is known of a client.
type Template struct{ parts []part }

type part struct {
	text   string
	client bool
	user   bool
	group  int // of a regular expression; 0: none
}

// ParseTemplate reads a template, with groups of a regular expression up to so many. Errors: a place that is none.
func ParseTemplate(text string, groups int) (*Template, error) {
	t := &Template{}
	for text != "" {
		before, rest, found := strings.Cut(text, "$")
		if before != "" {
			t.parts = append(t.parts, part{text: before})
		}
		if !found {
			break
		}
		var p part
		switch {
		case len(t.parts) == 0 && special(rest):
			p = part{text: "$"}
		case strings.HasPrefix(rest, "{clientid}"):
			p, rest = part{client: true}, rest[len("{clientid}"):]
		case strings.HasPrefix(rest, "{username}"):
			p, rest = part{user: true}, rest[len("{username}"):]
		case rest != "" && rest[0] >= '1' && rest[0] <= '9' && int(rest[0]-'0') <= groups:
			p, rest = part{group: int(rest[0] - '0')}, rest[1:]
		default:
			return nil, fmt.Errorf("$%.12s is neither ${clientid} nor ${username}, nor one of %d groups", rest, groups)
		}
		t.parts = append(t.parts, p)
		text = rest
	}
	return t, nil
}

// special tells whether a $ begins a name that has a meaning of its own.
func special(rest string) bool {
	for _, name := range []string{"share/", "delayed/", "SYS/"} {
		if strings.HasPrefix(rest, name) {
			return true
		}
	}
	return false
}

// Expand fills in the places; groups of a match are in text, at the indexes that regexp gives. Not ok: the client has
// no such name, or one that would mean something in a topic: it holds /, + or #.
func (t *Template) Expand(who Who, text []byte, at []int) (b []byte, ok bool) {
	for _, p := range t.parts {
		switch {
		case p.client && !plain(who.Client), p.user && !plain(who.User):
			return nil, false
		case p.client:
			b = append(b, who.Client...)
		case p.user:
			b = append(b, who.User...)
		case p.group > 0:
			if from, to := at[2*p.group], at[2*p.group+1]; from >= 0 {
				b = append(b, text[from:to]...)
			}
		default:
			b = append(b, p.text...)
		}
	}
	return b, true
}

func plain(name string) bool { return name != "" && !strings.ContainsAny(name, "/+#\x00") }
