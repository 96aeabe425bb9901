package node

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// Alone opens the data of a node that is not running, for one command: do gets the address of its listen.http, on
// loopback, and the token for it. No client reaches it. Warnings go to log. It tells false, and has done nothing, if
// there is no data or a process uses it. Errors: those of Start and of do.
func Alone(
	ctx context.Context, c *Config, log io.Writer, do func(address, token string) error,
) (alone bool, err error) {
	if _, err := vfs.OpenDisk(c.Data); fault.Is(err, fault.NotFound) {
		return false, nil
	}
	quiet := *c
	quiet.Listen, quiet.Listeners, quiet.TLS = Listen{HTTP: "127.0.0.1:0"}, nil, TLS{}
	quiet.Logger = newLogger(log, "text", slog.LevelWarn)
	n, err := Start(ctx, &quiet)
	if fault.Is(err, fault.Exists) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	return true, errors.Join(do(n.Addresses().HTTP, n.token), n.Close())
}
