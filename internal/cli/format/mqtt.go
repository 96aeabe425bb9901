package format

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Property is a user property.
type Property struct{ Key, Value string }

// Message is a delivered MQTT message as the formats of mosquitto_sub see it. Its slices are read,
// never kept.
type Message struct {
	Time     time.Time // when it arrived
	Topic    string
	Payload  []byte
	QoS      byte
	Retain   bool
	PacketID uint16 // 0 at QoS 0

	ContentType   string
	ResponseTopic string
	Correlation   []byte
	Expiry        *uint32 // seconds; nil: not given
	PayloadFormat *byte   // nil: not given
	Alias         uint16  // 0: not given
	SubIDs        []uint32
	User          []Property
}

// MQTT is a parsed format string of mosquitto_sub -F.
type MQTT struct {
	// Terminal has what others wrote made printable (AppendPrintable); what the format says itself stays.
	Terminal bool

	pieces []piece
}

// piece is a literal, a time conversion or a parameter with its flags.
type piece struct {
	literal   string
	verb      byte // after %, 0 for none
	time      byte // after @, 0 for none
	zero      bool
	left      bool
	width     int
	precision int // -1: none
}

const mqttVerbs = "%ACDEFIJPRSTUXjlmpqrtx"

// ParseMQTT parses a format string as described in mosquitto_sub(1): %t %p %q %r %l %m %x %X %I %U %j
// %J, the property parameters %A %C %D %E %F %P %R %S, flags 0 and -, widths, @ for strftime and
// backslash escapes. Errors: Invalid, naming the sequence.
func ParseMQTT(spec string) (*MQTT, error) {
	f := &MQTT{}
	literal := []byte{}
	flush := func() {
		if len(literal) > 0 {
			f.pieces = append(f.pieces, piece{literal: string(literal)})
			literal = literal[:0]
		}
	}
	for i := 0; i < len(spec); i++ {
		c := spec[i]
		if c != '%' && c != '@' && c != '\\' {
			literal = append(literal, c)
			continue
		}
		p, n, err := parsePiece(spec[i:])
		if err != nil {
			return nil, err
		}
		i += n - 1
		if p.verb == 0 && p.time == 0 {
			literal = append(literal, p.literal...)
			continue
		}
		flush()
		f.pieces = append(f.pieces, p)
	}
	flush()
	return f, nil
}

// parsePiece parses the sequence that s begins with and tells how many bytes it has.
func parsePiece(s string) (piece, int, error) {
	if len(s) < 2 {
		return piece{}, 0, fault.New(fault.Invalid, "format", "%q at the end is incomplete", s)
	}
	switch s[0] {
	case '\\':
		if b, ok := escape(s[1]); ok {
			return piece{literal: string(b)}, 2, nil
		}
		return piece{}, 0, fault.New(fault.Invalid, "format", "unknown escape %q", s[:2])
	case '@':
		if s[1] == '@' {
			return piece{literal: "@"}, 2, nil
		}
		if !knownTime(s[1]) {
			return piece{}, 0, fault.New(fault.Invalid, "format", "unknown time conversion %q", s[:2])
		}
		return piece{time: s[1]}, 2, nil
	}
	return parseVerb(s)
}

func parseVerb(s string) (piece, int, error) {
	p := piece{precision: -1}
	i := 1
	for i < len(s) && (s[i] == '0' || s[i] == '-') {
		p.zero = p.zero || s[i] == '0'
		p.left = p.left || s[i] == '-'
		i++
	}
	p.width, i = number(s, i)
	if i < len(s) && s[i] == '.' {
		p.precision, i = number(s, i+1)
	}
	if i == len(s) {
		return p, 0, fault.New(fault.Invalid, "format", "%q at the end is incomplete", s)
	}
	if strings.IndexByte(mqttVerbs, s[i]) < 0 {
		return p, 0, fault.New(fault.Invalid, "format", "unknown parameter %q", s[:i+1]).
			WithHint("known are %%t topic, %%p payload, %%q QoS, %%r retain, %%l length, %%j JSON, %%I time: firth sub --help")
	}
	if s[i] == '%' {
		return piece{literal: "%"}, i + 1, nil
	}
	p.verb = s[i]
	return p, i + 1, nil
}

// number reads at most four digits at i: a width above that is a mistake.
func number(s string, i int) (n, next int) {
	for end := min(i+4, len(s)); i < end && '0' <= s[i] && s[i] <= '9'; i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n, i
}

// AppendTo appends m. Errors: Invalid when %J meets a payload that is not JSON.
func (f *MQTT) AppendTo(dst []byte, m *Message) ([]byte, error) {
	for i := range f.pieces {
		p := &f.pieces[i]
		switch {
		case p.verb != 0:
			var err error
			from := len(dst)
			if dst, err = p.appendVerb(dst, m); err != nil {
				return dst, err
			}
			if f.Terminal {
				dst = printableFrom(dst, from, p.verb == 'p' || p.verb == 'J')
			}
		case p.time != 0:
			dst = appendTime(dst, p.time, m.Time)
		default:
			dst = append(dst, p.literal...)
		}
	}
	return dst, nil
}

