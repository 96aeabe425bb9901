package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
)

// adminFlags are the flags of every command that asks a running broker by listen.http.
type adminFlags struct {
	address string
	timeout time.Duration
}

func addAdminFlags(cmd *cobra.Command) *adminFlags {
	a := &adminFlags{}
	cmd.PersistentFlags().StringVar(&a.address, "http", "127.0.0.1:8080",
		"listen.http of the broker, `host:port` or unix:PATH; it answers on its own machine only")
	cmd.PersistentFlags().DurationVar(&a.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	return a
}

// call asks the broker, and reads its answer into out; see admin.Client.
func (a *adminFlags) call(cmd *cobra.Command, q admin.Request, out any) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	return admin.Client{Address: a.address}.Call(ctx, q, out)
}
