package packet

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

// Words of eight equal bytes, for looking at eight bytes of a string at once.
const (
	ones   = 0x0101010101010101
	highs  = 0x8080808080808080
	pluses = ones * '+'
	hashes = ones * '#'
)

// zeroIn is not 0 when a byte of x is 0. It may be wrong about bytes above a zero one, never about
// whether there is one.
func zeroIn(x uint64) uint64 { return (x - ones) &^ x & highs }

// checkString applies the rules of section 1.5.4: well-formed UTF-8 without surrogates
// [MQTT-1.5.4-1] (which well-formed UTF-8 excludes) and without U+0000 [MQTT-1.5.4-2]. A byte order
// mark is an ordinary character [MQTT-1.5.4-3].
func checkString(b []byte) error {
	rest := b
	for len(rest) >= 8 {
		x := binary.LittleEndian.Uint64(rest)
		if (x&highs)|zeroIn(x) != 0 {
			return checkStringSlowly(b)
		}
		rest = rest[8:]
	}
	for _, c := range rest {
		if c == 0 || c >= utf8.RuneSelf {
			return checkStringSlowly(b)
		}
	}
	return nil
}

func checkStringSlowly(b []byte) error {
	if !utf8.Valid(b) {
		return malformed("a string is not well-formed UTF-8")
	}
	if slices.Contains(b, 0) {
		return malformed("a string holds U+0000")
	}
	return nil
}

// checkTopicName judges a topic name: a string without wildcards (section 4.7). An empty one is left
// to the caller, because a PUBLISH with a topic alias may have it.
func checkTopicName(b []byte) error {
	at := 0
	for ; at+8 <= len(b); at += 8 {
		if special(binary.LittleEndian.Uint64(b[at:])) != 0 {
			return checkTopicSlowly(b)
		}
	}
	if at < len(b) && len(b) >= 8 { // the last eight bytes: some of them were looked at already
		if special(binary.LittleEndian.Uint64(b[len(b)-8:])) != 0 {
			return checkTopicSlowly(b)
		}
		return nil
	}
	for _, c := range b[at:] {
		if c == 0 || c == '+' || c == '#' || c >= utf8.RuneSelf {
			return checkTopicSlowly(b)
		}
	}
	return nil
}

// special is not 0 when a byte of x needs a closer look in a topic name.
func special(x uint64) uint64 { return x&highs | zeroIn(x) | zeroIn(x^pluses) | zeroIn(x^hashes) }

func checkTopicSlowly(b []byte) error {
	if err := checkStringSlowly(b); err != nil {
		return err
	}
	for _, c := range b {
		if c == '+' || c == '#' { // [MQTT-3.3.2-2] [MQTT-4.7.0-1]
			return malformed("a topic name holds a wildcard")
		}
	}
	return nil
}

const shareLevel = "$share/"

// isShared tells whether a filter is that of a shared subscription (section 4.8.2).
func isShared(filter []byte) bool {
	return len(filter) >= len(shareLevel) && string(filter[:len(shareLevel)]) == shareLevel
}

// checkFilter judges the form of a filter that is a well-formed string: its length, its wildcards, which no version
// lacks [MQTT-3.8.3-2 of 3.1.1], and the name of its share. MQTT 3 knows no shares, but nothing else that begins with
// $share either: brokers take it for one in every version.
func checkFilter(filter []byte) error {
	if isShared(filter) {
		rest := filter[len(shareLevel):]
		end := bytes.IndexByte(rest, '/')
		switch {
		case end <= 0 || end == len(rest)-1: // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
			return malformed("a shared subscription without a share name or without a topic filter")
		case bytes.ContainsAny(rest[:end], "+#"): // [MQTT-4.8.2-2]
			return malformed("a share name holds a wildcard")
		}
		filter = rest[end+1:]
	}
	if len(filter) == 0 {
		return malformed("an empty topic filter") // [MQTT-4.7.3-1]
	}
	for i, c := range filter {
		starts := i == 0 || filter[i-1] == '/'
		ends := i == len(filter)-1
		switch {
		case c == '#' && !(starts && ends): // [MQTT-4.7.1-1]
			return malformed("# in a topic filter is not its last level")
		case c == '+' && !(starts && (ends || filter[i+1] == '/')): // [MQTT-4.7.1-2]
			return malformed("+ in a topic filter does not fill a level")
		}
	}
	return nil
}
