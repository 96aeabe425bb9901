package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/node"
)

func newVersionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Example: `  firth version
  firth version -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := node.BuildVersion()
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), v)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "firth %s (%s, %s)\n", v.Version, v.Go, v.Platform)
		return err
	}
	return cmd
}
