package hinge

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/names"
)

// maxNames is the most named levels of a rule.
const maxNames = 16

// values are the texts of the named levels of one topic name, by slot.
type values [maxNames][]byte

type kind uint8

const (
	literal kind = iota
	single       // what + matches
	tail         // what # matches
)

// level is one level of a pattern.
type level struct {
	kind kind
	text string // of a literal
	slot int    // where its value goes; -1: it has no name
}

// pattern is a topic filter with named levels.
type pattern struct {
	levels []level
	names  []string // by slot
	filter string   // the same without names
}

func parsePattern(s string) (pattern, error) {
	var p pattern
	var plain []string
	parts := strings.Split(s, "/")
	for i, part := range parts {
		l, name, err := parseLevel(part)
		if err != nil {
			return pattern{}, err
		}
		if l.kind == tail && i < len(parts)-1 {
			return pattern{}, fmt.Errorf("%s is not the last level", part)
		}
		if name != "" {
			if err := p.addName(name); err != nil {
				return pattern{}, err
			}
			l.slot = len(p.names) - 1
		}
		p.levels = append(p.levels, l)
		plain = append(plain, [...]string{literal: l.text, single: "+", tail: "#"}[l.kind])
	}
	p.filter = strings.Join(plain, "/")
	if err := names.CheckFilter(p.filter); err != nil {
		return pattern{}, err
	}
	if p.filter[0] == '$' {
		return pattern{}, errors.New("topics that begin with $ stay in MQTT")
	}
	return p, nil
}

func (p *pattern) addName(name string) error {
	if name == "topic" {
		return errors.New("{topic} is the whole MQTT topic and cannot name a level")
	}
	if _, twice := p.slot(name); twice {
		return fmt.Errorf("{%s} names two levels", name)
	}
	if len(p.names) == maxNames {
		return fmt.Errorf("more than %d named levels", maxNames)
	}
	p.names = append(p.names, name)
	return nil
}

// parseLevel reads one level: text, +, #, {name} or {name#}.
func parseLevel(part string) (l level, name string, err error) {
	switch {
	case part == "+":
		return level{kind: single, slot: -1}, "", nil
	case part == "#":
		return level{kind: tail, slot: -1}, "", nil
	case !strings.ContainsAny(part, "{}"):
		return level{kind: literal, text: part, slot: -1}, "", nil
	case len(part) < 3 || part[0] != '{' || part[len(part)-1] != '}':
		return l, "", fmt.Errorf("level %q: a name in braces fills a whole level", part)
	}
	l.kind, name = single, part[1:len(part)-1]
	if strings.HasSuffix(name, "#") {
		l.kind, name = tail, name[:len(name)-1]
	}
	if !isName(name) {
		return l, "", fmt.Errorf("level %q: a name is made of letters, digits and _", part)
	}
	return l, name, nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return s != ""
}

func (p *pattern) slot(name string) (int, bool) {
	for i, n := range p.names {
		if n == name {
			return i, true
		}
	}
	return 0, false
}

// match tells whether the pattern matches a valid name and takes the values of its named levels.
func (p *pattern) match(name []byte, v *values) bool {
	rest, more := name, true
	for i := range p.levels {
		l := &p.levels[i]
		if l.kind == tail { // a/# matches a too; its value is then empty
			if l.slot >= 0 {
				v[l.slot] = rest
			}
			return true
		}
		if !more {
			return false
		}
		var text []byte
		if text, rest, more = bytes.Cut(rest, slash); l.kind == literal {
			if string(text) != l.text {
				return false
			}
		} else if l.slot >= 0 {
			v[l.slot] = text
		}
	}
	return !more
}

var slash = []byte("/")

// bind is the filter of the names that the pattern matches when some values are known: those of the
// slots in known.
func (p *pattern) bind(v *values, known uint32) string {
	var b strings.Builder
	for i := range p.levels {
		if i > 0 {
			b.WriteByte('/')
		}
		switch l := &p.levels[i]; {
		case l.kind == literal:
			b.WriteString(l.text)
		case l.kind == tail:
			b.WriteByte('#')
		case l.slot >= 0 && known>>l.slot&1 != 0:
			b.Write(v[l.slot])
		default:
			b.WriteByte('+')
		}
	}
	return b.String()
}

// appendName appends the name that the pattern has with the given values.
func (p *pattern) appendName(dst []byte, v *values) []byte {
	for i := range p.levels {
		if i > 0 {
			dst = append(dst, '/')
		}
		if l := &p.levels[i]; l.kind == literal {
			dst = append(dst, l.text...)
		} else {
			dst = append(dst, v[l.slot]...)
		}
	}
	return dst
}

// wholeTopic is the slot that stands for {topic}.
const wholeTopic = -1

// piece is a text, followed by the value of a slot or, at the end of a template, by nothing.
type piece struct {
	text string
	slot int
	last bool // only text
}

// template is a text with values in it.
type template struct{ pieces []piece }

