//go:build unix

package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/firthmq/firth/internal/handover"
	"github.com/firthmq/firth/internal/mqtt/client"
)

// withNext runs a process whose next one is a script.
func withNext(t *testing.T, load func() (*Config, error), script string) *process {
	t.Helper()
	p := &process{signals: make(chan os.Signal, 2), out: newWords(), log: newWords(), ended: make(chan error, 1)}
	go func() {
		p.ended <- Run(t.Context(), Process{Load: load, Out: p.out, Err: p.log, JSON: true, Signals: p.signals,
			Next: handover.Command{Program: "/bin/sh", Args: []string{"-c", script}, Err: p.log}})
	}()
	return p
}

func connected(t *testing.T, address string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), address, client.Options{ClientID: "device"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	return c
}

// TestNextFails: a next process that ends before it is ready changes nothing, however often.
func TestNextFails(t *testing.T) {
	l, _ := fileConfig(t, "")
	p := withNext(t, l.Load, "echo not today >&2; exit 3")
	at := p.ready(t).Addresses
	c := connected(t, at.MQTT)
	for range 2 {
		p.signals <- syscall.SIGUSR2
		p.log.await(t, `this one goes on.*exit status 3`)
	}
	if err := c.Err(); err != nil {
		t.Errorf("the device was cut: %v", err)
	}
	connected(t, at.MQTT) // who accepts goes on to wait for the next one, and is not stuck in that when it shall end
	p.end(t)
}

// TestGuardian: a next process that ends before it serves has its place taken by the one before, at the same addresses,
// a Unix socket among them; who connected meanwhile is served. Its end is in order.
func TestGuardian(t *testing.T) {
	folder, err := os.MkdirTemp("", "ws") // t.TempDir may be longer than the name of a socket may
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	l, _ := fileConfig(t, "")
	path := filepath.Join(folder, "ws")
	l.Flags = append(l.Flags, Assignment{"--set", "listen.ws=" + unixPrefix + path})
	hold := filepath.Join(folder, "hold")
	if err := syscall.Mkfifo(hold, 0o600); err != nil {
		t.Fatal(err)
	}
	p := withNext(t, l.Load, `echo prepared >&4; read s <&3; read go <&3; echo "has $go" >&2; read x <`+hold+`; exit 4`)
	at := p.ready(t).Addresses
	c := connected(t, at.MQTT)
	p.signals <- syscall.SIGUSR2
	p.log.await(t, `has go`)
	<-c.Done()
	var all []net.Conn
	for _, address := range []string{at.MQTT, at.Kafka, at.HTTP, path} {
		network := "tcp"
		if address == path {
			network = "unix"
		}
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatalf("refused while nobody serves: %v", err)
		}
		all = append(all, c)
	}
	if err := os.WriteFile(hold, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	p.log.await(t, `this one serves again.*exit status 4`)
	p.out.await(t, `\n.*\n`)
	if again := connected(t, at.MQTT); again.Err() != nil {
		t.Error(again.Err())
	}
	for _, c := range all {
		c.Close()
	}
	p.end(t)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the Unix socket is left: %v", err)
	}
}

// TestNobodyToHandOverTo: a process that does not know how it was started says so, and goes on.
func TestNobodyToHandOverTo(t *testing.T) {
	l, _ := fileConfig(t, "")
	p := run(t, l.Load)
	p.ready(t)
	p.signals <- syscall.SIGUSR2
	p.log.await(t, `this process does not know how it was started`)
	p.end(t)
}

// TestCheckedBeside: what would keep a process from starting is found while another one serves: a format of the folder
// that it does not know, an address that is taken, a certificate that is not there.
func TestCheckedBeside(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for want, spoil := range map[string]func(c *Config){
		"is in use by another program": func(c *Config) { c.Listen.Kafka = busy.Addr().String() },
		"there is no file": func(c *Config) {
			c.Listen.MQTTS, c.TLS.Certificate, c.TLS.Key = "127.0.0.1:0", c.Data+"/none.pem", c.Data+"/none.key"
		},
		"data directory of format 99": func(c *Config) {
			if err := os.MkdirAll(c.Data, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(c.Data, "FIRTH"), []byte(`{"format":99}`), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"": func(*Config) {},
	} {
		c := local(t)
		spoil(c)
		var err error
		if c.adopted, err = adopt(c, nil); err == nil {
			err = c.checkBeside(context.Background())
		}
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		if err := c.adopted.drop(); err != nil {
			t.Error(err)
		}
	}
}
