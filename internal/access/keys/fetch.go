package keys

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
)

const (
	maxAnswer   = 1 << 20 // bytes
	fetchWithin = 10 * time.Second
)

// CheckURL tells whether keys may be fetched from there: by https, or from this machine. Errors: Invalid.
func CheckURL(text string) error { return given.CheckURL(op, text, false) }

// NewClient makes a client that follows nobody elsewhere, and is not led by the environment's proxies to what is here.
func NewClient() *http.Client {
	return &http.Client{
		Timeout: fetchWithin,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: fetchWithin}).DialContext,
			TLSHandshakeTimeout:    fetchWithin,
			DisableKeepAlives:      true, // it is asked a few times an hour
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it sends us elsewhere, where we do not follow")
		},
	}
}

// get fetches the keys, by way of the issuer's own description if need be.
func (s *Source) get(ctx context.Context) ([]byte, error) {
	from := s.opt.URL
	if s.opt.Discover {
		text, err := s.ask(ctx, strings.TrimSuffix(s.opt.Issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, err
		}
		var said struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(text, &said); err != nil {
			return nil, fault.New(fault.Invalid, op, "%s does not describe itself in JSON: %w", s.opt.Issuer, err)
		}
		if said.Issuer != s.opt.Issuer {
			return nil, fault.New(fault.Invalid, op, "%s calls itself %s", s.opt.Issuer, fault.Text(said.Issuer))
		}
		if err := CheckURL(said.Keys); err != nil {
			return nil, err
		}
		from = said.Keys
	}
	return s.ask(ctx, from)
}

// ask gets what is at an address. Errors: IO, TooLarge.
func (s *Source) ask(ctx context.Context, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.opt.Client.Do(req)
	if err != nil {
		return nil, fault.Wrap(fault.IO, op, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fault.New(fault.IO, op, "%s answers %s", from, fault.Text(resp.Status))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.IO, op, err)
	case len(text) > maxAnswer:
		return nil, fault.New(fault.TooLarge, op, "%s answers more than %d bytes", from, maxAnswer)
	}
	return text, nil
}
