package fault

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxText is how many bytes of a foreign text a line can bear.
const maxText = 128

// Text is a text of somebody else (a client identifier, a topic name, the name of a group) as it goes into a log line
// or an error: what a terminal would not print is escaped as in Go, and what is longer than 128 bytes is cut, with a
// mark that says how long it was.
func Text[S ~string | ~[]byte](s S) string {
	if len(s) <= maxText && isPlain(s) {
		return string(s)
	}
	rest := s
	if len(rest) > maxText {
		end := maxText
		for end > maxText-utf8.UTFMax && !utf8.RuneStart(rest[end]) {
			end--
		}
		rest = rest[:end]
	}
	var b strings.Builder
	for text := string(rest); len(text) > 0; {
		r, width := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && width == 1 || !strconv.IsPrint(r) {
			quoted := strconv.Quote(text[:width])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(text[:width])
		}
		text = text[width:]
	}
	if len(s) > len(rest) {
		b.WriteString("... (" + strconv.Itoa(len(s)) + " bytes)")
	}
	return b.String()
}

// isPlain tells whether a text is printable ASCII.
func isPlain[S ~string | ~[]byte](s S) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
