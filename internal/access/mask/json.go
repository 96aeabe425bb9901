package mask

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// The grammar is that of RFC 8259, and no more lenient: what two readers of JSON may understand differently is refused.
// That is bytes that are no UTF-8, a byte order mark, more than one value, and names with half a surrogate pair or a
// NUL in them. Names that come twice are masked each time, and escapes in names are undone before they are compared.

// scan reads one payload from the front to its end. What is not changed is copied in large pieces.
type scan struct {
	m    *Masker
	in   []byte
	at   int
	from int    // what lies before was copied, or left out
	out  []byte // behind what was there
	base int    // where it begins in out
	// active are the nodes at the values that the scan is in, of the innermost last.
	active  []active
	plain   []byte // memory of a string without escapes
	changed bool
	halved  bool // the last string had half a surrogate pair
	broken  bool // a name that two readers may understand differently
}

// active is a node whose paths go on in a value.
type active struct {
	node *node
	// inside says that the value is an element of the array that the node is about: its names are looked for, whatever is
	// to become of it itself was asked before.
	inside bool
}

// json masks a payload. What is masked is appended to a buffer; changed is false if nothing had to be.
func (m *Masker) json(to, payload []byte) (out []byte, changed, ok bool) {
	if len(payload) > MaxPayload {
		return to, false, false
	}
	s := &m.scan
	*s = scan{m: m, in: payload, out: to, base: len(to), active: s.active[:0], plain: s.plain[:0]}
	for _, f := range m.set.Fields {
		if f.root != nil {
			s.active = append(s.active, active{node: f.root})
		}
	}
	s.space()
	gone, ok := s.value(0, 0)
	s.space()
	ok = ok && s.at == len(s.in)
	switch {
	case ok && gone:
		s.out, s.changed = s.out[:s.base], true
	case ok && s.changed:
		s.copy(len(s.in))
	}
	out, changed = s.out, s.changed
	ok = ok && len(out)-s.base <= MaxPayload
	s.in, s.out = nil, nil
	return out, changed, ok
}

// copy copies what was read up to a place and not copied yet.
func (s *scan) copy(to int) {
	s.out = append(s.out, s.in[s.from:to]...)
	s.from = to
}

// leave leaves out what was read from a place on.
func (s *scan) leave(at int) {
	s.copy(at)
	s.from, s.changed = s.at, true
}

