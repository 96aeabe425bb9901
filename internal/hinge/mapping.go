// Package hinge is the hinge of Firth: an MQTT message as a record of the log, and a record of the
// log as an MQTT message. docs/format/mapping.md is its page for users.
//
// An ordered list of rules says to which log topic and with which key a message goes; a name that no
// rule matches follows the default rule: its first level is the log topic and the whole name is the
// key. The same rules, read the other way, give a record its MQTT topic, so that a record from any
// Kafka producer is a message for devices.
//
//	table, err := hinge.New(rules, hinge.Options{})
//	err = table.Target(name, &target)      // which log topic, which key
//	target.Record(&message, &rec)          // a PUBLISH as a record
//	ok := table.Message("sensors", view, &message) // and back
//
// A Table is immutable and may be used from any goroutine; a Target and a Message belong to one. The
// package is pure: topics of the log are made by the door, which is told the partitions wanted.
package hinge

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// Rule maps the MQTT topics that a filter matches to topics of the log.
type Rule struct {
	// MQTT is a topic filter with named levels: "factory/{site}/{line}/#". A level {name} matches what
	// + matches, {name#} as the last level what # matches. It must not begin with $.
	MQTT string
	// Topic is the template of the log topic: "factory-{site}". Every name in it is a single level of
	// MQTT. A message for which it does not give a legal name goes to the catch-all.
	Topic string
	// Key is the template of the record's key. {topic} is the whole MQTT topic name, which is also the
	// default.
	Key string
	// Partitions is how many partitions the log topic gets when it is made; 0: the default of the log.
	Partitions int
	// Headers are templates of headers that each record gets, by name.
	Headers map[string]string
}

// Options are the settings of a Table. The zero value is the default.
type Options struct {
	// CatchAll is the log topic of messages whose MQTT topic gives no legal name of a log topic.
	// Default "mqtt".
	CatchAll string
	// PlainQoS is the QoS of a record without the header mqtt.flags: 0 (default), 1 or 2. With 0 a
	// message of QoS 0 needs no header; with 1 records from Kafka producers reach devices at QoS 1.
	PlainQoS byte
	// Sparkplug has births of Sparkplug 3.0 leave certificates (Certificate), and those be messages.
	Sparkplug bool
}

// Table is a list of rules ready for use.
type Table struct {
	rules       []*rule
	catchAll    string
	plain       byte
	sparkplug   bool
	ruleHeaders bool // some rule has headers
	fingerprint uint64
}

// rule is a Rule ready for use.
type rule struct {
	pattern    pattern
	topic      template
	key        template
	partitions int
	headers    []ruleHeader // sorted by name
	keyTells   bool         // log topic and key together tell the whole MQTT topic
	topicTells bool         // the log topic alone does, by more than a placeholder
}

type ruleHeader struct {
	name  string
	value template
}

// New makes a Table. It finds all faults of all rules at once, each with the number of its rule, from
// 1, and the field. Errors: Invalid.
func New(rules []Rule, opt Options) (*Table, error) {
	if opt.CatchAll == "" {
		opt.CatchAll = "mqtt"
	}
	t := &Table{catchAll: opt.CatchAll, plain: opt.PlainQoS, sparkplug: opt.Sparkplug}
	var faults []error
	if err := stream.CheckTopicName(opt.CatchAll); err != nil {
		faults = append(faults, fmt.Errorf("catch-all: %w", err))
	} else if strings.HasPrefix(opt.CatchAll, stream.InternalPrefix) {
		faults = append(faults, fmt.Errorf("catch-all: names that begin with %s are for Firth itself", stream.InternalPrefix))
	}
	if opt.PlainQoS > 2 {
		faults = append(faults, fmt.Errorf("plain QoS: %d is not 0, 1 or 2", opt.PlainQoS))
	}
	for i := range rules {
		r, wrong := compile(&rules[i])
		for _, err := range wrong {
			faults = append(faults, fmt.Errorf("rule %d: %w", i+1, err))
		}
		t.rules = append(t.rules, r)
		t.ruleHeaders = t.ruleHeaders || len(r.headers) > 0
	}
	t.fingerprint = fingerprint(rules, opt)
	if len(faults) > 0 {
		return nil, fault.New(fault.Invalid, "mapping", "%w", errors.Join(faults...)).
			WithHint("docs/format/mapping.md explains the rules")
	}
	return t, nil
}

// Fingerprint tells this table from others that give records other names. It is the same after a restart, and
// not 0.
func (t *Table) Fingerprint() uint64 { return t.fingerprint }

func fingerprint(rules []Rule, opt Options) uint64 {
	const way = 1 // raised when the same rules give other names
	h := fnv.New64a()
	fmt.Fprintln(h, way)
	for i := range rules {
		r := &rules[i]
		fmt.Fprintf(h, "%q %q %q\n", r.MQTT, r.Topic, r.Key)
		for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
			fmt.Fprintf(h, "%q %q\n", name, r.Headers[name])
		}
	}
	fmt.Fprintf(h, "%q", opt.CatchAll)
	return h.Sum64() | 1
}

// CatchAll is the name of the catch-all topic.
func (t *Table) CatchAll() string { return t.catchAll }

// compile makes a rule ready and lists all that is wrong with it.
func compile(in *Rule) (*rule, []error) {
	r := &rule{partitions: in.Partitions}
	var faults []error
	note := func(field string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", field, err))
		}
	}
	var err error
	r.pattern, err = parsePattern(in.MQTT)
	note("mqtt", err)
	if err == nil { // otherwise its names are not known
		r.topic, err = r.pattern.template(in.Topic)
		if err == nil {
			err = r.topic.checkTopic(&r.pattern)
		}
		note("topic", err)
		r.key, err = r.pattern.template(cmpOr(in.Key, "{topic}"))
		note("key", err)
	}
	if in.Partitions < 0 {
		note("partitions", fmt.Errorf("%d is below 0", in.Partitions))
	}
	for _, name := range slices.Sorted(maps.Keys(in.Headers)) {
		h := ruleHeader{name: name}
		note("headers", checkHeaderName(name))
		if len(r.pattern.levels) > 0 {
			h.value, err = r.pattern.template(in.Headers[name])
			note("headers: "+name, err)
		}
		r.headers = append(r.headers, h)
	}
	if faults == nil {
		r.keyTells = r.key.whole() || r.told(true)
		r.topicTells = r.told(false) && r.topic.hasText()
	}
	return r, faults
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func checkHeaderName(name string) error {
	switch {
	case !validString([]byte(name)):
		return fmt.Errorf("%q is no text that MQTT can carry", name)
	case name == "":
		return errors.New("a header without a name")
	case reserved([]byte(name)):
		return fmt.Errorf("%q is a name that Firth uses itself", name)
	}
	return nil
}

// told tells whether every level of the pattern is fixed or has a name that occurs in the log topic or,
// if withKey, in the key, and these can be taken apart.
func (r *rule) told(withKey bool) bool {
	if !r.topic.separable() || withKey && !r.key.separable() {
		return false
	}
	for _, l := range r.pattern.levels {
		if l.kind != literal && (l.slot < 0 || !r.topic.has(l.slot) && !(withKey && r.key.has(l.slot))) {
			return false
		}
	}
	return true
}
