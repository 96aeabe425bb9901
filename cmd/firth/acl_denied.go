package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

// deniedLine is something that rules would deny, as the broker tells it.
type deniedLine struct {
	User      string     `json:"user"`
	Client    string     `json:"client,omitempty"`
	Operation string     `json:"operation"`
	Kind      string     `json:"kind"`
	Pattern   string     `json:"pattern"`
	Name      string     `json:"name"`
	Text      string     `json:"text"`
	Count     int64      `json:"count"`
	First     time.Time  `json:"first"`
	Last      time.Time  `json:"last"`
	By        []ruleLine `json:"by"`
	Fix       *rule.Rule `json:"fix,omitempty"`
}

func newACLDenied(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "denied",
		Short: "Show what rules would deny that are tried out (access.mode: report), and how to allow it",
		Long: `Show what rules would deny that are tried out (access.mode: report), and how to allow it. What rules allow
by now is not shown any more. It exits with 6 if there is something, so that a script knows whether the rules can be
enforced. What rules deny that are in force is in the audit: firth audit query --type refused.`,
		Example: `  firth serve --set access.mode=report
  firth acl denied`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var said struct {
			Mode   string       `json:"mode"`
			Denied []deniedLine `json:"denied"`
		}
		if err := a.callAnyway(cmd, admin.Request{Method: "GET", Path: "/denied"}, &said); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), said)
		}
		switch {
		case said.Mode != "report":
			fmt.Fprintln(cmd.OutOrStdout(), "rules are in force; access.mode: report tries them out")
			return nil
		case len(said.Denied) == 0:
			fmt.Fprintln(cmd.OutOrStdout(), "nothing that was done since rules are tried out would be denied")
			return nil
		}
		var rows [][]string
		for _, d := range said.Denied {
			rows = append(rows, []string{fmt.Sprint(d.Count), d.Last.Format(time.DateTime), d.User, d.Operation, d.Text,
				d.way()})
		}
		head := []string{"COUNT", "LAST", "USER", "OPERATION", "ON", "TO ALLOW IT"}
		if err := output.Table(cmd.OutOrStdout(), head, rows); err != nil {
			return err
		}
		return output.WithCode(output.ExitCheck, fmt.Errorf("%s would be denied", plural(len(said.Denied), "thing")))
	}
	return cmd
}

// way is the command that allows what would be denied.
func (d *deniedLine) way() string {
	switch {
	case len(d.By) > 0:
		ids := make([]string, len(d.By))
		for i, r := range d.By {
			ids[i] = r.ID
		}
		return "firth acl remove " + strings.Join(ids, " ")
	case d.Fix == nil:
		return "no rule can"
	}
	flag := ""
	for _, r := range resources {
		if r.kind == d.Fix.Resource.Kind && r.pattern == d.Fix.Resource.Pattern {
			flag = r.flag
			break
		}
	}
	return fmt.Sprintf("firth acl allow %s %s --%s %s", shellWord(d.Fix.Principal), d.Fix.Operations, flag,
		shellWord(d.Fix.Resource.Name))
}

// shellWord is a text as one word of a shell.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+,=", r)
	}
	if text != "" && strings.TrimLeftFunc(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
