package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// certified is a node whose listeners show and ask for certificates of its own authority.
type certified struct {
	*Node
	t    *testing.T
	a    Addresses
	pool *x509.CertPool
}

func startCertified(t *testing.T) *certified {
	t.Helper()
	c := local(t)
	n := start(t, c)
	if err := n.authority.Create(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.authority.IssueServer(t.Context(), []string{"localhost", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	c.Listen.MQTTS, c.Listen.WSS, c.Listen.Kafkas, c.Listen.HTTPS =
		"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.TLS.Certificate, c.TLS.Key = c.ownFile(authority.ServerFile), c.ownFile(authority.ServerKeyFile)
	c.TLS.ClientCA, c.TLS.ClientAuth = c.ownFile(authority.CertificateFile), "request"
	c.Access.Anonymous = "deny"
	e := &certified{Node: start(t, c), t: t, pool: x509.NewCertPool()}
	e.a = e.Addresses()
	text, err := e.authority.PEM()
	if err != nil {
		t.Fatal(err)
	}
	e.pool.AppendCertsFromPEM(text)
	return e
}

// request is a certificate request for a name, and its key.
func (e *certified) request(name string) (*x509.CertificateRequest, *ecdsa.PrivateKey) {
	e.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		e.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		e.t.Fatal(err)
	}
	csr, err := authority.ParseRequest(der)
	if err != nil {
		e.t.Fatal(err)
	}
	return csr, key
}

// config is that of a client with a certificate of the authority; without a name it has none.
func (e *certified) config(name string) *tls.Config {
	e.t.Helper()
	c := &tls.Config{RootCAs: e.pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if name == "" {
		return c
	}
	csr, key := e.request(name)
	made, err := e.authority.Issue(e.t.Context(), &authority.Request{CSR: csr, Name: name})
	if err != nil {
		e.t.Fatal(err)
	}
	c.Certificates = []tls.Certificate{{Certificate: [][]byte{made.DER}, PrivateKey: key}}
	return c
}

// ways are connections of one client by every door, each served once.
func (e *certified) ways(name string) map[string]net.Conn {
	e.t.Helper()
	config := e.config(name)
	all := map[string]net.Conn{}
	dial := func(what, address string, change func(*tls.Config)) net.Conn {
		config := config.Clone()
		if change != nil {
			change(config)
		}
		c, err := tls.Dial("tcp", address, config)
		if err != nil {
			e.t.Fatal(what, err)
		}
		e.t.Cleanup(func() { _ = c.Close() }) // it may be closed
		all[what] = c
		return c
	}
	helloAs(e.t, dial("mqtts", e.a.MQTTS, nil), name)
	helloAs(e.t, dial("mqtts 1.2", e.a.MQTTS, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), name+"2")
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	ws, _, err := websocket.Dial(e.t.Context(), "wss://"+e.a.WSS+"/mqtt", //nolint:bodyclose // the connection is hijacked
		&websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: web})
	if err != nil {
		e.t.Fatal(err)
	}
	all["wss"] = websocket.NetConn(context.WithoutCancel(e.t.Context()), ws, websocket.MessageBinary)
	helloAs(e.t, all["wss"], name+"3")
	kafka := dial("kafkas", e.a.Kafkas, nil)
	ask := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 1)
	answers(e.t, "kafkas", kafka, ask)
	answers(e.t, "https", dial("https", e.a.HTTPS, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }),
		[]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	return all
}

// helloAs connects as a client and reads its CONNACK.
func helloAs(t *testing.T, c net.Conn, id string) {
	t.Helper()
	answers(t, "CONNECT of "+id, c, (&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte(id)}).
		AppendTo(nil, packet.V5))
}

// answers asks something that has an answer.
func answers(t *testing.T, what string, c net.Conn, ask []byte) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(ask); err != nil {
		t.Fatal(what, err)
	}
	if n, err := c.Read(make([]byte, 4096)); err != nil {
		t.Fatal(what, n, err)
	}
}

// TestRevokedByTheAuthority: what firth cert revoke revokes is gone from every door when it returns, and can't come
// back; nobody else notices.
func TestRevokedByTheAuthority(t *testing.T) {
	e := startCertified(t)
	pump, valve := e.ways("pump"), e.ways("valve")
	begin := time.Now()
	if _, err := e.authority.Revoke(t.Context(), "pump", "stolen"); err != nil {
		t.Fatal(err)
	}
	for what, c := range pump {
		_, err := io.Copy(io.Discard, c) // until it ends: a deadline is set
		if timeout, is := errors.AsType[net.Error](err); is && timeout.Timeout() {
			t.Errorf("%s lives on", what)
		}
	}
	t.Logf("all connections had ended %s after it began", time.Since(begin))
	answers(t, "mqtts", valve["mqtts"], []byte{0xc0, 0})
	answers(t, "mqtts 1.2", valve["mqtts 1.2"], []byte{0xc0, 0})
	answers(t, "wss", valve["wss"], []byte{0xc0, 0})
	answers(t, "https", valve["https"], []byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

// TestKeyOfTheAuthority: a key that others can read is refused.
func TestKeyOfTheAuthority(t *testing.T) {
	c := local(t)
	n := start(t, c)
	if err := n.authority.Create(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(c.Data, authority.KeyFile)
	for _, name := range []string{authority.KeyFile, authority.CertificateFile, authority.RevokedFile} {
		if info, err := os.Stat(filepath.Join(c.Data, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	n, err := Start(t.Context(), c)
	if err == nil {
		_ = n.Close()
	}
	if !fault.Is(err, fault.Denied) {
		t.Errorf("%v: it is not refused", err)
	}
}
