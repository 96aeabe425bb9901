package mqtt_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// oftenMarked opens a door whose sessions have a mark for each message: publish publishes numbers to a/1.
func oftenMarked(t *testing.T) (h *house, publish func(from, to int)) {
	t.Helper()
	set := telemetry.New()
	checkpoints := func() float64 { return sample(set, "firth_mqtt_session_checkpoints_total") }
	h = open(t, func(o *mqtt.Options) { o.CheckpointInterval, o.Metrics = time.Millisecond, set })
	other, _ := h.comeBack(t, packet.V5, "other", nil)
	other.subscribe(1, "#")
	p := h.connect(t, packet.V5, "p", nil)
	publish = func(from, to int) {
		for i := from; i < to; i++ {
			before := checkpoints()
			p.published("a/1", fmt.Sprint(i), false)
			other.gets("a/1", fmt.Sprint(i))
			eventually(t, "a checkpoint was made", func() bool { return checkpoints() > before })
		}
	}
	return h, publish
}

// TestNothingTwiceAfterManyMarks: a session gets nothing that it has taken, and nothing that is older than its
// subscription, however many marks were made while it was away.
func TestNothingTwiceAfterManyMarks(t *testing.T) {
	h, publish := oftenMarked(t)
	publish(0, 100)
	c, _ := h.comeBack(t, packet.V5, "took some", nil)
	c.subscribe(1, "a/#")
	publish(100, 200)
	for i := 100; i < 200; i++ {
		c.gets("a/1", fmt.Sprint(i))
	}
	c.quiet()
	d, _ := h.comeBack(t, packet.V5, "took none", nil)
	d.subscribe(1, "a/#")
	h.leave(d)
	h.leave(c)
	publish(200, 600)
	for _, id := range []string{"took none", "took some"} {
		c = h.back(t, packet.V5, id)
		for i := 200; i < 600; i++ {
			c.gets("a/1", fmt.Sprint(i))
		}
		c.quiet()
	}
}

// TestSharedNothingTwiceAfterManyMarks: the same of a group.
func TestSharedNothingTwiceAfterManyMarks(t *testing.T) {
	for fate, befalls := range fates {
		t.Run(fate, func(t *testing.T) { sharedAfterManyMarks(t, befalls) })
	}
}

func sharedAfterManyMarks(t *testing.T, befalls fate) {
	h, publish := oftenMarked(t)
	publish(0, 50)
	c, _ := h.comeBack(t, packet.V5, "took some", nil)
	c.subscribe(1, "$share/some/a/#")
	publish(50, 100)
	for i := 50; i < 100; i++ {
		c.gets("a/1", fmt.Sprint(i))
	}
	c.quiet()
	d, _ := h.comeBack(t, packet.V5, "took none", nil)
	d.subscribe(1, "$share/none/a/#")
	h.leave(d)
	h.leave(c)
	publish(100, 300)
	h = befalls(t, h)
	for _, id := range []string{"took none", "took some"} {
		c = h.back(t, packet.V5, id)
		for i := 100; i < 300; i++ {
			c.gets("a/1", fmt.Sprint(i))
		}
		c.quiet()
	}
}
