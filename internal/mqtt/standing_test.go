package mqtt_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestMarksMoveOnWhileAway: a session that is away stands where it stood, however many checkpoints others cause
// meanwhile, and also while it comes back.
func TestMarksMoveOnWhileAway(t *testing.T) {
	for fate, befalls := range fates {
		t.Run(fate, func(t *testing.T) {
			set := telemetry.New()
			checkpoints := func() float64 { return sample(set, "firth_mqtt_session_checkpoints_total") }
			h := open(t, func(o *mqtt.Options) { o.CheckpointInterval, o.Metrics = time.Millisecond, set })
			c, _ := h.comeBack(t, packet.V5, "sleeper", nil)
			c.subscribe(1, "a/#")
			other, _ := h.comeBack(t, packet.V5, "other", nil)
			other.subscribe(1, "#")
			p := h.connect(t, packet.V5, "p", nil)
			h.leave(c)
			const count = 50
			for i := range count {
				before := checkpoints()
				p.published("a/1", fmt.Sprint(i), false)
				other.gets("a/1", fmt.Sprint(i))
				if i%(count/2) == count/2-1 {
					eventually(t, "a checkpoint was made", func() bool { return checkpoints() > before })
				}
			}
			h = befalls(t, h)
			c = h.back(t, packet.V5, "sleeper")
			for i := range count {
				c.gets("a/1", fmt.Sprint(i))
			}
			c.quiet()
		})
	}
}

// TestSubscribingAgainLosesNothing: a client that comes back and subscribes again to what it had gets what it missed,
// also when the server is lost in between [MQTT-3.8.4-4].
func TestSubscribingAgainLosesNothing(t *testing.T) {
	for fate, befalls := range fates {
		t.Run(fate, func(t *testing.T) {
			h := open(t, nil)
			few := func(p *packet.Connect) { p.Props.SetReceiveMaximum(2) }
			c, _ := h.comeBack(t, packet.V5, "sleeper", few)
			c.subscribe(1, "a/#")
			h.leave(c)
			p := h.connect(t, packet.V5, "p", nil)
			const count = 50
			for i := range count {
				p.published("a/1", fmt.Sprint(i), false)
			}
			c, _ = h.comeBack(t, packet.V5, "sleeper", few)
			for i := range 2 {
				if m := want[*packet.Publish](c); string(m.Payload) != fmt.Sprint(i) {
					t.Fatalf("got %s, want %d", m.Payload, i)
				}
			}
			c.subscribe(1, "a/#")
			h.leave(c)
			h = befalls(t, h)
			c = h.back(t, packet.V5, "sleeper")
			for i := range count {
				c.gets("a/1", fmt.Sprint(i))
			}
			c.quiet()
		})
	}
}

// TestWideFilterLosesNothing: a subscription that wants more partitions than a session is given places in when it
// subscribes stands by marks there. However many of those come and are thinned out, and whatever befalls the server, it
// gets every message that is younger than it, and none twice that it has acknowledged long ago.
func TestWideFilterLosesNothing(t *testing.T) {
	for fate, befalls := range fates {
		t.Run(fate, func(t *testing.T) { wideFilter(t, befalls) })
	}
}

func wideFilter(t *testing.T, befalls fate) {
	const topics, marks = 100, 50 // more than places, and than offsets at marks are kept
	h := open(t, nil)
	p := h.connect(t, packet.V5, "p", nil)
	all := func(payload string) {
		t.Helper()
		for i := range topics {
			p.published(fmt.Sprintf("t%d/x", i), payload, false)
		}
	}
	all("old")
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	c.subscribe(1, "+/x")
	other, _ := h.comeBack(t, packet.V5, "other", nil)
	other.subscribe(0, "t0/#", "t1/#")
	marked := func(name string, takers ...*raw) {
		t.Helper()
		for i := range marks {
			p.published(name, fmt.Sprint(i), false)
			for _, taker := range takers {
				taker.gets(name, fmt.Sprint(i))
			}
			h.checkpoint()
		}
	}
	marked("t0/x", c, other)
	all("live")
	for range topics {
		if m := want[*packet.Publish](c); string(m.Payload) != "live" {
			t.Fatalf("got %s = %s", m.Topic, m.Payload)
		} else {
			c.send(&packet.Puback{PacketID: m.PacketID})
		}
	}
	c.quiet()
	other.until("live") // of t0
	other.until("live")
	h.checkpoint()
	h.leave(c)
	all("missed")
	other.until("missed")
	other.until("missed")
	marked("t1/x", other)
	h = befalls(t, h)
	c = h.back(t, packet.V5, "c")
	got := map[string]int{}
	for n := 0; n < topics+marks; {
		m := want[*packet.Publish](c)
		c.send(&packet.Puback{PacketID: m.PacketID})
		switch payload := string(m.Payload); payload {
		case "old", "live":
			t.Errorf("%s = %s comes again", m.Topic, payload)
		default:
			got[string(m.Topic)+"="+payload]++
			n++
		}
	}
	c.quiet()
	if len(got) != topics+marks {
		t.Errorf("%d different messages, want %d", len(got), topics+marks)
	}
}
