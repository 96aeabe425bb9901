package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// encryptedNode is a node with TLS on all doors, and the files of it.
type encryptedNode struct {
	*Node
	dir         string
	ca, devices *securetest.CA
	a           Addresses
}

func startEncrypted(t *testing.T, auth string, change ...func(*Config)) *encryptedNode {
	t.Helper()
	e := &encryptedNode{dir: t.TempDir(), ca: securetest.NewCA(t, "servers"), devices: securetest.NewCA(t, "devices")}
	c := local(t)
	c.Listen.MQTTS, c.Listen.WSS, c.Listen.Kafkas, c.Listen.HTTPS =
		"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.TLS.Certificate, c.TLS.Key = e.ca.Server("broker.example").Write(t, e.dir, "server")
	c.TLS.ClientCA = securetest.Write(t, e.dir, "devices.pem", e.devices.PEM)
	c.TLS.CRL = securetest.Write(t, e.dir, "crl.pem", e.devices.CRL())
	c.TLS.ClientAuth = auth
	for _, f := range change {
		f(c)
	}
	e.Node = start(t, c)
	e.a = e.Addresses()
	return e
}

// config is a client's.
func (e *encryptedNode) config(t *testing.T, pair *securetest.Pair) *tls.Config {
	c := &tls.Config{RootCAs: e.ca.Pool(), ServerName: "localhost"}
	if pair != nil {
		c.Certificates = []tls.Certificate{pair.TLS(t)}
	}
	return c
}

// TestTLSDoors: every door speaks TLS besides the plain ones, with the certificates of clients and without.
func TestTLSDoors(t *testing.T) {
	for _, auth := range []string{"none", "require"} {
		t.Run(auth, func(t *testing.T) {
			e := startEncrypted(t, auth)
			pump := e.devices.Client("pump")
			config := e.config(t, &pump)
			t.Run("mqtts", func(t *testing.T) {
				c, err := tls.Dial("tcp", e.a.MQTTS, config)
				if err != nil {
					t.Fatal(err)
				}
				hello(t, c, "")
			})
			t.Run("wss", func(t *testing.T) { webHello(t, e.a.WSS, config) })
			t.Run("kafkas", func(t *testing.T) { askKafka(t, e, config) })
			t.Run("https", func(t *testing.T) {
				client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
				r, err := client.Get("https://" + e.a.HTTPS + "/metrics")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Body.Close()
				text, err := io.ReadAll(r.Body)
				if err != nil || !strings.Contains(string(text), `firth_tls_certificate_expiry_seconds{listener="listen"} 7`) {
					t.Errorf("%v:\n%s", err, text)
				}
			})
			if auth == "require" {
				for _, address := range []string{e.a.MQTTS, e.a.WSS, e.a.Kafkas, e.a.HTTPS} {
					if err := refused(e, t, address, nil); err != nil {
						t.Errorf("%s without a certificate: %v", address, err)
					}
				}
			}
		})
	}
}

// refused is nil if a client with a certificate, or without, is refused.
func refused(e *encryptedNode, t *testing.T, address string, pair *securetest.Pair) error {
	c, err := tls.Dial("tcp", address, e.config(t, pair))
	if err != nil {
		return nil
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		return fmt.Errorf("taken: %w", err)
	}
	return nil
}

func webHello(t *testing.T, address string, config *tls.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial( //nolint:bodyclose // the connection is hijacked
		ctx, "wss://"+address+"/mqtt", &websocket.DialOptions{
			Subprotocols: []string{"mqtt"},
			HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: config}},
		})
	if err != nil {
		t.Fatal(err)
	}
	hello(t, websocket.NetConn(ctx, ws, websocket.MessageBinary), "")
}

// askKafka sees what address a client is told by the name that it asks for.
func askKafka(t *testing.T, e *encryptedNode, config *tls.Config) {
	t.Helper()
	_, port, err := net.SplitHostPort(e.a.Kafkas)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"broker.example": "broker.example", "127.0.0.1": "127.0.0.1"} {
		config := config.Clone()
		config.ServerName = name
		cl, err := kgo.NewClient(kgo.SeedBrokers(e.a.Kafkas), kgo.DialTLSConfig(config))
		if err != nil {
			t.Fatal(err)
		}
		got, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), cl)
		cl.Close()
		if err != nil {
			t.Fatal(err)
		}
		if b := got.Brokers[0]; b.Host != want || strconv.Itoa(int(b.Port)) != port {
			t.Errorf("asked for %s and was told %s:%d", name, b.Host, b.Port)
		}
	}
}

// pinger is a session that sends PINGREQ until its connection ends.
type pinger struct {
	c    net.Conn
	name string
}

func (d *pinger) ping() error {
	if err := d.c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := d.c.Write([]byte{0xc0, 0}); err != nil {
		return err
	}
	var b [2]byte
	_, err := io.ReadFull(d.c, b[:])
	return err
}

