package oidc

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access/keys"
	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	maxAnswer   = 1 << 20 // bytes
	askWithin   = 10 * time.Second
	describedIn = time.Hour // what a provider says of itself is asked for again
)

// description is what a provider says of itself (OpenID Connect Discovery 1.0, section 3).
type description struct {
	Issuer      string   `json:"issuer"`
	Authorize   string   `json:"authorization_endpoint"`
	Token       string   `json:"token_endpoint"`
	UserInfo    string   `json:"userinfo_endpoint"`
	End         string   `json:"end_session_endpoint"`
	Methods     []string `json:"token_endpoint_auth_methods_supported"`
	NamesItself bool     `json:"authorization_response_iss_parameter_supported"`

	read time.Time
}

// describe is what the provider says of itself. Where it does not answer, what it has said before holds. Errors:
// Timeout; Invalid.
func (p *Provider) describe(ctx context.Context) (*description, error) {
	known := p.about.Load()
	if known != nil && p.opt.Now().Sub(known.read) < describedIn {
		return known, nil
	}
	about := &description{read: p.opt.Now()}
	r, err := http.NewRequest(http.MethodGet, strings.TrimSuffix(p.opt.Issuer, "/")+
		"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, err)
	}
	status, err := p.ask(ctx, r, about)
	switch {
	case err == nil && status == http.StatusOK:
		err = p.check(about)
	case err == nil:
		err = silent("answers %d", status)
	}
	if err != nil {
		if known != nil {
			return known, nil
		}
		return nil, err
	}
	p.about.Store(about)
	return about, nil
}

// check tells what is wrong with what a provider says of itself. Errors: Invalid.
func (p *Provider) check(about *description) error {
	if about.Issuer != p.opt.Issuer {
		return fault.New(fault.Invalid, op, "%s calls itself %s", p.opt.Issuer, fault.Text(about.Issuer)).
			WithHint("access.oidc.issuer has to be the same, to the letter")
	}
	for _, one := range []string{about.Authorize, about.Token} {
		if err := keys.CheckURL(one); err != nil {
			return err
		}
	}
	for _, one := range []string{about.UserInfo, about.End} {
		if one == "" {
			continue
		}
		if err := keys.CheckURL(one); err != nil {
			return err
		}
	}
	return nil
}

// tokens are what a provider gives for a code.
type tokens struct {
	ID     string `json:"id_token"`
	Access string `json:"access_token"`
	Error  string `json:"error"`
}

// exchange gives the code of a login for the token that says who it is (RFC 6749, section 4.1.3). Errors: Denied;
// Timeout.
func (p *Provider) exchange(ctx context.Context, about *description, code, verifier string) (got tokens, err error) {
	secret, err := p.secret()
	if err != nil {
		return got, err
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {p.opt.Callback},
		"code_verifier": {verifier}}
	byForm := len(about.Methods) > 0 && !slices.Contains(about.Methods, "client_secret_basic")
	if secret == "" || byForm {
		form.Set("client_id", p.opt.ClientID)
	}
	if secret != "" && byForm {
		form.Set("client_secret", secret)
	}
	r, err := http.NewRequest(http.MethodPost, about.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return got, fault.Wrap(fault.Invalid, op, err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if secret != "" && !byForm {
		r.SetBasicAuth(url.QueryEscape(p.opt.ClientID), url.QueryEscape(secret)) // RFC 6749, section 2.3.1
	}
	status, err := p.ask(ctx, r, &got)
	switch {
	case err != nil:
		return tokens{}, err
	case status >= http.StatusInternalServerError:
		return tokens{}, silent("answers %d", status)
	case status != http.StatusOK:
		return tokens{}, denied("the provider says %s", fault.Text(got.Error)).
			WithHint("invalid_client: access.oidc.client_id and client_secret_file; invalid_grant: begin again")
	case got.ID == "":
		return tokens{}, denied("the provider has sent no ID token")
	}
	return got, nil
}

// userInfo is what the provider tells of a user besides (OpenID Connect Core 1.0, section 5.3): of that very one, which
// the ID token names. Errors: Denied; Timeout.
func (p *Provider) userInfo(ctx context.Context, about *description, access, sub string) ([]byte, error) {
	r, err := http.NewRequest(http.MethodGet, about.UserInfo, nil)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, err)
	}
	r.Header.Set("Authorization", "Bearer "+access)
	var said json.RawMessage
	status, err := p.ask(ctx, r, &said)
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, silent("answers %d", status)
	}
	var whose struct {
		Sub string `json:"sub"`
	}
	if json.Unmarshal(said, &whose) != nil || whose.Sub != sub {
		return nil, denied("what the provider tells of the user is of somebody else")
	}
	return said, nil
}

// ask sends a request, and reads JSON. What went wrong is told without what was sent. Errors: Timeout.
func (p *Provider) ask(ctx context.Context, r *http.Request, into any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	r.Header.Set("Accept", "application/json")
	resp, err := p.opt.Client.Do(r.WithContext(ctx))
	if err != nil {
		return 0, silent("cannot be asked: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case err != nil:
		return 0, silent("breaks off")
	case len(text) > maxAnswer:
		return 0, silent("answers more than %d bytes", maxAnswer)
	case resp.StatusCode != http.StatusOK && kind != "application/json":
		return resp.StatusCode, nil
	case json.Unmarshal(text, into) != nil: // the error may show some of it
		return 0, silent("answers no JSON that is understood")
	}
	return resp.StatusCode, nil
}

func silent(format string, args ...any) error {
	return fault.New(fault.Timeout, op, "the identity provider "+format, args...)
}
