package main

import (
	"regexp"
	"testing"

	"github.com/firthmq/firth/internal/cli/output"
)

// TestBanCommands: a ban is made, listed, met by a client and removed.
func TestBanCommands(t *testing.T) {
	b := startBroker(t)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"ban", "list"}, `^KIND .*\n$`},
		{[]string{"ban", "add", "client", "meter 17", "--for", "7d", "--reason", "it floods"}, `^$`},
		{[]string{"ban", "add", "address", "192.0.2.9/24", "-o", "json"},
			`^\{"kind":"address","who":"192.0.2.0/24","since":"20.*","by":"firth ban"\}\n$`},
		{[]string{"ban", "list"}, `(?m)^KIND +WHO +SINCE +UNTIL +BY +REASON
address +192.0.2.0/24 +20\S+Z +for ever +firth ban *
client +meter 17 +20\S+Z +20\S+Z +firth ban +it floods$`},
	} {
		if out := b.ok("", tc.args...); !regexp.MustCompile(tc.want).MatchString(out) {
			t.Errorf("firth %q: %s, want %s", tc.args, out, tc.want)
		}
	}
	_, errs, code := b.try("", "pub", "-V", "mqttv5", "-i", "meter 17", "-t", "a", "-m", "x")
	if code == 0 || !regexp.MustCompile(`(?i)banned`).MatchString(errs) {
		t.Errorf("exit code %d: %s", code, errs)
	}
	b.ok("", "ban", "remove", "client", "meter 17")
	b.ok("", "pub", "-V", "mqttv5", "-i", "meter 17", "-t", "a", "-m", "x")
	for _, tc := range []struct {
		args []string
		code int
	}{
		{[]string{"ban", "remove", "client", "meter 17"}, output.ExitNotFound},
		{[]string{"ban", "add", "weather", "x"}, output.ExitUsage},
		{[]string{"ban", "add", "address", "nowhere"}, output.ExitUsage},
		{[]string{"ban", "add", "client", "x", "--for", "long"}, output.ExitUsage},
		{[]string{"ban", "add", "client", "x", "--until", "2001-01-01T00:00:00Z"}, output.ExitUsage},
		{[]string{"ban", "add", "client"}, output.ExitUsage},
	} {
		if _, errs, code := b.try("", tc.args...); code != tc.code {
			t.Errorf("firth %q: exit code %d: %s", tc.args, code, errs)
		}
	}
}
