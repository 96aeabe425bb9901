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
