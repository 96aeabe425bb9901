// Package credential knows what proves who somebody is: verifiers of passwords and of SCRAM, the messages of the
// mechanisms PLAIN and SCRAM, and how failed logins are slowed down.
//
//	p, err := credential.HashPassword(password, salt, credential.DefaultParams)
//	kept := p.Text() // $argon2id$v=19$m=19456,t=2,p=1$...
//	ok := p.Verify(password)
//
// Salts, nonces and times come in as arguments: chance and the clock are the caller's. A hash takes long and much
// memory on purpose; who asks for many of them together bounds them (access/verify).
package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

const op = "credential"

// MaxPassword bounds a password, in bytes: MQTT can carry no longer one.
const MaxPassword = 65_535

// Verifiers is what proves that somebody is a user: any of them may be zero.
type Verifiers struct {
	Password Password
	SCRAM256 SCRAM // for SCRAM-SHA-256
	SCRAM512 SCRAM // for SCRAM-SHA-512
}

// OfPassword is the text of what a password is held against, or "". It changes whenever that does.
func (v *Verifiers) OfPassword() string {
	if !v.Password.IsZero() {
		return v.Password.Text()
	}
	return v.SCRAM256.Text() + v.SCRAM512.Text()
}

// VerifyPassword tells whether a password is the user's, in constant time: by the verifier of passwords or, of a user
// who has none because a client of Kafka made it, by any of SCRAM.
func (v *Verifiers) VerifyPassword(password []byte) bool {
	if !v.Password.IsZero() {
		return v.Password.Verify(password)
	}
	by256, by512 := v.SCRAM256.Verify(password), v.SCRAM512.Verify(password)
	return by256 || by512
}

// SCRAM is the verifier of a mechanism; zero if the user has none.
func (v *Verifiers) SCRAM(m Mechanism) SCRAM {
	if m == SHA512 {
		return v.SCRAM512
	}
	return v.SCRAM256
}

// Put sets the verifier of a mechanism in the place of the one before.
func (v *Verifiers) Put(s SCRAM) {
	if s.mechanism == SHA512 {
		v.SCRAM512 = s
	} else {
		v.SCRAM256 = s
	}
}

// Remove takes the verifier of a mechanism away.
func (v *Verifiers) Remove(m Mechanism) {
	if m == SHA512 {
		v.SCRAM512 = SCRAM{}
	} else {
		v.SCRAM256 = SCRAM{}
	}
}

// mac is HMAC-SHA-256 over parts, each with its length, so that no two lists of parts are the same message.
func mac(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		n := uint64(len(p))
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, op, format, args...) }

// decode reads base64 of so many bytes, and one text for the same bytes only: Strict passes over ends of lines.
func decode(from *base64.Encoding, text string, least, most int) ([]byte, error) {
	b, err := from.Strict().DecodeString(text)
	if err != nil || len(b) < least || len(b) > most || strings.ContainsAny(text, "\r\n") {
		return nil, invalid("no base64 of %d to %d bytes", least, most)
	}
	return b, nil
}
