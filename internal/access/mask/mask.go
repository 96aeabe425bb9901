// Package mask takes out of messages what somebody may not see who may read them: headers, the key, and fields of JSON.
//
// A Mask says what becomes of one field. Fields holds masks ready for use, a Set what of them concerns one message and
// one reader, and a Masker does the work, for one goroutine:
//
//	m, err := mask.Parse("json:customer.name=hash")
//	set := mask.Set{Secret: secret, Fields: []*mask.Fields{mask.New([]mask.Mask{m})}}
//	payload, ok := set.Masker().Payload(payload)
//
// What cannot be masked is not shown: a payload that a mask of JSON is about and that is no JSON by RFC 8259 in UTF-8,
// is nested too deeply or too large. Masks of one field add up to the strictest: remove, then hash, then the shorter
// truncate.
//
// The package is pure.
package mask

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Place is where a field is.
type Place uint8

// The places.
const (
	Header Place = iota + 1 // of Kafka, and user property of MQTT
	Key                     // of the record
	JSON                    // in the payload
)

// Does is what becomes of a field.
type Does uint8

// What becomes of fields, the strictest first.
const (
	Remove   Does = iota + 1 // it is not there
	Hash                     // HashDigits hexadecimal digits in its place, the same for equal values
	Truncate                 // its first characters
)

// Mask is what becomes of one field. Make it with Parse.
type Mask struct {
	Place  Place
	Name   string // of Header, without HeaderUserPrefix; of JSON the path: a.b[].c
	Does   Does
	Length int // of Truncate: characters, 1 to MaxLength
}

// The bounds of a mask.
const (
	MaxLength = 1000 // characters that Truncate leaves
	maxName   = 1024 // bytes of a header name or a path
	maxSteps  = 64   // of a path: no payload is deeper
)

// HeaderUserPrefix goes in front of a user property of MQTT in the log whose name is taken, as the hinge has it: the
// header is the same with it and without.
const HeaderUserPrefix = "mqtt.user."

// reserved are the headers by which the log says of a message what MQTT has no user property for.
var reserved = []string{"content-type", "response-topic", "correlation-data"}

const reservedPrefix = "mqtt."

const op = "access.Mask"

// Parse is a mask as text: FIELD=ACTION, where FIELD is header:NAME, key or json:PATH, and ACTION is remove, hash or
// truncate:N. Errors: Invalid.
func Parse(text string) (m Mask, err error) {
	at := strings.LastIndexByte(text, '=')
	if at < 0 {
		return m, fault.New(fault.Invalid, op, "%s does not say what becomes of a field", fault.Text(text)).
			WithHint("write FIELD=remove, FIELD=hash or FIELD=truncate:N")
	}
	field, action := text[:at], text[at+1:]
	switch place, name, named := strings.Cut(field, ":"); {
	case field == "key":
		m.Place = Key
	case named && place == "header":
		m.Place, m.Name = Header, string(bare([]byte(name)))
	case named && place == "json":
		m.Place, m.Name = JSON, name
	default:
		return m, fault.New(fault.Invalid, op, "%s is no field", fault.Text(field)).
			WithHint("write header:NAME, key or json:PATH, as json:customer.name or json:items[].price")
	}
	switch does, length, _ := strings.Cut(action, ":"); {
	case action == "remove":
		m.Does = Remove
	case action == "hash":
		m.Does = Hash
	case does == "truncate":
		m.Does = Truncate
		if m.Length, err = strconv.Atoi(length); err != nil || strconv.Itoa(m.Length) != length {
			m.Length = -1
		}
	default:
		return m, fault.New(fault.Invalid, op, "%s is nothing to do with a field", fault.Text(action)).
			WithHint("there are remove, hash and truncate:N")
	}
	return m, m.Check()
}

// Check tells what is wrong with a mask. Errors: Invalid.
func (m *Mask) Check() error {
	wrong := func(format string, args ...any) *fault.Error { return fault.New(fault.Invalid, op, format, args...) }
	switch {
	case m.Does < Remove || m.Does > Truncate, m.Does != Truncate && m.Length != 0:
		return wrong("%d is nothing to do with a field", m.Does)
	case m.Does == Truncate && (m.Length < 1 || m.Length > MaxLength):
		return wrong("truncate leaves 1 to %d characters", MaxLength)
	case len(m.Name) > maxName || !utf8.ValidString(m.Name):
		return wrong("the field is not UTF-8 of at most %d bytes", maxName)
	}
	switch m.Place {
	case Key:
		if m.Name != "" {
			return wrong("a key has no name")
		}
		return nil
	case JSON:
		_, err := parsePath(m.Name)
		return err
	case Header:
		if m.Name == "" {
			return wrong("a header without a name")
		}
		if slices.Contains(reserved, m.Name) || strings.HasPrefix(m.Name, reservedPrefix) {
			return wrong("%s is what the log says of a message, and no header of it", fault.Text(m.Name))
		}
		return nil
	}
	return wrong("%d is no place of a field", m.Place)
}

// String is the mask as Parse reads it.
func (m *Mask) String() string {
	field := "key"
	switch m.Place {
	case Header:
		field = "header:" + m.Name
	case JSON:
		field = "json:" + m.Name
	}
	switch m.Does {
	case Remove:
		return field + "=remove"
	case Hash:
		return field + "=hash"
	}
	return field + "=truncate:" + strconv.Itoa(m.Length)
}

// bare is the name of a header without the prefix that may stand in front of it in the log.
func bare(name []byte) []byte {
	for bytes.HasPrefix(name, []byte(HeaderUserPrefix)) {
		name = name[len(HeaderUserPrefix):]
	}
	return name
}

// step is one step of a path: to a member of an object, or to each element of an array.
type step struct {
	name string
	each bool
}

// parsePath reads a path: names with dots between them, those with a dot, a bracket or a quotation mark as strings of
// JSON, and [] for each element of an array. Errors: Invalid.
func parsePath(text string) (path []step, err error) {
	wrong := fault.New(fault.Invalid, op, "%s is no path into JSON", fault.Text(text)).
		WithHint(`write customer.name, items[].price, []."a.b"`)
	for rest := text; rest != ""; {
		if behind, each := strings.CutPrefix(rest, "[]"); each {
			path, rest = append(path, step{each: true}), behind
			continue
		}
		if len(path) > 0 {
			behind, dotted := strings.CutPrefix(rest, ".")
			if !dotted {
				return nil, wrong
			}
			rest = behind
		}
		var name string
		if name, rest, err = cutName(rest); err != nil {
			return nil, wrong
		}
		path = append(path, step{name: name})
	}
	if len(path) == 0 || len(path) > maxSteps {
		return nil, wrong
	}
	return path, nil
}

// cutName takes a name off the front of a path.
func cutName(text string) (name, rest string, err error) {
	if strings.HasPrefix(text, `"`) {
		s := scan{in: []byte(text)}
		raw, ok := s.text()
		if !ok {
			return "", "", fault.New(fault.Invalid, op, "no string")
		}
		return string(s.unescape(raw)), text[s.at:], nil
	}
	end := strings.IndexAny(text, `.["]`)
	if end < 0 {
		end = len(text)
	}
	if end == 0 || end < len(text) && text[end] != '.' && text[end] != '[' {
		return "", "", fault.New(fault.Invalid, op, "no name")
	}
	return text[:end], text[end:], nil
}
