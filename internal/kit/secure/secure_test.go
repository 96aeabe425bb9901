package secure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

// site is a source, its files and a listener that echoes.
type site struct {
	t       *testing.T
	dir     string
	ca      *securetest.CA // of the server
	devices *securetest.CA
	files   Files
	source  *Source
	metrics *Metrics
	addr    string
	peers   chan *Peer
}

func open(t *testing.T, auth ClientAuth, opt ListenOptions, expected ...string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), ca: securetest.NewCA(t, "servers"), devices: securetest.NewCA(t, "devices"),
		metrics: NewMetrics(telemetry.New()), peers: make(chan *Peer, 10_000)}
	cert, key := s.ca.Server("broker.example").Write(t, s.dir, "server")
	s.files = Files{Certificates: []string{cert}, Keys: []string{key}, ClientAuth: auth,
		ClientCA: securetest.Write(t, s.dir, "devices.pem", s.devices.PEM),
		CRL:      securetest.Write(t, s.dir, "crl.pem", s.devices.CRL())}
	var err error
	s.source, err = Open(s.files, Options{Name: "test", Metrics: s.metrics, Logger: logtest.New(t, expected...),
		Every: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.source.Run(ctx) })
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if opt.Gate == nil {
		opt.Gate = NewGate(64)
	}
	opt.Source = s.source
	l := Listen(n, opt)
	s.addr = n.Addr().String()
	running.Go(func() { s.echo(l) })
	t.Cleanup(func() {
		_ = l.Close() // it is open
		cancel()
		running.Wait()
	})
	return s
}

func (s *site) echo(l net.Listener) {
	for {
		n, err := l.Accept()
		if err != nil {
			return
		}
		c := n.(*Conn)
		s.peers <- c.Peer()
		go func() {
			_, _ = io.Copy(c, c) // until the client goes
			_ = c.Close()        // it may be closed
		}()
	}
}

// config is a client's.
func (s *site) config(pair *securetest.Pair, protocols ...string) *tls.Config {
	c := &tls.Config{RootCAs: s.ca.Pool(), ServerName: "broker.example", NextProtos: protocols}
	if pair != nil {
		c.Certificates = []tls.Certificate{pair.TLS(s.t)}
	}
	return c
}

func (s *site) dial(c *tls.Config) (*tls.Conn, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", s.addr, c)
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { _ = conn.Close() }) // it may be closed
	return conn, ping(conn)
}

// ping sees that a connection works both ways: a server of TLS 1.3 refuses after the client is done.
func ping(c net.Conn) error {
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	var b [4]byte
	_, err := io.ReadFull(c, b[:])
	return err
}