// appendVerb appends one parameter: bytes as they are, text and numbers padded as asked.
func (p *piece) appendVerb(dst []byte, m *Message) ([]byte, error) {
	switch p.verb {
	case 'p':
		return append(dst, m.Payload...), nil
	case 'D':
		return append(dst, m.Correlation...), nil
	case 'j':
		return AppendMQTTJSON(dst, m), nil
	case 'J':
		return appendMQTTRawJSON(dst, m)
	case 'q':
		return append(dst, '0'+m.QoS), nil
	case 'r':
		return append(dst, '0'+flag(m.Retain)), nil
	case 'U':
		dst = strconv.AppendInt(dst, m.Time.Unix(), 10)
		return appendPadded(append(dst, '.'), m.Time.Nanosecond(), 9), nil
	case 'x', 'X':
		text := hex.EncodeToString(m.Payload)
		if p.verb == 'X' {
			text = strings.ToUpper(text)
		}
		return append(dst, text...), nil
	}
	text, isNumber := p.text(m)
	return p.pad(dst, text, isNumber), nil
}

func (p *piece) text(m *Message) (text string, isNumber bool) {
	switch p.verb {
	case 't':
		return m.Topic, false
	case 'l':
		return strconv.Itoa(len(m.Payload)), true
	case 'm':
		return strconv.Itoa(int(m.PacketID)), true
	case 'I':
		return m.Time.Format("2006-01-02T15:04:05-0700"), false
	case 'C':
		return m.ContentType, false
	case 'R':
		return m.ResponseTopic, false
	case 'P':
		return userText(m.User), false
	}
	return p.optionalNumber(m), true
}

// optionalNumber is a property that may be missing, and then is nothing at all.
func (p *piece) optionalNumber(m *Message) string {
	switch {
	case p.verb == 'A' && m.Alias != 0:
		return strconv.Itoa(int(m.Alias))
	case p.verb == 'E' && m.Expiry != nil:
		return strconv.FormatUint(uint64(*m.Expiry), 10)
	case p.verb == 'F' && m.PayloadFormat != nil:
		return strconv.Itoa(int(*m.PayloadFormat))
	case p.verb == 'S' && len(m.SubIDs) > 0:
		return strconv.FormatUint(uint64(m.SubIDs[0]), 10)
	}
	return ""
}

func userText(user []Property) string {
	var b strings.Builder
	for i, u := range user {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(u.Key + ":" + u.Value)
	}
	return b.String()
}

func (p *piece) pad(dst []byte, text string, isNumber bool) []byte {
	if p.precision >= 0 && !isNumber && len(text) > p.precision {
		text = text[:p.precision]
	}
	fill := p.width - len(text)
	if p.left {
		dst = append(dst, text...)
	}
	for range fill {
		if p.zero && !p.left && isNumber {
			dst = append(dst, '0')
		} else {
			dst = append(dst, ' ')
		}
	}
	if !p.left {
		dst = append(dst, text...)
	}
	return dst
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// AppendMQTTJSON appends m as the JSON object of mosquitto_sub %j, the payload as a string. A payload
// that is no text is also there, whole, as payload_base64.
func AppendMQTTJSON(dst []byte, m *Message) []byte {
	dst = appendMQTTFields(dst, m)
	dst = appendJSONBytes(dst, "payload", notNil(m.Payload))
	return append(dst, '}')
}

func appendMQTTRawJSON(dst []byte, m *Message) ([]byte, error) {
	dst = appendMQTTFields(dst, m)
	dst = append(dst, `"payload":`...)
	dst, err := compactJSON(dst, m.Payload)
	if err != nil {
		return dst, fault.New(fault.Invalid, "format", "message payload is not valid JSON on topic %s", m.Topic)
	}
	return append(dst, '}'), nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func appendMQTTFields(dst []byte, m *Message) []byte {
	dst = append(dst, `{"tst":"`...)
	dst = m.Time.AppendFormat(dst, "2006-01-02T15:04:05.000000-0700")
	dst = append(dst, `","topic":`...)
	dst = appendJSONString(dst, []byte(m.Topic))
	dst = append(dst, `,"qos":`...)
	dst = append(dst, '0'+m.QoS)
	dst = append(dst, `,"retain":`...)
	dst = append(dst, '0'+flag(m.Retain))
	dst = append(dst, `,"payloadlen":`...)
	dst = strconv.AppendInt(dst, int64(len(m.Payload)), 10)
	if m.QoS > 0 {
		dst = append(dst, `,"mid":`...)
		dst = strconv.AppendInt(dst, int64(m.PacketID), 10)
	}
	dst = append(dst, ',')
	return appendMQTTProperties(dst, m)
}

func appendMQTTProperties(dst []byte, m *Message) []byte {
	const begin = `"properties":{`
	start := len(dst)
	dst = append(dst, begin...)
	field := func(name string) {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), `":`...)
	}
	if len(m.SubIDs) > 0 {
		field("subscription-identifier")
		dst = strconv.AppendUint(dst, uint64(m.SubIDs[0]), 10)
	}
	if len(m.User) > 0 {
		field("user-properties")
		dst = append(dst, '{')
		for i, u := range m.User {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendJSONString(dst, []byte(u.Key)), ':')
			dst = appendJSONString(dst, []byte(u.Value))
		}
		dst = append(dst, '}')
	}
	for _, text := range []struct{ name, value string }{
		{"content-type", m.ContentType}, {"response-topic", m.ResponseTopic}, {"correlation-data", string(m.Correlation)},
	} {
		if text.value != "" {
			field(text.name)
			dst = appendJSONString(dst, []byte(text.value))
		}
	}
	if m.PayloadFormat != nil {
		field("payload-format-indicator")
		dst = strconv.AppendUint(dst, uint64(*m.PayloadFormat), 10)
	}
	if m.Expiry != nil {
		field("message-expiry-interval")
		dst = strconv.AppendUint(dst, uint64(*m.Expiry), 10)
	}
	if len(dst) == start+len(begin) {
		return dst[:start]
	}
	return append(dst, '}', ',')
}
