package main

import (
	"regexp"
	"testing"

	"github.com/firthmq/firth/internal/cli/output"
)

// TestSessionSlow: nobody is slow; what is asked wrongly is told.
func TestSessionSlow(t *testing.T) {
	b := startBroker(t)
	if out := b.ok("", "session", "slow"); !regexp.MustCompile(`^CLIENT +REMOTE +SLOW FOR .*\n$`).MatchString(out) {
		t.Errorf("got %s", out)
	}
	if out := b.ok("", "session", "slow", "--over", "1m30s", "-n", "3", "-o", "json"); out != "[]\n" {
		t.Errorf("got %s", out)
	}
	if _, errs, code := b.try("", "session", "slow", "-n", "0"); code != output.ExitUsage {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
