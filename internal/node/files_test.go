package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// allowFiles bounds what the process may have open until the test ends.
func allowFiles(t *testing.T, n uint64) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	now := old
	now.Cur = n
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
}

// device connects, and is nil if the node closes the connection.
func device(t *testing.T, address, id string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	connect := append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, writeErr := c.Write(connect)
	connack := make([]byte, 4)
	if _, err := io.ReadFull(c, connack); err == nil {
		return c
	} else if errors.Is(errors.Join(err, writeErr), syscall.EMFILE) || isTimeout(err) {
		t.Fatal(err)
	}
	_ = c.Close()
	return nil
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// TestFilesAreKeptForTheLog: more devices than there are open files do not keep the log from its next file, nor
// people from the HTTP door; and when some went others are let in.
func TestFilesAreKeptForTheLog(t *testing.T) {
	allowFiles(t, 300)
	n := start(t, local(t))
	a := n.Addresses()
	acked := make(chan packet.ReasonCode, 1)
	c, err := client.Dial(t.Context(), a.MQTT, client.Options{
		OnAck: func(_ uint64, reason packet.ReasonCode, _ error) { acked <- reason },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()

	var devices []net.Conn
	defer func() {
		for _, d := range devices {
			_ = d.Close()
		}
	}()
	for d := device(t, a.MQTT, "first"); d != nil; d = device(t, a.MQTT, fmt.Sprint("device", len(devices))) {
		devices = append(devices, d)
	}
	if k, err := net.Dial("tcp", a.Kafka); err != nil {
		t.Fatal(err)
	} else if _, err := k.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the Kafka door: %v", err)
	} else {
		_ = k.Close()
	}

	m := &packet.Publish{Topic: []byte("a/b"), Payload: bytes.Repeat([]byte("x"), 512<<10), QoS: 1}
	for i := range uint64(16) { // eight files of the journal
		if err := c.Publish(m, i); err != nil {
			t.Fatal(err)
		}
		if reason := <-acked; reason.Failed() {
			t.Fatalf("publish %d: %v", i, reason)
		}
	}
	if err := n.Log().Refused(); err != nil {
		t.Error(err)
	}
	shows(t, a.HTTP, `firth_connections_refused_total{door="mqtt"} 1`, `firth_connections_refused_total{door="kafka"} 1`)
	for _, d := range devices[:10] {
		_ = d.Close()
	}
	devices = devices[10:]
	if d := device(t, a.MQTT, "late"); d == nil { // ten descriptors of ours are free at once
		t.Error("refused though others went")
	} else {
		devices = append(devices, d)
	}
}

func TestKeptFiles(t *testing.T) {
	for limit, want := range map[uint64]uint64{64: 16, 1024: 256, 20_000: 512, 1 << 63: 512} {
		if got := keptFiles(limit); got != want {
			t.Errorf("of %d open files %d are kept, want %d", limit, got, want)
		}
	}
}
