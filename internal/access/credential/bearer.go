package credential

import (
	"strings"
	"unicode/utf8"
)

// maxBearer bounds a message of OAUTHBEARER, in bytes.
const maxBearer = 64 << 10

// maxExtensions is how many extensions a message of OAUTHBEARER may bring.
const maxExtensions = 64

// Bearer is the first message of the mechanism OAUTHBEARER (RFC 7628).
type Bearer struct {
	User       string // that the client wants to act as; "": as who the token says
	Token      string
	Extensions map[string]string // SASL extensions of Kafka (KIP-342), and host and port
}

// BearerAgain is what a client says to the reason of its failure, so that the failure comes (RFC 7628, section 3.2.3).
const BearerAgain = "\x01"

// InvalidToken is the reason for it that a token is not good (RFC 7628, section 3.2.2).
const InvalidToken = `{"status":"invalid_token"}`

// ParseBearer reads a message: a header of GS2 without channel binding, then pairs of a name and a value, each behind a
// byte 1, and two at the end. Errors: Invalid; they show no part of it.
func ParseBearer(message []byte) (Bearer, error) {
	if len(message) > maxBearer {
		return Bearer{}, invalid("a message of OAUTHBEARER of %d bytes: at most %d", len(message), maxBearer)
	}
	header, rest, found := strings.Cut(string(message), "\x01")
	pairs, closed := strings.CutSuffix(rest, "\x01\x01")
	if !closed && rest == "\x01" { // without pairs
		pairs, closed = "", true
	}
	flag, name, _ := strings.Cut(header, ",")
	name, behind, two := strings.Cut(name, ",")
	switch {
	case !found || !closed || !two || behind != "" || !utf8.Valid(message):
		return Bearer{}, invalid("a message of OAUTHBEARER is not a header and pairs, apart by the byte 1")
	case flag != "n" && flag != "y":
		return Bearer{}, invalid("OAUTHBEARER with channel binding")
	}
	b := Bearer{Extensions: map[string]string{}}
	if name != "" {
		user, given := strings.CutPrefix(name, "a=")
		if !given || user == "" {
			return Bearer{}, invalid("a message of OAUTHBEARER with another name than a=")
		}
		var err error
		if b.User, err = saslName(user); err != nil {
			return Bearer{}, err
		}
	}
	return b, b.add(strings.Split(pairs, "\x01"))
}

// add takes the pairs of a message. Errors: Invalid.
func (b *Bearer) add(pairs []string) error {
	if len(pairs) > maxExtensions {
		return invalid("OAUTHBEARER with %d pairs: at most %d", len(pairs), maxExtensions)
	}
	for _, pair := range pairs {
		name, value, is := strings.Cut(pair, "=")
		_, twice := b.Extensions[name]
		switch {
		case !is || !isAlpha(name) || twice || name == "auth" && b.Token != "":
			return invalid("OAUTHBEARER with a pair that is not name=value, or twice the same")
		case name == "auth":
			scheme, token, _ := strings.Cut(value, " ")
			b.Token = strings.Trim(token, " ")
			if !strings.EqualFold(scheme, "Bearer") || b.Token == "" || strings.ContainsAny(b.Token, " \t\r\n") {
				return invalid("OAUTHBEARER without auth=Bearer and a token")
			}
		default:
			b.Extensions[name] = value
		}
	}
	if b.Token == "" {
		return invalid("OAUTHBEARER without a token")
	}
	return nil
}
