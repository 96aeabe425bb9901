package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

func (h *house) whats(t *testing.T, client string) (all []string) {
	t.Helper()
	events, err := h.door.Events(client)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		all = append(all, e.What)
	}
	return all
}

// TestEvents: what happened to a session is known afterwards, and why.
func TestEvents(t *testing.T) {
	h := open(t, nil)
	first, _ := h.comeBack(t, packet.V5, "c", nil)
	second, _ := h.comeBack(t, packet.V5, "c", nil)
	want[*packet.Disconnect](first)
	first.closed()
	h.leave(second)
	third := h.back(t, packet.V5, "c")
	third.bytes([]byte{0x00, 0x00})
	want[*packet.Disconnect](third)
	third.closed()
	eventually(t, "the third is gone", func() bool { return h.door.Stats().Away == 1 })
	if _, err := h.door.Kick(t.Context(), "c", true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is told", func() bool { return len(h.whats(t, "c")) == 7 })
	got := h.whats(t, "c")
	slices.Sort(got)
	if want := []string{"connected", "connected", "disconnected", "disconnected", "disconnected", "forgotten",
		"takeover"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	events, err := h.door.Events("c")
	if err != nil || !strings.HasPrefix(events[0].Text, "new session, MQTT 5 from 127.0.0.1:") ||
		!slices.ContainsFunc(events, func(e mqtt.Event) bool {
			return e.What == "disconnected" && e.Code == packet.Malformed.String()
		}) || !slices.ContainsFunc(events, func(e mqtt.Event) bool {
		return e.What == "disconnected" && e.Code == packet.SessionTakenOver.String()
	}) {
		t.Errorf("%+v, %v", events, err)
	}
	if _, err := h.door.Events("nobody"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// TestEventsAreBounded: 100 of a client, and of many clients those heard of last; who is only refused has none.
func TestEventsAreBounded(t *testing.T) {
	h := open(t, nil)
	for range 75 {
		c := h.connect(t, packet.V5, "often", nil)
		c.send(&packet.Disconnect{})
		c.closed()
	}
	eventually(t, "the last has gone", func() bool { return h.door.Stats().Connections == 0 })
	if got := h.whats(t, "often"); len(got) != 100 || got[99] != "disconnected" || got[0] != "connected" {
		t.Errorf("%d events, %v", len(got), got)
	}
	c := h.dial(t)
	c.hello(packet.V5, "stranger", func(p *packet.Connect) { p.Props.SetAuthMethod([]byte("none")) })
	want[*packet.Connack](c)
	if _, err := h.door.Events("stranger"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	mqtt.NoteMany(h.door, 1<<16)
	if _, err := h.door.Events("often"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if events, err := h.door.Events(fmt.Sprintf("many-%d", 1<<16-1)); err != nil || len(events) != 1 {
		t.Errorf("%v, %v", events, err)
	}
}

// TestEventsOfDrops: what is dropped for a client is counted by reason, and is an event when it begins and when its
// connection ends.
func TestEventsOfDrops(t *testing.T) {
	h := open(t, nil)
	c := h.connect(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetMaximumPacketSize(100) })
	c.subscribe(0, "a")
	for range 3 {
		c.publish(0, 0, "a", strings.Repeat("x", 200))
		c.publish(0, 0, "$no", "x")
	}
	eventually(t, "all is counted", func() bool {
		s, err := h.door.Session("c")
		return err == nil && s.Drops["too_large"] == 3 && s.Drops["refused"] == 3
	})
	c.send(&packet.Disconnect{})
	c.closed()
	eventually(t, "all is told", func() bool { return len(h.whats(t, "c")) == 6 })
	events, err := h.door.Events("c")
	if err != nil || !slices.ContainsFunc(events, func(e mqtt.Event) bool { return e.Text == "too_large: 3 messages" }) {
		t.Errorf("%+v, %v", events, err)
	}
}

// TestLag: how far a session is behind in each partition, away or replaying, and that it is not.
func TestLag(t *testing.T) {
	h := open(t, nil)
	h.history("a", 2, 0, 10, 10)
	c, _ := h.comeBack(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetReceiveMaximum(1) })
	c.subscribe(1, "a/#")
	if s, err := h.door.Session("c"); err != nil || len(s.Lag) != 0 {
		t.Errorf("in step: %+v, %v", s, err)
	}
	h.leave(c)
	h.history("a", 2, 10, 17, 17)
	s, err := h.door.Session("c")
	if err != nil || len(s.Lag) != 2 || s.Lag[0].Lag != 4 || s.Lag[0].Next != 5 || s.Lag[0].End != 9 ||
		s.Lag[1].Lag != 3 || s.Lag[1].Topic != "a" || s.Lag[1].Partition != 1 {
		t.Errorf("away: %+v, %v", s, err)
	}
	r := h.connect(t, packet.V5, "r", func(p *packet.Connect) { p.Props.SetReceiveMaximum(1) })
	r.replay(1, "a/#", "firth-from", "3")
	want[*packet.Publish](r) // not acknowledged: it takes no more
	s, err = h.door.Session("r")
	if err != nil || len(s.Lag) != 2 || s.Lag[0].Filter != "a/#" || s.Lag[0].Lag+s.Lag[1].Lag < 10 ||
		s.Behind == 0 || s.Filters[0].From != "3" {
		t.Errorf("replaying: %+v, %v", s, err)
	}
}

// TestMissed: what retention took before a client could read it is an event.
func TestMissed(t *testing.T) {
	h := open(t, nil)
	h.history("a", 1, 0, 5, 5)
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	c.subscribe(1, "a/#")
	h.leave(c)
	h.history("a", 1, 5, 50, 50)
	p := h.log.Topics().ByName("a").Partitions[0]
	if _, err := h.disk().TrimTo(t.Context(), p, 30); err != nil {
		t.Fatal(err)
	}
	c = h.back(t, packet.V5, "c")
	if got := c.numbers(20, 1); !slices.Equal(got, upTo(30, 50)) {
		t.Errorf("got %v", got)
	}
	events, err := h.door.Events("c")
	if err != nil || !slices.ContainsFunc(events, func(e mqtt.Event) bool {
		return e.What == "missed" && e.Text == "retention took offsets 5 to 29 of a/0"
	}) {
		t.Errorf("%+v, %v", events, err)
	}
}

// TestMissedInFlight: a retained message that was in flight when the client left, and was replaced and so compacted, is
// counted and told; what replaced it comes.
func TestMissedInFlight(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics = set })
	p := h.connect(t, packet.V5, "p", nil)
	p.published("r/1", "old", true)
	p.published("r/2", "other", true)
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	c.subscribe(1, "r/1", "r/2")
	ids := map[string]uint16{}
	for range 2 {
		m := want[*packet.Publish](c)
		ids[string(m.Payload)] = m.PacketID
	}
	h.leave(c)
	p.published("r/1", "new", true)
	p.published("r/2", "other, new", true)
	if _, err := h.disk().TrimTo(t.Context(), h.log.Topics().ByName("__firth_retained").Partitions[0], 1); err != nil {
		t.Fatal(err)
	}
	c = h.back(t, packet.V5, "c")
	if m := c.gets("r/2", "other"); !m.Dup || m.PacketID != ids["other"] {
		t.Errorf("DUP %v, packet id %d", m.Dup, m.PacketID)
	}
	var got []string
	for range 2 {
		m := want[*packet.Publish](c)
		got = append(got, string(m.Payload))
		c.send(&packet.Puback{PacketID: m.PacketID})
	}
	c.quiet()
	if slices.Sort(got); !slices.Equal(got, []string{"new", "other, new"}) {
		t.Errorf("got %q", got)
	}
	if n := sample(set, `firth_mqtt_messages_dropped_total{reason="removed"}`); n != 1 {
		t.Errorf("%v messages were dropped", n)
	}
	events, err := h.door.Events("c")
	if err != nil || !slices.ContainsFunc(events, func(e mqtt.Event) bool {
		return e.What == "missed" && e.Text == "in flight and removed: offset 0 of __firth_retained/0"
	}) {
		t.Errorf("%+v, %v", events, err)
	}
}

// TestTrace: the packets of a client are shown, of the connection that is there and of the next, and nothing once
// nobody looks.
func TestTrace(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c := h.connect(t, v, "c", nil)
		ctx, cancel := context.WithCancel(t.Context())
		lines, begun, ended := make(chan mqtt.TraceLine, 1000), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- h.door.Trace(ctx, "c", func() error { close(begun); return nil },
				func(l *mqtt.TraceLine) error { lines <- *l; return nil })
		}()
		<-begun
		if err := h.door.Trace(ctx, "c", nil, nil); !fault.Is(err, fault.Exists) {
			t.Error(err)
		}
		c = h.playTraced(c, v)
		checkTraced(t, lines)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		c.quiet()
		if len(lines) > 0 {
			t.Errorf("%+v after the end", <-lines)
		}
		failed := errors.New("nobody looks")
		if err := h.door.Trace(t.Context(), "c", func() error { return failed }, nil); !errors.Is(err, failed) {
			t.Error(err)
		}
	})
}

