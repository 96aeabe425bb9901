package verify

import (
	"crypto/rand"
	"encoding/base64"

	"github.com/firthmq/firth/internal/access/credential"
)

// Salt is a random salt.
func Salt() []byte {
	salt := make([]byte, credential.SaltSize)
	rand.Read(salt) // never fails
	return salt
}

// Nonce is a random nonce for an exchange of SCRAM.
func Nonce() string { return base64.RawURLEncoding.EncodeToString(append(Salt(), Salt()...)) }

// NewPassword makes a verifier of a password, by the default parameters. Errors: Invalid.
func NewPassword(password []byte) (credential.Password, error) {
	return credential.HashPassword(password, Salt(), credential.DefaultParams)
}

// NewSCRAM makes a verifier of a password for a mechanism, by the default iterations. Errors: Invalid.
func NewSCRAM(m credential.Mechanism, password []byte) (credential.SCRAM, error) {
	return credential.NewSCRAM(m, password, Salt(), credential.DefaultIterations)
}

// NewSecret makes a password of 256 bits of chance for a machine, and the verifier of it, which needs no slow hash.
func NewSecret() (secret string, p credential.Password, err error) {
	secret = Nonce()
	p, err = credential.HashSecret([]byte(secret), Salt())
	return secret, p, err
}
