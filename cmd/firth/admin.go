package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/node"
)

// adminFlags are the flags of every command that asks a running broker by listen.http.
type adminFlags struct {
	address      string
	timeout      time.Duration
	data         string
	user         string
	passwordFile string
	tokenFile    string
	tls          tlsFlags
}

const defaultTimeout = 10 * time.Second

func addAdminFlags(cmd *cobra.Command) *adminFlags {
	a := &adminFlags{}
	flags := cmd.PersistentFlags()
	a.addReach(flags)
	flags.StringVar(&a.data, "data", node.Default().Data,
		"the data `folder` of the broker: who may read "+node.TokenFile+" in it may administer it")
	flags.StringVar(&a.user, "user", "", "who asks, instead: the `name` of a user with the right to")
	flags.StringVar(&a.passwordFile, "password-file", "", "the `file` with that user's password, or - for standard input")
	flags.StringVar(&a.tokenFile, "token-file", "", "who asks, instead: the `file` with a token (firth token), or -")
	return a
}

// addReach adds the flags that say where the broker is.
func (a *adminFlags) addReach(flags *pflag.FlagSet) {
	flags.StringVar(&a.address, "http", "127.0.0.1:8080",
		"listen.http of the broker, `host:port` or unix:PATH, or https://host:port; it answers on its own machine only")
	flags.DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait for an answer")
	a.tls.add(flags)
}

// call asks the broker, and reads its answer into out; see admin.Client.
func (a *adminFlags) call(cmd *cobra.Command, q admin.Request, out any) error {
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	return client.Call(ctx, q, out)
}

// callAll is call for what all gateways are asked: show shows what there is, also where some did not answer. Then
// the command fails all the same.
func (a *adminFlags) callAll(cmd *cobra.Command, q admin.Request, out any, show func() error) error {
	err := a.call(cmd, q, out)
	if _, some := errors.AsType[*admin.Partial](err); err != nil && !some {
		return err
	}
	return errors.Join(show(), err)
}

// reach is a client for what everybody may ask.
func (a *adminFlags) reach() (c admin.Client, err error) {
	c = admin.Client{Address: a.address}
	if a.tls.wanted() || strings.HasPrefix(a.address, "https://") {
		c.Address = strings.TrimPrefix(a.address, "https://")
		c.TLS, err = a.tls.config("")
	}
	return c, err
}

func (a *adminFlags) client(cmd *cobra.Command) (c admin.Client, err error) {
	if c, err = a.reach(); err != nil {
		return c, err
	}
	c.User = a.user
	if a.tokenFile != "" {
		c.Token, err = readSecret(cmd, a.tokenFile)
		return c, err
	}
	if a.user != "" {
		c.Password, err = readSecret(cmd, a.passwordFile)
		return c, err
	}
	if token, err := os.ReadFile(filepath.Join(a.data, node.TokenFile)); err == nil { // else the broker says what it wants
		c.Token = strings.TrimSpace(string(token))
	}
	return c, nil
}

// readSecret reads a password: the first line of a file, or of standard input. Errors: Invalid.
func readSecret(cmd *cobra.Command, file string) (string, error) {
	const longest = 64 << 10
	var text []byte
	var err error
	switch file {
	case "":
		return "", output.Usage("--user needs --password-file")
	case "-":
		text, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), longest))
	default:
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fault.New(fault.Invalid, "password", "%w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
