package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/node"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and print the configuration",
		Example: `  firth config check /etc/firth.yaml
  firth config print --origin`,
	}
	cmd.AddCommand(newConfigCheckCommand(), newConfigPrintCommand())
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Report everything that is wrong with the configuration",
		Long: `Reads the file, the environment and the flags as firth serve would, starts nothing, and reports all
problems at once, a line each. The exit code is 6 if there are any.`,
		Example: `  firth config check
  firth config check /etc/firth.yaml
  firth config check firth.yaml -o json`,
		Args: cobra.MaximumNArgs(1),
	}
	sources := addSources(cmd)
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			sources.file = args[0]
		}
		_, err := sources.load()
		var problems node.Problems
		if err != nil && !errors.As(err, &problems) {
			return err
		}
		if err := printProblems(cmd, *form, problems); err != nil || len(problems) == 0 {
			return err
		}
		return output.WithCode(output.ExitCheck, fmt.Errorf("the configuration has %s", plural(len(problems), "problem")))
	}
	return cmd
}

func printProblems(cmd *cobra.Command, form output.Form, problems node.Problems) error {
	w := cmd.OutOrStdout()
	if form == output.FormJSON {
		return output.JSON(w, struct {
			OK       bool          `json:"ok"`
			Problems node.Problems `json:"problems"`
		}{len(problems) == 0, append(node.Problems{}, problems...)})
	}
	if len(problems) == 0 {
		_, err := fmt.Fprintln(w, "the configuration is good")
		return err
	}
	_, err := fmt.Fprintln(w, problems.Error())
	return err
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func newConfigPrintCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the configuration in force, defaults included",
		Example: `  firth config print
  firth config print --origin -c /etc/firth.yaml
  firth config print -o json`,
		Args: cobra.NoArgs,
	}
	sources := addSources(cmd)
	form := cmd.Flags().StringP("output", "o", "yaml", "print as `yaml|json`")
	origin := cmd.Flags().Bool("origin", false, "say where each value came from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := sources.load()
		if err != nil {
			return asCheck(err)
		}
		switch *form {
		case "yaml":
			return c.WriteYAML(cmd.OutOrStdout(), *origin)
		case "json":
			return c.WriteJSON(cmd.OutOrStdout(), *origin)
		}
		return output.Usage("%q is not one of yaml, json", *form)
	}
	return cmd
}
