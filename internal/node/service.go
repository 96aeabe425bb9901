package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/hook"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
)

// LoginService is a service over HTTP that knows users.
type LoginService struct {
	URL              string // ""; there is none
	TokenFile        string
	CA               string
	Certificate, Key string
	Timeout, Cache   time.Duration
	InFlight         int
	WithoutTLS       bool
}

func serviceOptions() []Option {
	anyPath := func(string) error { return nil }
	return []Option{
		Option{Key: "access.http.url", Type: "URL",
			Doc: "A service that knows users: it is asked by POST about each login by a password of whom the list of users " +
				"has no password of, and that is no token. https, or http on this machine. With one nobody comes in unknown. " +
				"While it does not answer, whom it knows is not let in. Empty: there is none.",
			Shows: "MQTT: CONNACK 0x88, Server unavailable (MQTT 3: 3); Kafka: REQUEST_TIMED_OUT (7); HTTP 503",
		}.text(func(c *Config) *string { return &c.Access.HTTP.URL }, checkServiceURL),
		Option{Key: "access.http.token_file", Type: "path",
			Doc: "A file with the token that each request to the service bears (Authorization: Bearer). Nobody else may be " +
				"able to read it. This file and those of the next three keys are looked at every 2 s; bad ones change nothing.",
		}.text(func(c *Config) *string { return &c.Access.HTTP.TokenFile }, anyPath),
		Option{Key: "access.http.ca", Type: "path",
			Doc: "The authorities that the certificate of the service comes from, as PEM. Empty: those of the system.",
		}.text(func(c *Config) *string { return &c.Access.HTTP.CA }, anyPath),
		Option{Key: "access.http.certificate", Type: "path",
			Doc: "The certificate that is shown to the service, with its chain, as PEM. Empty: none is.",
		}.text(func(c *Config) *string { return &c.Access.HTTP.Certificate }, anyPath),
		Option{Key: "access.http.key", Type: "path",
			Doc: "The key of that certificate, as PEM. Nobody else may be able to read it.",
		}.text(func(c *Config) *string { return &c.Access.HTTP.Key }, anyPath),
		Option{Key: "access.http.timeout", Default: "5s",
			Doc: "How long an answer may take, and how long a login waits until it is asked about. A connection of MQTT has " +
				"limits.connect_timeout for all of it.",
			Shows: "as for a service that does not answer; MQTT: CONNACK 0x89, Server busy, for who waits too long",
		}.span(func(c *Config) *time.Duration { return &c.Access.HTTP.Timeout }, 10*time.Millisecond, time.Minute, ""),
		Option{Key: "access.http.in_flight", Default: "16",
			Doc: "About how many logins the service is asked at a time. The others wait, the addresses that they come from " +
				"in turn.",
		}.count(func(c *Config) *int { return &c.Access.HTTP.InFlight }, 1, 10_000),
		Option{Key: "access.http.cache", Default: "1m",
			Doc: "How long a login that was let in is let in again without asking, with the same password from the same " +
				"address: for devices that connect again and again. Whom the service locks out comes in for as long. 0: not " +
				"at all.",
		}.span(func(c *Config) *time.Duration { return &c.Access.HTTP.Cache }, 0, day, ""),
		Option{Key: "access.http.without_tls", Default: "false",
			Doc: "Whether access.http.url may be http on another machine: whoever listens reads the passwords, and whoever " +
				"is on the way can let in anybody.",
		}.flag(func(c *Config) *bool { return &c.Access.HTTP.WithoutTLS }),
	}
}

// checkServiceURL looks at what the address can tell alone: checkService knows whether plain http will do.
func checkServiceURL(s string) error {
	if s == "" {
		return nil
	}
	return checkURL(s, true)
}

func checkURL(s string, plain bool) error {
	err := given.CheckURL("", s, plain)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Err
	}
	return err
}

// checkService holds what is said of the service together.
func (l *loader) checkService() {
	const at = "access.http."
	h := &l.config.Access.HTTP
	if h.URL == "" {
		for _, one := range [][2]string{{"token_file", h.TokenFile}, {"ca", h.CA}, {"certificate", h.Certificate},
			{"key", h.Key}} {
			if one[1] != "" {
				l.report(l.origin(at+one[0]), "%s%s: there is no access.http.url, the service that it is for", at, one[0])
			}
		}
		return
	}
	if err := checkURL(h.URL, h.WithoutTLS); err != nil {
		l.report(l.origin(at+"url"), "access.http.url: %v; access.http.without_tls: true allows it", err)
	}
	switch {
	case h.Certificate != "" && h.Key == "":
		l.report(l.origin(at+"certificate"), "access.http.certificate: it needs access.http.key")
	case h.Certificate == "" && h.Key != "":
		l.report(l.origin(at+"key"), "access.http.key: it needs access.http.certificate")
	}
}

// openService makes the service that knows users; nil: there is none.
func (n *Node) openService() (access.Service, error) {
	h := &n.cfg.Access.HTTP
	if h.URL == "" {
		return nil, nil
	}
	s, err := hook.Open(hook.Options{
		URL: h.URL, Plain: h.WithoutTLS, TokenFile: h.TokenFile, CA: h.CA, Certificate: h.Certificate, Key: h.Key,
		Timeout: h.Timeout, InFlight: h.InFlight, Keep: h.Cache, Logger: n.log, Metrics: n.metrics,
		Now: n.clocks.wall,
	})
	if err != nil {
		return nil, fmt.Errorf("access.http: %w", err)
	}
	n.opened("service of logins", func(context.Context) error { s.Close(); return nil })
	return s, nil
}