func (s *scan) space() {
	for s.at < len(s.in) {
		switch s.in[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// next takes a byte if it is the next one.
func (s *scan) next(c byte) bool {
	if s.at == len(s.in) || s.in[s.at] != c {
		return false
	}
	s.at++
	return true
}

// value reads a value and masks it by the nodes from lo on. Gone tells that it is to be left out, which is for who
// knows what is around it.
func (s *scan) value(lo, depth int) (gone, ok bool) {
	if s.at == len(s.in) || len(s.out)-s.base > MaxPayload {
		return false, false
	}
	begin := s.at
	if s.in[begin] != '[' {
		s.asOne(lo)
	}
	if a := s.wanted(lo); a.does != 0 {
		if !s.skip(depth) {
			return false, false
		}
		return s.become(a, begin), true
	}
	switch s.in[begin] {
	case '{':
		return false, s.object(lo, depth+1)
	case '[':
		return false, s.array(lo, depth+1)
	}
	return false, s.scalar()
}

// asOne treats a value that is no array as one with it as its only element: a path may say a[].b where a is an object.
func (s *scan) asOne(lo int) {
	for i := lo; i < len(s.active); i++ {
		if a := s.active[i]; a.node.each != nil && !a.inside {
			s.active = append(s.active, active{node: a.node.each})
		}
	}
}

// wanted is what becomes of the whole value.
func (s *scan) wanted(lo int) (a action) {
	for _, one := range s.active[lo:] {
		if !one.inside {
			a = a.with(one.node.action)
		}
	}
	return a
}

// skip reads a value that is not looked into.
func (s *scan) skip(depth int) bool {
	_, ok := s.value(len(s.active), depth)
	return ok
}

// object reads an object.
func (s *scan) object(lo, depth int) bool {
	if s.at++; depth > MaxDepth {
		return false
	}
	hi := len(s.active)
	members := sequence{s: s, end: s.at}
	for s.space(); !s.next('}'); s.space() {
		if !members.separate() {
			return false
		}
		raw, ok := s.text()
		if s.space(); !ok || !s.next(':') {
			return false
		}
		s.space()
		if hi > lo {
			s.enter(lo, hi, s.name(raw))
		}
		gone, ok := s.value(hi, depth)
		if s.active = s.active[:hi]; !ok || s.broken {
			return false
		}
		members.was(gone)
	}
	return true
}

// enter makes the nodes active that names lead to from those from lo to hi.
func (s *scan) enter(lo, hi int, name []byte) {
	for i := lo; i < hi; i++ {
		if to := s.active[i].node.names[string(name)]; to != nil {
			s.active = append(s.active, active{node: to})
		}
	}
}

// array reads an array. The names of a path are looked for in its elements too, whether the path says [] or not.
func (s *scan) array(lo, depth int) bool {
	if s.at++; depth > MaxDepth {
		return false
	}
	hi := len(s.active)
	elements := sequence{s: s, end: s.at}
	for s.space(); !s.next(']'); s.space() {
		if !elements.separate() {
			return false
		}
		for i := lo; i < hi; i++ {
			a := s.active[i]
			s.active = append(s.active, active{node: a.node, inside: true})
			if a.node.each != nil && !a.inside {
				s.active = append(s.active, active{node: a.node.each})
			}
		}
		gone, ok := s.value(hi, depth)
		if s.active = s.active[:hi]; !ok {
			return false
		}
		elements.was(gone)
	}
	return true
}

// sequence is the members of an object, or the elements of an array: some are left out, with a comma each.
type sequence struct {
	s    *scan
	end  int // of the last one that was read, left out or not
	read int
	kept int
}

// separate reads the comma between two. Where all before it were left out, it is too.
func (q *sequence) separate() bool {
	if q.read++; q.read == 1 {
		return true
	}
	ok := q.s.next(',')
	if q.s.space(); q.kept == 0 {
		q.s.from = q.s.at
	}
	return ok
}

// was tells whether the one that was read is left out.
func (q *sequence) was(gone bool) {
	switch s := q.s; {
	case !gone:
		q.kept++
	case q.kept == 0 && q.read > 1:
		s.from = s.at
	default:
		s.leave(q.end) // with the comma before it
	}
	q.end = q.s.at
}

// become masks the value that was read from a place on, or tells that it is to be left out.
func (s *scan) become(a action, begin int) (gone bool) {
	raw := s.in[begin:s.at]
	kind, text := literal, raw
	switch raw[0] {
	case 'n': // null
		return a.does == Remove
	case '"':
		kind, text = textual, s.unescape(raw[1:len(raw)-1])
	case '{', '[':
		if a.does == Truncate {
			return true
		}
	}
	switch a.does {
	case Hash:
		if s.leave(begin); kind == literal {
			text = s.compact(raw)
		}
		s.out = append(s.m.appendHash(append(s.out, '"'), kind, text), '"')
	case Truncate:
		s.leave(begin)
		s.out = appendString(s.out, first(text, a.length))
	default:
		return true
	}
	return false
}

// scalar reads a string, a number, or true, false and null.
func (s *scan) scalar() bool {
	switch c := s.in[s.at]; c {
	case '"':
		_, ok := s.text()
		return ok
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *scan) word(w string) bool {
	if !bytes.HasPrefix(s.in[s.at:], []byte(w)) {
		return false
	}
	s.at += len(w)
	return true
}

func (s *scan) number() bool {
	s.next('-')
	if !s.next('0') && !s.digits() {
		return false
	}
	if s.next('.') && !s.digits() {
		return false
	}
	if s.next('e') || s.next('E') {
		if !s.next('+') {
			s.next('-')
		}
		return s.digits()
	}
	return true
}

func (s *scan) digits() bool {
	begin := s.at
	for s.at < len(s.in) && '0' <= s.in[s.at] && s.in[s.at] <= '9' {
		s.at++
	}
	return s.at > begin
}

// text reads a string, and gives what stands between its quotation marks.
func (s *scan) text() (raw []byte, ok bool) {
	if !s.next('"') {
		return nil, false
	}
	for begin := s.at; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; {
		case c == '"':
			raw = s.in[begin:s.at]
			s.at++
			return raw, utf8.Valid(raw)
		case c < ' ':
			return nil, false
		case c == '\\' && !s.escape():
			return nil, false
		}
	}
	return nil, false
}

// escape reads an escape up to its last byte.
func (s *scan) escape() bool {
	if s.at++; s.at == len(s.in) {
		return false
	}
	if s.in[s.at] != 'u' {
		return bytes.IndexByte([]byte(escaped), s.in[s.at]) >= 0
	}
	_, ok := unit(s.in[s.at+1:])
	s.at += hexDigits
	return ok
}

// escaped are the letters of escapes, and escapes what they stand for.
const (
	escaped = `"\/bfnrt`
	escapes = "\"\\/\b\f\n\r\t"
)

const hexDigits = 4

// unit is the number that four hexadecimal digits are.
func unit(b []byte) (r rune, ok bool) {
	if len(b) < hexDigits {
		return 0, false
	}
	for _, c := range b[:hexDigits] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// name is the name that the text of a string is. Broken notes one that two readers may understand differently.
func (s *scan) name(raw []byte) []byte {
	name := s.unescape(raw)
	if len(name) < len(raw) { // there was an escape
		s.broken = s.broken || s.halved || bytes.IndexByte(name, 0) >= 0
	}
	return name
}

// unescape is the text of a string, which was read. It is valid until the next one. Half a surrogate pair is U+FFFD.
func (s *scan) unescape(raw []byte) []byte {
	s.halved = false
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	s.plain = s.plain[:0]
	for i := 0; i < len(raw); i++ {
		switch {
		case raw[i] != '\\':
			s.plain = append(s.plain, raw[i])
			continue
		case raw[i+1] != 'u':
			i++
			s.plain = append(s.plain, escapes[bytes.IndexByte([]byte(escaped), raw[i])])
			continue
		}
		const width = 2 + hexDigits
		r, _ := unit(raw[i+2:])
		i += width - 1
		if utf16.IsSurrogate(r) {
			pair := utf8.RuneError
			if rest := raw[i+1:]; len(rest) >= width && rest[0] == '\\' && rest[1] == 'u' {
				low, _ := unit(rest[2:])
				pair = utf16.DecodeRune(r, low)
			}
			if r = pair; r == utf8.RuneError {
				s.halved = true
			} else {
				i += width
			}
		}
		s.plain = utf8.AppendRune(s.plain, r)
	}
	return s.plain
}

// compact is a value without the spaces between its parts. It is valid until the next string.
func (s *scan) compact(raw []byte) []byte {
	s.plain = s.plain[:0]
	quoted := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case quoted && c == '\\':
			s.plain = append(s.plain, c)
			i++
			c = raw[i]
		case c == '"':
			quoted = !quoted
		case !quoted && c <= ' ':
			continue
		}
		s.plain = append(s.plain, c)
	}
	return s.plain
}

// appendString appends a text as a string.
func appendString(to, text []byte) []byte {
	const digits = "0123456789abcdef"
	to = append(to, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c < ' ':
			to = append(to, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			to = append(to, c)
		}
	}
	return append(to, '"')
}
