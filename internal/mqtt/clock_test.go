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

// TestExpiryIgnoresStepsOfTheWallClock (F32): a machine that finds its time server has its clock set from 1970 to now.
// Messages that expire in a minute are still there: retained ones, and those that wait for a device.
func TestExpiryIgnoresStepsOfTheWallClock(t *testing.T) {
	var wall, passed atomic.Int64 // milliseconds
	c := clock.New(func() time.Time { return time.UnixMilli(wall.Load()) },
		func() time.Duration { return time.Duration(passed.Load()) * time.Millisecond })
	pass := func(ms int64) { wall.Add(ms); passed.Add(ms) }
	h := open(t, func(o *mqtt.Options) { o.Clock, o.Judge = c.Now, c.For })
	slow := h.connect(t, packet.V5, "slow", func(p *packet.Connect) { p.Props.SetReceiveMaximum(1) })
	slow.subscribe(1, "w/#")
	pub := h.connect(t, packet.V5, "pub", nil)
	pass(10_000)
	for i := range 3 {
		m := &packet.Publish{Topic: fmt.Appendf(nil, "w/%d", i), Payload: []byte("x"), QoS: 1, PacketID: 1, Retain: true}
		m.Props.SetMessageExpiry(60)
		pub.send(m)
		want[*packet.Puback](pub)
	}
	for i := range 3 {
		p := want[*packet.Publish](slow)
		if string(p.Topic) != fmt.Sprint("w/", i) {
			t.Fatalf("got %s", p.Topic)
		}
		if i == 0 {
			pass(20_000)
			wall.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
		} else if p.Props.MessageExpiry != 40 {
			t.Errorf("what waited has %d s left after 20 of 60", p.Props.MessageExpiry)
		}
		slow.send(&packet.Puback{PacketID: p.PacketID}) // the next one comes after it
	}
	fresh := h.connect(t, packet.V5, "fresh", nil)
	fresh.subscribe(0, "w/#")
	for range 3 {
		if p := want[*packet.Publish](fresh); p.Props.MessageExpiry != 40 {
			t.Errorf("retained %s has %d s left after 20 of 60", p.Topic, p.Props.MessageExpiry)
		}
	}
	pass(41_000)
	late := h.connect(t, packet.V5, "late", nil)
	late.subscribe(0, "w/#")
	late.quiet()
}
