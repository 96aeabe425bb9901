package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// lasting asks for a session that outlives its connection.
func lasting(p *packet.Connect) {
	p.CleanStart = false
	if p.Version == packet.V5 {
		p.Props.SetSessionExpiry(3600)
	}
}

// comeBack connects a client whose session lasts, and tells whether it was there.
func (h *house) comeBack(t testing.TB, v packet.Version, id string, change func(*packet.Connect)) (*raw, bool) {
	t.Helper()
	c := h.dial(t)
	c.hello(v, id, func(p *packet.Connect) {
		lasting(p)
		if change != nil {
			change(p)
		}
	})
	ack := want[*packet.Connack](c)
	if ack.Reason != packet.Success {
		t.Fatalf("CONNACK %s", ack.Reason)
	}
	return c, ack.SessionPresent
}

// back is comeBack for a session that must be there.
func (h *house) back(t testing.TB, v packet.Version, id string) *raw {
	t.Helper()
	c, present := h.comeBack(t, v, id, nil)
	if !present {
		t.Fatal("the session is not there")
	}
	return c
}

// leave disconnects and waits until the server knows.
func (h *house) leave(c *raw) {
	h.t.Helper()
	before := h.door.Stats().Away
	c.send(&packet.Disconnect{})
	c.closed()
	eventually(h.t, "the session is away", func() bool { return h.door.Stats().Away > before })
}

// fate is what may happen to a server while a session is away; it gives the one that is there after it.
type fate func(t *testing.T, h *house) *house

var fates = map[string]fate{
	"nothing": func(_ *testing.T, h *house) *house { return h },
	"restart": func(t *testing.T, h *house) *house {
		h.stop()
		again := openOn(t, h.fs, nil)
		t.Cleanup(func() { again.stop() })
		return again
	},
	"power cut": func(t *testing.T, h *house) *house {
		rng := rand.New(rand.NewPCG(1, 2))
		clone := onFiles(t, h.fs.(*vfs.Memory)).CrashClone(rng)
		h.stop()
		again := openOn(t, clone, nil)
		t.Cleanup(func() { again.stop() })
		return again
	},
}

// everyFate runs a test for each fate and for MQTT 3.1.1 and 5.0.
func everyFate(t *testing.T, test func(t *testing.T, v packet.Version, befalls fate)) {
	for name, befalls := range fates {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, v packet.Version) { test(t, v, befalls) })
		})
	}
}

// TestSessionFindsWhatItMissed: a session that was away gets every message above QoS 0, once and in order, and goes on
// with what is new [MQTT-3.1.2-23] [MQTT-3.1.2-5 of 3.1.1]. Whatever happens to the server meanwhile.
func TestSessionFindsWhatItMissed(t *testing.T) {
	everyFate(t, findsWhatItMissed)
}

func findsWhatItMissed(t *testing.T, v packet.Version, befalls fate) {
	h := open(t, nil)
	c, present := h.comeBack(t, v, "sleeper", nil)
	if present {
		t.Fatal("a session that was never there")
	}
	c.subscribe(1, "a/+", "b/#")
	p := h.connect(t, v, "p", nil)
	p.published("a/1", "live", false)
	c.gets("a/1", "live")
	c.quiet()
	h.leave(c)
	for i := range 50 {
		p.publish(0, 0, "a/1", "QoS 0 is not kept")
		p.published(fmt.Sprintf("%c/%d", 'a'+i%2, i%3), fmt.Sprint(i), false) // it, too, is stored then
		p.published("other/1", "no", false)
	}
	p.quiet()
	p.send(&packet.Disconnect{})
	h = befalls(t, h)
	c = h.back(t, v, "sleeper")
	next := map[byte]int{'a': 0, 'b': 1}
	for range 50 {
		m := want[*packet.Publish](c)
		from := m.Topic[0]
		if string(m.Payload) != fmt.Sprint(next[from]) || m.QoS != 1 || m.Dup {
			t.Fatalf("%s = %s, QoS %d, DUP %v; want %d", m.Topic, m.Payload, m.QoS, m.Dup, next[from])
		}
		next[from] += 2
		c.send(&packet.Puback{PacketID: m.PacketID})
	}
	c.quiet()
	p = h.connect(t, v, "p2", nil)
	p.published("b/1", "new", false)
	c.gets("b/1", "new")
	c.quiet()
}

