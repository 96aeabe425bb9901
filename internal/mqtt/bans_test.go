package mqtt_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// wall is a wall clock that a test sets.
type wall struct{ ms atomic.Int64 }

func (w *wall) now() time.Time  { return time.UnixMilli(w.ms.Load()) }
func (w *wall) set(t time.Time) { w.ms.Store(t.UnixMilli()) }

func (h *house) ban(kind, who string, until *time.Time) {
	h.t.Helper()
	line := mqtt.BanLine{Kind: kind, Who: who, Until: until, Reason: "a test"}
	if _, err := h.door.Ban(context.Background(), line); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) unban(kind, who string) {
	h.t.Helper()
	if _, err := h.door.Unban(context.Background(), kind, who); err != nil {
		h.t.Fatal(err)
	}
}

// refuses wants a CONNECT refused as banned.
func (h *house) refuses(t *testing.T, v packet.Version, id, user string) {
	t.Helper()
	c := h.dial(t)
	c.hello(v, id, func(p *packet.Connect) {
		if v == packet.V5 {
			p.Props.SetRequestProblemInfo(1)
		}
		if user != "" {
			p.HasUserName, p.UserName = true, []byte(user)
		}
	})
	reason := packet.Banned
	if v != packet.V5 {
		reason = packet.NotAuthorized
	}
	ack := want[*packet.Connack](c)
	if ack.Reason != reason || v == packet.V5 && string(ack.Props.ReasonString) != "banned: a test" {
		t.Errorf("CONNACK %s %q", ack.Reason, ack.Props.ReasonString)
	}
	c.closed()
}

// TestBans: who is banned is sent away and does not get in, also after a restart, until the ban is over or removed.
func TestBans(t *testing.T) { both(t, keepOut) }

func keepOut(t *testing.T, v packet.Version) {
	fs, set := vfs.NewMemory(), telemetry.New()
	var now wall
	now.set(time.Now())
	change := func(o *mqtt.Options) { o.Clock, o.Metrics = now.now, set }
	h := openOn(t, fs, change)
	evil, good := h.connect(t, v, "evil", nil), h.connect(t, v, "good", nil)
	soon := now.now().Add(time.Hour)
	h.ban("client", "evil", &soon)
	if v == packet.V5 {
		if p := want[*packet.Disconnect](evil); p.Reason != packet.AdministrativeAction {
			t.Errorf("DISCONNECT %s", p.Reason)
		}
	}
	evil.closed()
	good.quiet()
	h.refuses(t, v, "evil", "")
	h.ban("user", "mallory", nil)
	h.refuses(t, v, "good2", "mallory")
	if n := sample(set, "firth_mqtt_banned_total"); n != 2 {
		t.Errorf("%v were refused", n)
	}
	h.stop()

	set = telemetry.New()
	h = openOn(t, fs, change)
	defer func() { h.stop() }()
	h.refuses(t, v, "evil", "")
	h.refuses(t, v, "x", "mallory")
	if all := h.door.Bans(); len(all) != 2 || all[0].Who != "evil" || !all[0].Until.Equal(soon) {
		t.Errorf("bans are %+v", all)
	}
	now.set(soon)
	h.connect(t, v, "evil", nil).quiet()
	h.unban("user", "mallory")
	h.ban("address", "127.0.0.0/8", nil)
	h.refuses(t, v, "anybody", "")
	h.unban("address", "127.0.0.0/8")
	h.connect(t, v, "anybody", nil).quiet()
	h.stop()
	set = telemetry.New()
	h = openOn(t, fs, change)
	if all := h.door.Bans(); len(all) != 0 {
		t.Errorf("bans are %+v", all)
	}
}

func TestBanErrors(t *testing.T) {
	h := open(t, nil)
	past := time.Now().Add(-time.Hour)
	for _, line := range []mqtt.BanLine{
		{}, {Kind: "client"}, {Kind: "client", Who: "x", Until: &past}, {Kind: "address", Who: "nowhere"},
	} {
		if _, err := h.door.Ban(context.Background(), line); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", line, err)
		}
	}
	if _, err := h.door.Unban(context.Background(), "client", "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a ban that is not there: %v", err)
	}
	if h.log.Topics().ByName("__firth_bans") != nil {
		t.Error("there is a topic without a ban")
	}
}

// TestFlapping: who connects and disconnects too often is kept out for a while, others are not.
func TestFlapping(t *testing.T) {
	set := telemetry.New()
	var now wall
	now.set(time.Now())
	h := open(t, func(o *mqtt.Options) {
		o.Clock, o.Metrics = now.now, set
		o.Flapping = mqtt.Flapping{Disconnects: 3, Window: time.Minute, Ban: time.Hour}
	})
	flapped := func() float64 { return sample(set, "firth_mqtt_flapping_total") }
	for range 4 {
		c := h.connect(t, packet.V5, "moth", nil)
		h.connect(t, packet.V5, "calm", nil)
		c.net.Close()
		eventually(t, "moth left", func() bool { return h.door.Stats().Clients == 1 })
		now.set(now.now().Add(15 * time.Second))
	}
	eventually(t, "moth is banned", func() bool { return flapped() == 1 })
	c := h.dial(t)
	c.hello(packet.V5, "moth", nil)
	if ack := want[*packet.Connack](c); ack.Reason != packet.Banned {
		t.Errorf("CONNACK %s", ack.Reason)
	}
	eventually(t, "the ban is stored", func() bool { return len(h.records("__firth_bans")) == 1 })
	if all := h.door.Bans(); len(all) != 1 || all[0].By != "flapping" {
		t.Errorf("bans are %+v", all)
	}
	now.set(now.now().Add(2 * time.Hour))
	h.connect(t, packet.V5, "moth", nil).quiet()
}
