package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// lines is a log that a test reads while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) has(t *testing.T, part string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		text := l.buf.String()
		l.mu.Unlock()
		if strings.Contains(text, part) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no line has %s:\n%s", part, text)
		}
	}
}

// hello connects a client of MQTT 5 that is let in, behind a header.
func hello(t *testing.T, c net.Conn, header string) *packet.Connack {
	t.Helper()
	ack := knock(t, c, header)
	if ack.Reason != packet.Success {
		t.Fatalf("got %#v", ack)
	}
	return ack
}

// knock sends a header and a CONNECT, and gives the CONNACK.
func knock(t *testing.T, c net.Conn, header string) *packet.Connack {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() }) // it may be closed
	connect := (&packet.Connect{Version: packet.V5, CleanStart: true}).AppendTo(nil, packet.V5)
	if _, err := c.Write(append([]byte(header), connect...)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	head, err := r.Peek(2)
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 2+int(head[1]))
	if _, err := io.ReadFull(r, frame); err != nil {
		t.Fatal(err)
	}
	p, err := (&packet.Decoder{Version: packet.V5, Client: true}).Decode(frame)
	if err != nil {
		t.Fatal(err)
	}
	ack, ok := p.(*packet.Connack)
	if !ok {
		t.Fatalf("got %#v", p)
	}
	return ack
}