func connectDevice(e *encryptedNode, name string, config *tls.Config) (*pinger, error) {
	c, err := tls.Dial("tcp", e.a.MQTTS, config)
	if err != nil {
		return nil, err
	}
	connect := (&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte(name)}).AppendTo(nil, packet.V5)
	if _, err := c.Write(connect); err != nil {
		return nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	_, err = io.CopyN(io.Discard, c, int64(head[1]))
	return &pinger{c: c, name: name}, err
}

// crowd connects devices side by side: each with a configuration.
func crowd(t *testing.T, e *encryptedNode, size int, config func(i int) *tls.Config) []*pinger {
	t.Helper()
	all := make([]*pinger, size)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			d, err := connectDevice(e, fmt.Sprintf("device-%d", i), config(i))
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = d
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		for _, d := range all {
			_ = d.c.Close() // some are closed
		}
	})
	return all
}

func alive(t *testing.T, what string, devices []*pinger) {
	t.Helper()
	for _, d := range devices {
		if err := d.ping(); err != nil {
			t.Fatalf("%s: the session of %s ended: %v", what, d.name, err)
		}
	}
}

// shown is the serial number of the certificate that the server shows.
func shown(e *encryptedNode, config *tls.Config) string {
	c, err := tls.Dial("tcp", e.a.MQTTS, config)
	if err != nil {
		return ""
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestRotationUnderSessions changes the certificate of the server, the authority of clients and the list of revoked
// certificates under 1,000 sessions: none ends but those revoked, and these within a second of the list. Of five lists
// one has to be that quick, of more where none is: a machine may be busy.
func TestRotationUnderSessions(t *testing.T) {
	const rounds, usual, each = 40, 5, 2 // lists at most and usually, and sessions that each revokes
	sessions := 1000
	if testing.Short() {
		sessions = 100
	}
	e := startEncrypted(t, "require")
	good := e.devices.Client("good")
	config := e.config(t, &good)
	var bad []securetest.Pair
	var configs []*tls.Config
	for range rounds {
		pair := e.devices.Client("revoked")
		bad, configs = append(bad, pair), append(configs, e.config(t, &pair))
	}
	all := crowd(t, e, sessions, func(i int) *tls.Config {
		if i < rounds*each {
			return configs[i/each]
		}
		return config
	})
	alive(t, "before", all)
	first := shown(e, config)
	e.ca.Server("broker.example").Write(t, e.dir, "server")
	eventually(t, func() bool { now := shown(e, config); return now != "" && now != first })
	alive(t, "a new certificate", all)

	newer := securetest.NewCA(t, "newer devices")
	securetest.Write(t, e.dir, "devices.pem", append(append([]byte{}, e.devices.PEM...), newer.PEM...))
	next := newer.Client("next")
	eventually(t, func() bool {
		d, err := connectDevice(e, "next", e.config(t, &next))
		if err == nil {
			_ = d.c.Close() // it is open
		}
		return err == nil
	})
	alive(t, "another authority", all)

	best := time.Hour
	for i := 0; i < usual || i < rounds && best > time.Second; i++ {
		securetest.Write(t, e.dir, "crl.pem", e.devices.CRL(bad[:i+1]...))
		begin := time.Now()
		if err := e.reloadTLS(e.cfg); err != nil { // as SIGHUP does
			t.Fatal(err)
		}
		for _, d := range all[i*each:][:each] {
			if err := untilEnd(d); err != nil {
				t.Fatal(err)
			}
		}
		best = min(best, time.Since(begin))
		alive(t, "a list of revoked certificates", all[(i+1)*each:])
		if err := refused(e, t, e.a.MQTTS, &bad[i]); err != nil {
			t.Errorf("revoked: %v", err)
		}
	}
	if best > time.Second {
		t.Errorf("revoked sessions ended after %v and more", best)
	}
}

// untilEnd reads what a connection says last: a DISCONNECT with Not authorized.
func untilEnd(d *pinger) error {
	if err := d.c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	text, err := io.ReadAll(d.c)
	if err != nil || !strings.HasPrefix(string(text), "\xe0") || !strings.Contains(string(text), "\x87") {
		return fmt.Errorf("%s ended with %q, %w", d.name, text, err)
	}
	return nil
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never")
		}
	}
}

// TestWrongPort: who speaks TLS to a plain door is counted, and told in the log what to use.
func TestWrongPort(t *testing.T) {
	e := startEncrypted(t, "none")
	if c, err := tls.Dial("tcp", e.a.MQTT, e.config(t, nil)); err == nil {
		_ = c.Close() // it cannot be
		t.Error("TLS on a plain door")
	}
	shows(t, e.a.HTTP, `firth_mqtt_listener_refused_total{listener="mqtt",reason="tls"} 1`)
}
