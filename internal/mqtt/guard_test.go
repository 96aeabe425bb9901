package mqtt_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

// guard forbids topics by a word in them.
type guard struct {
	panicking atomic.Bool
}

func (g *guard) may(who *rule.Subject, does doing, name string) bool {
	switch {
	case strings.Contains(name, "panic"):
		g.panicking.Store(true)
		panic("the guard fell over")
	case does == publishing:
		return !strings.Contains(name, "nowrite")
	case does == subscribing:
		return !strings.Contains(name, "nosubscribe")
	default:
		return !strings.Contains(name, "noread") || who.User == "admin"
	}
}

// doing is what a guard of a test is asked about.
type doing int

const (
	publishing doing = iota
	subscribing
	receiving
)

// judge is a guard of a test.
type judge interface {
	may(who *rule.Subject, does doing, nameOrFilter string) bool
}

// judged has a guard decide what clients may do who need not prove their names.
func judged(t testing.TB, o *mqtt.Options, by judge) {
	t.Helper()
	logins, err := access.Open(t.Context(), access.Options{Log: o.Log, Mapping: o.Mapping})
	if err != nil {
		t.Fatal(err)
	}
	o.Logins, o.Guard = logins, judges{by}
}

// judges is a judge as the door asks it.
type judges struct{ judge }

func (j judges) MayName(p *access.Pass, o rule.Operation, name []byte, _ string) bool {
	does := publishing
	if o == rule.Read {
		does = receiving
	}
	return j.may(p.Who(), does, string(name))
}

func (j judges) MaskName(*access.Pass, []byte, string) *mask.Set { return nil }

func (j judges) MayFilter(p *access.Pass, filter string) bool {
	return j.may(p.Who(), subscribing, filter)
}

func TestGuard(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { judged(t, o, &guard{}) })
	sub, pub := h.connect(t, packet.V5, "sub", nil), h.connect(t, packet.V5, "pub", nil)
	admin := h.connect(t, packet.V5, "admin", func(p *packet.Connect) {
		p.HasUserName, p.UserName = true, []byte("admin")
	})
	ack := sub.subscribe(1, "g/#", "nosubscribe/#")
	if ack.Reasons[0] != packet.GrantedQoS1 || ack.Reasons[1] != packet.NotAuthorized {
		t.Errorf("SUBACK %v", ack.Reasons)
	}
	admin.subscribe(1, "g/#")
	pub.publish(1, 3, "g/nowrite", "x")
	if ack := want[*packet.Puback](pub); ack.Reason != packet.NotAuthorized {
		t.Errorf("PUBACK %s", ack.Reason)
	}
	pub.publish(1, 4, "nowrite/new", "x")
	if ack := want[*packet.Puback](pub); ack.Reason != packet.NotAuthorized || h.log.Topics().ByName("nowrite") != nil {
		t.Errorf("PUBACK %s, or a topic was made", ack.Reason)
	}
	pub.published("g/noread", "secret", true)
	pub.published("g/open", "public", true)
	admin.gets("g/noread", "secret")
	admin.gets("g/open", "public")
	sub.gets("g/open", "public")
	late := h.connect(t, packet.V5, "late", nil)
	late.subscribe(1, "g/#")
	late.gets("g/open", "public")
	late.quiet()

	forbidden := h.dial(t)
	forbidden.hello(packet.V5, "w", func(p *packet.Connect) { p.Will = &packet.Will{Topic: []byte("g/nowrite")} })
	if ack := want[*packet.Connack](forbidden); ack.Reason != packet.NotAuthorized {
		t.Errorf("CONNACK %s", ack.Reason)
	}
}

// onlyUser lets one user publish.
type onlyUser string

func (u onlyUser) may(who *rule.Subject, does doing, _ string) bool {
	return does != publishing || who.User == string(u)
}

// TestWillIsJudgedByItsUser: whose will it is, by name, is known when it is published, at once or after a restart.
func TestWillIsJudgedByItsUser(t *testing.T) {
	for name, later := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			var now wall
			now.set(time.Now())
			change := func(o *mqtt.Options) {
				o.Clock = now.now
				judged(t, o, onlyUser("u1"))
			}
			h := open(t, change)
			c, _ := h.comeBack(t, packet.V5, "c", func(p *packet.Connect) {
				p.HasUserName, p.UserName = true, []byte("u1")
				p.Will = &packet.Will{Topic: []byte("wills/c"), Payload: []byte("gone"), QoS: 1}
				if later {
					p.Will.Props.SetWillDelay(600)
				}
			})
			c.net.Close()
			eventually(t, "the session is away", func() bool { return h.door.Stats().Away > 0 })
			if later {
				h.stop()
				now.set(now.now().Add(20 * time.Minute))
				h = openOn(t, h.fs, change)
				t.Cleanup(func() { h.stop() })
			}
			eventually(t, "the will was published", func() bool { return len(h.records("wills")) == 1 })
		})
	}
}

