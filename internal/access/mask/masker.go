package mask

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"unicode/utf8"
)

// The bounds of what can be masked. What is beyond them is not shown.
const (
	MaxPayload = 1 << 20 // bytes of JSON, before and after
	MaxDepth   = 64      // objects and arrays in each other
)

// HashDigits is how many hexadecimal digits stand for a value that is hashed: 128 bits of its HMAC-SHA-256.
const HashDigits = 32

// Masker masks messages. It belongs to one goroutine.
type Masker struct {
	set  *Set
	mac  hash.Hash
	sum  []byte
	scan scan
	// memory is what was made since Reset. What grows out of it leaves the older pieces valid.
	memory []byte
}

// Masker makes one for a set, which is not nil.
func (s *Set) Masker() *Masker { return &Masker{set: s} }

// Reset lets the memory be used again of all that was given out.
func (m *Masker) Reset() { m.memory = m.memory[:0] }

// Key is what the reader may see of the key of a record; nil: there is none.
func (m *Masker) Key(key []byte) []byte {
	var a action
	for _, f := range m.set.Fields {
		a = a.with(f.key)
	}
	masked, _ := m.value(a, key)
	return masked
}

// Header is what the reader may see of the value of a header, and whether of the header at all.
func (m *Masker) Header(name, value []byte) (masked []byte, shown bool) {
	var a action
	name = bare(name)
	for _, f := range m.set.Fields {
		a = a.with(f.headers[string(name)])
	}
	return m.value(a, value)
}

// value masks bytes that are no JSON: a null value stays one unless it is removed.
func (m *Masker) value(a action, value []byte) (masked []byte, shown bool) {
	if a.does == Remove {
		return nil, false
	}
	if a.does == 0 || value == nil || a.does == Truncate && len(value) == 0 {
		return value, true
	}
	at := len(m.memory)
	if a.does == Hash {
		m.memory = m.appendHash(m.memory, textual, value)
		return m.memory[at:len(m.memory):len(m.memory)], true
	}
	m.memory = append(m.memory, first(value, a.length)...)
	return m.memory[at:len(m.memory):len(m.memory)], true
}

// Payload is what the reader may see of a payload. It is false where that is nothing, because it cannot be masked: then
// masked is empty, and not null. A payload of no bytes has nothing to mask.
func (m *Masker) Payload(payload []byte) (masked []byte, ok bool) {
	if len(payload) == 0 || !m.set.AboutPayload() {
		return payload, true
	}
	at := len(m.memory)
	memory, changed, ok := m.json(m.memory, payload)
	if m.memory = memory; !ok {
		m.memory = m.memory[:at]
		return []byte{}, false
	}
	switch {
	case !changed:
		return payload, true
	case len(memory) == at: // all of it was removed
		return []byte{}, true
	}
	return m.memory[at:len(m.memory):len(m.memory)], true
}

// kinds of hashed values: what is text is not the same as a number of the same digits.
const (
	textual byte = 's'
	literal byte = 'j'
)

// appendHash appends what stands for a value.
func (m *Masker) appendHash(to []byte, kind byte, value []byte) []byte {
	if m.mac == nil {
		m.mac = hmac.New(sha256.New, m.set.Secret)
	}
	m.mac.Reset()
	m.mac.Write([]byte{kind}) // never fails, nor does the next
	m.mac.Write(value)
	m.sum = m.mac.Sum(m.sum[:0])
	return hex.AppendEncode(to, m.sum[:HashDigits/2])
}

// first is the first characters of a text; of what is none, the first bytes.
func first(text []byte, characters int) []byte {
	if !utf8.Valid(text) {
		return text[:min(len(text), characters)]
	}
	at := 0
	for ; characters > 0 && at < len(text); characters-- {
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	return text[:at]
}
