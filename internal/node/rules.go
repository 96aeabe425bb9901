package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
)

// maxRulePartitions is the most partitions that a mapping rule may ask for.
const maxRulePartitions = 10_000

// mappingRules is the list of mapping rules.
type mappingRules struct{}

func (mappingRules) rows(c *Config) []string { return ruleLines(c.Mapping) }

func (mappingRules) manual() string { return rulesManual }

func (mappingRules) read(l *loader, n ast.Node, at func(ast.Node) spot) {
	l.config.Mapping = nil
	if n == nil || isNothing(n) {
		return
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		l.report(at(n), "mapping: want a list of rules, found %s", kindOf(n))
		return
	}
	for i, item := range list.Values {
		r := ruleReader{
			loader: l, name: fmt.Sprintf("mapping: rule %d", i+1), at: at,
			spots: map[string]spot{}, texts: map[string]bool{},
		}
		if r.read(item) {
			r.compile(at(item))
		}
		l.config.Mapping = append(l.config.Mapping, r.rule)
	}
}

// ruleReader reads one rule.
type ruleReader struct {
	*loader
	rule  hinge.Rule
	name  string
	at    func(ast.Node) spot
	spots map[string]spot // where the value of each field stands
	texts map[string]bool // the fields that are text, as they should
}

func ruleFields() []string { return []string{"mqtt", "topic", "key", "partitions", "headers"} }

// read is false if the rule is so wrong that compiling it would only repeat that.
func (r *ruleReader) read(n ast.Node) bool {
	pairs, ok := n.(ast.MapNode)
	if !ok {
		r.report(r.at(n), "%s: want keys (%s), found %s", r.name, strings.Join(ruleFields(), ", "), kindOf(n))
		return false
	}
	lines := map[string]int{}
	for it := pairs.MapRange(); it.Next(); {
		if key, ok := r.keyOf(it.Key(), lines); ok {
			r.field(key, it.Key(), it.Value())
		}
	}
	for _, need := range []string{"mqtt", "topic"} {
		if _, given := lines[need]; !given {
			r.report(r.at(n), "%s: has no key %q", r.name, need)
		}
	}
	return r.texts["mqtt"] && r.texts["topic"]
}

func (r *ruleReader) field(key string, k, v ast.Node) {
	r.spots[key] = r.at(v)
	switch key {
	case "mqtt":
		r.text(key, v, &r.rule.MQTT)
	case "topic":
		r.text(key, v, &r.rule.Topic)
	case "key":
		r.text(key, v, &r.rule.Key)
	case "partitions":
		var text string
		if !r.text(key, v, &text) {
			return
		}
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 || count > maxRulePartitions {
			r.report(r.at(v), "%s: partitions: %q is not a whole number from 1 to %d", r.name, text, maxRulePartitions)
		}
		r.rule.Partitions = count
	case "headers":
		r.headers(v)
	default:
		r.report(r.at(k), "%s: unknown key %q%s", r.name, key, didYouMean(key, ruleFields()))
	}
}

func (r *ruleReader) text(key string, v ast.Node, into *string) bool {
	if what := oddity(v); what != "" {
		r.report(r.at(v), "%s: %s: %s", r.name, key, what)
		return false
	}
	text, ok := scalar(v)
	if !ok {
		r.report(r.at(v), "%s: %s: want text, found %s", r.name, key, kindOf(v))
		return false
	}
	if err := checkSeen(text); err != nil {
		r.report(r.at(v), "%s: %s: %v", r.name, key, err)
		return false
	}
	*into = text
	r.texts[key] = true
	return true
}

func (r *ruleReader) headers(v ast.Node) {
	pairs, ok := v.(ast.MapNode)
	if !ok {
		r.report(r.at(v), "%s: headers: want names with templates, found %s", r.name, kindOf(v))
		return
	}
	r.rule.Headers = map[string]string{}
	lines := map[string]int{}
	for it := pairs.MapRange(); it.Next(); {
		if name, ok := r.keyOf(it.Key(), lines); ok {
			var text string
			r.text("headers: "+name, it.Value(), &text)
			r.rule.Headers[name] = text
		}
	}
}

// compile lets the mapping judge the rule, and puts its words where the field stands.
func (r *ruleReader) compile(whole spot) {
	_, err := hinge.New([]hinge.Rule{r.rule}, hinge.Options{})
	if err == nil {
		return
	}
	text := err.Error()
	if f, ok := errors.AsType[*fault.Error](err); ok {
		text = f.Err.Error()
	}
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "rule 1: ")
		field, _, _ := strings.Cut(line, ":")
		at, ok := r.spots[field]
		if !ok {
			at = whole
		}
		r.report(at, "%s: %s", r.name, line)
	}
}

// ruleLines prints each rule as one JSON object.
func ruleLines(rules []hinge.Rule) []string {
	lines := make([]string, len(rules))
	for i, r := range rules {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		err := enc.Encode(struct {
			MQTT       string            `json:"mqtt"`
			Topic      string            `json:"topic"`
			Key        string            `json:"key,omitempty"`
			Partitions int               `json:"partitions,omitempty"`
			Headers    map[string]string `json:"headers,omitempty"`
		}{r.MQTT, r.Topic, r.Key, r.Partitions, r.Headers})
		if err == nil { // strings and numbers always have a JSON form
			lines[i] = strings.TrimSpace(b.String())
		}
	}
	return lines
}
