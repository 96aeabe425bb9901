package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

func newHealthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Tell whether a broker is well: exit code 0, else 6, or 3 where nobody answers",
		Long: `Tells whether a broker is well, for supervisors: containers, scripts. Without --ready: it answers, and its
log is open; what fails that wants to be started again. With --ready: it takes writes, and clients should be sent there.
It asks /healthz or /readyz of listen.http, needs no right, and prints what the broker says.`,
		Example: `  firth health
  firth health --ready --http 127.0.0.1:8080`,
		Args: cobra.NoArgs,
	}
	var a adminFlags
	a.addReach(cmd.Flags())
	ready := cmd.Flags().Bool("ready", false, "whether clients should be sent there")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := a.reach()
		if err != nil {
			return err
		}
		path := "/healthz"
		if *ready {
			path = "/readyz"
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
		defer cancel()
		said, well, err := client.Health(ctx, path)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprint(cmd.OutOrStdout(), said); err != nil {
			return err
		}
		if !well {
			return output.WithCode(output.ExitCheck, fault.New(fault.Closed, "health", "it is not well"))
		}
		return nil
	}
	return cmd
}
