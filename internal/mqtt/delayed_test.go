package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestDelayed: what is published to $delayed/SECONDS/TOPIC is acknowledged at once, and comes by TOPIC when its time
// has come, with all that it has.
func TestDelayed(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		set, now := telemetry.New(), new(wall)
		now.set(time.Now())
		h := open(t, func(o *mqtt.Options) { o.Metrics, o.Clock = set, now.now })
		sub := h.connect(t, v, "sub", nil)
		sub.subscribe(2, "a/#", "$delayed/#")
		pub := h.connect(t, v, "pub", nil)
		m := &packet.Publish{Topic: []byte("$delayed/3600/a/1"), Payload: []byte("one"), QoS: 1, PacketID: 7, Retain: true}
		if v == packet.V5 {
			m.Props.SetContentType([]byte("text/plain"))
		}
		pub.send(m)
		want[*packet.Puback](pub)
		pub.exactly(8, "$delayed/3600/a/2", "two")
		for _, passed := range []time.Duration{0, time.Hour - time.Millisecond} {
			now.set(now.now().Add(passed))
			pub.publish(0, 0, "$delayed/0/a/0", "at once")
			sub.gets("a/0", "at once")
			if n := sample(set, "firth_mqtt_delayed_messages"); n != 2 {
				t.Errorf("%v messages wait after %s", n, passed)
			}
		}
		now.set(now.now().Add(time.Millisecond))
		pub.publish(0, 0, "$delayed/0/a/0", "look at the clock")
		if p := sub.gets("a/1", "one"); p.QoS != 1 || p.Retain || string(p.Props.ContentType) != string(m.Props.ContentType) {
			t.Errorf("got %+v", p)
		}
		if p := sub.gets("a/2", "two"); p.QoS != 2 {
			t.Errorf("got %+v", p)
		}
		sub.gets("a/0", "look at the clock")
		if n := sample(set, "firth_mqtt_delayed_messages"); n != 0 {
			t.Errorf("%v messages wait when all have come", n)
		}
		late := h.connect(t, v, "late", nil)
		late.subscribe(1, "a/+")
		if p := late.gets("a/1", "one"); !p.Retain {
			t.Errorf("got %+v", p)
		}
	})
}

// TestDelayedComesByItself: nothing else has to happen for a message to come when its time has come.
func TestDelayedComesByItself(t *testing.T) {
	h := open(t, nil)
	sub := h.connect(t, packet.V311, "sub", nil)
	sub.subscribe(0, "a")
	pub := h.connect(t, packet.V311, "pub", nil)
	begin := time.Now()
	pub.published("$delayed/1/a", "one", false)
	sub.gets("a", "one")
	if took := time.Since(begin); took < 900*time.Millisecond {
		t.Errorf("it came after %s", took)
	}
}

// exactly publishes with QoS 2 and goes through all of it.
func (c *raw) exactly(id uint16, topic, payload string) {
	c.t.Helper()
	c.publish(2, id, topic, payload)
	if rec := want[*packet.Pubrec](c); rec.Reason.Failed() {
		c.t.Fatalf("PUBREC %s", rec.Reason)
	}
	c.send(&packet.Pubrel{PacketID: id})
	want[*packet.Pubcomp](c)
}

// TestDelayedRefused: what cannot be delayed, or must not be published, is refused at once.
func TestDelayedRefused(t *testing.T) {
	h := open(t, func(o *mqtt.Options) {
		o.MaxDelayed = 1
		judged(t, o, noSecrets{})
	})
	c := h.connect(t, packet.V5, "c", nil)
	for topic, reason := range map[string]packet.ReasonCode{
		"$delayed/x/a": packet.TopicNameInvalid, "$delayed/5": packet.TopicNameInvalid,
		"$delayed/5/": packet.TopicNameInvalid, "$delayed/5/$SYS/a": packet.TopicNameInvalid,
		"$delayed/5/$delayed/5/a": packet.TopicNameInvalid, "$delayed/4294968/a": packet.TopicNameInvalid,
		"$delayed/5/secret/a": packet.NotAuthorized,
	} {
		c.publish(1, 3, topic, "x")
		if ack := want[*packet.Puback](c); ack.Reason != reason {
			t.Errorf("%s: PUBACK %s, want %s", topic, ack.Reason, reason)
		}
	}
	if h.log.Topics().ByName("__firth_delayed") != nil {
		t.Error("there is a topic without a delayed message")
	}
	c.published("$delayed/1000/a", "waits", false)
	eventually(t, "another is refused", func() bool {
		c.publish(1, 3, "$delayed/1000/a", "x")
		return want[*packet.Puback](c).Reason == packet.QuotaExceeded
	})
	off := open(t, func(o *mqtt.Options) { o.MaxDelayed = -1 })
	c = off.connect(t, packet.V5, "c", nil)
	c.publish(1, 3, "$delayed/0/a", "x")
	if ack := want[*packet.Puback](c); ack.Reason != packet.TopicNameInvalid {
		t.Errorf("PUBACK %s", ack.Reason)
	}
}

