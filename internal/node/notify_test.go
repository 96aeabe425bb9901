package node

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A service manager hears when the node serves and when it ends, in this order.
func TestNotify(t *testing.T) {
	folder, err := os.MkdirTemp("", "notify") // t.TempDir may be longer than the name of a socket may
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	path := filepath.Join(folder, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	heard := func() string {
		text := make([]byte, 1024)
		n, err := manager.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	l, _ := fileConfig(t, "")
	signals := make(chan os.Signal, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), Process{
			Load: l.Load, Out: io.Discard, Err: io.Discard, Notify: path, Signals: signals,
		})
	}()
	if got := heard(); !strings.HasPrefix(got, "READY=1\nSTATUS=ready in ") {
		t.Errorf("heard %q of a node that serves", got)
	}
	signals <- os.Interrupt
	if got, want := heard(), "STOPPING=1\nSTATUS=closing: interrupt"; got != want {
		t.Errorf("heard %q of one that ends, want %q", got, want)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
