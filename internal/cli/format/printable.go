package format

import (
	"slices"
	"unicode/utf8"
)

// AppendPrintable appends s as a terminal may get it, whoever wrote it: control characters of either set, and
// what turns the direction of text around, become \u001b and the like, bytes that are no UTF-8 \x9b. With lines,
// line feeds and tabs stay: s may have lines of its own.
func AppendPrintable[S ~string | ~[]byte](dst []byte, s S, lines bool) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c >= ' ' && c < 0x7f || lines && (c == '\n' || c == '\t') {
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, '\\', 'x', hexDigit(s[i]>>4), hexDigit(s[i]))
		case hidden(r):
			dst = append(dst, '\\', 'u', hexDigit(byte(r>>12)), hexDigit(byte(r>>8)), hexDigit(byte(r>>4)), hexDigit(byte(r)))
		default:
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst
}

// Printable is s in one line as a terminal may get it, as AppendPrintable makes it.
func Printable(s string) string {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return string(AppendPrintable(nil, s, false))
		}
	}
	return s
}

// hidden tells whether a terminal obeys a character instead of showing it: C0, DEL, C1, the separators of lines and
// paragraphs, and the marks, embeddings, overrides and isolates of bidirectional text (UAX #9).
func hidden(r rune) bool {
	switch {
	case r < ' ', 0x7f <= r && r < 0xa0, r == 0x61c, r == 0x200e, r == 0x200f:
		return true
	}
	return 0x2028 <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069
}

func hexDigit(b byte) byte { return "0123456789abcdef"[b&15] }

// printableFrom makes what was appended since from printable.
func printableFrom(dst []byte, from int, lines bool) []byte {
	clean := func(c byte) bool { return c >= ' ' && c < 0x7f }
	at := slices.IndexFunc(dst[from:], func(c byte) bool { return !clean(c) })
	if at < 0 {
		return dst
	}
	from += at
	return AppendPrintable(dst[:from], slices.Clone(dst[from:]), lines)
}
