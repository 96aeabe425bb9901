package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/node"
)

// callAnyway is call; where no broker uses the data folder, and no flag says whom to ask, it opens that for this one
// request.
func (a *adminFlags) callAnyway(cmd *cobra.Command, q admin.Request, out any) error {
	given := cmd.Flags().Changed
	if given("http") || given("user") {
		return a.call(cmd, q, out)
	}
	l := node.Loader{Env: os.Environ()}
	if given("data") {
		l.Flags = append(l.Flags, node.Assignment{Flag: "--data", Text: "data=" + a.data})
	}
	c, err := l.Load()
	if err != nil {
		return asCheck(err)
	}
	a.data = c.Data
	alone, err := a.alone(cmd, c, func(ctx context.Context, client admin.Client) error { return client.Call(ctx, q, out) })
	if alone {
		return err
	}
	return a.call(cmd, q, out)
}

// alone asks a broker that is there for this command only; see node.Alone.
func (a *adminFlags) alone(
	cmd *cobra.Command, c *node.Config, do func(context.Context, admin.Client) error,
) (bool, error) {
	return node.Alone(cmd.Context(), c, cmd.ErrOrStderr(), func(address, token string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
		defer cancel()
		return do(ctx, admin.Client{Address: address, Token: token})
	})
}
