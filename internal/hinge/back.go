package hinge

import (
	"bytes"
	"strings"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/names"
)

// Message makes m the message that a record of a log topic is. ok is false for records that MQTT does
// not see: those of internal topics, but for certificates of Sparkplug, and those that were shredded. A null
// value is an empty payload. Headers that MQTT cannot carry are left out.
func (t *Table) Message(logTopic string, v *record.View, m *Message) (ok bool) {
	if strings.HasPrefix(logTopic, stream.InternalPrefix) {
		return t.certificate(logTopic, v, m)
	}
	t.begin(v, m)
	users := 0
	var named []byte
	if v.HeaderCount > 0 {
		if named, users = m.fixed(v); m.gone {
			return false
		}
	}
	m.log = append(m.log[:0], logTopic...)
	if len(named) > 0 && t.belongs(named, m.log) {
		m.Topic = named
	} else {
		m.topic = m.topic[:0]
		m.Topic = t.nameOf(&m.topic, m.log, v.Key)
		m.told = len(named) == 0
	}
	if users > 0 {
		m.users(v, t.ruleFor(m))
	}
	return true
}

// ToldByKey tells whether the topic name of a message that this table made follows from the log topic and the
// key alone. Then Known makes the messages of further records with that key.
func (m *Message) ToldByKey() bool { return m.told }

// Known is Message for a record whose log topic and key are known to tell a name, which ToldByKey said of an
// earlier message of this table: it need not find it again. ok is false, and m undefined, for a record that
// says its name itself, in a header.
func (t *Table) Known(logTopic string, name []byte, v *record.View, m *Message) (ok bool) {
	t.begin(v, m)
	m.Topic, m.told = name, true
	if v.HeaderCount == 0 {
		return true
	}
	named, users := m.fixed(v)
	if m.gone {
		return false
	}
	if users > 0 {
		m.log = append(m.log[:0], logTopic...)
		m.users(v, t.ruleFor(m))
	}
	return len(named) == 0
}

// begin takes what a message has of its record without headers and key.
func (t *Table) begin(v *record.View, m *Message) {
	m.Payload, m.Timestamp, m.QoS, m.Retain = v.Value, v.Timestamp, t.plain, false
	m.HasExpiry, m.Expiry, m.HasPayloadFormat, m.PayloadFormat = false, 0, false, 0
	m.ContentType, m.ResponseTopic, m.Correlation, m.UserProperties = nil, nil, nil, nil
	m.Topic, m.Publisher, m.told, m.gone = nil, nil, false, false
}

// fixed takes the headers that are not user properties. It returns the one with the topic name and
// how many others there are.
func (m *Message) fixed(v *record.View) (named []byte, users int) {
	for key, value := range v.Headers {
		switch string(key) {
		case HeaderTopic:
			named = value
		case HeaderShredded:
			m.gone = true
		case HeaderFlags:
			if len(value) == 1 && strings.IndexByte(flagDigits, value[0]) >= 0 && value[0] != '3' {
				m.QoS, m.Retain = value[0]&3, value[0]&flagRetain != 0
			}
		case HeaderPublisher:
			m.Publisher = value
		case HeaderExpiry:
			m.Expiry, m.HasExpiry = parseSeconds(value)
		case HeaderPayloadFormat:
			if len(value) == 1 && (value[0] == '0' || value[0] == '1') {
				m.PayloadFormat, m.HasPayloadFormat = value[0]&1, true
			}
		case HeaderContentType:
			if value != nil && validString(value) {
				m.ContentType = value
			}
		case HeaderResponseTopic:
			if names.CheckName(value) == nil {
				m.ResponseTopic = value
			}
		case HeaderCorrelation:
			if len(value) <= maxString {
				m.Correlation = value
			}
		default:
			users++
		}
	}
	return named, users
}

// parseSeconds reads a decimal number that fits into 32 bits.
func parseSeconds(b []byte) (uint32, bool) {
	const maxDigits = 10
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	if len(b) == 0 || len(b) > maxDigits || n > 1<<32-1 {
		return 0, false
	}
	return uint32(n), true
}

// users puts the user properties together: all headers that are not taken, in their order.
func (m *Message) users(v *record.View, r *rule) {
	m.user = m.user[:0]
	for key, value := range v.Headers {
		switch {
		case bytes.HasPrefix(key, []byte(HeaderUserPrefix)):
			key = key[len(HeaderUserPrefix):]
		case reserved(key) || r != nil && r.hasHeader(key):
			continue
		}
		if validString(key) && validString(value) {
			m.user = appendUser(m.user, key, value)
		}
	}
	m.UserProperties = m.user
	if cap(m.user) > 4096 {
		m.user = nil
	}
}

// ruleFor is the rule whose headers are on the record of m, or nil.
func (t *Table) ruleFor(m *Message) *rule {
	if !t.ruleHeaders {
		return nil
	}
	var v values
	r := t.match(m.Topic, &v)
	if r == nil || !r.sends(m.Topic, m.log) {
		return nil
	}
	return r
}

// belongs tells whether the text of a header is a topic name that may stand on a record of a log topic.
func (t *Table) belongs(name, logTopic []byte) bool {
	return names.CheckName(name) == nil && t.meant(name, logTopic)
}