// TestSessionSendsAgain: what was not acknowledged comes again, with DUP and its packet id, in the order in which it
// was sent and before anything new [MQTT-4.4.0-1] [MQTT-4.6.0-1].
func TestSessionSendsAgain(t *testing.T) {
	everyFate(t, sendsAgain)
}

func sendsAgain(t *testing.T, v packet.Version, befalls fate) {
	h := open(t, nil)
	c, _ := h.comeBack(t, v, "sleeper", nil)
	c.subscribe(1, "#")
	p := h.connect(t, v, "p", nil)
	var ids []uint16
	for i := range 20 { // over several partitions, and so not by their order
		p.published(fmt.Sprintf("t%d/x", i%4), fmt.Sprint(i), false)
		m := want[*packet.Publish](c)
		if string(m.Payload) != fmt.Sprint(i) || m.Dup {
			t.Fatalf("%s, DUP %v", m.Payload, m.Dup)
		}
		ids = append(ids, m.PacketID)
	}
	acked := map[int]bool{0: true, 7: true, 8: true}
	for i := range acked {
		c.send(&packet.Puback{PacketID: ids[i]})
	}
	c.quiet()
	h.leave(c)
	p.published("t1/x", "20", false)
	p.send(&packet.Disconnect{})
	h = befalls(t, h)
	c = h.back(t, v, "sleeper")
	for i := range 20 {
		if acked[i] {
			continue
		}
		m := want[*packet.Publish](c)
		if string(m.Payload) != fmt.Sprint(i) || !m.Dup || m.PacketID != ids[i] {
			t.Fatalf("got %s, DUP %v, id %d; want %d with id %d", m.Payload, m.Dup, m.PacketID, i, ids[i])
		}
		c.send(&packet.Puback{PacketID: m.PacketID})
	}
	if m := want[*packet.Publish](c); string(m.Payload) != "20" || m.Dup {
		t.Fatalf("%s, DUP %v", m.Payload, m.Dup)
	}
	c.quiet()
}

// TestSmallerWindowSendsAgain: a client that comes back with a smaller receive maximum gets what is in flight as it
// acknowledges it [MQTT-3.3.4-9].
func TestSmallerWindowSendsAgain(t *testing.T) {
	h := open(t, nil)
	c, _ := h.comeBack(t, packet.V5, "sleeper", nil)
	c.subscribe(1, "#")
	p := h.connect(t, packet.V5, "p", nil)
	const count = 30
	for i := range count {
		p.published("t/x", fmt.Sprint(i), false)
		want[*packet.Publish](c)
	}
	h.leave(c)
	p.published("t/x", fmt.Sprint(count), false)
	c, _ = h.comeBack(t, packet.V5, "sleeper", func(p *packet.Connect) { p.Props.SetReceiveMaximum(4) })
	for i := 0; i < count; i += 4 {
		var ids []uint16
		for j := i; j < min(i+4, count); j++ {
			m := want[*packet.Publish](c)
			if string(m.Payload) != fmt.Sprint(j) {
				t.Fatalf("got %s, want %d", m.Payload, j)
			}
			ids = append(ids, m.PacketID)
		}
		if i+4 < count {
			c.quiet()
		}
		for _, id := range ids {
			c.send(&packet.Puback{PacketID: id})
		}
	}
	c.gets("t/x", fmt.Sprint(count))
}

// TestSessionTakeover: another connection takes a session over without a gap and without a message twice but what was
// in flight.
func TestSessionTakeover(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c, _ := h.comeBack(t, v, "one", nil)
		c.subscribe(1, "#")
		p := h.connect(t, v, "p", nil)
		next := 0
		for range 10 {
			for range 20 {
				p.published("t/x", fmt.Sprint(next), false)
				c.gets("t/x", fmt.Sprint(next))
				next++
			}
			c.quiet()
			c = h.back(t, v, "one")
		}
		c.quiet()
	})
}