func (s *site) mustDial(c *tls.Config) *tls.Conn {
	s.t.Helper()
	conn, err := s.dial(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func (s *site) failed(reason string) float64 {
	return telemetry.Value(s.metrics.failures.With("test", reason))
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestPeer: what a certificate says is told with the connection, and nothing where there is none.
func TestPeer(t *testing.T) {
	s := open(t, RequestClientAuth, ListenOptions{Protocols: []string{"mqtt"}})
	pump := s.devices.Client("pump-7")
	c := s.mustDial(s.config(&pump, "mqtt"))
	if got := c.ConnectionState().NegotiatedProtocol; got != "mqtt" {
		t.Errorf("protocol %q", got)
	}
	p := <-s.peers
	if p == nil || p.CommonName != "pump-7" || p.Subject != "CN=pump-7" || len(p.DNSNames) != 1 ||
		p.DNSNames[0] != "pump-7.devices.example" || len(p.Fingerprint) != 64 || p.Serial == "" {
		t.Errorf("peer %+v", p)
	}
	s.mustDial(s.config(nil)) // without ALPN and without a certificate
	if p := <-s.peers; p != nil {
		t.Errorf("peer %+v", p)
	}
	if _, err := s.dial(s.config(nil, "http/1.1")); err == nil {
		t.Error("another protocol was taken")
	}
	eventually(t, "counted", func() bool { return s.failed(noProtocol) == 1 })
}

// insist is the configuration of a client that shows its certificate whatever authorities it is told.
func insist(s *site, pair *securetest.Pair) *tls.Config {
	c, own := s.config(nil), pair.TLS(s.t)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	return c
}

// TestReasons: a handshake that fails does so for the reason that is counted, and the listener goes on.
func TestReasons(t *testing.T) {
	s := open(t, RequireClientAuth, ListenOptions{})
	stranger := securetest.NewCA(t, "strangers").Client("x")
	server := s.devices.Server() // not for clients
	for reason, c := range map[string]*tls.Config{
		noCertificate: s.config(nil), badCert: insist(s, &stranger),
		noVersion: {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
		noCipher: {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}},
		clientAlert: {RootCAs: x509.NewCertPool(), ServerName: "broker.example"},
	} {
		if _, err := s.dial(c); err == nil {
			t.Errorf("%s: taken", reason)
		}
		eventually(t, reason, func() bool { return s.failed(reason) == 1 })
	}
	if _, err := s.dial(s.config(&server)); err == nil {
		t.Error("the certificate of a server was taken")
	}
	eventually(t, "for another purpose", func() bool { return s.failed(badCert) == 2 })
	big := s.devices.Client("big").TLS(t)
	for range 80 {
		big.Certificate = append(big.Certificate, make([]byte, 1000))
	}
	if _, err := s.dial(&tls.Config{RootCAs: s.ca.Pool(), ServerName: "broker.example",
		Certificates: []tls.Certificate{big}}); err == nil {
		t.Error("a chain of 80 KB was taken")
	}
	eventually(t, "too much", func() bool { return s.failed(tooMuch) == 1 })
	for reason, text := range map[string]string{
		notTLS: "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", tooLate: "", gone: "\x16\x03\x01",
	} {
		s := s
		if reason == tooLate {
			s = open(t, NoClientAuth, ListenOptions{Timeout: 100 * time.Millisecond})
		}
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if reason == gone {
			_ = c.Close() // that is it
		}
		eventually(t, reason, func() bool { return s.failed(reason) == 1 })
		_ = c.Close() // it may be closed
	}
	good := s.devices.Client("pump")
	s.mustDial(s.config(&good))
}

// TestPlainHTTP: who speaks HTTP to TLS is told so.
func TestPlainHTTP(t *testing.T) {
	s := open(t, NoClientAuth, ListenOptions{})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(c) // a reset may end it
	if !strings.Contains(string(text), "speaks TLS") {
		t.Errorf("answer %q", text)
	}
}

// TestRotation: a new certificate is shown to new connections, the old ones live on, and sessions resume.
func TestRotation(t *testing.T) {
	s := open(t, NoClientAuth, ListenOptions{})
	cache := tls.NewLRUClientSessionCache(1)
	config := s.config(nil)
	config.ClientSessionCache = cache
	old := s.mustDial(config)
	shown := func() string {
		c := s.mustDial(s.config(nil))
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := shown()
	s.ca.Server("broker.example").Write(t, s.dir, "server")
	eventually(t, "the new one is shown", func() bool { return shown() != before })
	if err := ping(old); err != nil {
		t.Errorf("the old connection ended: %v", err)
	}
	if c := s.mustDial(config); !c.ConnectionState().DidResume {
		t.Error("the session was not resumed")
	}
	if n := telemetry.Value(s.metrics.handshakes.With("test", "1.3", "resumed")); n != 1 {
		t.Errorf("%v resumed", n)
	}
}

// TestBadFiles: bad files change nothing, are told of, and good ones end that.
func TestBadFiles(t *testing.T) {
	const told = "the files of TLS are bad"
	s := open(t, NoClientAuth, ListenOptions{}, told)
	good, err := os.ReadFile(s.files.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	bad := func() bool { return gauge(s.metrics.bad.With("test")) == 1 }
	for name, spoil := range map[string]func(){
		"cut":      func() { securetest.Write(t, s.dir, "server.key", good[:40]) },
		"another":  func() { securetest.Write(t, s.dir, "server.key", s.ca.Server().Key) },
		"gone":     func() { _ = os.Remove(s.files.Keys[0]) },
		"readable": func() { _ = os.Chmod(s.files.Keys[0], 0o644) },
		"ended": func() {
			s.ca.ServerUntil(time.Now().Add(-time.Hour), "broker.example").Write(t, s.dir, "server")
		},
	} {
		before, err := os.ReadFile(s.files.Certificates[0])
		if err != nil {
			t.Fatal(err)
		}
		spoil()
		eventually(t, name+" is told", bad)
		s.mustDial(s.config(nil))
		securetest.Write(t, s.dir, "server.pem", before)
		securetest.Write(t, s.dir, "server.key", good)
		eventually(t, name+" is mended", func() bool { return !bad() })
	}
	if left := gauge(s.metrics.expiry.With("test")); left < 89*24*3600 || left > 90*24*3600 {
		t.Errorf("%v s left", left)
	}
}

func gauge(g telemetry.Gauge) float64 {
	var m dto.Metric
	if g.Write(&m) != nil {
		return -1
	}
	return m.GetGauge().GetValue()
}

// TestKeyOfOthers: a key that others can read is refused with the command that mends it.
func TestKeyOfOthers(t *testing.T) {
	dir := t.TempDir()
	cert, key := securetest.NewCA(t, "x").Server().Write(t, dir, "server")
	files := Files{Certificates: []string{cert}, Keys: []string{key}}
	for mode, want := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o640: os.Getuid() == 0, 0o644: false, 0o660: false, 0o601: false,
	} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(files, Options{})
		if (err == nil) != want || err != nil && (!fault.Is(err, fault.Denied) || fault.HintOf(err) != "chmod 600 "+key) {
			t.Errorf("%04o: %v (%s)", mode, err, fault.HintOf(err))
		}
	}
}

// TestOpenErrors: each file that is missing or wrong is named.
func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	ca, other := securetest.NewCA(t, "a"), securetest.NewCA(t, "b")
	cert, key := ca.Server().Write(t, dir, "server")
	authority := securetest.Write(t, dir, "ca.pem", ca.PEM)
	junk := securetest.Write(t, dir, "junk.pem", []byte("hello"))
	foreign := securetest.Write(t, dir, "foreign.crl", other.CRL())
	one := Files{Certificates: []string{cert}, Keys: []string{key}, ClientAuth: RequireClientAuth, ClientCA: authority}
	for name, spoil := range map[string]func(f *Files){
		"there is no file " + dir + "/none": func(f *Files) { f.Certificates = []string{dir + "/none"} },
		"each needs the other":              func(f *Files) { f.Keys = nil },
		"no certificate and its key":        func(f *Files) { f.Certificates = []string{junk} },
		"junk.pem holds no certificate":     func(f *Files) { f.ClientCA = junk },
		"no authority is named":             func(f *Files) { f.ClientCA = "" },
		"holds no list of revoked":          func(f *Files) { f.CRL = junk },
		"is signed by none of client_ca":    func(f *Files) { f.CRL = foreign },
		"is a folder":                       func(f *Files) { f.ClientCA = dir },
	} {
		f := one
		spoil(&f)
		if _, err := Open(f, Options{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(one, Options{}); err != nil {
		t.Error(err)
	}
}

// TestRevocation: a certificate that is revoked ends its connection at once, cannot come back, nor by a session that
// began before; the others stay. What a newer list takes back is good again.
func TestRevocation(t *testing.T) {
	s := open(t, RequireClientAuth, ListenOptions{})
	good, bad := s.devices.Client("good"), s.devices.Client("bad")
	resumes := s.config(&bad)
	resumes.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	stays, goes := s.mustDial(s.config(&good)), s.mustDial(resumes)
	securetest.Write(t, s.dir, "crl.pem", s.devices.CRL(bad))
	_ = goes.SetReadDeadline(time.Now().Add(time.Minute)) // it is open
	if _, err := goes.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the revoked connection lives: %v", err)
	}
	for _, c := range []*tls.Config{resumes, s.config(&bad)} {
		if _, err := s.dial(c); err == nil {
			t.Error("the revoked certificate was taken")
		}
	}
	eventually(t, "both are counted", func() bool { return s.failed(isRevoked) == 2 })
	if err := ping(stays); err != nil {
		t.Errorf("another connection ended: %v", err)
	}
	securetest.Write(t, s.dir, "crl.pem", s.devices.CRL())
	eventually(t, "it is good again", func() bool { _, err := s.dial(s.config(&bad)); return err == nil })
	s.source.live.Lock()
	defer s.source.live.Unlock()
	if n := len(s.source.live.peers); n > 3 {
		t.Errorf("%d connections are remembered", n)
	}
}

// TestClientAuthorities: authorities of clients change while connections live on; those of one that went cannot come
// back, nor by a session that began before.
func TestClientAuthorities(t *testing.T) {
	s := open(t, RequireClientAuth, ListenOptions{})
	old, newer := s.devices.Client("old"), securetest.NewCA(t, "newer")
	resumes := s.config(&old)
	resumes.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	stays := s.mustDial(resumes)
	next := newer.Client("new")
	if err := os.Remove(s.files.CRL); err != nil {
		t.Fatal(err)
	}
	securetest.Write(t, s.dir, "crl.pem", newer.CRL())
	securetest.Write(t, s.dir, "devices.pem", newer.PEM)
	eventually(t, "the new authority is taken", func() bool { _, err := s.dial(s.config(&next)); return err == nil })
	for _, c := range []*tls.Config{resumes, s.config(&old)} {
		if _, err := s.dial(c); err == nil {
			t.Error("a certificate of the old authority was taken")
		}
	}
	if err := ping(stays); err != nil {
		t.Errorf("a connection ended: %v", err)
	}
}

// TestSilent: clients that say nothing do not keep others out, however many they are.
func TestSilent(t *testing.T) {
	const places = 8
	s := open(t, NoClientAuth, ListenOptions{Gate: NewGate(places), Timeout: time.Hour})
	for range 5 * places {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "there is room", func() bool { _, err := s.dial(s.config(nil)); return err == nil })
	if s.failed(crowded) == 0 {
		t.Error("none made room")
	}
}

// TestPatience: a client makes room for having let us wait, not for what we took ourselves.
func TestPatience(t *testing.T) {
	for name, c := range map[string]struct {
		waits, waited time.Duration
		spoke, stays  bool
	}{
		"we are slow":               {waits: 0, spoke: true, stays: true},
		"it has just begun to wait": {waits: time.Millisecond, spoke: true, stays: true},
		"before its first record":   {waits: time.Second},
		"behind its first record":   {waits: time.Second, spoke: true, stays: true},
		"for too long":              {waits: time.Minute, spoke: true},
		"again and again":           {waits: time.Second, waited: time.Minute, spoke: true},
	} {
		l := &Listener{opt: ListenOptions{Gate: NewGate(1), patience: time.Minute, firstPatience: time.Second}}
		client, server := net.Pipe()
		h := &handshake{conn: &beneath{Conn: server, began: time.Now().Add(-time.Hour)}}
		l.mu.first = h
		if c.waits > 0 {
			h.conn.waits.Store(int64(time.Hour - c.waits))
		}
		h.conn.waited.Store(int64(c.waited))
		h.conn.spoke.Store(c.spoke)
		l.evict()
		if h.evicted == c.stays {
			t.Errorf("%s: evicted %v", name, h.evicted)
		}
		_, _ = client.Close(), server.Close() // one may be
	}
}

// TestStorm: more clients than the gate lets at once wait for each other, and none is refused.
func TestStorm(t *testing.T) {
	s := open(t, NoClientAuth, ListenOptions{Gate: NewGate(4), Timeout: time.Hour, patience: time.Hour,
		firstPatience: time.Hour})
	var failed atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			c, err := tls.Dial("tcp", s.addr, s.config(nil))
			if err == nil {
				err = ping(c)
				_ = c.Close() // it is open
			}
			if err != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of 100 failed", n)
	}
}

// TestNames: of two certificates the one is shown that fits the name asked for.
func TestNames(t *testing.T) {
	dir, ca := t.TempDir(), securetest.NewCA(t, "x")
	var f Files
	for _, name := range []string{"a.example", "b.example"} {
		cert, key := ca.Server(name).Write(t, dir, name)
		f.Certificates, f.Keys = append(f.Certificates, cert), append(f.Keys, key)
	}
	source, err := Open(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(n, ListenOptions{Source: source, Gate: NewGate(2)})
	defer l.Close()
	for _, name := range []string{"b.example", "a.example"} {
		c, err := tls.Dial("tcp", n.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: name})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := l.Accept()
		if err != nil || got.(*Conn).ServerName() != name {
			t.Errorf("%v, %v", got, err)
		}
		_, _ = got.Close(), c.Close() // they are open
	}
}

// TestTimes: an end that is near is told once a day.
func TestTimes(t *testing.T) {
	dir, ca := t.TempDir(), securetest.NewCA(t, "x")
	now := time.Now()
	cert, key := ca.ServerUntil(now.Add(13*24*time.Hour)).Write(t, dir, "server")
	lines := &lineCount{}
	source, err := Open(Files{Certificates: []string{cert}, Keys: []string{key}},
		Options{Logger: lines.logger(), Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	source.Look()
	if lines.n != 1 {
		t.Errorf("told %d times", lines.n)
	}
	now = now.Add(25 * time.Hour)
	source.Look()
	source.Look()
	if lines.n != 2 {
		t.Errorf("told %d times", lines.n)
	}
}
