package credential

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"strings"
)

// Mechanism is one of SCRAM, with the number that Kafka's API gives it (KIP-554).
type Mechanism uint8

// The mechanisms (RFC 5802, RFC 7677).
const (
	SHA256 Mechanism = 1 // SCRAM-SHA-256
	SHA512 Mechanism = 2 // SCRAM-SHA-512
)

// Mechanisms lists them all.
func Mechanisms() []Mechanism { return []Mechanism{SHA256, SHA512} }

// String is the name that SASL has for the mechanism.
func (m Mechanism) String() string {
	switch m {
	case SHA256:
		return "SCRAM-SHA-256"
	case SHA512:
		return "SCRAM-SHA-512"
	}
	return fmt.Sprintf("mechanism %d", uint8(m))
}

// IsKnown tells whether it is one of them.
func (m Mechanism) IsKnown() bool { return m == SHA256 || m == SHA512 }

func (m Mechanism) hash() func() hash.Hash {
	if m == SHA512 {
		return sha512.New
	}
	return sha256.New
}

func (m Mechanism) size() int { return m.hash()().Size() }

func (m Mechanism) mac(key []byte, message string) []byte {
	h := hmac.New(m.hash(), key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

func (m Mechanism) digest(b []byte) []byte {
	h := m.hash()()
	h.Write(b)
	return h.Sum(nil)
}

// The iterations of a verifier: Kafka's bounds, and what we make.
const (
	MinIterations     = 4_096
	MaxIterations     = 16_384
	DefaultIterations = 8_192
)

// maxSCRAMSalt bounds a salt, in bytes: a client of Kafka may have made it.
const maxSCRAMSalt = 128

// SCRAM is the verifier of a mechanism: what a server keeps of a password (RFC 5802, section 3). The zero SCRAM
// verifies nothing. It is immutable, and printing it does not show it.
type SCRAM struct {
	mechanism            Mechanism
	iterations           int
	salt                 []byte
	storedKey, serverKey []byte
}

// NewSCRAM makes a verifier of a password. Its bytes are taken as they are: Kafka and its clients apply no SASLprep.
// Errors: Invalid.
func NewSCRAM(m Mechanism, password, salt []byte, iterations int) (SCRAM, error) {
	if err := checkNew(password, salt); err != nil {
		return SCRAM{}, err
	}
	if err := checkSCRAM(m, salt, iterations); err != nil {
		return SCRAM{}, err
	}
	return m.derive(password, salt, iterations)
}

// derive hashes a password, which takes milliseconds. Errors: Invalid.
func (m Mechanism) derive(password, salt []byte, iterations int) (SCRAM, error) {
	salted, err := pbkdf2.Key(m.hash(), string(password), salt, iterations, m.size())
	if err != nil {
		return SCRAM{}, invalid("%s: %w", m, err)
	}
	return FromSalted(m, salted, salt, iterations)
}

// FromSalted makes a verifier of a salted password, as a client of Kafka computes it (KIP-554). Errors: Invalid.
func FromSalted(m Mechanism, salted, salt []byte, iterations int) (SCRAM, error) {
	if err := checkSCRAM(m, salt, iterations); err != nil {
		return SCRAM{}, err
	}
	if len(salted) != m.size() {
		return SCRAM{}, invalid("a salted password of %d bytes: %s has %d", len(salted), m, m.size())
	}
	return SCRAM{
		mechanism: m, iterations: iterations, salt: bytes.Clone(salt),
		storedKey: m.digest(m.mac(salted, "Client Key")),
		serverKey: m.mac(salted, "Server Key"),
	}, nil
}

func checkSCRAM(m Mechanism, salt []byte, iterations int) error {
	switch {
	case !m.IsKnown():
		return invalid("no mechanism %d of SCRAM", m)
	case iterations < MinIterations || iterations > MaxIterations:
		return invalid("%d iterations: %d to %d", iterations, MinIterations, MaxIterations)
	case len(salt) == 0 || len(salt) > maxSCRAMSalt:
		return invalid("a salt of %d bytes: 1 to %d", len(salt), maxSCRAMSalt)
	}
	return nil
}

// ParseSCRAM reads a verifier: mechanism$iterations:salt$storedKey:serverKey, the form of RFC 5803. Errors: Invalid;
// they do not repeat what was read.
func ParseSCRAM(text string) (SCRAM, error) {
	parts := strings.Split(text, "$")
	if len(text) > 512 || len(parts) != 3 {
		return SCRAM{}, invalid("a verifier is not of the form SCRAM-SHA-256$iterations:salt$key:key")
	}
	var s SCRAM
	for _, m := range Mechanisms() {
		if parts[0] == m.String() {
			s.mechanism = m
		}
	}
	count, salt, _ := strings.Cut(parts[1], ":")
	stored, server, _ := strings.Cut(parts[2], ":")
	var err error
	if s.iterations, err = number(count, MaxIterations); err != nil {
		return SCRAM{}, err
	}
	if s.salt, err = decode(base64.StdEncoding, salt, 1, maxSCRAMSalt); err != nil {
		return SCRAM{}, err
	}
	if err = checkSCRAM(s.mechanism, s.salt, s.iterations); err != nil {
		return SCRAM{}, err
	}
	size := s.mechanism.size()
	if s.storedKey, err = decode(base64.StdEncoding, stored, size, size); err != nil {
		return SCRAM{}, err
	}
	s.serverKey, err = decode(base64.StdEncoding, server, size, size)
	if err != nil {
		return SCRAM{}, err
	}
	return s, nil
}

// Decoy is the verifier of a user who is not there: always the same for a name as long as the secret is, so that who
// asks twice learns nothing. No password fits.
func Decoy(m Mechanism, secret []byte, user string) SCRAM {
	part := func(what string) []byte { return mac(secret, m.String(), what, user) }
	return SCRAM{
		mechanism: m, iterations: DefaultIterations, salt: part("salt")[:SaltSize],
		storedKey: m.digest(part("stored")), serverKey: m.digest(part("server")),
	}
}

// Text is the verifier as ParseSCRAM reads it; "" for none. It is a secret: it goes into files of the catalog only.
func (s SCRAM) Text() string {
	if s.IsZero() {
		return ""
	}
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", s.mechanism, s.iterations, text(s.salt), text(s.storedKey), text(s.serverKey))
}

// IsZero tells whether there is no verifier.
func (s SCRAM) IsZero() bool { return s.mechanism == 0 }

// Mechanism is what the verifier is for.
func (s SCRAM) Mechanism() Mechanism { return s.mechanism }

// Iterations is how often the password was hashed.
func (s SCRAM) Iterations() int { return s.iterations }

// Verify tells whether a password is the one, which takes milliseconds: for logins that send the password itself.
func (s SCRAM) Verify(password []byte) bool {
	if s.IsZero() || len(password) > MaxPassword {
		return false
	}
	made, err := s.mechanism.derive(password, s.salt, s.iterations)
	return err == nil && subtle.ConstantTimeCompare(made.storedKey, s.storedKey) == 1
}

// String names the mechanism and shows nothing else.
func (s SCRAM) String() string {
	if s.IsZero() {
		return "no verifier"
	}
	return s.mechanism.String() + " (not shown)"
}

// GoString is String: %#v shows no more.
func (s SCRAM) GoString() string { return s.String() }