// TestCleanStartEndsASession, also beyond a crash [MQTT-3.1.2-4].
func TestCleanStartEndsASession(t *testing.T) {
	everyFate(t, func(t *testing.T, v packet.Version, befalls fate) {
		sessionEnds(t, v, befalls, func(h *house) { h.connect(t, v, "one", nil).send(&packet.Disconnect{}) })
	})
}

// TestDisconnectEndsASession: a DISCONNECT with an expiry interval of 0 does (section 3.14.2.2.2).
func TestDisconnectEndsASession(t *testing.T) {
	for name, befalls := range fates {
		t.Run(name, func(t *testing.T) {
			sessionEnds(t, packet.V5, befalls, func(h *house) {
				c, d := h.back(t, packet.V5, "one"), &packet.Disconnect{}
				d.Props.SetSessionExpiry(0)
				c.send(d)
			})
		})
	}
}

func sessionEnds(t *testing.T, v packet.Version, befalls fate, end func(h *house)) {
	h := open(t, nil)
	c, _ := h.comeBack(t, v, "one", nil)
	c.subscribe(1, "a/#")
	h.leave(c)
	end(h)
	eventually(t, "the session has ended", func() bool {
		s := h.door.Stats()
		return s.Away == 0 && s.Clients == 0
	})
	p := h.connect(t, v, "p", nil)
	p.published("a/1", "missed", false)
	h = befalls(t, h)
	c, present := h.comeBack(t, v, "one", nil)
	if present {
		t.Fatal("the session is there again")
	}
	c.quiet()
}

// TestSessionExpires by the wall clock, also while the server is down [MQTT-4.1.0-2].
func TestSessionExpires(t *testing.T) {
	var ahead atomic.Int64
	clock := func(o *mqtt.Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}
	h := open(t, clock)
	for _, expiry := range []uint32{10, 1000} {
		c, _ := h.comeBack(t, packet.V5, fmt.Sprint(expiry), func(p *packet.Connect) { p.Props.SetSessionExpiry(expiry) })
		c.subscribe(1, "#")
		h.leave(c)
	}
	h.stop()
	ahead.Store(int64(20 * time.Second))
	h = openOn(t, h.fs, clock)
	defer func() { h.stop() }()
	eventually(t, "one has expired", func() bool { return h.door.Stats().Away == 1 })
	c, present := h.comeBack(t, packet.V5, "1000", nil)
	if !present {
		t.Error("the one that lasts longer has expired, too")
	}
	h.leave(c)
	if _, present := h.comeBack(t, packet.V5, "10", nil); present {
		t.Error("the session has not expired")
	}
}

// TestMaxExpiry bounds how long a session lasts, and says so.
func TestMaxExpiry(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.MaxExpiry = time.Minute })
	c := h.dial(t)
	c.hello(packet.V5, "one", lasting)
	ack := want[*packet.Connack](c)
	if !ack.Props.Has(packet.PropSessionExpiry) || ack.Props.SessionExpiry != 60 {
		t.Errorf("session expiry interval %d", ack.Props.SessionExpiry)
	}
}

// TestWillDelay: a will is published when its delay is over, once, and not at all if the client is back before
// [MQTT-3.1.3-9]; also by a server that was down meanwhile.
func TestWillDelay(t *testing.T) {
	var ahead atomic.Int64
	clock := func(o *mqtt.Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}
	h := open(t, clock)
	willing := func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte("wills/" + string(p.ClientID)), Payload: []byte("gone"), QoS: 1}
		p.Will.Props.SetWillDelay(10)
	}
	watcher, _ := h.comeBack(t, packet.V5, "watcher", nil)
	watcher.subscribe(1, "wills/#")
	for _, id := range []string{"back", "late"} {
		c, _ := h.comeBack(t, packet.V5, id, willing)
		c.net.Close()
	}
	eventually(t, "both are away", func() bool { return h.door.Stats().Away == 2 })
	c, _ := h.comeBack(t, packet.V5, "back", nil)
	watcher.quiet()
	c.send(&packet.Disconnect{})
	h.leave(watcher)
	h.stop()
	ahead.Store(int64(11 * time.Second))
	h = openOn(t, h.fs, clock)
	watcher = h.back(t, packet.V5, "watcher")
	watcher.gets("wills/late", "gone")
	watcher.quiet()
	h.leave(watcher)
	h.stop()
	h = openOn(t, h.fs, clock)
	defer func() { h.stop() }()
	h.back(t, packet.V5, "watcher").quiet()
}

