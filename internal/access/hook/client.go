package hook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/secure"
)

const (
	lookEvery = 2 * time.Second // at files
	idleFor   = 30 * time.Second
)

// client asks by the files of one moment.
type client struct {
	url    string
	http   *http.Client
	bearer string // "": none
}

// awayError is that the service gave no answer at all, or said that it cannot now.
type awayError struct{ cause error }

// Error says what went wrong.
func (e *awayError) Error() string { return e.cause.Error() }

// newClient reads the files. Errors: Invalid, NotFound, Denied, IO.
func newClient(o *Options) (*client, error) {
	c := &client{url: o.URL}
	if o.TokenFile != "" {
		text, err := given.ReadPrivate(op, o.TokenFile)
		if err != nil {
			return nil, err
		}
		if c.bearer = strings.TrimSpace(string(text)); !isToken(c.bearer) {
			return nil, fault.New(fault.Invalid, op, "%s holds no token: one line of letters, digits and signs",
				o.TokenFile)
		}
	}
	tls, err := secure.Client(o.CA, o.Certificate, o.Key)
	if err != nil {
		return nil, err
	}
	c.http = &http.Client{
		Transport: &http.Transport{ // no proxy: passwords go where the configuration says, and nowhere else
			DialContext:            (&net.Dialer{Timeout: o.Timeout}).DialContext,
			TLSClientConfig:        tls,
			TLSHandshakeTimeout:    o.Timeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // a small text may be a large one
			MaxConnsPerHost:        o.InFlight,
			MaxIdleConnsPerHost:    o.InFlight,
			IdleConnTimeout:        idleFor,
			MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// isToken tells whether a text may stand in a header.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// post asks about a login, and gives what comes. Errors: *awayError; TooLarge.
func (c *client) post(ctx context.Context, text []byte) (status int, said []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(text))
	if err != nil {
		return 0, nil, fault.Wrap(fault.Invalid, op, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "firth")
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	resp, err := c.http.Do(req)
	if of, is := errors.AsType[*url.Error](err); is {
		err = of.Err // the rest of it is the address, which may hold a secret
	}
	if err != nil {
		return 0, nil, &awayError{err}
	}
	defer resp.Body.Close()
	said, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, &awayError{err}
	case len(said) > maxAnswer:
		return 0, nil, fault.New(fault.TooLarge, op, "it answers more than %d bytes", maxAnswer)
	}
	return resp.StatusCode, said, nil
}

// judge makes an answer of what came. Errors: *awayError; Invalid for what is none.
func judge(status int, said []byte, user string, now time.Time) (Answer, error) {
	switch status {
	case http.StatusOK:
		return parse(said, user, now)
	case http.StatusNoContent:
		return Answer{Result: Allow}, nil
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout: // it says itself that it cannot now
		return Answer{}, &awayError{fault.New(fault.Unavailable, op, "it answers with status %d", status)}
	}
	if status >= 400 && status < 500 {
		return Answer{Result: Deny}, nil
	}
	err := fault.New(fault.Invalid, op, "it answers with status %d", status)
	if status >= 300 && status < 400 {
		err = fault.New(fault.Invalid, op, "it answers with status %d, and is not followed elsewhere", status)
	}
	return Answer{}, err
}

func (s *Service) stamps() (all [4]given.Stamp) {
	for i, name := range []string{s.opt.TokenFile, s.opt.CA, s.opt.Certificate, s.opt.Key} {
		if name != "" {
			all[i] = given.StampOf(name)
		}
	}
	return all
}

// look gives who asks, by files that are looked at now and then. While new ones are bad, those before stay in force.
func (s *Service) look() *client {
	now := s.opt.Now()
	s.mu.Lock()
	by, before, since := s.mu.client, s.mu.stamps, now.Sub(s.mu.looked)
	due := since < 0 || since >= lookEvery
	if due {
		s.mu.looked = now
	}
	s.mu.Unlock()
	if !due {
		return by
	}
	stamps := s.stamps()
	if stamps == before {
		return by
	}
	made, err := newClient(&s.opt)
	s.mu.Lock()
	s.mu.stamps = stamps
	if err == nil {
		s.mu.client = made
	}
	s.mu.Unlock()
	if err != nil {
		s.opt.Logger.Warn("the files of access.http are bad, those read before stay in force", "error", err,
			"hint", fault.HintOf(err))
		return by
	}
	by.http.CloseIdleConnections()
	s.opt.Logger.Info("the files of access.http were read again")
	return made
}
