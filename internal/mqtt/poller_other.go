//go:build !linux

package mqtt

import (
	"context"
	"errors"
	"net"

	"github.com/firthmq/firth/internal/kit/limit"
)

// socket and poller exist on Linux only: elsewhere every connection has a goroutine.
type (
	socket struct{ remote net.Addr }
	poller struct{}
)

var errNoPoller = errors.New("no poller on this system")

func takeSocket(net.Conn, *buffers, *limit.Account) *socket { return nil }
func (*socket) held() int                                   { return 0 }
func (*socket) isOver() bool                                { return false }
func (*socket) close()                                      {}
func (*socket) read([]byte) (int, error)                    { return 0, errNoPoller }
func (*socket) write([]byte) (int, error)                   { return 0, errNoPoller }
func (*socket) quickAck()                                   {}
func (*socket) closeWrite() error                           { return errNoPoller }
func newPoller() (*poller, error)                           { return &poller{}, nil }
func (*poller) add(*conn) error                             { return errNoPoller }
func (*poller) remove(*conn)                                {}
func (*poller) run(ctx context.Context) error               { <-ctx.Done(); return nil }