// TestDelayedTooLarge: a message that has become too large for its log topic is left out, and holds up no other.
func TestDelayedTooLarge(t *testing.T) {
	set := telemetry.New()
	var now wall
	now.set(time.Now())
	h := open(t, func(o *mqtt.Options) { o.Metrics, o.Clock = set, now.now })
	c := h.connect(t, packet.V5, "c", nil)
	c.published("d/0", "first", false)
	c.published("$delayed/60/d/1", string(make([]byte, 10_000)), false)
	c.published("$delayed/60/d/2", "last", false)
	h.alter("d", map[string]string{"max.message.bytes": "2000"})
	now.set(now.now().Add(time.Minute))
	c.published("$delayed/0/other", "look at the clock", false)
	eventually(t, "the last has come", func() bool { return len(h.records("d")) > 1 })
	eventually(t, "none waits", func() bool { return sample(set, "firth_mqtt_delayed_messages") == 0 })
	if all := h.records("d"); len(all) != 2 || string(all[1].Value) != "last" {
		t.Errorf("%d records", len(all))
	}
}

// noSecrets is a guard that lets nobody publish below secret/.
type noSecrets struct{}

func (noSecrets) may(_ *rule.Subject, does doing, name string) bool {
	return does != publishing || name != "secret/a"
}

// TestDelayedSurvives: messages that wait while the server is down come once when it is back, those that were due in
// their order, wherever a power cut finds it.
func TestDelayedSurvives(t *testing.T) {
	const count = 300
	var now wall
	now.set(time.Now())
	fs := vfs.NewMemory()
	change := func(o *mqtt.Options) { o.Clock = now.now }
	h := openOn(t, fs, change)
	c := h.connect(t, packet.V5, "c", nil)
	for i := range count {
		c.published(fmt.Sprintf("$delayed/%d/d/%d", 3600+i%2*60, i), fmt.Sprint(i), false)
	}
	if n := len(h.records("d")); n > 0 {
		t.Fatalf("%d came before their time", n)
	}
	h.stop()
	now.set(now.now().Add(2 * time.Hour))
	h = openOn(t, fs, change)
	rng := rand.New(rand.NewPCG(3, 4))
	clones := []*vfs.Memory{onFiles(t, fs).CrashClone(rng)}
	for n := 20; n < count; n += 40 {
		eventually(t, "some have come", func() bool { return len(h.records("d")) >= n })
		clones = append(clones, onFiles(t, fs).CrashClone(rng))
	}
	eventually(t, "all have come", func() bool { return len(h.records("d")) >= count })
	clones = append(clones, onFiles(t, fs).CrashClone(rng))
	inOrder(t, "without a crash", h.records("d"), count)
	h.stop()
	for i, clone := range clones {
		set := telemetry.New()
		h := openOn(t, clone, func(o *mqtt.Options) { o.Clock, o.Metrics = now.now, set })
		eventually(t, "all have come after a crash", func() bool {
			return len(h.records("d")) >= count && sample(set, "firth_mqtt_delayed_messages") == 0
		})
		inOrder(t, fmt.Sprint("crash ", i), h.records("d"), count)
		h.stop()
	}
}

// inOrder wants each of count messages once: the even ones, which were due first, and then the odd ones.
func inOrder(t *testing.T, what string, all []record.View, count int) {
	t.Helper()
	if len(all) != count {
		t.Errorf("%s: %d messages", what, len(all))
		return
	}
	for i := range all {
		n := 2 * i
		if n >= count {
			n += 1 - count
		}
		if string(all[i].Value) != fmt.Sprint(n) {
			t.Errorf("%s: message %d is %s, want %d", what, i, all[i].Value, n)
			return
		}
	}
}
