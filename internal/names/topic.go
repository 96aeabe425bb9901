// Package names holds MQTT topic names and topic filters (MQTT 5.0, section 4.7): their rules, the
// match of one with the other, and two indexes. A Trie finds the subscriptions that match a name; a
// Names finds the names that match a filter.
//
//	var t names.Trie[*Session]
//	t.Add("sensors/+/temp", s)
//	t.Match([]byte("sensors/room1/temp"), func(s *Session) { ... })
//
// The indexes have no lock: any number of readers, or one writer. The package is pure.
package names

import (
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	// MaxLength is the longest name or filter in bytes [MQTT-4.7.3-3].
	MaxLength = 65535
	// MaxLevels is the most levels that a name or a filter may have. MQTT sets no bound; without one
	// a single name of slashes would cost 65,536 nodes of an index.
	MaxLevels = 200
)

// TooDeep tells whether a well-formed name or filter has more than MaxLevels levels.
func TooDeep[S bytes](s S) bool {
	if len(s) < MaxLevels {
		return false
	}
	levels := 1
	for i := 0; i < len(s); i++ {
		if s[i] == '/' {
			levels++
		}
	}
	return levels > MaxLevels
}

// bytes is a name or a filter, in either form.
type bytes interface{ ~string | ~[]byte }

// CheckName judges a topic name: 1 to 65,535 bytes [MQTT-4.7.3-1] [MQTT-4.7.3-3] of well-formed UTF-8
// without U+0000 [MQTT-4.7.3-2] and without wildcards [MQTT-4.7.1-1], at most MaxLevels levels. It
// says nothing of names that begin with $. Errors: Invalid.
func CheckName[S bytes](name S) error {
	const op = "topic name"
	if len(name) < MaxLevels && len(name) > 0 && isPlain(name) {
		return nil
	}
	if err := checkText(name, op); err != nil {
		return err
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '+' || name[i] == '#' {
			return fault.New(fault.Invalid, op, "%s holds a wildcard", fault.Text(name))
		}
	}
	return nil
}

// isPlain tells whether a name is ASCII without U+0000 and wildcards, looking at eight bytes at once.
func isPlain[S bytes](s S) bool {
	if len(s) < 8 {
		for i := 0; i < len(s); i++ {
			if c := s[i]; c == 0 || c == '+' || c == '#' || c >= utf8.RuneSelf {
				return false
			}
		}
		return true
	}
	for i := 0; i+8 <= len(s); i += 8 {
		if special(load(s, i)) {
			return false
		}
	}
	return !special(load(s, len(s)-8)) // some of them were looked at already
}

// load is the eight bytes from i.
func load[S bytes](s S, i int) uint64 {
	w := s[i : i+8]
	return uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
		uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
}

// special tells whether one of eight bytes is 0, a wildcard or not ASCII.
func special(x uint64) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	plus, hash := x^(ones*'+'), x^(ones*'#')
	// (x-ones)&^x has a high bit set exactly when some byte of x is 0.
	return (x|(x-ones)&^x|(plus-ones)&^plus|(hash-ones)&^hash)&highs != 0
}

// CheckFilter judges a topic filter: like a name, but # may be its last level and + any level. The
// filter of a shared subscription is judged whole: its group as well as the filter in it. Errors:
// Invalid.
func CheckFilter[S bytes](filter S) error {
	const op = "topic filter"
	if err := checkText(filter, op); err != nil {
		return err
	}
	if len(filter) >= len(sharePrefix) && string(filter[:len(sharePrefix)]) == sharePrefix {
		_, _, _, err := ParseShare(string(filter))
		return err
	}
	return checkWildcards(filter, op)
}

func checkWildcards[S bytes](filter S, op string) error {
	last := len(filter) - 1
	for i := 0; i <= last; i++ {
		c := filter[i]
		if c != '+' && c != '#' {
			continue
		}
		alone := (i == 0 || filter[i-1] == '/') && (i == last || filter[i+1] == '/')
		if !alone { // [MQTT-4.7.1-1] [MQTT-4.7.1-2]
			return fault.New(fault.Invalid, op, "%s: a wildcard fills a whole level", fault.Text(filter))
		}
		if c == '#' && i != last { // [MQTT-4.7.1-1]
			return fault.New(fault.Invalid, op, "%s: # is the last level", fault.Text(filter))
		}
	}
	return nil
}

// checkText applies the rules that names and filters share.
func checkText[S bytes](s S, op string) error {
	switch {
	case len(s) == 0:
		return fault.New(fault.Invalid, op, "is empty")
	case len(s) > MaxLength:
		return fault.New(fault.Invalid, op, "is %d bytes long, at most %d are allowed", len(s), MaxLength)
	}
	levels, ascii := 1, true
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '/':
			levels++
		case c == 0:
			return fault.New(fault.Invalid, op, "%s holds U+0000", fault.Text(s))
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if levels > MaxLevels {
		return fault.New(fault.Invalid, op, "has %d levels, at most %d are allowed", levels, MaxLevels)
	}
	if !ascii && !utf8.ValidString(string(s)) {
		return fault.New(fault.Invalid, op, "%s is not well-formed UTF-8", fault.Text(s))
	}
	return nil
}

