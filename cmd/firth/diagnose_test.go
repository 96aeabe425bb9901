package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firthmq/firth/internal/node"
)

// unpacked reads an archive of firth diagnose: what its files hold, by name, in their order.
func unpacked(t *testing.T, name string) (names []string, texts map[string]string) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("its mode is %o", mode)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	texts = map[string]string{}
	for in := tar.NewReader(packed); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimPrefix(h.Name, "firth-diagnose/")
		names, texts[base] = append(names, base), string(text)
	}
}

// TestDiagnose gathers an archive of a broker that runs, whose secrets are not in it, then of one that has ended.
func TestDiagnose(t *testing.T) {
	c := node.Default()
	c.Data = t.TempDir()
	c.Listen.MQTT, c.Listen.Kafka, c.Listen.WS, c.Listen.HTTP = "127.0.0.1:0", "127.0.0.1:0", "", "127.0.0.1:0"
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = n.Close()
		}
	})
	folder := t.TempDir()
	token, err := os.ReadFile(filepath.Join(c.Data, node.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"--http", n.Addresses().HTTP, "--data", c.Data, "--timeout", "2m"}
	const password = "a-password-that-nobody-sees"
	if out, errs, code := execute(t, password+"\n", append([]string{"user", "add", "ann", "--role", "admin",
		"--password-file", "-"}, at...)...); code != 0 {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	first := filepath.Join(folder, "first.tar.gz")
	out, errs, code := execute(t, "", append([]string{"diagnose", "--out", first, "--profile-for", "50ms", "--check-for",
		"1m"}, at...)...)
	if code != 0 || !strings.HasPrefix(out, first+": ") || !strings.Contains(errs, "check.json, ") {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	names, texts := unpacked(t, first)
	want := []string{"README.txt", "version.json", "limits.txt", "health.txt", "config.yaml", "metrics.txt", "hour.json",
		"log.txt.error", "files.txt", "goroutines.txt", "heap.pprof", "cpu.pprof", "check.json", "kernel.txt"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	for name, text := range texts {
		if strings.Contains(text, password) || strings.Contains(text, strings.TrimSpace(string(token))) {
			t.Errorf("%s holds a secret", name)
		}
	}
	if !strings.Contains(texts["README.txt"], "Missing here:\nlog.txt: ") {
		t.Errorf("what is missing is not told: %s", texts["README.txt"])
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	closed = true
	second := filepath.Join(folder, "second.tar.gz")
	if out, errs, code = execute(t, "", append([]string{"diagnose", "--out", second}, at...)...); code != 0 {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	names, texts = unpacked(t, second)
	want = []string{"README.txt", "broker.error", "version.json", "config.yaml", "files.txt", "check.json", "kernel.txt"}
	if diff := cmp.Diff(want, names); diff != "" || !strings.Contains(texts["check.json"], `"done":true`) {
		t.Errorf("%s %s", diff, texts["check.json"])
	}
}
