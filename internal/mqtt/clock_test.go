package mqtt_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// moment is what two clocks say at once, in milliseconds: the wall clock, and one that is never set.
type moment struct{ wall, passed int64 }

// TestExpiryIgnoresStepsOfTheWallClock (F32): a machine that finds its time server has its clock set from 1970 to now.
// Messages that expire in a minute are still there: retained ones, and those that wait for a device.
func TestExpiryIgnoresStepsOfTheWallClock(t *testing.T) {
	var now, seen atomic.Pointer[moment]
	now.Store(&moment{})
	c := clock.New(func() time.Time { return time.UnixMilli(seen.Load().wall) }, func() time.Duration {
		m := now.Load()
		seen.Store(m) // the wall clock of that moment is looked at next, whatever the test does meanwhile
		return time.Duration(m.passed) * time.Millisecond
	})
	pass := func(ms, step int64) {
		m := now.Load()
		now.Store(&moment{wall: m.wall + ms + step, passed: m.passed + ms})
	}
	h := open(t, func(o *mqtt.Options) { o.Clock, o.Judge = c.Now, c.For })
	sleeper, _ := h.comeBack(t, packet.V5, "sleeper", nil)
	sleeper.subscribe(1, "w/#")
	h.leave(sleeper)
	pub := h.connect(t, packet.V5, "pub", nil)
	pass(10_000, 0)
	for i := range 3 {
		m := &packet.Publish{Topic: fmt.Appendf(nil, "w/%d", i), Payload: []byte("x"), QoS: 1, PacketID: 1, Retain: true}
		m.Props.SetMessageExpiry(60)
		pub.send(m)
		want[*packet.Puback](pub)
	}
	pass(20_000, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	sleeper = h.back(t, packet.V5, "sleeper")
	for i := range 3 {
		p := want[*packet.Publish](sleeper)
		if string(p.Topic) != fmt.Sprint("w/", i) {
			t.Fatalf("got %s", p.Topic)
		}
		if p.Props.MessageExpiry != 40 {
			t.Errorf("what waited has %d s left after 20 of 60", p.Props.MessageExpiry)
		}
	}
	fresh := h.connect(t, packet.V5, "fresh", nil)
	fresh.subscribe(0, "w/#")
	for range 3 {
		if p := want[*packet.Publish](fresh); p.Props.MessageExpiry != 40 {
			t.Errorf("retained %s has %d s left after 20 of 60", p.Topic, p.Props.MessageExpiry)
		}
	}
	pass(41_000, 0)
	late := h.connect(t, packet.V5, "late", nil)
	late.subscribe(0, "w/#")
	late.quiet()
}
