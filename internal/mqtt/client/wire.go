package client

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Wire is a connection whose owner sends and takes every packet himself, packet identifiers and acknowledgements too:
// the end of a relay. One goroutine reads, one writes.
type Wire struct {
	c  *Client
	in *input
}

// Join connects as Dial does, of whose options it knows those of CONNECT, of the buffers and of how to connect.
func Join(ctx context.Context, address string, o Options) (*Wire, error) {
	c, in, err := open(ctx, address, o.withDefaults())
	if err != nil {
		return nil, err
	}
	return &Wire{c: c, in: in}, nil
}

// Server is what the server said when it accepted.
func (w *Wire) Server() Server { return w.c.server }

// Told are the user properties of the CONNACK.
func (w *Wire) Told() packet.UserProperties { return w.c.told }

// Version is that of MQTT which the connection speaks.
func (w *Wire) Version() packet.Version { return w.c.o.Version }

// Next waits for a packet. It is valid until the next call. Topics are there where the server used an alias. More tells
// that another packet has come, whole. Errors: those of the connection; *packet.Error for what is no packet.
func (w *Wire) Next() (p packet.Packet, more bool, err error) {
	if p, err = w.in.next(w.c.conn); err != nil {
		return nil, false, err
	}
	if m, ok := p.(*packet.Publish); ok {
		if err := w.c.name(m); err != nil {
			return nil, false, err
		}
	}
	n, err := packet.Frame(w.in.buf[w.in.r:w.in.w], w.in.max)
	return p, n > 0 && err == nil, nil
}

// Write sends whole packets. It blocks while the server does not read, until most has passed. Errors: those of the
// connection, which is of no use then.
func (w *Wire) Write(b []byte, most time.Duration) error {
	if err := w.c.conn.SetWriteDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	_, err := w.c.conn.Write(b)
	return err
}

// Ended turns a DISCONNECT of the server into an error.
func Ended(p *packet.Disconnect) error { return disconnected(p) }

// Close cuts the connection: without a DISCONNECT before it, the server publishes the will.
func (w *Wire) Close() error { return w.c.conn.Close() }
