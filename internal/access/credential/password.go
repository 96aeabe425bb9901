package credential

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Params is what a hash of Argon2id costs (RFC 9106).
type Params struct {
	Memory  uint32 // KiB, 8 a thread at least
	Time    uint32 // passes over the memory, from 1
	Threads uint8  // from 1
}

// DefaultParams is what OWASP recommends where memory is short: 19 MiB for each hash under way.
var DefaultParams = Params{Memory: 19 * 1024, Time: 2, Threads: 1}

// The bounds of what a text may ask for: who writes verifiers must not be able to stop the server with one.
const (
	maxMemory     = 256 * 1024 // KiB
	maxTime       = 32
	maxThreads    = 16
	maxPasses     = 1024 * 1024 // KiB times passes
	maxIterations = 1_000_000

	// SaltSize is the bytes of a salt that we make.
	SaltSize = 16
	minSalt  = 8
	maxSalt  = 64
	hashSize = 32
	maxHash  = 64
)

// Check tells whether a hash with the parameters is bearable. Errors: Invalid.
func (p Params) Check() error {
	switch {
	case p.Time < 1 || p.Time > maxTime:
		return invalid("Argon2id with t=%d: 1 to %d passes", p.Time, maxTime)
	case p.Threads < 1 || p.Threads > maxThreads:
		return invalid("Argon2id with p=%d: 1 to %d threads", p.Threads, maxThreads)
	case p.Memory < 8*uint32(p.Threads) || p.Memory > maxMemory:
		return invalid("Argon2id with m=%d: %d to %d KiB", p.Memory, 8*uint32(p.Threads), maxMemory)
	case p.Memory*p.Time > maxPasses:
		return invalid("Argon2id with m=%d and t=%d: at most %d KiB in all passes", p.Memory, p.Time, maxPasses)
	}
	return nil
}

// scheme is how a password is hashed.
type scheme uint8

const (
	none     scheme = iota
	argon2id        // RFC 9106
	digest          // SHA-256 once: only for secrets that nobody can guess
	sha512p         // Mosquitto's $6$: SHA-512 of password and salt
	pbkdf2p         // Mosquitto's $7$: PBKDF2 with HMAC-SHA-512
)

// Password is the verifier of a password. The zero Password verifies nothing. It is immutable, and printing it does
// not show it.
type Password struct {
	scheme     scheme
	params     Params // of argon2id
	iterations int    // of pbkdf2p
	salt, hash []byte
}

// HashPassword makes a verifier of a password with Argon2id. The salt is random, of 8 to 64 bytes. Errors: Invalid.
func HashPassword(password, salt []byte, p Params) (Password, error) {
	if err := checkNew(password, salt); err != nil {
		return Password{}, err
	}
	if err := p.Check(); err != nil {
		return Password{}, err
	}
	made := Password{scheme: argon2id, params: p, salt: bytes.Clone(salt), hash: make([]byte, hashSize)}
	made.hash = made.of(password)
	return made, nil
}

// minSecret is the bytes of a generated secret: 22 characters of base64 hold 128 bits.
const minSecret = 22

// HashSecret makes a verifier of a secret that a machine made of at least 128 bits of chance, 22 characters or more. It
// is verified in a microsecond: a slow hash guards secrets that can be guessed, and this one cannot. Errors: Invalid.
func HashSecret(secret, salt []byte) (Password, error) {
	if err := checkNew(secret, salt); err != nil {
		return Password{}, err
	}
	if len(secret) < minSecret {
		return Password{}, invalid("a generated secret of %d characters: at least %d", len(secret), minSecret)
	}
	made := Password{scheme: digest, salt: bytes.Clone(salt), hash: make([]byte, sha256.Size)}
	made.hash = made.of(secret)
	return made, nil
}

func checkNew(password, salt []byte) error {
	switch {
	case len(password) == 0 || len(password) > MaxPassword:
		return invalid("a password of %d bytes: 1 to %d", len(password), MaxPassword)
	case len(salt) < minSalt || len(salt) > maxSalt:
		return invalid("a salt of %d bytes: %d to %d", len(salt), minSalt, maxSalt)
	}
	return nil
}

// ParsePassword reads a verifier: our own text, or one of Mosquitto's ($6$, $7$, $argon2id$). Errors: Invalid; they do
// not repeat what was read.
func ParsePassword(text string) (Password, error) {
	if len(text) > 512 {
		return Password{}, invalid("a verifier of %d bytes", len(text))
	}
	parts := strings.Split(text, "$")
	if len(parts) < 4 || parts[0] != "" {
		return Password{}, unknownScheme()
	}
	switch parts = parts[1:]; parts[0] {
	case "argon2id":
		return parseArgon2id(parts)
	case "secret":
		return parseHash(Password{scheme: digest}, parts[1:], base64.RawStdEncoding, sha256.Size)
	case "6":
		return parseHash(Password{scheme: sha512p}, parts[1:], base64.StdEncoding, sha512.Size)
	case "7":
		n, err := number(parts[1], maxIterations)
		if err != nil {
			return Password{}, err
		}
		return parseHash(Password{scheme: pbkdf2p, iterations: n}, parts[2:], base64.StdEncoding, sha512.Size)
	}
	return Password{}, unknownScheme()
}

