package credential

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kit/fault"
)

// The bounds of the messages of SCRAM, in bytes.
const (
	maxMessage  = 4_096
	maxNonce    = 512
	minNonceOwn = 16 // of ours: 96 bits of chance and more
)

// Find looks for the verifier of a user or, if the client authenticates with a delegation token (KIP-48), of the token
// with that id.
type Find func(user string, token bool) (SCRAM, bool)

// state is how far an exchange has come.
type state uint8

const (
	awaitsFirst state = iota // client-first-message
	awaitsFinal              // client-final-message
	over
)

// Exchange is the server's side of one run of SCRAM (RFC 5802, section 5): two messages of the client, an answer to
// each. A user who is not there is refused in the same step and time as one with another password. It is not safe for
// concurrent use.
type Exchange struct {
	mechanism Mechanism
	find      Find
	secret    []byte
	nonce     string

	state    state
	first    clientFirst
	verifier SCRAM
	known    bool
	said     string // server-first-message
}

// Begin begins an exchange. The nonce is random, printable and at least 16 characters long; the secret, from which the
// salts of users come who are not there, should outlive the process.
func (m Mechanism) Begin(find Find, secret []byte, nonce string) *Exchange {
	return &Exchange{mechanism: m, find: find, secret: secret, nonce: nonce}
}

// User is who the client says it is, from the first step on. It is proven when Step has told that it is done.
func (e *Exchange) User() string { return e.first.user }

// Token tells whether User is the id of a delegation token.
func (e *Exchange) Token() bool { return e.first.token }

// Step takes a message of the client and gives the answer to it; done tells that the client is who it says. After an
// error the exchange is over. Errors: Denied for who did not prove it; Invalid for what is no message of SCRAM.
func (e *Exchange) Step(message []byte) (answer []byte, done bool, err error) {
	at := e.state
	e.state = over
	switch {
	case at == over:
		return nil, false, invalid("%s: the exchange is over", e.mechanism)
	case len(message) > maxMessage:
		return nil, false, invalid("%s: a message of %d bytes: at most %d", e.mechanism, len(message), maxMessage)
	case len(e.nonce) < minNonceOwn:
		return nil, false, fault.New(fault.Internal, op, "a nonce of %d characters", len(e.nonce))
	case at == awaitsFirst:
		if answer, err = e.challenge(string(message)); err == nil {
			e.state = awaitsFinal
		}
		return answer, false, err
	}
	answer, err = e.finish(string(message))
	return answer, err == nil, err
}

// challenge answers the client-first-message.
func (e *Exchange) challenge(message string) (answer []byte, err error) {
	if e.first, err = parseFirst(message); err != nil {
		return nil, err
	}
	decoy := Decoy(e.mechanism, e.secret, e.first.user) // for all, so that it takes its time for all
	if e.verifier, e.known = e.find(e.first.user, e.first.token); !e.known || e.verifier.mechanism != e.mechanism {
		e.verifier, e.known = decoy, false
	}
	e.nonce = e.first.nonce + e.nonce
	e.said = fmt.Sprintf("r=%s,s=%s,i=%d", e.nonce, base64.StdEncoding.EncodeToString(e.verifier.salt),
		e.verifier.iterations)
	return []byte(e.said), nil
}

// finish answers the client-final-message.
func (e *Exchange) finish(message string) (answer []byte, err error) {
	final, err := parseFinal(message, e.mechanism.size())
	if err != nil {
		return nil, err
	}
	if final.binding != e.first.gs2 {
		return nil, fault.New(fault.Denied, op, "%s: another channel binding than in the beginning", e.mechanism)
	}
	// librdkafka before 2.6.1 puts its own nonce in front once more, and proves that text; so does kcat of Debian 12.
	same := subtle.ConstantTimeCompare([]byte(final.nonce), []byte(e.nonce))
	if same|subtle.ConstantTimeCompare([]byte(final.nonce), []byte(e.first.nonce+e.nonce)) != 1 {
		return nil, fault.New(fault.Denied, op, "%s: not the nonce of this exchange", e.mechanism)
	}
	m, text := e.mechanism, e.first.bare+","+e.said+","+final.bare
	clientKey := m.mac(e.verifier.storedKey, text)
	subtle.XORBytes(clientKey, clientKey, final.proof)
	proven := subtle.ConstantTimeCompare(m.digest(clientKey), e.verifier.storedKey) == 1
	signature := m.mac(e.verifier.serverKey, text)
	if !proven || !e.known {
		return nil, fault.New(fault.Denied, op, "%s: wrong user or password", e.mechanism)
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature)), nil
}

// clientFirst is the client-first-message.
type clientFirst struct {
	gs2   string // the header, which comes again as the channel binding
	bare  string
	user  string
	nonce string
	token bool
}

