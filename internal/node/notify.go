package node

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"time"
)

// notify tells the service manager that started the process how it is, as sd_notify(3) does: lines of NAME=value in
// one datagram; state may be empty, status may not. Without a socket nobody wants to know. A manager that does not hear
// it is no reason to end: the socket may be that of a process further up.
func (p Process) notify(log *slog.Logger, state, status string) {
	if p.Notify == "" {
		return
	}
	status, _, _ = strings.Cut(status, "\n") // a second line would be another value
	if state != "" {
		state += "\n"
	}
	if err := send(p.Notify, state+"STATUS="+status); err != nil {
		log.Warn("the service manager was not told how this node is", "state", state, "error", err)
	}
}

func send(socket, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixgram", socket) // net knows the @ of an abstract socket
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(text))
	return err
}