// TestPanicCostsOneConnection: a fault of ours ends the connection that met it, is counted, and leaves
// everybody else alone.
func TestPanicCostsOneConnection(t *testing.T) {
	set := telemetry.New()
	g := &guard{}
	h := open(t, func(o *mqtt.Options) {
		judged(t, o, g)
		o.Metrics = set
	}, "a connection panicked")
	other := h.connect(t, packet.V5, "other", nil)
	other.subscribe(0, "t/#")
	victim := h.connect(t, packet.V5, "victim", nil)
	victim.publish(1, 1, "panic/1", "x")
	if _, err := victim.next(patience); err == nil {
		t.Error("the connection lives on")
	}
	if !g.panicking.Load() || sample(set, "firth_mqtt_panics_total") != 1 {
		t.Errorf("%v panics counted", sample(set, "firth_mqtt_panics_total"))
	}
	other.publish(0, 0, "t/1", "alive")
	other.gets("t/1", "alive")
	eventually(t, "the session of the victim is over", func() bool { return h.door.Stats().Clients == 1 })
	h.connect(t, packet.V5, "victim", nil)
}

// TestTooLargeRecordIsSaid: a record that the log refuses is reported by PUBACK in MQTT 5 and by the end of the
// connection in MQTT 3, where the client sends the message again.
func TestTooLargeRecordIsSaid(t *testing.T) {
	h := open(t, nil)
	c5, c3 := h.connect(t, packet.V5, "five", nil), h.connect(t, packet.V311, "three", nil)
	c5.published("limit/1", "makes the topic", false)
	h.alter("limit", map[string]string{"max.message.bytes": "1000"})
	big := strings.Repeat("x", 2000)
	c5.send(
		&packet.Publish{Topic: []byte("limit/1"), Payload: []byte("a"), QoS: 1, PacketID: 1},
		&packet.Publish{Topic: []byte("limit/1"), Payload: []byte(big), QoS: 1, PacketID: 2},
		&packet.Publish{Topic: []byte("limit/1"), Payload: []byte("b"), QoS: 1, PacketID: 3},
	)
	for id, reason := range []packet.ReasonCode{packet.Success, packet.QuotaExceeded, packet.Success} {
		if ack := want[*packet.Puback](c5); ack.Reason != reason || int(ack.PacketID) != id+1 {
			t.Errorf("PUBACK %d %s, want %s", ack.PacketID, ack.Reason, reason)
		}
	}
	c3.publish(1, 1, "limit/1", big)
	c3.closed()
	if n := len(h.records("limit")); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
}

// TestRefusedIsNotAcknowledged: a message that never got as far as the log, here because its topic cannot be made or
// too many names are retained, is no more acknowledged than one that the log refused. MQTT 3 cannot be told why:
// its connection ends [MQTT-4.8.0-2 of 3.1.1].
func TestRefusedIsNotAcknowledged(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMemory())
	h := openOn(t, disk, func(o *mqtt.Options) { o.RetainedTopics = 1 },
		"commit failed", "housekeeping of the log failed")
	defer h.stop()
	h.connect(t, packet.V5, "", nil).published("kept/1", "the one that fits", true)
	eventually(t, "it is counted", func() bool { return h.door.Stats().Retained == 1 })
	refused := func(name string, p *packet.Publish, reason packet.ReasonCode) {
		t.Run(name, func(t *testing.T) {
			p.QoS, p.PacketID = 1, 1
			c5, c3 := h.connect(t, packet.V5, "", nil), h.connect(t, packet.V311, "", nil)
			c5.send(p)
			if ack := want[*packet.Puback](c5); ack.Reason != reason {
				t.Errorf("PUBACK %s, want %s", ack.Reason, reason)
			}
			c3.send(p)
			c3.closed()
		})
	}
	refused("retained", &packet.Publish{Topic: []byte("kept/2"), Payload: []byte("x"), Retain: true}, packet.QuotaExceeded)
	deep := strings.Repeat("/", names.MaxLevels)
	refused("levels", &packet.Publish{Topic: []byte(deep)}, packet.TopicNameInvalid)
	for _, op := range []vfs.OpKind{vfs.OpWrite, vfs.OpPreallocate} {
		disk.Inject(vfs.Fault{On: op, Times: -1, Kind: fault.Full})
	}
	defer disk.Heal()
	refused("full disk", &packet.Publish{Topic: []byte("new/1")}, packet.QuotaExceeded)
}

func TestEveryFaultHasAReason(t *testing.T) {
	allowed := []packet.ReasonCode{ // section 3.4.2.1
		packet.UnspecifiedError, packet.ImplementationError, packet.NotAuthorized, packet.TopicNameInvalid,
		packet.PacketIDInUse, packet.QuotaExceeded, packet.PayloadFormatInvalid,
	}
	for _, kind := range fault.Kinds() {
		reason := mqtt.ReasonOf(fault.New(kind, "test", "x"))
		untold := kind == fault.Closed || kind == fault.Fenced // the connection ends instead: TestMovedMessageIsNeverAnswered
		if untold != (reason == packet.ServerUnavailable) || !untold && !slices.Contains(allowed, reason) {
			t.Errorf("%s gives %s, which a PUBACK may not carry", kind, reason)
		}
	}
}
