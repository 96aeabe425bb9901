package hinge

import (
	"bytes"
	"strconv"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/names"
)

// Target is where the messages of one MQTT topic go. It belongs to one goroutine. It remembers its
// topic name: to fill it again with the same one costs a comparison, with another of the same log
// topic it allocates nothing.
type Target struct {
	Topic      string // the log topic
	Key        []byte // valid until the Target is filled again
	Partitions int    // how many partitions to make the log topic with; 0: the default of the log
	InHeader   bool   // the MQTT topic must go into a header, because log topic and key do not tell it

	table   *Table
	plain   byte            // the flags of a record that says nothing of them
	name    []byte          // the MQTT topic
	rule    *rule           // nil: the default rule or the catch-all
	key     []byte          // memory for Key, when it is not the name
	text    []byte          // memory for the rest
	headers []record.Header // those of the rule
}

// Target fills t with where the messages of a topic name go: the first rule that matches, else the
// default rule. Errors: Denied for a name that begins with $, Invalid for one that is no topic name.
func (t *Table) Target(name []byte, to *Target) error {
	if to.table == t && bytes.Equal(to.name, name) {
		return nil
	}
	const op = "mapping.Target"
	to.table = nil
	if err := names.CheckName(name); err != nil {
		return fault.Wrap(fault.Invalid, op, err)
	}
	if name[0] == '$' {
		return fault.New(fault.Denied, op, "topics that begin with $ stay in MQTT")
	}
	to.name = append(to.name[:0], name...)
	var v values
	rule := t.match(name, &v)
	if rule == nil {
		first, _, _ := bytes.Cut(to.name, slash)
		t.settle(to, nil, first, to.name)
		return nil
	}
	to.text = rule.topic.appendTo(to.text[:0], name, &v)
	key := to.name
	if !rule.key.whole() {
		to.key = rule.key.appendTo(to.key[:0], name, &v)
		key = to.key
	}
	t.settle(to, rule, to.text, key)
	to.setHeaders(&v)
	return nil
}

// TopicOf is the log topic that a valid topic name goes to, if the door may make it; "" for one that stays in MQTT.
func (t *Table) TopicOf(name []byte) string {
	var to Target
	if t.Target(name, &to) != nil {
		return ""
	}
	return to.Topic
}

// CatchAllTarget fills t so that messages of a valid topic name go to the catch-all topic: for a door
// that may not make the log topic that Target gave.
func (t *Table) CatchAllTarget(name []byte, to *Target) {
	if t.Target(name, to) == nil && to.Topic == t.catchAll {
		return
	}
	to.name = append(to.name[:0], name...)
	t.settle(to, nil, nil, to.name)
	to.table = nil // another Target for the same name is not this one
}

func (t *Table) match(name []byte, v *values) *rule {
	for _, r := range t.rules {
		if r.pattern.match(name, v) {
			return r
		}
	}
	return nil
}

// settle fills in the log topic, or the catch-all if that one is not legal.
func (t *Table) settle(to *Target, r *rule, logTopic, key []byte) {
	to.headers = to.headers[:0]
	to.table, to.plain, to.rule, to.Key, to.Partitions = t, t.plain, r, key, 0
	switch {
	case !legalTopic(logTopic):
		to.rule, to.Topic, to.Key = nil, t.catchAll, to.name
	case to.Topic != string(logTopic):
		to.Topic = string(logTopic)
	}
	if to.rule != nil {
		to.Partitions = r.partitions
	}
	to.text = append(to.text[:0], to.Topic...)
	at := len(to.text)
	back := t.nameOf(&to.text, to.text[:at:at], to.Key)
	to.InHeader = !bytes.Equal(back, to.name)
}

// setHeaders puts the headers of the rule together.
func (to *Target) setHeaders(v *values) {
	if to.rule == nil || len(to.rule.headers) == 0 {
		return
	}
	to.text = to.text[:0]
	for _, h := range to.rule.headers {
		to.text = h.value.appendTo(to.text, to.name, v)
	}
	at := 0
	for _, h := range to.rule.headers {
		end := at + h.value.size(to.name, v)
		to.headers = append(to.headers, record.Header{Key: h.name, Value: to.text[at:end:end]})
		at = end
	}
}

func (t *template) size(name []byte, v *values) (n int) {
	for i := range t.pieces {
		pc := &t.pieces[i]
		n += len(pc.text)
		switch {
		case pc.last:
		case pc.slot == wholeTopic:
			n += len(name)
		default:
			n += len(v[pc.slot])
		}
	}
	return n
}

// Record makes rec the record of a message whose topic name t was filled with: key, value and
// headers. The timestamp is the caller's. rec points into t, m and the message's own bytes, and its
// headers' memory is used again.
func (to *Target) Record(m *Message, rec *record.Record) {
	rec.Key = to.Key
	rec.Value = m.Payload
	if rec.Value == nil {
		rec.Value = empty // a null value would be a tombstone
	}
	hs := append(rec.Headers[:0], to.headers...)
	if to.InHeader {
		hs = append(hs, record.Header{Key: HeaderTopic, Value: to.name})
	}
	if f := m.flags(); f != to.plain {
		hs = append(hs, record.Header{Key: HeaderFlags, Value: digitBytes[f]})
	}
	if len(m.Publisher) > 0 {
		hs = append(hs, record.Header{Key: HeaderPublisher, Value: m.Publisher})
	}
	hs = m.appendProperties(hs)
	for name, value, rest, ok := cutUser(m.UserProperties); ok; name, value, rest, ok = cutUser(rest) {
		hs = append(hs, record.Header{Key: m.headerKey(name, to.rule), Value: value})
	}
	rec.Headers = hs
}

var empty = []byte{}

// digitBytes are the values of mqtt.flags; nobody writes to them.
var digitBytes = [...][]byte{{'0'}, {'1'}, {'2'}, {'3'}, {'4'}, {'5'}, {'6'}}

func (m *Message) appendProperties(hs []record.Header) []record.Header {
	if m.HasPayloadFormat {
		hs = append(hs, record.Header{Key: HeaderPayloadFormat, Value: digitBytes[m.PayloadFormat&1]})
	}
	if m.HasExpiry {
		hs = append(hs, record.Header{Key: HeaderExpiry, Value: strconv.AppendUint(m.digits[:0], uint64(m.Expiry), 10)})
	}
	if m.ContentType != nil {
		hs = append(hs, record.Header{Key: HeaderContentType, Value: m.ContentType})
	}
	if m.ResponseTopic != nil {
		hs = append(hs, record.Header{Key: HeaderResponseTopic, Value: m.ResponseTopic})
	}
	if m.Correlation != nil {
		hs = append(hs, record.Header{Key: HeaderCorrelation, Value: m.Correlation})
	}
	return hs
}

// The names of user properties that a Message remembers as strings: how many, and how long each.
const (
	maxNamesKept = 64
	maxNameKept  = 256 // bytes
)

// headerKey is the header of a user property: its own name, or that behind mqtt.user. when it is
// taken by Firth or by the rule.
func (m *Message) headerKey(name []byte, r *rule) string {
	if reserved(name) || r != nil && r.hasHeader(name) {
		return HeaderUserPrefix + string(name)
	}
	if s, ok := m.names[string(name)]; ok {
		return s
	}
	s := string(name)
	if m.names == nil || len(m.names) >= maxNamesKept {
		m.names = make(map[string]string)
	}
	if len(s) <= maxNameKept {
		m.names[s] = s
	}
	return s
}

func (r *rule) hasHeader(name []byte) bool {
	for i := range r.headers {
		if r.headers[i].name == string(name) {
			return true
		}
	}
	return false
}