// template parses a template whose names are those of the pattern.
func (p *pattern) template(s string) (template, error) {
	var t template
	for {
		text, after, found := strings.Cut(s, "{")
		if strings.Contains(text, "}") {
			return template{}, errors.New("} without {")
		}
		if !found {
			if text != "" {
				t.pieces = append(t.pieces, piece{text: text, last: true})
			}
			return t, nil
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return template{}, errors.New("{ without }")
		}
		slot, known := p.slot(name)
		if name == "topic" {
			slot, known = wholeTopic, true
		}
		if !known {
			return template{}, fmt.Errorf("{%s} is no level of the filter; there is %s", name, p.known())
		}
		t.pieces = append(t.pieces, piece{text: text, slot: slot})
		s = rest
	}
}

func (p *pattern) known() string {
	var all strings.Builder
	all.WriteString("{topic}")
	for _, name := range p.names {
		all.WriteString(", {" + name + "}")
	}
	return all.String()
}

// checkTopic judges a template of log topics.
func (t *template) checkTopic(p *pattern) error {
	if len(t.pieces) == 0 {
		return errors.New("is empty")
	}
	for i, pc := range t.pieces {
		switch {
		case pc.text != "" && !legalTopic([]byte("x"+pc.text)):
			return fmt.Errorf("%q cannot be in the name of a log topic, which is made of a-z A-Z 0-9 . _ -", pc.text)
		case i == 0 && strings.HasPrefix(pc.text, stream.InternalPrefix):
			return fmt.Errorf("names that begin with %s are for Firth itself", stream.InternalPrefix)
		case pc.last:
		case pc.slot == wholeTopic:
			return errors.New("{topic} cannot be in the name of a log topic, because it may hold slashes")
		case p.tailSlot() == pc.slot:
			return fmt.Errorf("{%s} cannot be in the name of a log topic, because it may hold slashes", p.names[pc.slot])
		}
	}
	if len(t.pieces) == 1 && t.pieces[0].last {
		return stream.CheckTopicName(t.pieces[0].text)
	}
	return nil
}

// tailSlot is the slot of the named tail, or -2.
func (p *pattern) tailSlot() int {
	if l := p.levels[len(p.levels)-1]; l.kind == tail && l.slot >= 0 {
		return l.slot
	}
	return -2
}

// legalTopic tells whether MQTT may use a log topic of this name: what stream.CheckTopicName allows,
// but no internal one.
func legalTopic(name []byte) bool {
	if len(name) == 0 || len(name) > stream.MaxTopicName || string(name) == "." || string(name) == ".." ||
		bytes.HasPrefix(name, []byte(stream.InternalPrefix)) {
		return false
	}
	for _, c := range name {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// whole tells whether the template is just {topic}.
func (t *template) whole() bool {
	return len(t.pieces) == 1 && t.pieces[0].text == "" && !t.pieces[0].last && t.pieces[0].slot == wholeTopic
}

// has tells whether the value of a slot is in the template.
func (t *template) has(slot int) bool {
	for _, pc := range t.pieces {
		if !pc.last && pc.slot == slot {
			return true
		}
	}
	return false
}

// hasText tells whether the template is more than placeholders.
func (t *template) hasText() bool {
	for _, pc := range t.pieces {
		if pc.text != "" {
			return true
		}
	}
	return false
}

// separable tells whether extract can take a text apart: there is some text between any two values,
// and {topic} is not in it.
func (t *template) separable() bool {
	for i, pc := range t.pieces {
		if !pc.last && (pc.slot == wholeTopic || i > 0 && pc.text == "") {
			return false
		}
	}
	return true
}

// unique tells whether the template holds one value at the most, so that there is only one way to take
// a text apart.
func (t *template) unique() bool {
	count := 0
	for _, pc := range t.pieces {
		if !pc.last {
			count++
		}
	}
	return count <= 1
}

// appendTo appends the text of the template for a name and its values.
func (t *template) appendTo(dst, name []byte, v *values) []byte {
	for i := range t.pieces {
		pc := &t.pieces[i]
		dst = append(dst, pc.text...)
		switch {
		case pc.last:
		case pc.slot == wholeTopic:
			dst = append(dst, name...)
		default:
			dst = append(dst, v[pc.slot]...)
		}
	}
	return dst
}

// extract takes a text apart: each value is as short as can be, the last takes the rest. A value that
// is known already must be the same. It returns which slots are known now.
func (t *template) extract(text []byte, v *values, known uint32) (uint32, bool) {
	for i := range t.pieces {
		pc := &t.pieces[i]
		if len(text) < len(pc.text) || string(text[:len(pc.text)]) != pc.text {
			return 0, false
		}
		text = text[len(pc.text):]
		if pc.last {
			return known, len(text) == 0
		}
		n, ok := t.valueLength(text, i)
		if !ok || known>>pc.slot&1 != 0 && !bytes.Equal(v[pc.slot], text[:n]) {
			return 0, false
		}
		v[pc.slot] = text[:n]
		known |= 1 << pc.slot
		text = text[n:]
	}
	return known, len(text) == 0
}

// valueLength is the length of the value of piece i at the front of text.
func (t *template) valueLength(text []byte, i int) (int, bool) {
	if i == len(t.pieces)-1 {
		return len(text), true
	}
	behind := &t.pieces[i+1]
	if behind.last {
		n := len(text) - len(behind.text)
		return n, n >= 0
	}
	n := indexString(text, behind.text)
	return n, n >= 0
}

func indexString(b []byte, s string) int {
	for i := 0; i+len(s) <= len(b); i++ {
		if string(b[i:i+len(s)]) == s {
			return i
		}
	}
	return -1
}