// playTraced has a client do what TestTrace wants to see, and come back.
func (h *house) playTraced(c *raw, v packet.Version) *raw {
	c.subscribe(1, "a/#")
	c.published("a/b", "secret", false)
	c.gets("a/b", "secret")
	c.quiet()
	c.send(&packet.Disconnect{})
	c.closed()
	c = h.connect(c.t, v, "c", func(p *packet.Connect) { p.UserName, p.Password = []byte("u"), []byte("secret") })
	other := h.connect(c.t, v, "other", nil)
	other.quiet()
	c.quiet()
	return c
}

func checkTraced(t *testing.T, lines <-chan mqtt.TraceLine) {
	t.Helper()
	var got []string
	for range 13 {
		l := <-lines
		if l.Lost > 0 || l.Bytes == 0 || time.Since(l.At) > patience || strings.Contains(l.Said, "secret") {
			t.Errorf("%+v", l)
		}
		if got = append(got, map[bool]string{true: "<", false: ">"}[l.In]+l.Packet); l.Packet == "PUBLISH" &&
			(l.Topic != "a/b" || *l.QoS != 1 || *l.Payload != 6) {
			t.Errorf("%+v", l)
		}
	}
	slices.Sort(got)
	if want := []string{"<CONNECT", "<DISCONNECT", "<PINGREQ", "<PINGREQ", "<PUBACK", "<PUBLISH", "<SUBSCRIBE",
		">CONNACK", ">PINGRESP", ">PINGRESP", ">PUBACK", ">PUBLISH", ">SUBACK"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
