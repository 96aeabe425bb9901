package mqtt_test

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestSessionsAreListed by client identifier, in pages, by state and prefix.
func TestSessionsAreListed(t *testing.T) {
	h := open(t, nil)
	for _, id := range []string{"b/1", "a", "b/2", "c"} {
		c, _ := h.comeBack(t, packet.V5, id, nil)
		c.subscribe(1, "x/"+id, "#")
		if id == "c" {
			h.leave(c)
		}
	}
	for _, tc := range []struct {
		q    mqtt.SessionQuery
		want []string
	}{
		{mqtt.SessionQuery{Limit: 10}, []string{"a", "b/1", "b/2", "c"}},
		{mqtt.SessionQuery{Limit: 2}, []string{"a", "b/1"}},
		{mqtt.SessionQuery{Limit: 2, After: "b/1"}, []string{"b/2", "c"}},
		{mqtt.SessionQuery{Limit: 9, Prefix: "b/"}, []string{"b/1", "b/2"}},
		{mqtt.SessionQuery{Limit: 9, State: "away"}, []string{"c"}},
		{mqtt.SessionQuery{Limit: 1, State: "connected", After: "a"}, []string{"b/1"}},
		{mqtt.SessionQuery{Limit: 9, After: "c"}, nil},
	} {
		lines, err := h.door.Sessions(tc.q)
		if err != nil || len(lines) != len(tc.want) {
			t.Fatalf("%+v: %v, %v", tc.q, lines, err)
		}
		for i, line := range lines {
			if line.Client != tc.want[i] || line.Subscriptions != 2 || line.Version != "5" || line.Since == nil ||
				(line.State == "connected") != (line.Remote != "") || *line.Expiry != 3600 {
				t.Errorf("%+v: %+v", tc.q, line)
			}
		}
	}
	if _, err := h.door.Sessions(mqtt.SessionQuery{State: "x"}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	s, err := h.door.Session("a")
	if err != nil || len(s.Filters) != 2 || s.Filters[1].Filter != "x/a" || s.Filters[1].QoS != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := h.door.Session("nobody"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// TestKick ends a connection with 0x98 and its will, and with it the session where it is to be forgotten, on the disk
// too.
func TestKick(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		for _, forget := range []bool{false, true} {
			h := openOn(t, vfs.NewMemory(), nil)
			watch := h.connect(t, v, "watch", nil)
			watch.subscribe(0, "will/#")
			c, _ := h.comeBack(t, v, "there", func(p *packet.Connect) {
				p.Will = &packet.Will{Topic: []byte("will/there"), Payload: []byte("x")}
			})
			c.subscribe(1, "a/#")
			away, _ := h.comeBack(t, v, "away", nil)
			away.subscribe(1, "a/#")
			h.leave(away)
			for _, id := range []string{"there", "away"} {
				k, err := h.door.Kick(t.Context(), id, forget)
				if err != nil || k.Connected != (id == "there") || k.Forgotten != forget {
					t.Fatalf("%+v, %v", k, err)
				}
			}
			if v == packet.V5 {
				if d := want[*packet.Disconnect](c); d.Reason != packet.AdministrativeAction {
					t.Errorf("DISCONNECT %s", d.Reason)
				}
			}
			c.closed()
			watch.gets("will/there", "x")
			eventually(t, "both are where they should be", func() bool {
				return h.door.Stats().Away == map[bool]int{false: 2, true: 0}[forget]
			})
			h.stop()
			afterKick(t, h.fs, v, forget)
		}
	})
}

func afterKick(t *testing.T, fs vfs.FS, v packet.Version, forget bool) {
	h := openOn(t, fs, nil)
	defer h.stop()
	for _, id := range []string{"there", "away"} {
		if _, present := h.comeBack(t, v, id, nil); present == forget {
			t.Errorf("forget %v: %s is there after a restart: %v", forget, id, present)
		}
	}
	if _, err := h.door.Kick(t.Context(), "nobody", forget); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