const sharePrefix = "$share/"

// ParseShare takes the filter of a shared subscription apart: $share/group/filter (section 4.8.2).
// Any other filter comes back as it is, with shared false. Errors: Invalid for a group or a filter
// that breaks the rules.
func ParseShare(filter string) (group, rest string, shared bool, err error) {
	const op = "shared subscription"
	after, shared := strings.CutPrefix(filter, sharePrefix)
	if !shared {
		return "", filter, false, nil
	}
	group, rest, ok := strings.Cut(after, "/")
	switch {
	case group == "" || !ok: // [MQTT-4.8.2-1]
		return "", "", true, fault.New(fault.Invalid, op, "%s is not $share/group/filter", fault.Text(filter))
	case strings.ContainsAny(group, "+#"): // [MQTT-4.8.2-2]
		return "", "", true, fault.New(fault.Invalid, op, "%s: the group holds a wildcard", fault.Text(filter))
	}
	if err := checkText(rest, op); err != nil {
		return "", "", true, err
	}
	if err := checkWildcards(rest, op); err != nil {
		return "", "", true, err
	}
	return group, rest, true, nil
}

// Match tells whether a valid filter matches a valid name, byte by byte: neither is normalised [MQTT-4.7.3-4]. A filter
// that begins with a wildcard matches no name that begins with $ [MQTT-4.7.2-1]. It does not know shared subscriptions.
func Match[F, N bytes](filter F, name N) bool {
	if len(name) > 0 && name[0] == '$' && len(filter) > 0 && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	f, n := 0, 0
	for {
		fEnd, nEnd := levelEnd(filter, f), levelEnd(name, n)
		switch {
		case isLevel(filter, f, fEnd, '#'):
			return true
		case isLevel(filter, f, fEnd, '+'):
		case string(filter[f:fEnd]) != string(name[n:nEnd]):
			return false
		}
		if nEnd == len(name) { // a/# matches a too (section 4.7.1.2)
			return fEnd == len(filter) || isLevel(filter, fEnd+1, len(filter), '#')
		}
		if fEnd == len(filter) {
			return false
		}
		f, n = fEnd+1, nEnd+1
	}
}

func levelEnd[S bytes](s S, from int) int {
	for from < len(s) && s[from] != '/' {
		from++
	}
	return from
}

func isLevel[S bytes](s S, from, to int, c byte) bool { return to-from == 1 && s[from] == c }

// Stem is what every name that a valid filter matches begins with: the levels in front of the first wildcard. Such a
// name is the stem or goes on behind it with a slash. It is empty for a filter that begins with a wildcard.
func Stem(filter string) string {
	for i := 0; i < len(filter); {
		end := levelEnd(filter, i)
		if isLevel(filter, i, end, '+') || isLevel(filter, i, end, '#') {
			return filter[:max(i-1, 0)]
		}
		i = end + 1
	}
	return filter
}

// Covers tells whether a valid topic filter matches every name that another one matches. It may say no where only an
// unusual spelling hides it: +/# matches what # matches.
func Covers(filter, other string) bool { return relate(filter, other, true) }

// Overlaps tells whether there are names that two valid topic filters match both.
func Overlaps(a, b string) bool { return relate(a, b, false) }

// relate walks two filters level by level: a covers b, or the two overlap.
func relate(a, b string, covers bool) bool {
	wild := func(filter string) bool { return filter[0] == '+' || filter[0] == '#' }
	if wild(a) && b[0] == '$' || wild(b) && a[0] == '$' {
		return false
	}
	for i, j := 0, 0; ; {
		aEnd, bEnd := levelEnd(a, i), levelEnd(b, j)
		switch {
		case isLevel(a, i, aEnd, '#'):
			return true
		case isLevel(b, j, bEnd, '#'):
			return !covers
		case isLevel(a, i, aEnd, '+'), !covers && isLevel(b, j, bEnd, '+'):
		case a[i:aEnd] != b[j:bEnd]:
			return false
		}
		aDone, bDone := aEnd == len(a), bEnd == len(b)
		switch {
		case aDone && bDone:
			return true
		case bDone: // a/# matches a too (section 4.7.1.2)
			return isLevel(a, aEnd+1, len(a), '#')
		case aDone:
			return !covers && isLevel(b, bEnd+1, len(b), '#')
		}
		i, j = aEnd+1, bEnd+1
	}
}
