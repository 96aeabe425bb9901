package node

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hasIPv6 tells whether this machine has the loopback address of IPv6.
func hasIPv6(t *testing.T) bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Logf("no IPv6 here: %v", err)
		return false
	}
	return l.Close() == nil
}

// TestLocalhostIsBothFamilies connects to every door of a node at its default host by IPv4 and, where the machine has
// it, by IPv6.
func TestLocalhostIsBothFamilies(t *testing.T) {
	for _, o := range Options() {
		if strings.HasPrefix(o.Key, "listen.") && !strings.HasPrefix(o.Default, "localhost:") && o.Default != "off" {
			t.Errorf("%s is %s unless told otherwise", o.Key, o.Default)
		}
	}
	c := local(t)
	c.Listen = Listen{MQTT: "localhost:0", WS: "localhost:0", Kafka: "localhost:0", HTTP: "localhost:0"}
	n := start(t, c)
	hosts := []string{"127.0.0.1"}
	if hasIPv6(t) {
		hosts = append(hosts, "::1")
	}
	at := func(host, address string) string {
		told, port, err := net.SplitHostPort(address)
		if err != nil || told != "127.0.0.1" {
			t.Fatalf("it says that it listens on %s", address)
		}
		return net.JoinHostPort(host, port)
	}
	a := n.Addresses()
	for _, host := range hosts {
		d, err := client.Dial(t.Context(), at(host, a.MQTT), client.Options{ClientID: "c"})
		if err != nil {
			t.Errorf("MQTT by %s: %v", host, err)
		} else {
			d.Abort()
		}
		k, err := kgo.NewClient(kgo.SeedBrokers(at(host, a.Kafka)), kgo.DefaultProduceTopic("t"),
			kgo.AllowAutoTopicCreation())
		if err != nil {
			t.Fatal(err)
		}
		if err := k.ProduceSync(t.Context(), &kgo.Record{Value: []byte("v")}).FirstErr(); err != nil {
			t.Errorf("Kafka by %s: %v", host, err)
		}
		k.Close()
		for _, door := range []string{a.HTTP, a.WS} {
			resp, err := http.Get("http://" + at(host, door) + "/")
			if err != nil {
				t.Errorf("HTTP by %s: %v", host, err)
				continue
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestLocalhostOfOneFamily has a machine without IPv6, one without IPv4, and ports that others have.
func TestLocalhostOfOneFamily(t *testing.T) {
	none := func(errno syscall.Errno, address string) error {
		err := &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", errno)}
		return explainListen(door{name: "mqtt", key: "listen.mqtt", address: address}, err)
	}
	for _, c := range []struct {
		name   string
		v4, v6 syscall.Errno // 0: it has that
		want   int           // listeners
		kind   fault.Kind
	}{
		{name: "both", want: 2},
		{name: "no IPv6 address", v6: syscall.EADDRNOTAVAIL, want: 1},
		{name: "no IPv6 in the kernel", v6: syscall.EAFNOSUPPORT, want: 1},
		{name: "no IPv4 address", v4: syscall.EADDRNOTAVAIL, want: 1},
		{name: "neither", v4: syscall.EADDRNOTAVAIL, v6: syscall.EAFNOSUPPORT, kind: fault.NotFound},
		{name: "IPv4 taken", v4: syscall.EADDRINUSE, kind: fault.Exists},
		{name: "IPv6 taken", v6: syscall.EADDRINUSE, kind: fault.Exists},
		{name: "not allowed", v6: syscall.EACCES, kind: fault.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			var open []net.Listener
			ls, err := listenLocal("0", func(address string) (net.Listener, error) {
				errno := c.v4
				if strings.HasPrefix(address, "[::1]") {
					errno = c.v6
				}
				if errno != 0 {
					return nil, none(errno, address)
				}
				l, err := net.Listen("tcp", "127.0.0.1:0") // what counts is how many there are
				open = append(open, l)
				return l, err
			})
			for _, l := range ls {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
			if len(ls) != c.want || c.kind == 0 && err != nil || c.kind != 0 && !fault.Is(err, c.kind) {
				t.Errorf("%d listeners, %v", len(ls), err)
			}
			for _, l := range open {
				if err := l.Close(); !errors.Is(err, net.ErrClosed) {
					t.Error("a listener was left open")
				}
			}
		})
	}
}
