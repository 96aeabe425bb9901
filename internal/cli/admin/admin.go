// Package admin asks a running broker for what its administrators want to know and do: JSON over HTTP, on listen.http.
//
//	c := admin.Client{Address: "127.0.0.1:8080"}
//	err := c.Call(ctx, admin.Request{Method: "GET", Path: "/sessions", Query: url.Values{"limit": {"10"}}}, &lines)
package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Client asks one broker.
type Client struct {
	// Address is host:port of listen.http, or unix: and the path of a socket.
	Address string
	// TLS is how to speak to listen.https; nil: it is listen.http.
	TLS *tls.Config
	// Token proves that the commands are of the user of the server. Empty: they prove nothing by it.
	Token string
	// User and Password say who asks, if User is not empty.
	User, Password string
}

const (
	prefix   = "/admin/v1"
	jsonType = "application/json"
	unix     = "unix:"
)

// Request is what a broker is asked.
type Request struct {
	Method string // of HTTP: GET, POST or DELETE
	Path   string // below the version of the interface, with a slash before it
	Query  url.Values
	In     any // becomes the body as JSON; nil: none
}

// Call sends a request and reads the answer into out, unless that is nil. Errors: of the kind that the broker says;
// with the exit code of no connection where nobody answers; Partial, and out has what there is.
func (c Client) Call(ctx context.Context, q Request, out any) error {
	answer, err := c.ask(ctx, q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return fault.New(fault.Internal, "admin", "an answer that is not understood: %w", err)
	}
	if silent := answer.Header.Get(silentHeader); silent != "" {
		return &Partial{Silent: strings.Split(silent, ",")}
	}
	return nil
}

// silentHeader names the gateways of which nothing is in an answer.
const silentHeader = "Firth-Silent"

// Partial is the error of an answer in which something is missing.
type Partial struct {
	Silent []string // the names of the gateways that did not tell what they have
}

// Error implements error.
func (p *Partial) Error() string {
	return "what these gateways have is missing, for they did not answer: " + strings.Join(p.Silent, ", ")
}

// Open is Call for who reads the answer as it comes, and closes it.
func (c Client) Open(ctx context.Context, q Request) (io.ReadCloser, error) {
	answer, err := c.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// ask sends a request, and gives the answer if it is a good one.
func (c Client) ask(ctx context.Context, q Request) (*http.Response, error) {
	var body io.Reader
	if q.In != nil {
		text, err := json.Marshal(q.In)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "admin", err)
		}
		body = bytes.NewReader(text)
	}
	answer, err := c.send(ctx, q.Method, url.URL{Path: prefix + q.Path, RawQuery: q.Query.Encode()}, body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		defer answer.Body.Close()
		return nil, refused(answer)
	}
	return answer, nil
}

// Health asks /healthz or /readyz, which everybody may. It gives what the broker says of itself, and whether it is
// well. Errors: with the exit code of no connection where nobody answers.
func (c Client) Health(ctx context.Context, path string) (said string, well bool, err error) {
	const longest = 64 << 10
	answer, err := c.send(ctx, http.MethodGet, url.URL{Path: path, RawQuery: "verbose"}, nil)
	if err != nil {
		return "", false, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, longest))
	if err != nil {
		return "", false, fault.Wrap(fault.IO, "health", err)
	}
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusServiceUnavailable {
		return "", false, refused(answer)
	}
	return string(text), answer.StatusCode == http.StatusOK, nil
}

// send sends one request; u has the path and the query.
func (c Client) send(ctx context.Context, method string, u url.URL, body io.Reader) (*http.Response, error) {
	host, transport := c.Address, &http.Transport{DisableKeepAlives: true, TLSClientConfig: c.TLS}
	if socket, is := strings.CutPrefix(c.Address, unix); is {
		host = "localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	u.Scheme, u.Host = "http", host
	if c.TLS != nil {
		u.Scheme = "https"
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, output.Usage("%w", err)
	}
	r.Header.Set("Content-Type", jsonType)
	switch {
	case c.User != "":
		r.SetBasicAuth(c.User, c.Password)
	case c.Token != "":
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return nil, output.WithCode(output.ExitConnect, fault.New(fault.IO, "connect to "+c.Address, "%w", err).
			WithHint("is Firth running, on this machine? Another listen.http is given with --http host:port"))
	}
	return answer, nil
}

// refused is the error that an answer tells of.
func refused(answer *http.Response) error {
	const longest = 64 << 10
	text, err := io.ReadAll(io.LimitReader(answer.Body, longest))
	if err != nil {
		return fault.Wrap(fault.IO, "admin", err)
	}
	var said struct{ Error, Kind, Hint string }
	if json.Unmarshal(text, &said) != nil || said.Error == "" {
		return fault.New(fault.Unsupported, "admin", "%s: %s", answer.Status, strings.TrimSpace(string(text))).
			WithHint("is this listen.http of a Firth of this version?")
	}
	kind := fault.Internal
	for _, k := range fault.Kinds() {
		if k.String() == said.Kind {
			kind = k
		}
	}
	op, what, found := strings.Cut(said.Error, ": ")
	if !found {
		op, what = "admin", said.Error
	}
	f := &fault.Error{Kind: kind, Op: op, Err: fmt.Errorf("%s", what), Hint: said.Hint}
	if kind == fault.Invalid {
		return output.WithCode(output.ExitUsage, f)
	}
	return f
}
