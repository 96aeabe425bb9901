package format

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Header is one header of a record. A nil Value is null.
type Header struct {
	Name  string
	Value []byte
}

// Record is a consumed record as the formats of kcat see it. Its slices are read, never kept.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      int64 // milliseconds since 1970
	LogTime   bool  // the log's clock stamped it, not the sender's
	Leader    int32 // the broker it came from; -1: unknown
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Kafka is a parsed format string of kcat -f.
type Kafka struct {
	// Terminal has what others wrote made printable (AppendPrintable); what the format says itself stays.
	Terminal bool

	pieces []piece
	null   string
}

const kafkaVerbs = "sSRkKThtpo"

// ParseKafka parses a format string as kcat -f takes it: %s %S %R %k %K %T %h %t %p %o, %%, and the
// escapes \n \r \t \0 \\ \xXX and \NNN. null stands for a null key, value or header.
// Errors: Invalid, naming the sequence.
func ParseKafka(spec, null string) (*Kafka, error) {
	f := &Kafka{null: null}
	literal := []byte{}
	for i := 0; i < len(spec); i++ {
		switch spec[i] {
		case '\\':
			b, n, err := unescape(spec[i:])
			if err != nil {
				return nil, err
			}
			literal = append(literal, b)
			i += n - 1
		case '%':
			if i+1 < len(spec) && spec[i+1] == '%' {
				literal = append(literal, '%')
				i++
				continue
			}
			if i+1 == len(spec) || strings.IndexByte(kafkaVerbs, spec[i+1]) < 0 {
				return nil, fault.New(fault.Invalid, "format", "unknown token %q", spec[i:min(i+2, len(spec))]).
					WithHint("known are %%t topic, %%p partition, %%o offset, %%k key, %%s value, %%h headers, %%T time")
			}
			f.pieces = append(f.pieces, piece{literal: string(literal), verb: spec[i+1]})
			literal = literal[:0]
			i++
		default:
			literal = append(literal, spec[i])
		}
	}
	f.pieces = append(f.pieces, piece{literal: string(literal)})
	return f, nil
}

// Unescape gives the bytes that s stands for: \n \r \t \0 \\ \a \e \v, \xXX and \NNN (octal).
// Errors: Invalid, naming the escape.
func Unescape(s string) ([]byte, error) {
	out := []byte{}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		b, n, err := unescape(s[i:])
		if err != nil {
			return nil, err
		}
		out = append(out, b)
		i += n - 1
	}
	return out, nil
}

// unescape reads the escape that s begins with and tells how many bytes it has.
func unescape(s string) (b byte, n int, err error) {
	digits := func(from, most, base int) (byte, int, error) {
		end := from
		for end < len(s) && end < from+most && isDigit(s[end], base) {
			end++
		}
		v, err := strconv.ParseUint(s[from:end], base, 8)
		if err != nil {
			return 0, 0, fault.New(fault.Invalid, "format", "bad escape %q", s[:end])
		}
		return byte(v), end, nil
	}
	if len(s) < 2 {
		return 0, 0, fault.New(fault.Invalid, "format", "a single \\ at the end")
	}
	if s[1] == 'x' {
		return digits(2, 2, 16)
	}
	if '0' <= s[1] && s[1] <= '7' {
		return digits(1, 3, 8)
	}
	if b, ok := escape(s[1]); ok {
		return b, 2, nil
	}
	return 0, 0, fault.New(fault.Invalid, "format", "unknown escape %q", s[:2])
}

func isDigit(c byte, base int) bool {
	if base == 8 {
		return '0' <= c && c <= '7'
	}
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// AppendTo appends r.
func (f *Kafka) AppendTo(dst []byte, r *Record) []byte {
	for i := range f.pieces {
		p := &f.pieces[i]
		dst = append(dst, p.literal...)
		from := len(dst)
		switch p.verb {
		case 's':
			dst = f.appendBytes(dst, r.Value)
		case 'S':
			dst = strconv.AppendInt(dst, length(r.Value), 10)
		case 'R':
			dst = binary.BigEndian.AppendUint32(dst, uint32(length(r.Value)))
		case 'k':
			dst = f.appendBytes(dst, r.Key)
		case 'K':
			dst = strconv.AppendInt(dst, length(r.Key), 10)
		case 'T':
			dst = strconv.AppendInt(dst, r.Time, 10)
		case 'h':
			dst = f.appendHeaders(dst, r.Headers)
		case 't':
			dst = append(dst, r.Topic...)
		case 'p':
			dst = strconv.AppendInt(dst, int64(r.Partition), 10)
		case 'o':
			dst = strconv.AppendInt(dst, r.Offset, 10)
		}
		if f.Terminal {
			dst = printableFrom(dst, from, p.verb == 's' || p.verb == 'k')
		}
	}
	return dst
}

// length is the number of bytes, or -1 for null.
func length(b []byte) int64 {
	if b == nil {
		return -1
	}
	return int64(len(b))
}

func (f *Kafka) appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, f.null...)
	}
	return append(dst, b...)
}

func (f *Kafka) appendHeaders(dst []byte, hs []Header) []byte {
	for i, h := range hs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, h.Name...), '=')
		if h.Value == nil {
			dst = append(dst, "NULL"...)
		} else {
			dst = append(dst, h.Value...)
		}
	}
	return dst
}

// AppendRecordJSON appends r as the JSON envelope of kcat -J. Keys, values and headers that are no
// text are also there, whole, as base64.
func AppendRecordJSON(dst []byte, r *Record) []byte {
	dst = append(dst, `{"topic":`...)
	dst = appendJSONString(dst, []byte(r.Topic))
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(r.Partition), 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, r.Offset, 10)
	if r.LogTime {
		dst = append(dst, `,"tstype":"logappend","ts":`...)
	} else {
		dst = append(dst, `,"tstype":"create","ts":`...)
	}
	dst = strconv.AppendInt(dst, r.Time, 10)
	if r.Leader >= 0 {
		dst = append(dst, `,"broker":`...)
		dst = strconv.AppendInt(dst, int64(r.Leader), 10)
	}
	if len(r.Headers) > 0 {
		dst = appendHeadersJSON(dst, r.Headers)
	}
	dst = appendJSONBytes(append(dst, ','), "key", r.Key)
	dst = appendJSONBytes(append(dst, ','), "payload", r.Value)
	return append(dst, '}')
}

// appendHeadersJSON appends names and values in turn, as kcat does: a name may come more than once.
func appendHeadersJSON(dst []byte, hs []Header) []byte {
	dst = append(dst, `,"headers":[`...)
	for i, h := range hs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, []byte(h.Name)), ',')
		if h.Value == nil {
			dst = append(dst, "null"...)
		} else {
			dst = appendJSONString(dst, h.Value)
		}
	}
	return append(dst, ']')
}
