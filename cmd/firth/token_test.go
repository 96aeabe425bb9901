package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
)

// TestDescribeToken: of a token is shown what there is to say, by a line each.
func TestDescribeToken(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last := at.Add(time.Hour)
	for _, c := range []struct {
		token  tokenLine
		has    []string
		hasNot string
	}{
		{tokenLine{ID: "a1", Kind: "program", Owner: "alice", Issued: at, Roles: []string{"viewer"}},
			[]string{"id a1", "kind program", "owner alice", "ends never", "limited to viewer"}, "renew"},
		{tokenLine{ID: "b2", Kind: "delegation", Owner: "alice", Issued: at, Ends: &at, Requester: "gateway",
			Renewers: []string{"bob", "carol"}, Last: &last},
			[]string{"ends 2026-01-02T03:04:05Z", "asked for by gateway", "renewed by bob, carol",
				"renewable until 2026-01-02T04:04:05Z"}, "limited"},
	} {
		var out bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetOut(&out)
		if err := printToken(cmd, output.FormTable, &c.token); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(out.String()), " ")
		for _, line := range c.has {
			if !strings.Contains(text, line) {
				t.Errorf("no %q in\n%s", line, out.String())
			}
		}
		if strings.Contains(text, c.hasNot) {
			t.Errorf("%q in\n%s", c.hasNot, out.String())
		}
	}
}
