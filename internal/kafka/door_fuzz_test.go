package kafka

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// scripted is a connection that sends what it holds and then ends.
type scripted struct {
	discard
	in *bytes.Reader
}

func (s scripted) Read(b []byte) (int, error) {
	n, err := s.in.Read(b)
	if err == io.EOF {
		return n, net.ErrClosed
	}
	return n, err
}

// smoke fails a test when something is logged as an error: a panic that was survived.
type smoke struct {
	slog.Handler
	rang atomic.Pointer[string]
}

func (a *smoke) Enabled(context.Context, slog.Level) bool { return true }
func (a *smoke) WithAttrs([]slog.Attr) slog.Handler       { return a }
func (a *smoke) WithGroup(string) slog.Handler            { return a }
func (a *smoke) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		text := r.Message
		r.Attrs(func(at slog.Attr) bool { text += "\n" + at.String(); return true })
		a.rang.Store(&text)
	}
	return nil
}

// FuzzDoor sends any bytes at all to a whole door on a whole log: nothing breaks, and the connection
// ends.
func FuzzDoor(f *testing.F) {
	bell := &smoke{}
	h := openHouse(f, Options{Logger: slog.New(bell), MaxRequestBytes: 1 << 20})
	topic := h.topic("t", 2)
	for key, api := range h.door.apis {
		for v := api.Min; v <= api.Max; v++ {
			req := kmsg.RequestForKey(key)
			req.(interface{ Default() }).Default()
			switch key {
			case wire.Produce:
				req = produceTo(topic, 1, -1, batchOf(2, 10))
			case wire.Fetch:
				req = fetchFrom(topic, 0, 0, 5, 1)
			}
			req.SetVersion(v)
			f.Add(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		c := newConn(h.door, scripted{in: bytes.NewReader(data)}, usualName)
		ended := make(chan struct{})
		go func() {
			c.serve(ctx)
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatal("the connection does not end")
		}
		if text := bell.rang.Swap(nil); text != nil {
			t.Fatal(*text)
		}
	})
}