func unknownScheme() error {
	return fault.New(fault.Invalid, op, "no verifier of a password that is known here").
		WithHint("known are $argon2id$, and $6$ and $7$ of Mosquitto")
}

// parseArgon2id reads the PHC string format: argon2id, v=19, m=..,t=..,p=.., salt, hash.
func parseArgon2id(parts []string) (Password, error) {
	if len(parts) != 5 || parts[1] != "v=19" {
		return Password{}, invalid("a verifier is not of the form $argon2id$v=19$m=..,t=..,p=..$salt$hash")
	}
	var values [3]int
	costs := strings.Split(parts[2], ",")
	for i, name := range []string{"m=", "t=", "p="} {
		if len(costs) != len(values) || !strings.HasPrefix(costs[i], name) {
			return Password{}, invalid("a verifier of Argon2id does not say m, t and p")
		}
		var err error
		if values[i], err = number(costs[i][len(name):], maxMemory); err != nil {
			return Password{}, err
		}
	}
	if values[2] > maxThreads {
		return Password{}, invalid("Argon2id with p=%d: 1 to %d threads", values[2], maxThreads)
	}
	p := Params{Memory: uint32(values[0]), Time: uint32(values[1]), Threads: uint8(values[2])}
	if err := p.Check(); err != nil {
		return Password{}, err
	}
	return parseHash(Password{scheme: argon2id, params: p}, parts[3:], base64.RawStdEncoding, 0)
}

// parseHash reads a salt and a hash of so many bytes; 0: of 16 to 64.
func parseHash(p Password, parts []string, from *base64.Encoding, size int) (Password, error) {
	if len(parts) != 2 {
		return Password{}, invalid("a verifier has not a salt and a hash at its end")
	}
	least, most := size, size
	if size == 0 {
		least, most = 16, maxHash
	}
	shortest := minSalt
	if p.scheme == sha512p || p.scheme == pbkdf2p {
		shortest = 1
	}
	var err error
	if p.salt, err = decode(from, parts[0], shortest, maxSalt); err != nil {
		return Password{}, err
	}
	if p.hash, err = decode(from, parts[1], least, most); err != nil {
		return Password{}, err
	}
	return p, nil
}

// number reads a number from 1 on, without a sign or zeros in front.
func number(text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most || strconv.Itoa(n) != text {
		return 0, invalid("a number of a verifier is not from 1 to %d", most)
	}
	return n, nil
}

// of hashes a password as the verifier's was.
func (p *Password) of(password []byte) []byte {
	switch p.scheme {
	case argon2id:
		return argon2.IDKey(password, p.salt, p.params.Time, p.params.Memory, p.params.Threads, uint32(len(p.hash)))
	case digest:
		return mac(p.salt, string(password))
	case sha512p:
		h := sha512.New()
		h.Write(password)
		h.Write(p.salt)
		return h.Sum(nil)
	case pbkdf2p:
		// It fails where the system allows only what FIPS 140 does, and a short salt is not that: nothing verifies then.
		key, err := pbkdf2.Key(sha512.New, string(password), p.salt, p.iterations, sha512.Size)
		if err == nil {
			return key
		}
	}
	return nil
}

// Verify tells whether a password is the one. Nothing about the hash can be learned from how long it takes.
func (p Password) Verify(password []byte) bool {
	if p.scheme == none || len(password) > MaxPassword {
		return false
	}
	return subtle.ConstantTimeCompare(p.of(password), p.hash) == 1
}

// IsZero tells whether there is no verifier.
func (p Password) IsZero() bool { return p.scheme == none }

// Slow tells whether verifying takes long and much memory, so that those under way have to be bounded.
func (p Password) Slow() bool { return p.scheme == argon2id || p.scheme == pbkdf2p }

// Dated tells whether a password that was just verified should be hashed anew: by Mosquitto's schemes, or at less
// cost than wanted.
func (p Password) Dated(wanted Params) bool {
	switch p.scheme {
	case none, digest:
		return false
	case argon2id:
		return p.params.Memory*p.params.Time < wanted.Memory*wanted.Time
	}
	return true
}

// Text is the verifier as ParsePassword reads it; "" for none. It is a secret: it goes into files of the catalog only.
func (p Password) Text() string {
	raw, padded := base64.RawStdEncoding.EncodeToString, base64.StdEncoding.EncodeToString
	switch p.scheme {
	case argon2id:
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.params.Memory, p.params.Time, p.params.Threads,
			raw(p.salt), raw(p.hash))
	case digest:
		return "$secret$" + raw(p.salt) + "$" + raw(p.hash)
	case sha512p:
		return "$6$" + padded(p.salt) + "$" + padded(p.hash)
	case pbkdf2p:
		return fmt.Sprintf("$7$%d$%s$%s", p.iterations, padded(p.salt), padded(p.hash))
	}
	return ""
}

// String names the scheme and shows nothing else.
func (p Password) String() string {
	return [...]string{"no password", "argon2id (not shown)", "generated secret (not shown)",
		"mosquitto $6$ (not shown)", "mosquitto $7$ (not shown)"}[p.scheme]
}

// GoString is String: %#v shows no more.
func (p Password) GoString() string { return p.String() }
