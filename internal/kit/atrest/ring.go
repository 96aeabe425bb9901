package atrest

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"sync/atomic"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Wrapper is a key-encryption key: one in memory, or one that a service keeps and does not give away. Its methods may
// be called from any goroutine.
type Wrapper interface {
	// ID tells it from others, in 1 to 32 bytes. It is no secret.
	ID() string
	// Wrap encrypts a data key of 32 bytes, bound to a context, in at most 364 bytes. Errors: IO.
	Wrap(key, context []byte) ([]byte, error)
	// Unwrap is its inverse. Errors: Corrupt (not what Wrap made with this context), IO.
	Unwrap(wrapped, context []byte) ([]byte, error)
}

// Ring is the key-encryption keys that are known: the first one wraps what is new, all of them unwrap. It may be used
// from any goroutine.
type Ring struct{ keys atomic.Pointer[[]Wrapper] }

// NewRing is the ring of some keys, the first of which wraps what is new. Errors: Invalid (none, or two of one id).
func NewRing(keys []Wrapper) (*Ring, error) {
	r := &Ring{}
	return r, r.Set(keys)
}

// Set takes other keys from now on. Errors: as NewRing.
func (r *Ring) Set(keys []Wrapper) error {
	const op = "atrest.Ring"
	if len(keys) == 0 {
		return fault.New(fault.Invalid, op, "no key").WithHint("firth key generate makes one")
	}
	for i, k := range keys {
		same := func(other Wrapper) bool { return other.ID() == k.ID() }
		if n := len(k.ID()); n < 1 || n > idBytes || slices.ContainsFunc(keys[:i], same) {
			return fault.New(fault.Invalid, op, "key %q is there twice or has no good id", k.ID())
		}
	}
	keys = slices.Clone(keys)
	r.keys.Store(&keys)
	return nil
}

// IDs lists the ids of the keys. The first one wraps what is new.
func (r *Ring) IDs() []string {
	var ids []string
	for _, k := range *r.keys.Load() {
		ids = append(ids, k.ID())
	}
	return ids
}

// NewKey makes the data key of a file that is begun. Errors: IO, Internal.
func (r *Ring) NewKey(kind Kind, name string) (*Key, error) {
	secret, err := random(keyBytes)
	if err != nil {
		return nil, err
	}
	return r.wrap(secret, kind, name)
}

// wrap gives the key of secret, wrapped by the first key.
func (r *Ring) wrap(secret []byte, kind Kind, name string) (*Key, error) {
	by := (*r.keys.Load())[0]
	wrapped, err := by.Wrap(secret, kind.context(name))
	if err != nil {
		return nil, err
	}
	s := slot{kind: kind, id: by.ID(), wrapped: wrapped}
	encoded, err := s.encode()
	if err != nil {
		return nil, err
	}
	return newKey(secret, kind, encoded)
}

// unwrap gives the key of a file by what its head says. Errors: Denied (no key is known that unwraps it), Corrupt, IO.
func (r *Ring) unwrap(slots []slot, name string) (*Key, error) {
	err := missing(name, slots)
	for i := range slots {
		s := &slots[i]
		for _, k := range *r.keys.Load() {
			if k.ID() != s.id {
				continue
			}
			secret, fail := k.Unwrap(s.wrapped, s.kind.context(name))
			if fail == nil && len(secret) == keyBytes {
				encoded, _ := s.encode() // it was decoded from these bytes
				return newKey(secret, s.kind, encoded)
			}
			err = fault.New(fault.KindOf(fail), "atrest.Open", "%s: its data key does not unwrap: %w", name, fail)
		}
	}
	return nil, err
}

// missing says which key is not there.
func missing(name string, slots []slot) error {
	id := "?"
	if len(slots) > 0 {
		id = slots[0].id
	}
	return fault.New(fault.Denied, "atrest.Open", "%s is encrypted with the key %q, which is not known", name, id).
		WithHint("put that key into encryption.key_file (or key_env), behind the newer ones")
}

// local is a key-encryption key in memory.
type local struct {
	id   string
	aead cipher.AEAD
}

// ID implements Wrapper.
func (l *local) ID() string { return l.id }

// Wrap implements Wrapper. The nonce is chance: a key wraps far fewer than 2^32 files.
func (l *local) Wrap(key, context []byte) ([]byte, error) {
	n, err := random(nonceBytes)
	if err != nil {
		return nil, err
	}
	return l.aead.Seal(n, n, key, context), nil
}

// Unwrap implements Wrapper.
func (l *local) Unwrap(wrapped, context []byte) ([]byte, error) {
	if len(wrapped) >= nonceBytes {
		if key, err := l.aead.Open(nil, wrapped[:nonceBytes], wrapped[nonceBytes:], context); err == nil {
			return key, nil
		}
	}
	return nil, fault.New(fault.Corrupt, "atrest.Unwrap", "the wrapped key was changed, or is that of another file")
}

// NewLocal is the key-encryption key of 32 secret bytes. Errors: Invalid.
func NewLocal(secret []byte) (Wrapper, error) {
	if len(secret) != keyBytes {
		return nil, fault.New(fault.Invalid, "atrest.Key", "a key of %d bytes, %d are needed", len(secret), keyBytes)
	}
	derive := func(purpose string, n int) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, purpose, n)
	}
	id, err := derive("firth key id", 8)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "atrest.Key", err)
	}
	wrapping, err := derive("firth key wrap", keyBytes)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "atrest.Key", err)
	}
	l := &local{id: hex.EncodeToString(id)}
	l.aead, err = gcm(wrapping)
	return l, err
}

// Generate makes a new key and gives it as ParseKeys reads it.
func Generate() (string, error) {
	b, err := random(keyBytes)
	return base64.StdEncoding.EncodeToString(b), err
}

// ParseKeys reads keys, one a line: 32 bytes in base64, the newest first. Empty lines and those that begin with # are
// passed over. Errors: Invalid, which tells the line and nothing of what is in it.
func ParseKeys(text []byte) ([]Wrapper, error) {
	var keys []Wrapper
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(secret) != keyBytes {
			return nil, fault.New(fault.Invalid, "atrest.Key", "line %d is no key: 32 bytes in base64 are", n).
				WithHint("firth key generate makes one")
		}
		k, err := NewLocal(secret)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if lines.Err() != nil {
		return nil, fault.New(fault.Invalid, "atrest.Key", "a line is too long for a key")
	}
	return keys, nil
}