func dialTo(t *testing.T, address string) net.Conn {
	t.Helper()
	network, at := "tcp", address
	if path, isUnix := strings.CutPrefix(address, unixPrefix); isUnix {
		network, at = "unix", path
	}
	c, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// closedAtOnce waits for the end of a connection that gets no answer.
func closedAtOnce(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// socketFolder is a folder whose path is short enough for a Unix socket.
func socketFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "firth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// TestListeners serves MQTT by several addresses of each kind: TCP, Unix socket, WebSocket over both.
func TestListeners(t *testing.T) {
	folder := socketFolder(t)
	path := func(name string) string { return filepath.Join(folder, name) }
	c := local(t)
	c.Listen.MQTT = "127.0.0.1:0,unix:" + path("a.sock")
	c.Listen.WS = "127.0.0.1:0,127.0.0.1:0"
	c.Listeners = []Listener{
		{Kind: "mqtt", Address: "127.0.0.1:0", Connections: unlimited, Packet: 2 * kib},
		{Name: "second", Kind: "mqtt", Address: "unix:" + path("b.sock"), Mode: 0o600, Connections: 1, Packet: unlimited},
		{Kind: "ws", Address: "unix:" + path("ws.sock"), Mode: 0o666, Connections: unlimited, Packet: 3 * kib},
	}
	n := start(t, c)
	if got := n.Addresses().MQTT; !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("the first address is %s", got)
	}
	more := n.more()
	if len(more) != 5 {
		t.Fatalf("more addresses: %v", more)
	}
	largest := func(ack *packet.Connack) uint32 { return ack.Props.MaximumPacketSize }
	for i, want := range []struct {
		name string
		most uint32
	}{{"mqtt", 2 * mib}, {"127.0.0.1:0", 2 * kib}, {"second", 2 * mib}, {"ws", 2 * mib}} {
		a := more[i]
		if a.Name != want.name {
			t.Errorf("address %d is called %s, want %s", i, a.Name, want.name)
		}
		var conn net.Conn
		if a.Kind == "ws" {
			conn = dialWeb(t, "ws://"+a.Address+"/mqtt", http.DefaultTransport)
		} else {
			conn = dialTo(t, a.Address)
		}
		if got := largest(hello(t, conn, "")); got != want.most {
			t.Errorf("%s takes packets of %d bytes, want %d", a.Address, got, want.most)
		}
	}
	closedAtOnce(t, dialTo(t, "unix:"+path("b.sock"))) // it takes one connection
	overUnix := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path("ws.sock"))
	}}
	defer overUnix.CloseIdleConnections()
	if got := largest(hello(t, dialWeb(t, "ws://example.org/mqtt", overUnix), "")); got != 3*kib {
		t.Errorf("WebSocket over a Unix socket takes packets of %d bytes", got)
	}
	for name, want := range map[string]fs.FileMode{"a.sock": 0o660, "b.sock": 0o600, "ws.sock": 0o666} {
		info, err := os.Lstat(path(name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	shows(t, n.Addresses().HTTP, `firth_mqtt_listener_connections{listener="second"} 1`,
		`firth_mqtt_listener_refused_total{listener="second",reason="full"} 1`)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("after the end there are %v, %v", left, err)
	}
}

func dialWeb(t *testing.T, address string, by http.RoundTripper) net.Conn {
	t.Helper()
	ws, answer, err := websocket.Dial(t.Context(), address, &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, HTTPClient: &http.Client{Transport: by},
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Body != nil {
		_ = answer.Body.Close() // of an upgraded connection: nothing
	}
	return websocket.NetConn(context.WithoutCancel(t.Context()), ws, websocket.MessageBinary)
}

// TestUnixSocketFiles: the file of a process that died is replaced; what somebody uses stays.
func TestUnixSocketFiles(t *testing.T) {
	folder := socketFolder(t)
	path := filepath.Join(folder, "mqtt.sock")
	at := func() *Config {
		c := local(t)
		c.Listen.MQTT = unixPrefix + path
		return c
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if n, err := Start(t.Context(), at()); !fault.Is(err, fault.Exists) {
		t.Errorf("a socket that somebody listens on was taken: %v %v", n, err)
	}
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	n := start(t, at())
	hello(t, dialTo(t, n.Addresses().MQTT), "")
	if err := os.Remove(path); err != nil { // as somebody may who cleans up, and starts another
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of another was removed: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), at()); !fault.Is(err, fault.Exists) {
		t.Errorf("a file that is no socket: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	c := at()
	c.Listen.MQTT = unixPrefix + filepath.Join(folder, "nowhere", "mqtt.sock")
	if _, err := Start(t.Context(), c); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("no folder: %v", err)
	}
}

// TestProxyProtocol: behind a balancer the log knows the address of the client; nobody gets by without a header, and
// elsewhere a header is no MQTT.
func TestProxyProtocol(t *testing.T) {
	out := &lines{}
	c := local(t)
	c.Logger = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.Listeners = []Listener{
		{Name: "balanced", Kind: "mqtt", Address: "127.0.0.1:0", Proxy: true, Connections: unlimited, Packet: unlimited},
		{Name: "web", Kind: "ws", Address: "127.0.0.1:0", Proxy: true, Connections: unlimited, Packet: unlimited},
	}
	n := start(t, c)
	more := n.more()
	mqttAt, webAt := more[0].Address, more[1].Address
	const header = "PROXY TCP4 203.0.113.7 10.0.0.1 54321 1883\r\n"
	conn := dialTo(t, mqttAt)
	hello(t, conn, header)
	if _, err := conn.Write([]byte{0xf0, 0, 0x10, 0}); err != nil { // an AUTH without a method
		t.Fatal(err)
	}
	out.has(t, "remote=203.0.113.7:54321")

	bad := dialTo(t, mqttAt)
	if _, err := bad.Write(bytes.Repeat([]byte{0x10}, 100)); err != nil {
		t.Fatal(err)
	}
	closedAtOnce(t, bad)
	out.has(t, "without a good header")

	byProxy := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			_, err = c.Write([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + // version 2, TCP over IPv4
				"\xcb\x00\x71\x08\x0a\x00\x00\x01\x00\x07\x1f\x93"))
		}
		return c, err
	}}
	defer byProxy.CloseIdleConnections()
	web := dialWeb(t, "ws://"+webAt+"/mqtt", byProxy)
	hello(t, web, "")
	if _, err := web.Write([]byte{0xf0, 0}); err != nil {
		t.Fatal(err)
	}
	out.has(t, "remote=203.0.113.8:7")

	plain := dialTo(t, n.Addresses().MQTT)
	if _, err := plain.Write([]byte(strings.Repeat(header, 3))); err != nil {
		t.Fatal(err)
	}
	closedAtOnce(t, plain)
	shows(t, n.Addresses().HTTP, `firth_mqtt_listener_refused_total{listener="balanced",reason="proxy_header"} 1`)
}
