package client

import (
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestWire: who joins takes and sends packets himself, in the order in which they come.
func TestWire(t *testing.T) {
	s := listen(t)
	w, err := Join(ctx(t), s.addr(), Options{ClientID: "w"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	if w.Version() != packet.V5 || w.Server().MaximumQoS != 2 || len(w.Told()) != 0 {
		t.Errorf("%d, %+v, %q", w.Version(), w.Server(), w.Told())
	}
	out := (&packet.Subscribe{PacketID: 7, Subscriptions: []packet.Subscription{{Filter: []byte("#")}}}).
		AppendTo(nil, packet.V5)
	if err := w.Write(out, time.Minute); err != nil {
		t.Fatal(err)
	}
	p, _, err := w.Next()
	if err != nil {
		t.Fatal(err)
	}
	if ack, ok := p.(*packet.Suback); !ok || ack.PacketID != 7 {
		t.Errorf("got %#v", p)
	}
}