// TestWillOfALostServer: the will of a session that was there when the server was lost is published when it is back.
func TestWillOfALostServer(t *testing.T) {
	h := open(t, nil)
	watcher, _ := h.comeBack(t, packet.V5, "watcher", nil)
	watcher.subscribe(1, "wills/#")
	h.comeBack(t, packet.V5, "one", func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte("wills/one"), Payload: []byte("gone"), QoS: 1}
	})
	h = fates["power cut"](t, h)
	watcher = h.back(t, packet.V5, "watcher")
	watcher.gets("wills/one", "gone")
	watcher.quiet()
}

// TestQueueQoS0 keeps messages of QoS 0, too, if it is asked to.
func TestQueueQoS0(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.QueueQoS0 = true })
	c, _ := h.comeBack(t, packet.V311, "one", nil)
	c.subscribe(1, "#")
	p := h.connect(t, packet.V311, "p", nil)
	p.publish(0, 0, "a/1", "live")
	c.gets("a/1", "live")
	h.leave(c)
	p.publish(0, 0, "a/1", "missed")
	p.quiet()
	c = h.back(t, packet.V311, "one")
	c.gets("a/1", "missed")
	c.quiet()
}

// TestQoS0AfterConnack: what is published with QoS 0 once a client has its CONNACK comes, though its session has only
// just returned.
func TestQoS0AfterConnack(t *testing.T) {
	h := open(t, nil)
	from := h.connect(t, packet.V311, "from", nil)
	c, _ := h.comeBack(t, packet.V311, "back", nil)
	c.subscribe(0, "soon/#")
	for i := range 300 {
		h.leave(c)
		c = h.back(t, packet.V311, "back")
		from.publish(0, 0, "soon/x", fmt.Sprint(i))
		if p := want[*packet.Publish](c); string(p.Payload) != fmt.Sprint(i) {
			t.Fatalf("%q came, want %d", p.Payload, i)
		}
	}
}

// TestEndedIsStoredBeforeConnack: once a CONNACK has said that there is no session, the one before does not come back
// with a power cut, whoever removes what is stored of it [MQTT-3.1.2-4] [MQTT-3.2.2-2].
func TestEndedIsStoredBeforeConnack(t *testing.T) {
	for name, ends := range map[string]func(h *house, c *raw){
		"ended by the clean start": func(*house, *raw) {},
		"has a shared subscription": func(_ *house, c *raw) {
			c.subscribe(1, "$share/g/a")
		},
		"ended with its connection": func(h *house, c *raw) {
			over := h.dial(t)
			over.hello(packet.V5, "c", func(p *packet.Connect) { p.CleanStart = false })
			if ack := want[*packet.Connack](over); !ack.SessionPresent {
				t.Fatal("the session is not there")
			}
			over.net.Close()
			eventually(t, "it has left", func() bool { return h.door.Stats().Connections == 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMemory()
			late := vfs.NewFaulty(disk)
			h := openOn(t, late, nil)
			defer func() { h.stop() }()
			c, _ := h.comeBack(t, packet.V5, "c", nil)
			c.subscribe(1, "a")
			late.Inject(vfs.Fault{On: vfs.OpSync, Times: -1, Delay: 100 * time.Millisecond})
			ends(h, c)
			h.connect(t, packet.V5, "c", nil)
			clone := onFiles(t, disk).CrashClone(nil)
			h.stop()
			h = openOn(t, clone, nil)
			if _, present := h.comeBack(t, packet.V5, "c", nil); present {
				t.Error("the session is there again")
			}
		})
	}
}
