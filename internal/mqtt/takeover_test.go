package mqtt_test

import (
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// stuckGuard is a guard that does not come back from some questions until it is told to, or panics at them.
type stuckGuard struct {
	asked, release chan struct{}
	panics         atomic.Int64
}

func (g *stuckGuard) may(_ *rule.Subject, does doing, name string) bool {
	switch {
	case does == publishing && name == "stuck":
		g.asked <- struct{}{}
		<-g.release
	case does == receiving && name == "panic/receive":
		g.panics.Add(1)
		panic("the guard fell over")
	}
	return true
}

// TestTakeoverWaitsForNobody is E26: a connection that does not come to an end keeps nobody from taking its session
// over, and what it goes on to publish is fenced.
func TestTakeoverWaitsForNobody(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 { // who is stuck holds a poller up, and there are as many
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	}
	both(t, func(t *testing.T, v packet.Version) {
		g := &stuckGuard{asked: make(chan struct{}, 1), release: make(chan struct{})}
		h := open(t, func(o *mqtt.Options) { judged(t, o, g) })
		watcher := h.connect(t, v, "watcher", nil)
		watcher.subscribe(1, "#")
		old := h.connect(t, v, "same", func(p *packet.Connect) {
			p.Will = &packet.Will{Topic: []byte("will"), Payload: []byte("of the old one")}
		})
		old.subscribe(1, "x")
		old.publish(1, 1, "stuck", "too late")
		<-g.asked
		fresh := h.connect(t, v, "same", nil)
		watcher.gets("will", "of the old one")
		fresh.published("x", "to nobody", false)
		watcher.gets("x", "to nobody")
		fresh.quiet()
		if s := h.door.Stats(); s.Clients != 2 || s.Subscriptions != 1 {
			t.Errorf("%d sessions, %d subscriptions", s.Clients, s.Subscriptions)
		}
		close(g.release)
		if v == packet.V5 {
			if d := want[*packet.Disconnect](old); d.Reason != packet.SessionTakenOver {
				t.Errorf("DISCONNECT %s", d.Reason)
			}
		}
		old.closed()
		watcher.quiet()
		if n := len(h.records("stuck")); n != 0 {
			t.Errorf("%d messages of the old connection came after it was fenced", n)
		}
	})
}

// TestPanicInADelivery is E13: a panic while a message is handed to a connection, in a goroutine that serves others
// too, costs that connection.
func TestPanicInADelivery(t *testing.T) {
	set := telemetry.New()
	g := &stuckGuard{}
	h := open(t, func(o *mqtt.Options) {
		judged(t, o, g)
		o.Metrics = set
		o.Logger = slog.New(slog.DiscardHandler) // a panic is told as an error
	})
	victims := []*raw{h.connect(t, packet.V5, "live", nil), h.connect(t, packet.V311, "retained", nil)}
	victims[0].subscribe(1, "panic/#")
	other := h.connect(t, packet.V5, "other", nil)
	other.subscribe(1, "calm/#")
	other.published("panic/receive", "x", true)
	victims[1].subscribe(1, "panic/#")
	for _, c := range victims {
		if _, err := c.next(patience); err == nil {
			t.Error("the connection lives on")
		}
	}
	eventually(t, "their sessions are over", func() bool { return h.door.Stats().Clients == 1 })
	other.published("calm/1", "still served", true)
	other.gets("calm/1", "still served")
	if n := sample(set, "firth_mqtt_panics_total"); n < 2 || int64(n) > g.panics.Load() {
		t.Errorf("%v panics counted of %d", n, g.panics.Load())
	}
}

// TestLargeMessageLeavesRoom is F26: what comes behind a message that is larger than the bound of the outbox is not
// dropped for a client that reads, and neither is the rest of a run that is larger than the bound.
func TestLargeMessageLeavesRoom(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics = set; o.MaxPacketBytes = 16 << 20 })
	sub := h.connect(t, packet.V5, "fast", nil)
	sub.subscribe(0, "d/#")
	pub := h.connect(t, packet.V5, "pub", nil)
	big := strings.Repeat("z", 9<<20)
	for range 5 {
		pub.publish(0, 0, "d/1", "small")
		pub.publish(0, 0, "d/2", big)
		pub.publish(0, 0, "d/3", "small")
		sub.gets("d/1", "small")
		sub.gets("d/2", big)
		sub.gets("d/3", "small")
	}
	if n := sample(set, droppedFull); n != 0 {
		t.Errorf("%v messages were dropped", n)
	}
}
