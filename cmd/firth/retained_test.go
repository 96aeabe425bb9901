package main

import (
	"regexp"
	"testing"

	"github.com/firthmq/firth/internal/cli/output"
)

// TestRetainedCommands: what is retained is listed, cleared and brought back.
func TestRetainedCommands(t *testing.T) {
	b := startBroker(t)
	for _, value := range []string{"one", "two"} {
		b.ok("", "pub", "-t", "plant/7/state", "-r", "-q", "1", "-m", value, "-D", "publish", "content-type", "text")
	}
	b.ok("", "pub", "-t", "plant/8/state", "-r", "-q", "1", "-m", "other")
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"retained", "list"}, `(?m)^plant/7/state +3 +1 +20\S+Z\nplant/8/state +5 `},
		{[]string{"retained", "list", "+/8/#", "-o", "json"}, `^\[\{"topic":"plant/8/state","bytes":5,`},
		{[]string{"retained", "list", "-n", "1", "--after", "plant/7/state", "-o", "json"}, `^\[\{"topic":"plant/8/state"`},
		{[]string{"retained", "get", "plant/7/state"}, `^two\n$`},
		{[]string{"retained", "restore", "plant/7/state"}, `^$`},
		{[]string{"retained", "get", "plant/7/state", "-o", "json"}, `"payload":"b25l","content_type":"text"\}`},
		{[]string{"retained", "clear", "plant/7/state", "plant/8/state"}, `^$`},
		{[]string{"retained", "list", "-o", "json"}, `^\[\]\n$`},
		{[]string{"retained", "restore", "plant/7/state", "-o", "json"}, `"payload":"b25l"`},
		{[]string{"retained", "get", "plant/7/state"}, `^one\n$`},
	} {
		if out := b.ok("", tc.args...); !regexp.MustCompile(tc.want).MatchString(out) {
			t.Errorf("firth %q: %s, want %s", tc.args, out, tc.want)
		}
	}
	for _, tc := range []struct {
		code int
		args []string
	}{
		{output.ExitNotFound, []string{"retained", "get", "plant/8/state"}},
		{output.ExitNotFound, []string{"retained", "clear", "plant/8/state"}},
		{output.ExitNotFound, []string{"retained", "restore", "plant/9/state"}},
		{output.ExitUsage, []string{"retained", "restore", "plant/#"}},
		{output.ExitUsage, []string{"retained", "list", "a/#/b"}},
		{output.ExitUsage, []string{"retained", "restore", "plant/7/state", "--before", "noon"}},
	} {
		if _, errs, code := b.try("", tc.args...); code != tc.code {
			t.Errorf("firth %q: exit code %d, %s", tc.args, code, errs)
		}
	}
}
