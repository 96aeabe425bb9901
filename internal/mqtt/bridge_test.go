package mqtt_test

import (
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestBridge connects as the bridge of a Mosquitto does at its defaults: 0x80 in the protocol level. It gets nothing
// back of what it published, and the RETAIN flag as it was set, after an absence too; its MQTT 3 has no options to ask
// for that. Others of MQTT 3 get theirs back, and live messages without RETAIN [MQTT-3.3.1-9 of 3.1.1].
func TestBridge(t *testing.T) {
	for _, v := range []packet.Version{packet.V31, packet.V311} {
		t.Run(v.String(), func(t *testing.T) {
			h := open(t, nil)
			bridge := func(p *packet.Connect) { p.Bridge = true }
			b, _ := h.comeBack(t, v, "edge", bridge)
			b.subscribe(1, "b/#")
			other, pub := h.connect(t, packet.V311, "other", nil), h.connect(t, packet.V311, "pub", nil)
			other.subscribe(1, "b/#")
			own := func(payload string) {
				t.Helper()
				b.published("b/own", payload, true)
				if p := other.gets("b/own", payload); p.Retain {
					t.Error("RETAIN is set for a client that is no bridge")
				}
			}
			gets := func(topic, payload string, retain bool) {
				t.Helper()
				pub.published(topic, payload, retain)
				other.gets(topic, payload)
				if p := b.gets(topic, payload); p.Retain != retain { // and not what is its own
					t.Errorf("%s: RETAIN %v, want %v", topic, p.Retain, retain)
				}
			}
			own("1")
			gets("b/kept", "2", true)
			gets("b/plain", "3", false)

			h.leave(b)
			pub.published("b/kept", "4", true)
			other.gets("b/kept", "4")
			b, present := h.comeBack(t, v, "edge", bridge)
			if !present && v != packet.V31 { // whose CONNACK cannot say so
				t.Fatal("the session is not there")
			}
			if p := b.gets("b/kept", "4"); !p.Retain {
				t.Error("RETAIN is not set behind an absence")
			}
			own("5")
			gets("b/plain", "6", false)
		})
	}
}

// TestBridgeSubscribesToShares has a bridge share a subscription, and read history: there is no No Local for either.
func TestBridgeSubscribesToShares(t *testing.T) {
	h := open(t, nil)
	b := h.connect(t, packet.V311, "edge", func(p *packet.Connect) { p.Bridge = true })
	b.subscribe(1, "$share/g/s/#", "$replay/earliest/r/#")
	other := h.connect(t, packet.V311, "other", nil)
	other.published("s/1", "x", false)
	b.gets("s/1", "x")
	other.published("r/1", "y", false)
	b.gets("r/1", "y")
}

// TestBridgeWindow has a bridge leave what it gets unacknowledged: it gets 20 and no more, for the bridge of Mosquitto
// ends a connection that has more with QoS 2 in flight. What it completes makes room.
func TestBridgeWindow(t *testing.T) {
	h := open(t, nil)
	b := h.connect(t, packet.V311, "edge", func(p *packet.Connect) { p.Bridge = true })
	b.subscribe(2, "w")
	pub := h.connect(t, packet.V311, "pub", nil)
	for i := range 50 {
		pub.publishExactly("w", fmt.Sprint(i))
	}
	var ids []uint16
	takes := func() {
		t.Helper()
		m := want[*packet.Publish](b)
		if string(m.Payload) != fmt.Sprint(len(ids)) {
			t.Fatalf("message %d is %s", len(ids), m.Payload)
		}
		ids = append(ids, m.PacketID)
	}
	for range 20 {
		takes()
	}
	b.quiet()
	for i := range 50 {
		b.complete(&packet.Publish{PacketID: ids[i]})
		if len(ids) < 50 {
			takes()
		}
	}
	b.quiet()
}
