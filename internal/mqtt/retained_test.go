package mqtt_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestRetainedIsRestored from the log: what was cleared, what was overwritten, and what was there at a time, small and
// large, with its properties, also after a restart; subscribers get it as they get any retained message.
func TestRetainedIsRestored(t *testing.T) {
	for _, size := range []int{10, 10_000} {
		var now atomic.Int64
		now.Store(1_700_000_000_000)
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			clock := func(o *mqtt.Options) { o.Clock = func() time.Time { return time.UnixMilli(now.Load()) } }
			h := openOn(t, vfs.NewMemory(), clock)
			value := func(n int) string { return strings.Repeat(fmt.Sprint(n), size) }
			c := h.connect(t, packet.V5, "c", nil)
			for n := range 3 {
				p := &packet.Publish{Topic: []byte("a/b"), Payload: []byte(value(n)), QoS: 1, PacketID: 1, Retain: true}
				p.Props.SetContentType([]byte("text"))
				p.Props.AddUser("n", fmt.Sprint(n))
				c.send(p)
				want[*packet.Puback](c)
				now.Add(time.Hour.Milliseconds())
			}
			c.published("a/b", "not retained", false)
			c.published("a/other", "x", true)
			h.restores(t, "a/b", time.Time{}, value(1)) // overwritten
			h.restores(t, "a/b", time.Time{}, value(2)) // that, too
			if _, err := h.door.ClearRetained(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
			if _, err := h.door.RetainedMessage(t.Context(), "a/b"); !fault.Is(err, fault.NotFound) {
				t.Error(err)
			}
			h.stop()
			h = openOn(t, h.fs, clock)
			defer h.stop()
			h.restores(t, "a/b", time.Time{}, value(2)) // cleared
			h.restores(t, "a/b", time.UnixMilli(1_700_000_000_000).Add(30*time.Minute), value(0))
			late := h.connect(t, packet.V5, "late", nil)
			late.subscribe(1, "a/b")
			if p := late.gets("a/b", value(0)); !p.Retain || string(p.Props.ContentType) != "text" || p.Props.User.Len() != 1 {
				t.Errorf("%+v", p)
			}
			h.restores(t, "a/b", time.Time{}, value(2))
			late.gets("a/b", value(2))
			if _, err := h.door.RestoreRetained(t.Context(), "a/b", time.UnixMilli(1)); !fault.Is(err, fault.NotFound) {
				t.Error(err)
			}
		})
	}
}

func (h *house) restores(t *testing.T, topic string, before time.Time, payload string) {
	t.Helper()
	r, err := h.door.RestoreRetained(t.Context(), topic, before)
	if err != nil || string(r.Payload) != payload {
		t.Fatalf("restored %.60v, %v, want %.20s", r, err, payload)
	}
	if r, err = h.door.RetainedMessage(t.Context(), topic); err != nil || string(r.Payload) != payload {
		t.Fatalf("it is %.60v, %v, want %.20s", r, err, payload)
	}
}

// TestRetainedIsListed in pages, by a filter.
func TestRetainedIsListed(t *testing.T) {
	h := open(t, nil)
	c := h.connect(t, packet.V5, "c", nil)
	for i := range 50 {
		c.published(fmt.Sprintf("a/%02d", i), "x", true)
	}
	c.published("b", "x", true)
	var all []string
	for after := ""; ; {
		lines, err := h.door.Retained(t.Context(), "a/+", after, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 {
			break
		}
		for _, l := range lines {
			all = append(all, l.Topic)
			after = l.Topic
		}
	}
	if len(all) != 50 || all[0] != "a/00" || all[49] != "a/49" {
		t.Errorf("%d: %v", len(all), all)
	}
}
