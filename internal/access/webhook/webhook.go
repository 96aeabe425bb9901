// Package webhook judges messages that services send by HTTP and sign: whether one of the secrets of both has signed
// one, when, and whether it came before.
//
//	s, err := webhook.Parse("standard", "", 5*time.Minute)
//	m, err := s.Verify(r.Header.Get, body, secrets, time.Now())
//	state := seen.Begin(m.Key, now)
//
// It knows the Standard Webhooks specification 1.0 (webhook-id, webhook-timestamp, webhook-signature with v1), the
// signatures of GitHub (sha256= of the body in hexadecimal), and those of Stripe (t= and v1= of the time and the body).
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

const op = "webhook"

// Bounds of what a sender says before anything of it is believed.
const (
	maxID         = 256 // bytes of webhook-id
	maxSignatures = 16  // in one header: more secrets at a time has nobody
	leastSecret   = 16  // bytes
)

// ErrUnsigned refuses what no secret has signed, or too long ago: it says no more, so that nobody learns how far it
// came.
var ErrUnsigned = fault.New(fault.Denied, op, "the message is not signed as it has to be, or too long ago").
	WithHint("compare the secret, the scheme and the clocks of both sides; a proxy must not change the body")

// Scheme is a way to sign messages.
type Scheme struct {
	name      string
	header    string        // of the signature
	tolerance time.Duration // how far the time that was signed may be from now
}

// Schemes are the names of those there are.
func Schemes() []string { return []string{"standard", "github", "stripe"} }

// Parse makes the scheme of a name. header is that of the signature, "" the one that the scheme has of its own;
// tolerance is how old a message may be. Errors: Invalid.
func Parse(name, header string, tolerance time.Duration) (*Scheme, error) {
	own := map[string]string{"standard": "webhook-signature", "github": "X-Hub-Signature-256",
		"stripe": "Stripe-Signature"}
	if own[name] == "" {
		return nil, fault.New(fault.Invalid, op, "there is no scheme %s", fault.Text(name)).
			WithHint("there are %s", strings.Join(Schemes(), ", "))
	}
	if header != "" && name == "standard" {
		return nil, fault.New(fault.Invalid, op, "the scheme standard has headers of its own")
	}
	if header == "" {
		header = own[name]
	}
	return &Scheme{name, header, tolerance}, nil
}

// Secrets reads the secrets of a hook, one a line: any of them may have signed, so that one is replaced without a gap.
// Those that begin with whsec_ are base64 behind it, as the standard has them. Errors: Invalid, which tells nothing of
// them.
func (s *Scheme) Secrets(text []byte) (all [][]byte, err error) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		secret := []byte(line)
		if coded, is := strings.CutPrefix(line, "whsec_"); is && s.name == "standard" {
			if secret, err = base64.StdEncoding.DecodeString(coded); err != nil {
				return nil, fault.New(fault.Invalid, op, "secret %d is no base64 behind whsec_", len(all)+1)
			}
		}
		if len(secret) < leastSecret {
			return nil, fault.New(fault.Invalid, op, "secret %d has less than %d bytes", len(all)+1, leastSecret)
		}
		all = append(all, secret)
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, op, "there is no secret")
	}
	return all, nil
}

// Key names what was signed: what is sent again has the same, whoever sends it.
type Key [sha256.Size]byte

// Message is a message that is signed.
type Message struct {
	ID  string // webhook-id; "": the scheme has none
	Key Key
}

// signed is what a message says of its signature.
type signed struct {
	id         string
	stamp      string // the time, as it was signed; "": none was
	signatures [][]byte
}

// Verify judges a message by its headers and its body. It compares in constant time. Errors: ErrUnsigned.
func (s *Scheme) Verify(header func(name string) string, body []byte, secrets [][]byte, now time.Time) (
	Message, error,
) {
	say, ok := s.read(header)
	if !ok || !s.timely(say.stamp, now) {
		return Message{}, ErrUnsigned
	}
	var prefix string
	switch s.name {
	case "standard":
		prefix = say.id + "." + say.stamp + "."
	case "stripe":
		prefix = say.stamp + "."
	}
	good := false
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(prefix))
		mac.Write(body)
		sum := mac.Sum(nil)
		for _, one := range say.signatures {
			good = hmac.Equal(sum, one) || good
		}
	}
	if !good {
		return Message{}, ErrUnsigned
	}
	m := Message{ID: say.id}
	if m.ID != "" {
		m.Key = sha256.Sum256([]byte(m.ID))
		return m, nil
	}
	sum := sha256.New()
	sum.Write([]byte(prefix))
	sum.Write(body)
	sum.Sum(m.Key[:0])
	return m, nil
}

// read takes the headers apart. False: they are none of the scheme.
func (s *Scheme) read(header func(name string) string) (say signed, ok bool) {
	text := header(s.header)
	switch s.name {
	case "standard":
		say.id, say.stamp = header("webhook-id"), header("webhook-timestamp")
		for one := range strings.FieldsSeq(text) {
			if coded, is := strings.CutPrefix(one, "v1,"); is {
				say.add(base64.StdEncoding.DecodeString(coded))
			}
		}
		ok = say.id != "" && len(say.id) <= maxID && !strings.ContainsAny(say.id, ".\x00") && say.stamp != ""
	case "github":
		if coded, is := strings.CutPrefix(text, "sha256="); is {
			say.add(hex.DecodeString(coded))
		} else {
			say.add(hex.DecodeString(text))
		}
		ok = true
	case "stripe":
		for part := range strings.SplitSeq(text, ",") {
			switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); name {
			case "t":
				say.stamp = value
			case "v1":
				say.add(hex.DecodeString(value))
			}
		}
		ok = say.stamp != ""
	}
	return say, ok && len(say.signatures) > 0
}

// add adds a signature that could be decoded.
func (say *signed) add(signature []byte, err error) {
	if err == nil && len(signature) == sha256.Size && len(say.signatures) < maxSignatures {
		say.signatures = append(say.signatures, signature)
	}
}

// timely tells whether a time in seconds since 1970 is near enough; a scheme without one has no such bound.
func (s *Scheme) timely(stamp string, now time.Time) bool {
	if stamp == "" {
		return s.name == "github"
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<40 {
		return false
	}
	return now.Sub(time.Unix(seconds, 0)).Abs() <= s.tolerance
}

// Keeps is how long Seen has to remember a message of the scheme: for as long as it would be taken again.
func (s *Scheme) Keeps() time.Duration { return 2 * s.tolerance }
