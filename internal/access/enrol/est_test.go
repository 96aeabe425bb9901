package enrol_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/access/enrol"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/secure"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

// office is a desk behind a server of HTTP with TLS.
type office struct {
	t       *testing.T
	url     string
	desk    *enrol.Desk
	ca      *authority.Authority
	pool    *x509.CertPool
	mu      sync.Mutex
	users   map[string][]string
	failed  int
	events  []enrol.Event
	handler http.Handler
}

// Known implements enrol.Users.
func (o *office) Known(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.users[name] != nil
}

// Ensure implements enrol.Users.
func (o *office) Ensure(_ context.Context, name string, roles []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.users[name] == nil {
		o.users[name] = append([]string{}, roles...)
	}
	return nil
}

// Hold implements enrol.Logins.
func (o *office) Hold(context.Context, string, netip.Addr) error { return nil }

// Settle implements enrol.Logins.
func (o *office) Settle(_ string, _ netip.Addr, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !ok {
		o.failed++
	}
}

func openOffice(t *testing.T) *office {
	t.Helper()
	disk := vfs.NewMemory()
	log, err := store.Open(t.Context(), store.Options{FS: disk, Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	o := &office{t: t, users: map[string][]string{}, pool: x509.NewCertPool()}
	if o.ca, err = authority.Open(t.Context(), authority.Options{FS: disk, Log: log}); err != nil {
		t.Fatal(err)
	}
	if err := o.ca.Create(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	o.desk = enrol.New(enrol.Options{Authority: o.ca, Users: o, Logins: o, Done: func(e enrol.Event) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.events = append(o.events, e)
	}})
	o.handler = o.desk.Handler()
	o.serve()
	return o
}

// serve serves as a node does.
func (o *office) serve() {
	o.t.Helper()
	key, der := newKey(o.t, "server")
	csr, err := authority.ParseRequest(der)
	if err != nil {
		o.t.Fatal(err)
	}
	made, err := o.ca.Issue(o.t.Context(), &authority.Request{CSR: csr, Name: "server", Server: true,
		Names: []string{"localhost"}})
	if err != nil {
		o.t.Fatal(err)
	}
	text, err := o.ca.PEM()
	if err != nil {
		o.t.Fatal(err)
	}
	o.pool.AppendCertsFromPEM(text)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		o.t.Fatal(err)
	}
	dir := o.t.TempDir()
	source, err := secure.Open(secure.Files{
		Certificates: []string{securetest.Write(o.t, dir, "server.pem", made.PEM())},
		Keys: []string{securetest.Write(o.t, dir, "server.key",
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))},
		ClientCA: securetest.Write(o.t, dir, "ca.pem", text), ClientAuth: secure.RequestClientAuth,
	}, secure.Options{Name: "https"})
	if err != nil {
		o.t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		o.t.Fatal(err)
	}
	l := secure.Listen(tcp,
		secure.ListenOptions{Source: source, Protocols: []string{"http/1.1"}, Gate: secure.NewGate(64)})
	server := &http.Server{Handler: o.handler, ConnContext: secure.ConnContext, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // until it is closed
	}()
	o.t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	o.url = "https://localhost:" + port + enrol.Path
}

func newKey(t testing.TB, name string) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func (o *office) claim(name string, uses int) string {
	o.t.Helper()
	_, token, err := o.ca.AddClaim(o.t.Context(), &authority.NewClaim{Name: name, Uses: uses, For: time.Hour,
		Roles: []string{"device"}})
	if err != nil {
		o.t.Fatal(err)
	}
	return token
}

// asking is one request of a device.
type asking struct {
	do, user, token string
	shows           *tls.Certificate
	body            []byte
}

// ask sends a request, and reads certificates if it is answered with some.
func (o *office) ask(a asking) (status int, certificates []*x509.Certificate, text string) {
	o.t.Helper()
	method := http.MethodPost
	if a.body == nil {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(o.t.Context(), method, o.url+a.do, bytes.NewReader(a.body))
	if err != nil {
		o.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/pkcs10")
	if a.user != "" {
		r.SetBasicAuth(a.user, a.token)
	}
	config := &tls.Config{RootCAs: o.pool}
	if a.shows != nil {
		config.Certificates = []tls.Certificate{*a.shows}
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		return answer.StatusCode, nil, string(all)
	}
	if kind := answer.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/pkcs7-mime") {
		o.t.Errorf("%s is answered with %s", a.do, kind)
	}
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(all), "\n", ""))
	if err != nil {
		o.t.Fatal(err)
	}
	message, err := pkcs7.Parse(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return answer.StatusCode, message.Certificates, ""
}

func base64Of(der []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(der)) }

