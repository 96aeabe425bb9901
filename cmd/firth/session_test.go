package main

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/cli/output"
)

// TestSessionCommands: who is connected or away, what it subscribed to, and how its connection or session is ended.
func TestSessionCommands(t *testing.T) {
	b := startBroker(t)
	b.try("", "sub", "-i", "meter 17", "-c", "-x", "3600", "-q", "1", "-t", "a/#", "-t", "b/+", "-W", "1")
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"session", "list"}, `(?m)^CLIENT +STATE +SINCE .*\nmeter 17 +away +20\S+Z +5 +2 +0 +0$`},
		{[]string{"session", "list", "--state", "connected"}, `^CLIENT .*\n$`},
		{[]string{"session", "show", "meter 17"}, `(?s)ends +3600 s after the connection.*a/# +1.*b/\+ +1`},
		{[]string{"session", "show", "meter 17", "-o", "json"}, `"filters":\[\{"filter":"a/#","qos":1\}`},
		{[]string{"session", "events", "meter 17"}, `(?s)connected +new session, MQTT 5 from 127.*disconnected`},
		{[]string{"session", "kick", "meter 17"}, `^$`},
		{[]string{"session", "kick", "meter 17", "--forget", "-o", "json"},
			`^{"client":"meter 17","connected":false,"forgotten":true}\n$`},
		{[]string{"session", "list", "-o", "json"}, `^\[\]\n$`},
	} {
		if out := b.ok("", tc.args...); !regexp.MustCompile(tc.want).MatchString(out) {
			t.Errorf("firth %q: %s, want %s", tc.args, out, tc.want)
		}
	}
	_, errs, code := b.try("", "session", "show", "nobody", "-o", "json")
	var said struct{ Error, Code, Hint string }
	if err := json.Unmarshal([]byte(errs), &said); err != nil || code != output.ExitNotFound || said.Hint == "" {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if _, errs, code := b.try("", "session", "list", "-n", "0"); code != output.ExitUsage {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if _, errs, code := execute(t, "", "session", "list", "--http", "127.0.0.1:1"); code != output.ExitConnect {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// TestSessionTrace shows the packets of a client that comes later.
func TestSessionTrace(t *testing.T) {
	b := startBroker(t)
	shown := make(chan string, 1)
	go func() { shown <- b.ok("", "session", "trace", "probe", "-n", "6") }()
	publishing := time.NewTicker(50 * time.Millisecond)
	defer publishing.Stop()
	for {
		select {
		case <-publishing.C:
			b.ok("", "pub", "-i", "probe", "-q", "1", "-t", "a/b", "-m", "hello")
			continue
		case out := <-shown:
			for _, want := range []string{`< CONNECT .*client probe`, `> CONNACK`, `< PUBLISH id=1 q1 "a/b" payload of 5 bytes`,
				`> PUBACK id=1 `} {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("no %s in\n%s", want, out)
				}
			}
		}
		return
	}
}
