package credential

import (
	"bytes"
	"unicode/utf8"
)

// maxPlain bounds a message of PLAIN, in bytes: two names and a password.
const maxPlain = 3 * (MaxPassword + 1)

// Plain is a message of the mechanism PLAIN (RFC 4616).
type Plain struct {
	User     string
	Password []byte // points into the message
}

// ParsePlain reads a message: authzid NUL authcid NUL password. Nobody acts as somebody else here: an authorization
// identity is the user's or not given. Errors: Invalid; they show no part of it.
func ParsePlain(message []byte) (Plain, error) {
	if len(message) > maxPlain {
		return Plain{}, invalid("a message of PLAIN of %d bytes: at most %d", len(message), maxPlain)
	}
	parts := bytes.Split(message, []byte{0})
	switch {
	case len(parts) != 3 || !utf8.Valid(message):
		return Plain{}, invalid("a message of PLAIN is not two names and a password in UTF-8, apart by NUL")
	case len(parts[1]) == 0 || len(parts[2]) == 0:
		return Plain{}, invalid("a message of PLAIN without a user or a password")
	case len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]):
		return Plain{}, invalid("a message of PLAIN asks to act as somebody else than its user")
	}
	return Plain{User: string(parts[1]), Password: parts[2]}, nil
}