// parseFirst reads gs2-header [m=..,] n=user,r=nonce [,extension=value]...
func parseFirst(message string) (first clientFirst, err error) {
	flag, rest, _ := strings.Cut(message, ",")
	switch {
	case flag == "n", flag == "y": // y: the client could, and believes that we cannot, which is so
	case strings.HasPrefix(flag, "p="):
		return first, fault.New(fault.Unsupported, op, "SCRAM: channel binding is not offered")
	default:
		return first, invalid("SCRAM: a first message without the header of GS2")
	}
	authzid, bare, ok := strings.Cut(rest, ",")
	if !ok {
		return first, invalid("SCRAM: a first message without a user")
	}
	first.gs2, first.bare = message[:len(message)-len(bare)], bare
	fields := strings.Split(bare, ",")
	if len(fields) < 2 {
		return first, invalid("SCRAM: a first message without a user and a nonce")
	}
	if first.user, err = attribute(fields[0], "n=", "a user"); err == nil {
		first.user, err = saslName(first.user)
	}
	if err != nil {
		return first, err
	}
	if first.nonce, err = attribute(fields[1], "r=", "a nonce"); err != nil {
		return first, err
	}
	if !isNonce(first.nonce) {
		return first, invalid("SCRAM: a nonce that is not 1 to %d printable characters", maxNonce)
	}
	if first.token, err = extensions(fields[2:]); err != nil {
		return first, err
	}
	return first, actsAs(authzid, first.user)
}

// actsAs judges the authorization identity: a client acts as nobody but its user.
func actsAs(authzid, user string) error {
	if authzid == "" {
		return nil
	}
	name, err := attribute(authzid, "a=", "an authorization identity")
	if err == nil {
		name, err = saslName(name)
	}
	if err == nil && name != user {
		return fault.New(fault.Denied, op, "SCRAM: the client asks to act as somebody else than its user")
	}
	return err
}

// clientFinal is the client-final-message.
type clientFinal struct {
	binding string // decoded
	nonce   string
	bare    string // without the proof
	proof   []byte
}

// parseFinal reads c=binding,r=nonce [,extension=value]... ,p=proof.
func parseFinal(message string, size int) (final clientFinal, err error) {
	at := strings.LastIndex(message, ",p=")
	if at < 0 {
		return final, invalid("SCRAM: a final message without a proof")
	}
	final.bare = message[:at]
	if final.proof, err = decode(base64.StdEncoding, message[at+len(",p="):], size, size); err != nil {
		return final, err
	}
	fields := strings.Split(final.bare, ",")
	if len(fields) < 2 {
		return final, invalid("SCRAM: a final message without a channel binding and a nonce")
	}
	binding, err := attribute(fields[0], "c=", "a channel binding")
	if err != nil {
		return final, err
	}
	decoded, err := decode(base64.StdEncoding, binding, 1, maxMessage)
	if err != nil {
		return final, err
	}
	final.binding = string(decoded)
	if final.nonce, err = attribute(fields[1], "r=", "a nonce"); err != nil {
		return final, err
	}
	_, err = extensions(fields[2:])
	return final, err
}

// attribute is the value of the attribute that has to stand here. The first one may be a mandatory extension, which we
// have to refuse (RFC 5802, section 5.1).
func attribute(field, name, what string) (string, error) {
	if strings.HasPrefix(field, "m=") {
		return "", fault.New(fault.Unsupported, op, "SCRAM: a mandatory extension is not known here")
	}
	value, ok := strings.CutPrefix(field, name)
	if !ok || value == "" {
		return "", invalid("SCRAM: %s is missing", what)
	}
	return value, nil
}

// saslName undoes the escapes of a name: =2C and =3D, the only ones.
func saslName(text string) (string, error) {
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return "", invalid("SCRAM: a name that is not UTF-8")
	}
	var name strings.Builder
	for {
		before, after, more := strings.Cut(text, "=")
		name.WriteString(before)
		switch {
		case !more:
			return name.String(), nil
		case strings.HasPrefix(after, "2C"):
			name.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			name.WriteByte('=')
		default:
			return "", invalid("SCRAM: a name with = that is neither =2C nor =3D")
		}
		text = after[2:]
	}
}

func isNonce(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return s != "" && len(s) <= maxNonce
}

// extensions reads name=value pairs at the end of a message. Those that are not known are passed over (RFC 5802,
// section 5.1); tokenauth=true says that the user is the id of a delegation token (KIP-48).
func extensions(fields []string) (token bool, err error) {
	for _, f := range fields {
		name, value, ok := strings.Cut(f, "=")
		switch {
		case !ok || value == "" || !isAlpha(name):
			return false, invalid("SCRAM: an extension that is not name=value")
		case name == "tokenauth":
			token = strings.EqualFold(value, "true")
		}
	}
	return token, nil
}

func isAlpha(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return s != ""
}
