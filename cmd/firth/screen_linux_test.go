package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onTerminal runs a command line whose output goes to a terminal, and gives what got there and its code.
func onTerminal(t *testing.T, args ...string) (string, int) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	screen, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(control) // ends with EIO when the other side is closed
		shown <- all
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code := run(ctx, args, stdio{in: strings.NewReader(""), out: screen, err: screen})
	if err := screen.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(<-shown), "\r\n", "\n"), code
}

// obeyed tells whether a terminal obeys a character instead of showing it; a line feed is the command's own.
func obeyed(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }

// TestNoControlCharacterGetsToATerminal (F38): names and payloads that others chose move no cursor; what does not go to
// a terminal is what they sent, byte for byte.
func TestNoControlCharacterGetsToATerminal(t *testing.T) {
	b := startBroker(t)
	const evil = "\x1b]0;owned\a\u009b2J\r\x9b"
	b.ok(evil, "pub", "-t", "t/\x1b[2Jx", "-s", "-q", "1", "-r")
	b.ok("1\n", "produce", "t2", "-k", evil)
	b.ok("", "consume", "t2", "-g", "g\x1b[2J\n", "-n", "1")
	for _, tc := range []struct {
		args []string
		want string // among what is shown
		code int
	}{
		{[]string{"sub", "-t", "t/#", "-v", "-C", "1"},
			`t/\u001b[2Jx \u001b]0;owned\u0007\u009b2J\u000d\x9b` + "\n", 0},
		{[]string{"sub", "-t", "t/#", "-J", "-C", "1"}, `"topic":"t/\u001b[2Jx"`, 0},
		{[]string{"consume", "t", "-o", "start", "-n", "1", "-f", `%k %s\n`}, `t/\u001b[2Jx \u001b]0;owned`, 0},
		{[]string{"consume", "t2", "-o", "start", "-n", "1", "-K", ":"},
			`\u001b]0;owned\u0007\u009b2J\u000d\x9b:1` + "\n", 0},
		{[]string{"group", "list"}, `g\u001b[2J\u000a`, 0},
		{[]string{"group", "describe", "g\x1b[2J\n"}, `g\u001b[2J\u000a`, 0},
		{[]string{"group", "list", "-o", "json"}, `g\u001b[2J\n`, 0},
		{[]string{"group", "describe", "none\x1b"}, `none\u001b`, 5},
		{[]string{"topic", "describe", "none\x1b"}, `none\u001b`, 1},
	} {
		shown, code := onTerminal(t, b.complete(tc.args)...)
		if code != tc.code || !strings.Contains(shown, tc.want) {
			t.Errorf("%q: code %d, shown %q, want %q", tc.args, code, shown, tc.want)
		}
		if i := strings.IndexFunc(shown, obeyed); i >= 0 {
			t.Errorf("%q: a control character at %d of %q", tc.args, i, shown)
		}
	}
	raw := slices.Concat([]byte(evil), []byte("\n"))
	if got := b.ok("", "sub", "-t", "t/#", "-C", "1"); got != string(raw) {
		t.Errorf("into a pipe: %q, want %q", got, raw)
	}
	if got := b.ok("", "sub", "-t", "t/#", "-v", "-C", "1"); got != "t/\x1b[2Jx "+string(raw) {
		t.Errorf("into a pipe with -v: %q", got)
	}
}
