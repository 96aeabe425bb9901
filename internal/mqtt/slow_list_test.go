package mqtt_test

import (
	"testing"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestSlowList: who does not acknowledge, or does not read, is in the list while that is so; who keeps up is not.
func TestSlowList(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.OutboxBytes = 8 << 10 })
	quick := h.connect(t, packet.V5, "quick", nil)
	quick.subscribe(1, "a/#")
	lazy := h.connect(t, packet.V5, "lazy", func(p *packet.Connect) { p.Props.SetReceiveMaximum(2) })
	lazy.subscribe(1, "a/#")
	pub := h.connect(t, packet.V5, "pub", nil)
	for range 5 {
		pub.published("a/1", "x", false)
		quick.gets("a/1", "x")
	}
	first := want[*packet.Publish](lazy).PacketID
	second := want[*packet.Publish](lazy).PacketID
	eventually(t, "lazy is slow, and nobody else", func() bool {
		all := h.door.Slow(1, 10)
		return len(all) == 1 && all[0].Client == "lazy" && all[0].InFlight == 2 && all[0].Window == 2 &&
			all[0].Behind == 1 && all[0].Remote != ""
	})
	if all := h.door.Slow(1<<62, 10); len(all) != 0 {
		t.Errorf("slow for a hundred years: %+v", all)
	}
	lazy.send(&packet.Puback{PacketID: first}, &packet.Puback{PacketID: second})
	for range 3 {
		lazy.gets("a/1", "x")
	}
	eventually(t, "lazy keeps up", func() bool { return len(h.door.Slow(1, 10)) == 0 })
	deaf := h.connect(t, packet.V5, "deaf", nil)
	deaf.subscribe(0, "b/#")
	large := string(make([]byte, 4<<10))
	eventually(t, "deaf is slow", func() bool {
		pub.published("b/1", large, false)
		all := h.door.Slow(1, 10)
		return len(all) == 1 && all[0].Client == "deaf" && all[0].Dropped["outbox_full"] > 0 && all[0].Waiting > 0
	})
}
