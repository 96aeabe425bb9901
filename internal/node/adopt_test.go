package node

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/handover"
	"github.com/firthmq/firth/internal/kit/fault"
)

// TestDoorFor: which door a socket goes to that was passed to the process.
func TestDoorFor(t *testing.T) {
	c := Default()
	c.Listen = Listen{MQTT: "localhost:1883,10.0.0.1:1883", Kafka: ":9092", HTTP: "127.0.0.1:0", WS: "unix:/run/ws"}
	c.Listeners = []Listener{{Name: "plant", Kind: "mqtt", Address: "[::1]:1885"}}
	doors := c.doors()
	tcp := func(at string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, one := range []struct {
		name, address string // of the socket
		at            net.Addr
		want          string // label and address of the door
	}{
		{"firth.socket", "", tcp("127.0.0.1:1883"), "mqtt localhost:1883"},
		{"firth.socket", "", tcp("[::1]:1883"), "mqtt localhost:1883"},
		{"firth.socket", "", tcp("10.0.0.1:1883"), "mqtt 10.0.0.1:1883"},
		{"firth.socket", "", tcp("[::]:9092"), "kafka :9092"},
		{"firth.socket", "", tcp("0.0.0.0:9092"), "kafka :9092"},
		{"firth.socket", "", tcp("10.0.0.1:9092"), ""},
		{"firth.socket", "", tcp("[::1]:1885"), "plant [::1]:1885"},
		{"firth.socket", "", &net.UnixAddr{Name: "/run/ws", Net: "unix"}, "ws unix:/run/ws"},
		{"firth.socket", "", tcp("127.0.0.1:8080"), ""},
		{"http", "", tcp("127.0.0.1:8080"), "http 127.0.0.1:0"},
		{"mqtt", "", tcp("10.0.0.1:1883"), "mqtt 10.0.0.1:1883"},
		{"mqtt", "", tcp("10.9.9.9:1883"), "mqtt localhost:1883"},
		{"kafka", "", tcp("127.0.0.1:1883"), "kafka :9092"},
		{"plant", "", tcp("10.0.0.1:1885"), "plant [::1]:1885"},
		{"wss", "", tcp("10.0.0.1:443"), ""},
		{"http", "127.0.0.1:0", tcp("127.0.0.1:33333"), "http 127.0.0.1:0"},
		{"mqtt", "localhost:1999", tcp("127.0.0.1:1999"), ""},
		{"mqtt", "localhost:1883", tcp("[::1]:1883"), "mqtt localhost:1883"},
		{"other", "127.0.0.1:1883", tcp("127.0.0.1:1883"), "mqtt localhost:1883"},
	} {
		got := ""
		if d, ok := doorFor(doors, &handover.Socket{Name: one.name, Address: one.address}, one.at, nil); ok {
			got = d.label() + " " + d.address
		}
		if got != one.want {
			t.Errorf("%s %s at %s: %q, want %q", one.name, one.address, one.at, got, one.want)
		}
	}
}

// passed makes a socket as systemd passes it.
func passed(t *testing.T, name, address string) (s handover.Socket, at string) {
	t.Helper()
	network := "tcp"
	path, isUnix := strings.CutPrefix(address, unixPrefix)
	if isUnix {
		network, address = "unix", path
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	defer l.Close()
	f, err := handover.Duplicate(l)
	if err != nil {
		t.Fatal(err)
	}
	return handover.Socket{Name: name, Lasting: true, File: f}, addressOf(l)
}

// TestActivated: a node serves by the sockets that systemd passes, and leaves the file of a Unix socket there. Doors
// without one listen themselves.
func TestActivated(t *testing.T) {
	c := local(t)
	folder, err := os.MkdirTemp("", "ws") // t.TempDir may be longer than the name of a socket may
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	path := filepath.Join(folder, "ws")
	c.Listen.WS = unixPrefix + path
	mqtt, at := passed(t, "mqtt", "127.0.0.1:0")
	ws, _ := passed(t, "firth.socket", unixPrefix+path)
	p := Process{Given: handover.Given{Sockets: []handover.Socket{mqtt, ws}}}
	if err := p.takeUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	is := n.Addresses()
	if is.MQTT != at || is.WS != unixPrefix+path || is.Kafka == "" || is.HTTP == "" {
		t.Errorf("it listens at %+v, was given %s", is, at)
	}
	for _, address := range []string{is.MQTT, is.Kafka, is.HTTP} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket of systemd: %v", err)
	}
}

// TestNotActivated: a socket that no door is for, and one that strangers could reach, are refused.
func TestNotActivated(t *testing.T) {
	for name, want := range map[string]struct {
		address string
		kind    fault.Kind
		text    string
	}{
		"firth.socket": {"127.0.0.1:0", fault.Invalid, "no door is for it"},
		"wss":          {"127.0.0.1:0", fault.Invalid, "no door is for it"},
		"mqtt":         {"0.0.0.0:0", fault.Denied, "can be reached from other machines"},
	} {
		s, _ := passed(t, name, want.address)
		p := Process{Given: handover.Given{Sockets: []handover.Socket{s}}}
		err := p.takeUp(t.Context(), local(t))
		if err == nil || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v", name, err)
		}
		if want.kind == fault.Invalid && !strings.Contains(fault.HintOf(err), "one of mqtt, ws, kafka, http,") {
			t.Errorf("%s: the hint is %q", name, fault.HintOf(err))
		}
	}
}
