package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Login is somebody who wants in.
type Login struct {
	User       string
	Password   []byte
	ClientID   string
	Protocol   string // "mqtt", "kafka" or "http"
	Listener   string
	Address    netip.Addr // zero: a Unix socket
	Encrypted  bool       // with TLS
	CommonName string     // of its certificate
}

// request is a login as JSON.
type request struct {
	User       string `json:"username"`
	Password   string `json:"password"`
	ClientID   string `json:"client_id,omitempty"`
	Protocol   string `json:"protocol"`
	Listener   string `json:"listener,omitempty"`
	Address    string `json:"address,omitempty"`
	Encrypted  bool   `json:"tls"`
	CommonName string `json:"common_name,omitempty"`
}

// text is what the service is asked. Errors: Invalid for what JSON has no words for.
func (l *Login) text() ([]byte, error) {
	r := request{User: l.User, Password: string(l.Password), ClientID: l.ClientID, Protocol: l.Protocol,
		Listener: l.Listener, Encrypted: l.Encrypted, CommonName: l.CommonName}
	if l.Address.IsValid() {
		r.Address = l.Address.Unmap().String()
	}
	for _, part := range []string{r.User, r.Password, r.ClientID, r.CommonName} {
		if !utf8.ValidString(part) { // what is put in the place of it would be the same for others
			return nil, fault.New(fault.Invalid, op, "a name or the password is not UTF-8")
		}
	}
	text, err := json.Marshal(r)
	return text, fault.Wrap(fault.Internal, op, err)
}

// Result is what the service says.
type Result uint8

// The results.
const (
	// Ignore says that it does not know the user.
	Ignore Result = iota
	// Allow says that the user is who it says.
	Allow
	// Deny says that it is not, or may not come in.
	Deny
)

// String is the result as the service writes it.
func (r Result) String() string { return [...]string{"ignore", "allow", "deny"}[r] }

// Answer is what the service says of a login. It does not change.
type Answer struct {
	Result        Result
	Roles, Groups []string
	Rules         []rule.Rule // of the user
	Ends          time.Time   // when the connection ends; zero: never
	size          int         // in bytes, about
}

const (
	maxAnswer = 64 << 10 // bytes
	maxRules  = 100
	lastTime  = 253_402_300_799 // the end of the year 9999, in seconds since 1970
)

// written is an answer as JSON.
type written struct {
	Result    string            `json:"result"`
	Roles     []string          `json:"roles"`
	Groups    []string          `json:"groups"`
	Rules     []json.RawMessage `json:"rules"`
	ExpiresIn *float64          `json:"expires_in"`
	ExpiresAt *float64          `json:"expires_at"`
}

// parse reads an answer about a user. A key that is not known is refused: what it says may be what limits. Errors:
// Invalid.
func parse(text []byte, user string, now time.Time) (Answer, error) {
	var w written
	read := json.NewDecoder(bytes.NewReader(text))
	read.DisallowUnknownFields()
	if err := read.Decode(&w); err != nil {
		return Answer{}, fault.Wrap(fault.Invalid, op, err)
	}
	if _, err := read.Token(); !errors.Is(err, io.EOF) {
		return Answer{}, fault.New(fault.Invalid, op, "there is something behind the answer")
	}
	a := Answer{Roles: w.Roles, Groups: w.Groups, size: len(text)}
	switch w.Result {
	case "allow":
		a.Result = Allow
	case "deny":
		return Answer{Result: Deny}, nil
	case "ignore":
		return Answer{Result: Ignore}, nil
	default:
		return Answer{}, fault.New(fault.Invalid, op, "result is not allow, deny or ignore")
	}
	if len(w.Rules) > maxRules {
		return Answer{}, fault.New(fault.Invalid, op, "%d rules: at most %d", len(w.Rules), maxRules)
	}
	for i, one := range w.Rules {
		r, err := rule.Parse(one, rule.UserPrefix+user)
		if err != nil {
			return Answer{}, fault.New(fault.Invalid, op, "rule %d: %w", i+1, err)
		}
		a.Rules = append(a.Rules, r)
	}
	if err := a.end(&w, now); err != nil {
		return Answer{}, err
	}
	return a, nil
}

// end reads when the connection ends. Errors: Invalid.
func (a *Answer) end(w *written, now time.Time) error {
	seconds := func(of float64) time.Duration { return time.Duration(of * float64(time.Second)) }
	const century = 100 * 366 * 24 * 3600
	switch {
	case w.ExpiresIn != nil && w.ExpiresAt != nil:
		return fault.New(fault.Invalid, op, "both expires_in and expires_at")
	case w.ExpiresIn != nil && (*w.ExpiresIn <= 0 || *w.ExpiresIn > century):
		return fault.New(fault.Invalid, op, "expires_in is %g s from now", *w.ExpiresIn)
	case w.ExpiresIn != nil:
		a.Ends = now.Add(seconds(*w.ExpiresIn))
	case w.ExpiresAt != nil && (*w.ExpiresAt <= 0 || *w.ExpiresAt > lastTime):
		return fault.New(fault.Invalid, op, "expires_at is %g s since 1970", *w.ExpiresAt)
	case w.ExpiresAt != nil:
		whole := int64(*w.ExpiresAt)
		a.Ends = time.Unix(whole, int64(seconds(*w.ExpiresAt-float64(whole))))
	}
	return nil
}
