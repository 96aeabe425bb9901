package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const cliPage = "../../docs/cli.md"

// TestCLIPage holds docs/cli.md to the commands: it is their help texts, in one page.
func TestCLIPage(t *testing.T) {
	page := renderCLI(newRoot())
	if *update {
		if err := os.WriteFile(cliPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(cliPage)
	if err != nil || string(got) != page {
		t.Errorf("docs/cli.md is not what the commands say (%v): go test ./cmd/firth -run TestCLIPage -update", err)
	}
}

// TestEveryCommandExplainsItself: a sentence, two or three examples that begin with its name, flags with
// a text each.
func TestEveryCommandExplainsItself(t *testing.T) {
	each(newRoot(), func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s says nothing", cmd.CommandPath())
		}
		if n := strings.Count(cmd.Example, "firth"); cmd.Runnable() && n < 1 {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing", cmd.CommandPath(), f.Name)
			}
		})
	})
}

func each(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			each(sub, do)
		}
	}
}

func renderCLI(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Commands\n\n<!-- Written from the commands: go test ./cmd/firth -run TestCLIPage -update -->\n\n" +
		"Data goes to standard output, everything else to standard error. With `-o json` (`--output json` where\n" +
		"`-o` means something else) data and errors are JSON, one object a line; an error is\n" +
		"`{\"error\": ..., \"code\": ..., \"exit\": ..., \"hint\": ...}`.\n\n" +
		"| exit code | name | meaning |\n|---|---|---|\n" +
		"| 0 | ok | done |\n| 1 | failed | refused, or something else went wrong |\n" +
		"| 2 | usage | the command line does not make sense |\n| 3 | connect | nothing answers at the address |\n" +
		"| 4 | auth | the credentials or permissions do not suffice |\n| 5 | not_found | the named thing does not exist |\n" +
		"| 6 | check_failed | a check ran and found a fault |\n")
	each(root, func(cmd *cobra.Command) { renderCommand(&b, cmd) })
	return b.String()
}

func renderCommand(b *strings.Builder, cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n", cmd.CommandPath(), text)
	if cmd.Runnable() {
		fmt.Fprintf(b, "\n    %s\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.TrimSpace(strings.ReplaceAll("\n"+cmd.Example, "\n  ", "\n")))
	}
	if flags := cmd.LocalFlags().FlagUsages(); flags != "" && cmd.LocalFlags().HasAvailableFlags() {
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.TrimRight(flags, "\n"))
	}
}
