package mosquitto

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/names"
)

// Grant is one line of an ACL file, as a rule.
type Grant struct {
	Place
	Rule    rule.Rule
	Pattern bool // of the lines that are for everybody, with %c and %u
}

// ParseACL reads an acl_file: topic lines for clients without a user name first, then those of each user, and pattern
// lines for everybody, wherever they stand. Every other line is an error. Errors: Invalid names them all, as
// file:line:column.
func ParseACL(file string, text []byte) ([]Grant, error) {
	var all []Grant
	p := &problems{file: file}
	principal := rule.UserPrefix + rule.Anonymous
	for number, line := range lines(text) {
		p.line = number
		line = strings.TrimRight(line, " \t\v\f\r")
		if line == "" || line[0] == '#' {
			continue
		}
		word, rest, at := nextWord(line, 0)
		behind := at + len(word) + 1
		switch word {
		case "user":
			name := strings.TrimSpace(rest)
			if wrong := userFault(name); wrong != "" {
				p.add(behind, "%s", wrong)
			}
			principal = rule.UserPrefix + name
		case "topic", "pattern":
			g := Grant{Place: Place{file, number}, Pattern: word == "pattern"}
			g.Rule.Principal = principal
			if g.Pattern {
				g.Rule.Principal = rule.Everybody
			}
			if offset, err := g.read(rest, behind); err != nil {
				p.add(offset, "%v", cause(err))
				continue
			}
			all = append(all, g)
		default:
			p.add(at, "a line begins with user, topic, pattern or #")
		}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return all, nil
}

// nextWord cuts the first word off what stands in a line from an offset on, and tells where it begins. Words are apart
// by spaces and nothing else.
func nextWord(text string, from int) (word, rest string, at int) {
	trimmed := strings.TrimLeft(text, " ")
	word, rest, _ = strings.Cut(trimmed, " ")
	return word, rest, from + len(text) - len(trimmed)
}

// accesses are the words for what may be done.
var accesses = map[string]rule.Operations{
	"read": rule.Of(rule.Read), "write": rule.Of(rule.Write), "readwrite": rule.Of(rule.Read, rule.Write),
	"deny": rule.Of(rule.Read, rule.Write),
}

// read reads what stands behind topic or pattern: [read|write|readwrite|deny] filter. A filter alone may be read and
// written, even one that is called read. Errors: Invalid, and where it is.
func (g *Grant) read(rest string, from int) (offset int, err error) {
	invalid := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "mosquitto", format, args...)
	}
	word, filter, at := nextWord(rest, from)
	if word == "" {
		return from, invalid("a topic filter is missing")
	}
	g.Rule.Effect = rule.Allow
	if filter = strings.TrimSpace(filter); filter == "" {
		filter, g.Rule.Operations, offset = word, accesses["readwrite"], at
	} else {
		operations, known := accesses[word]
		if !known {
			return at, invalid("%s is not read, write, readwrite or deny", fault.Text(word))
		}
		if g.Rule.Operations = operations; word == "deny" {
			g.Rule.Effect = rule.Deny
		}
		offset = at + len(word) + 1
	}
	if strings.Contains(filter, "${") {
		return offset, invalid("${ has a meaning in rules, and none in Mosquitto: this filter cannot be expressed")
	}
	if g.Pattern {
		filter = strings.NewReplacer("%c", "${clientid}", "%u", "${username}").Replace(filter)
	}
	g.Rule.Resource = rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: filter}
	return offset, g.Rule.Check()
}

// Rights is what a Mosquitto lets its clients do, as rules.
type Rights struct {
	Rules []rule.Rule // each once, in the order of the file
	Notes []string    // where the rules allow less than Mosquitto does
}

// everything is what clients may do without an ACL file: all but to write below $SYS.
var everything = []rule.Rule{
	{Effect: rule.Allow, Principal: rule.Everybody, Operations: rule.Of(rule.Read, rule.Write), Resource: ofNames("#")},
	{Effect: rule.Allow, Principal: rule.Everybody, Operations: rule.Of(rule.Read), Resource: ofNames("$SYS/#")},
}

func ofNames(filter string) rule.Resource {
	return rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: filter}
}

// NoACL is what clients may do that have no ACL file.
func NoACL() Rights { return Rights{Rules: slices.Clone(everything)} }

// RightsOf is what clients may do with an ACL file of some lines. With an empty one nobody may do anything
// (CVE-2018-12550): one rule says so, for without any everybody might do everything.
func RightsOf(all []Grant) Rights {
	r := Rights{}
	seen := map[string]bool{}
	for i := range all {
		if id := all[i].Rule.ID(); !seen[id] {
			seen[id] = true
			r.Rules = append(r.Rules, all[i].Rule)
		}
	}
	if len(all) == 0 {
		r.Rules = append(r.Rules, rule.Rule{Effect: rule.Deny, Principal: rule.UserPrefix + rule.Anonymous,
			Operations: rule.Of(rule.Read, rule.Write), Resource: ofNames("#")})
	}
	r.Notes = stricter(all)
	return r
}

// stricter names the lines that Mosquitto lets win over what a pattern denies: it looks at the lines of the user first.
// Here what is denied is denied.
func stricter(all []Grant) (notes []string) {
	for _, deny := range all {
		if !deny.Pattern || deny.Rule.Effect != rule.Deny {
			continue
		}
		for _, allow := range all {
			if !allow.Pattern && allow.Rule.Effect == rule.Allow &&
				names.Overlaps(anyone(deny.Rule.Resource.Name), allow.Rule.Resource.Name) {
				notes = append(notes, fmt.Sprintf("%s: Mosquitto asks this line before the pattern in line %d that denies; "+
					"here what is denied is denied", allow.Place, deny.Line))
			}
		}
	}
	slices.SortStableFunc(notes, func(a, b string) int { return cmp.Compare(a, b) })
	return slices.Compact(notes)
}

// anyone is a filter with + for each level that is made up for a client.
func anyone(template string) string {
	levels := strings.Split(template, "/")
	for i, level := range levels {
		if strings.Contains(level, "${") {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}
