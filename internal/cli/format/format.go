// Package format holds the format strings that people know from mosquitto_sub (-F), kcat (-f) and
// rpk (produce -f), and the JSON lines of mosquitto_sub and kcat.
//
// A format is parsed once and then appends one message after the other to a buffer. The package is
// pure: the time of a message comes in with it.
//
//	f, err := format.ParseMQTT("%t %p")
//	buf, err = f.AppendTo(buf[:0], &msg)
package format

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kit/fault"
)

// appendJSONString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD: whoever needs
// them finds them in the field with the suffix _base64.
func appendJSONString(dst []byte, s []byte) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r == utf8.RuneError && n == 1:
			dst = append(dst, `\ufffd`...)
		case hidden(r):
			dst = AppendPrintable(dst, s[:n], false)
		default:
			dst = append(dst, s[:n]...)
		}
		s = s[n:]
	}
	return append(dst, '"')
}

// appendJSONBytes appends `"name":"text"`, or null for nil, and a second field name_base64 when the
// bytes are no text, so that nothing is lost.
func appendJSONBytes(dst []byte, name string, b []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	if b == nil {
		return append(dst, "null"...)
	}
	dst = appendJSONString(dst, b)
	if utf8.Valid(b) {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// compactJSON appends the JSON text b without its white space; numbers stay as they are written.
func compactJSON(dst, b []byte) ([]byte, error) {
	if !json.Valid(b) {
		return dst, fault.New(fault.Invalid, "format", "payload is not valid JSON")
	}
	inString := false
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case inString && c == '\\':
			dst = append(dst, c)
			i++
			c = b[i]
		case c == '"':
			inString = !inString
		case !inString && (c == ' ' || c == '\n' || c == '\r' || c == '\t'):
			continue
		}
		dst = append(dst, c)
	}
	return dst, nil
}

// escape gives the byte that a backslash and c stand for in a format string of mosquitto_sub.
func escape(c byte) (byte, bool) {
	switch c {
	case '\\':
		return '\\', true
	case '0':
		return 0, true
	case 'a':
		return '\a', true
	case 'e':
		return 0x1b, true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'v':
		return '\v', true
	}
	return 0, false
}

// times are the conversions of strftime that @ understands, as layouts of package time.
var times = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05",
	'p': "PM", 'z': "-0700", 'Z': "MST", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'j': "002",
	'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'c': "Mon Jan _2 15:04:05 2006",
	'x': "01/02/06", 'X': "15:04:05",
}

// appendTime appends one conversion of strftime, or @N, the nanoseconds of the second.
func appendTime(dst []byte, c byte, at time.Time) []byte {
	switch c {
	case 'N':
		return appendPadded(dst, at.Nanosecond(), 9)
	case 's':
		return strconv.AppendInt(dst, at.Unix(), 10)
	}
	return at.AppendFormat(dst, times[c])
}

func knownTime(c byte) bool {
	_, ok := times[c]
	return ok || c == 'N' || c == 's'
}

func appendPadded(dst []byte, n, width int) []byte {
	s := strconv.Itoa(n)
	for range width - len(s) {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}