// TestEST: a device finds the authority, enrols by a claim and again by its certificate.
func TestEST(t *testing.T) {
	o := openOffice(t)
	status, own, text := o.ask(asking{do: "cacerts"})
	if status != 200 || len(own) != 1 || !own[0].IsCA {
		t.Fatal(status, own, text)
	}
	if status, _, _ := o.ask(asking{do: "csrattrs"}); status != 204 {
		t.Errorf("csrattrs: %d", status)
	}
	token := o.claim("pump-7", 1)
	key, request := newKey(t, "pump-7")
	status, made, text := o.ask(asking{do: "simpleenroll", user: "pump-7", token: token, body: base64Of(request)})
	if status != 200 || len(made) != 1 {
		t.Fatal(status, made, text)
	}
	if err := made[0].CheckSignatureFrom(own[0]); err != nil || made[0].Subject.CommonName != "pump-7" ||
		!key.PublicKey.Equal(made[0].PublicKey) {
		t.Error(err, made[0].Subject)
	}
	if !slices.Equal(o.users["pump-7"], []string{"device"}) {
		t.Errorf("the user has the roles %q", o.users["pump-7"])
	}
	status, _, text = o.ask(asking{do: "simpleenroll", user: "pump-7", token: token, body: base64Of(request)})
	if status != 403 {
		t.Errorf("the same claim twice: %d %s", status, text)
	}
	shows := &tls.Certificate{Certificate: [][]byte{made[0].Raw}, PrivateKey: key}
	_, next := newKey(t, "pump-7")
	status, again, text := o.ask(asking{do: "simplereenroll", shows: shows, body: base64Of(next)})
	if status != 200 || len(again) != 1 || again[0].SerialNumber.Cmp(made[0].SerialNumber) == 0 {
		t.Fatal(status, again, text)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.events) != 3 || o.events[0].By != "https, claim" || o.events[0].Serial == "" || o.events[1].Err == nil ||
		o.events[2].By != "https, certificate" || !o.events[2].Address.IsLoopback() {
		t.Errorf("what was told: %+v", o.events)
	}
}

func TestESTRefuses(t *testing.T) {
	o := openOffice(t)
	token := o.claim("pump-7", 9)
	key, request := newKey(t, "pump-7")
	_, valve := newKey(t, "valve")
	forged := bytes.Clone(request)
	forged[len(forged)-1] ^= 1
	for name, tc := range map[string]struct {
		asking
		status int
		text   string
	}{
		"nobody":        {asking{"simpleenroll", "", "", nil, base64Of(request)}, 401, ""},
		"a wrong token": {asking{"simpleenroll", "pump-7", token + "x", nil, base64Of(request)}, 403, "no claim"},
		"a name that is not in the claim": {asking{"simpleenroll", "valve", token, nil, base64Of(valve)}, 403,
			"no claim"},
		"another subject":              {asking{"simpleenroll", "pump-7", token, nil, base64Of(valve)}, 400, "valve"},
		"without the key":              {asking{"simpleenroll", "pump-7", token, nil, base64Of(forged)}, 400, "own key"},
		"nothing":                      {asking{"simpleenroll", "pump-7", token, nil, []byte{}}, 400, "PKCS"},
		"no base64":                    {asking{"simpleenroll", "pump-7", token, nil, []byte("!!")}, 400, "base64"},
		"large":                        {asking{"simpleenroll", "pump-7", token, nil, make([]byte, 1<<20)}, 413, ""},
		"a claim again":                {asking{"simplereenroll", "pump-7", token, nil, base64Of(request)}, 401, ""},
		"a method that is not for it":  {asking{"simpleenroll", "pump-7", token, nil, nil}, 405, ""},
		"something that is not served": {asking{"fullcmc", "pump-7", token, nil, base64Of(request)}, 404, ""},
	} {
		status, made, text := o.ask(tc.asking)
		if status != tc.status || len(made) > 0 || !strings.Contains(text, tc.text) {
			t.Errorf("%s: %d %s, want %d %s", name, status, text, tc.status, tc.text)
		}
	}
	if o.failed == 0 {
		t.Error("who has failed is not slowed down")
	}
	if claims := o.ca.Claims(); claims[0].Uses != 9 {
		t.Errorf("what was refused has cost %d uses", 9-claims[0].Uses)
	}
	_, own, _ := o.ask(asking{do: "simpleenroll", user: "pump-7", token: token, body: base64Of(request)})
	if _, err := o.ca.Revoke(t.Context(), "pump-7", ""); err != nil {
		t.Fatal(err)
	}
	shown := &tls.Certificate{Certificate: [][]byte{own[0].Raw}, PrivateKey: key}
	if status, _, text := o.ask(asking{do: "simplereenroll", shows: shown, body: base64Of(request)}); status != 403 {
		t.Errorf("with a revoked certificate: %d %s", status, text)
	}
}

// TestPlainHTTPIsRefused: no token travels in the clear.
func TestPlainHTTPIsRefused(t *testing.T) {
	o := openOffice(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: o.handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }() // until it is closed
	defer server.Close()
	r, err := http.Post("http://"+l.Addr().String()+enrol.Path+"simpleenroll", "application/pkcs10",
		strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", r.StatusCode)
	}
}

// TestRequestThatEndsWithASpace: the last byte of a signature may be any.
func TestRequestThatEndsWithASpace(t *testing.T) {
	o := openOffice(t)
	_, request := newKey(t, "pump-7")
	for request[len(request)-1] != ' ' {
		_, request = newKey(t, "pump-7")
	}
	applicant := enrol.Applicant{Name: "pump-7", Token: []byte(o.claim("pump-7", 1))}
	if _, err := o.desk.Enrol(t.Context(), applicant, request); err != nil {
		t.Error(err)
	}
}

// TestClaimsUsedTogether: a claim for so many devices is good for so many, however many come at once.
func TestClaimsUsedTogether(t *testing.T) {
	o := openOffice(t)
	token := o.claim("pump-*", 5)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for i := range 20 {
		name := "pump-" + string(rune('a'+i))
		_, request := newKey(t, name)
		wg.Go(func() {
			_, err := o.desk.Enrol(t.Context(), enrol.Applicant{Name: name, Token: []byte(token)}, request)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				got++
			case !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Limited):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got == 0 || got > 5 {
		t.Errorf("%d certificates", got)
	}
}