// meant tells whether a log topic is meant for a valid topic name: the default rule or some rule sends
// it there, or it is the catch-all. Nothing on a record can take it to names that its log topic is not
// meant for.
func (t *Table) meant(name, logTopic []byte) bool {
	if name[0] == '$' {
		return false
	}
	if string(logTopic) == t.catchAll || under(name, logTopic) {
		return true
	}
	for _, r := range t.rules {
		if r.sends(name, logTopic) {
			return true
		}
	}
	return false
}

// under tells whether the first level of a name is the log topic.
func under(name, logTopic []byte) bool {
	return bytes.HasPrefix(name, logTopic) && (len(name) == len(logTopic) || name[len(logTopic)] == '/')
}

// sends tells whether the rule, by itself, sends a name to a log topic.
func (r *rule) sends(name, logTopic []byte) bool {
	var v values
	return r.pattern.match(name, &v) && r.topic.gives(logTopic, &v)
}

// gives tells whether the text of the template is text.
func (t *template) gives(text []byte, v *values) bool {
	for i := range t.pieces {
		pc := &t.pieces[i]
		if len(text) < len(pc.text) || string(text[:len(pc.text)]) != pc.text {
			return false
		}
		text = text[len(pc.text):]
		if !pc.last {
			if !bytes.HasPrefix(text, v[pc.slot]) {
				return false
			}
			text = text[len(v[pc.slot]):]
		}
	}
	return len(text) == 0
}

// nameOf is the topic name that a record without the header mqtt.topic has. What its key tells comes
// first, then what its log topic tells alone. The result is the key, the log topic, or lies behind what
// is in buf.
func (t *Table) nameOf(buf *[]byte, logTopic, key []byte) []byte {
	if names.CheckName(key) != nil {
		key = nil // it tells nothing
	}
	if key != nil {
		for _, r := range t.rules {
			if name, ok := r.byKey(buf, logTopic, key); ok {
				return name
			}
		}
		if t.meant(key, logTopic) {
			return key
		}
	}
	for _, r := range t.rules {
		if name, ok := r.byTopic(buf, logTopic); ok {
			return name
		}
	}
	if key == nil || string(logTopic) == t.catchAll {
		return logTopic
	}
	at := len(*buf)
	*buf = append(append(append(*buf, logTopic...), '/'), key...)
	if name := (*buf)[at:]; names.CheckName(name) == nil {
		return name
	}
	return logTopic // too long with the log topic in front
}

// byKey finds the name that the rule sends to this log topic with this key, if they tell it. The key is
// a valid topic name.
func (r *rule) byKey(buf *[]byte, logTopic, key []byte) ([]byte, bool) {
	switch {
	case !r.keyTells:
		return nil, false
	case r.key.whole():
		return key, key[0] != '$' && r.sends(key, logTopic)
	}
	var v values
	known, ok := r.topic.extract(logTopic, &v, 0)
	if ok {
		_, ok = r.key.extract(key, &v, known)
	}
	if !ok {
		return nil, false
	}
	return r.rebuild(buf, logTopic, &v)
}

// byTopic finds the only name that the rule sends to this log topic, if there is but one.
func (r *rule) byTopic(buf *[]byte, logTopic []byte) ([]byte, bool) {
	if !r.topicTells {
		return nil, false
	}
	var v values
	if _, ok := r.topic.extract(logTopic, &v, 0); !ok {
		return nil, false
	}
	return r.rebuild(buf, logTopic, &v)
}

// rebuild puts a name together from the values of its levels and makes sure that the rule sends it to
// the log topic.
func (r *rule) rebuild(buf *[]byte, logTopic []byte, v *values) ([]byte, bool) {
	at := len(*buf)
	*buf = r.pattern.appendName(*buf, v)
	name := (*buf)[at:]
	if names.CheckName(name) != nil || name[0] == '$' || !r.sends(name, logTopic) {
		*buf = (*buf)[:at]
		return nil, false
	}
	return name, true
}

// Stems tells how the MQTT names of the records of a log topic begin: each is one of the stems or goes on behind
// one with a slash. All says that nothing is known of them but that none begins with $. There may be no record
// below a stem.
func (t *Table) Stems(logTopic string) (stems []string, all bool) {
	if strings.HasPrefix(logTopic, stream.InternalPrefix) {
		if t.sparkplug && logTopic == RetainedTopic {
			return []string{certificateRoot}, false
		}
		return nil, false
	}
	for _, filter := range t.FiltersOf(logTopic) {
		stem := names.Stem(filter)
		if stem == "" {
			return nil, true
		}
		stems = append(stems, stem)
	}
	return stems, false
}

// FiltersOf are topic filters that together match every MQTT name that a record of a log topic can have, and perhaps
// names that it cannot have.
func (t *Table) FiltersOf(logTopic string) []string {
	switch {
	case strings.HasPrefix(logTopic, stream.InternalPrefix):
		return nil
	case logTopic == t.catchAll:
		return []string{"#"}
	}
	filters := []string{logTopic + "/#"}
	for _, r := range t.rules {
		var v values
		known, ok := uint32(0), true
		if r.topic.unique() {
			known, ok = r.topic.extract([]byte(logTopic), &v, 0)
		}
		if ok {
			filters = append(filters, r.pattern.bind(&v, known))
		}
	}
	return filters
}
