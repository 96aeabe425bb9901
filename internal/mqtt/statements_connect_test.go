package mqtt_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// CONNECT and CONNACK: sections 3.1 and 3.2.

// connectOf is a CONNECT with some flags and a payload in hexadecimal, in which P is the properties of the will: none,
// in MQTT 5.
func connectOf(t *testing.T, v packet.Version, flags byte, payload string) []byte {
	t.Helper()
	none := map[packet.Version]string{packet.V5: "00"}[v]
	body, err := hex.DecodeString(strings.ReplaceAll(fmt.Sprintf("0004 4d515454 %02x %02x 003c %s %s",
		byte(v), flags, none, strings.ReplaceAll(payload, "P", none)), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{byte(packet.CONNECT) << 4, byte(len(body))}, body...)
}

// TestConnectForm: a CONNECT that is not of its form ends the connection [MQTT-3.1.4-1] [MQTT-3.1.4-1 of 3.1.1]
// [MQTT-4.13.1-1] [MQTT-4.8.0-1 of 3.1.1], in MQTT 5 with a CONNACK that says so [MQTT-3.2.2-7] [MQTT-3.2.2-8], in
// 3.1.1, which has no return code for that, without one [MQTT-3.2.2-6 of 3.1.1].
func TestConnectForm(t *testing.T) {
	const malformed, taken = "20 03 00 81 00", "+"
	h := shared(t)
	for _, test := range []struct {
		name    string
		flags   byte
		payload string
		answer  string // of MQTT 5
	}{
		{"no more than it has to be", 0x02, "0001 61", taken},
		// [MQTT-3.1.2-3] [MQTT-3.1.2-3 of 3.1.1]
		{"the reserved flag", 0x03, "0001 61", malformed},
		// [MQTT-3.1.2-11] [MQTT-3.1.2-13 of 3.1.1]
		{"QoS of a will without a will", 0x0a, "0001 61", malformed},
		// [MQTT-3.1.2-13] [MQTT-3.1.2-15 of 3.1.1]
		{"retain of a will without a will", 0x22, "0001 61", malformed},
		// [MQTT-3.1.2-12] [MQTT-3.1.2-14 of 3.1.1]
		{"a will with QoS 2", 0x16, "0001 61 P 0001 77 0000", taken},
		{"a will with QoS 3", 0x1e, "0001 61 P 0001 77 0000", malformed},
		// [MQTT-3.1.2-9] [MQTT-3.1.2-9 of 3.1.1] [MQTT-3.1.2-11 of 3.1.1]
		{"the flag of a will, and nothing of it", 0x06, "0001 61", malformed},
		{"the flag of a will, and its topic only", 0x06, "0001 61 P 0001 77", malformed},
		{"a will without the flag", 0x02, "0001 61 P 0001 77 0000", malformed},
		// [MQTT-3.1.2-16] [MQTT-3.1.2-18 of 3.1.1] [MQTT-3.1.2-17] [MQTT-3.1.2-19 of 3.1.1]
		{"a user name without the flag", 0x02, "0001 61 0001 75", malformed},
		{"the flag of a user name, and none", 0x82, "0001 61", malformed},
		{"a user name", 0x82, "0001 61 0001 75", taken},
		// [MQTT-3.1.2-18] [MQTT-3.1.2-20 of 3.1.1] [MQTT-3.1.2-19] [MQTT-3.1.2-21 of 3.1.1]
		{"a password without the flag", 0x82, "0001 61 0001 75 0001 70", malformed},
		{"the flag of a password, and none", 0xc2, "0001 61 0001 75", malformed},
		{"a password", 0xc2, "0001 61 0001 75 0001 70", taken},
		// [MQTT-3.1.3-3] [MQTT-3.1.3-3 of 3.1.1]
		{"no client identifier", 0x02, "", malformed},
		{"half a client identifier", 0x02, "0002 61", malformed},
		// [MQTT-3.1.3-4] [MQTT-3.1.3-4 of 3.1.1] [MQTT-1.5.4-1] [MQTT-1.5.3-1 of 3.1.1]
		{"a client identifier that is no UTF-8", 0x02, "0002 c0af", malformed},
		{"a client identifier with a surrogate", 0x02, "0003 eda080", malformed},
		// [MQTT-1.5.4-2] [MQTT-1.5.3-2 of 3.1.1]
		{"a client identifier with U+0000", 0x02, "0001 00", malformed},
		// [MQTT-3.1.3-11] [MQTT-3.1.3-10 of 3.1.1]
		{"a topic of the will that is no UTF-8", 0x06, "0001 61 P 0001 ff 0000", malformed},
		{"a topic of the will with U+0000", 0x06, "0001 61 P 0002 7700 0000", malformed},
		// [MQTT-3.1.3-12] [MQTT-3.1.3-11 of 3.1.1]
		{"a user name that is no UTF-8", 0x82, "0001 61 0001 ff", malformed},
		{"a user name with U+0000", 0x82, "0001 61 0001 00", malformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			both(t, func(t *testing.T, v packet.Version) {
				c := h.dial(t)
				c.v, c.dec = v, packet.Decoder{Version: v, Client: true}
				c.bytes(connectOf(t, v, test.flags, test.payload))
				switch {
				case test.answer == taken:
					if ack := want[*packet.Connack](c); ack.Reason != packet.Success {
						t.Errorf("CONNACK %s", ack.Reason)
					}
					c.quiet()
				case v == packet.V5:
					c.expect(test.answer)
				default:
					c.expect("")
				}
			})
		})
	}
}

// TestPasswordWithoutUserName: MQTT 3.1.1 has none [MQTT-3.1.2-22 of 3.1.1], MQTT 5 has.
func TestPasswordWithoutUserName(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		c := shared(t).dial(t)
		c.v, c.dec = v, packet.Decoder{Version: v, Client: true}
		c.bytes(connectOf(t, v, 0x42, "0001 61 0001 70"))
		if v == packet.V311 {
			c.expect("")
			return
		}
		if ack := want[*packet.Connack](c); ack.Reason != packet.Success {
			t.Errorf("CONNACK %s", ack.Reason)
		}
	})
}

// spy is a guard that remembers who asked.
type spy struct {
	mu    sync.Mutex
	users map[string]string // user name by client identifier
}

func (s *spy) may(who *rule.Subject, _ doing, _ string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[who.ClientID] = who.User
	return true
}

func (s *spy) userOf(client string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[client]
}

// TestConnectPayload reads the fields of the payload in their order [MQTT-3.1.3-1] [MQTT-3.1.3-1 of 3.1.1]: each is
// what it is, the topic, the payload and the flags of the will [MQTT-3.1.2-9] [MQTT-3.1.2-9 of 3.1.1] too.
func TestConnectPayload(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		guard := &spy{users: map[string]string{}}
		h := open(t, func(o *mqtt.Options) { judged(t, o, guard) })
		watcher := h.connect(t, v, "watcher", nil)
		watcher.subscribe(2, "w/#")
		c := h.dial(t)
		c.bytes(connectOf(t, v, 0xd6, "0001 61 P 0003 772f74 0003 627965 0002 7573 0002 70ff"))
		c.v, c.dec = v, packet.Decoder{Version: v, Client: true}
		want[*packet.Connack](c)
		c.published("x", "x", false)
		if user := guard.userOf("a"); user != "us" {
			t.Errorf("user name %q", user)
		}
		c.net.Close()
		if p := watcher.gets("w/t", "bye"); p.QoS != 2 || p.Retain {
			t.Errorf("the will came as %+v", p)
		}
	})
}

// TestClientIdentifiers: every one of 1 to 23 letters and digits is taken [MQTT-3.1.3-5] [MQTT-3.1.3-5 of 3.1.1], and a
// session belongs to it, character by character [MQTT-3.1.3-2] [MQTT-3.1.3-2 of 3.1.1].
func TestClientIdentifiers(t *testing.T) {
	h := shared(t)
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, v := range []packet.Version{packet.V31, packet.V311, packet.V5} {
		for n := 1; n <= 23; n++ {
			h.connect(t, v, letters[n:2*n], nil).net.Close()
		}
		for i := range letters {
			h.connect(t, v, letters[i:i+1], nil).net.Close()
		}
	}
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		for _, id := range []string{"a", "A", "a ", "å", "a\u030a"} {
			c, present := h.comeBack(t, v, id, nil)
			if present {
				t.Errorf("%q has the session of another", id)
			}
			c.subscribe(1, "for/"+id)
			h.leave(c)
		}
		h.connect(t, v, "p", nil).published("for/a", "x", false)
		h.back(t, v, "A").quiet()
		h.back(t, v, "a").gets("for/a", "x")
	})
}

// TestNoClientIdentifier: who has none gets one of its own, which it is told in MQTT 5 [MQTT-3.1.3-6]
// [MQTT-3.1.3-6 of 3.1.1] [MQTT-3.2.2-16], and which is as good as one that it had given [MQTT-3.1.3-7].
func TestNoClientIdentifier(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		ids := map[string]bool{}
		var all []*raw
		for range 50 {
			c := h.dial(t)
			c.hello(v, "", nil)
			ack := want[*packet.Connack](c)
			if v == packet.V5 {
				ids[string(ack.Props.AssignedClientID)] = true
			}
			all = append(all, c)
		}
		for _, c := range all {
			c.quiet() // nobody took the session of another
		}
		if v == packet.V5 && len(ids) != len(all) || ids[""] {
			t.Errorf("%d client identifiers for %d clients", len(ids), len(all))
		}
	})
	t.Run("it is the session's", func(t *testing.T) {
		h := open(t, nil)
		c := h.dial(t)
		c.hello(packet.V5, "", lasting)
		id := string(want[*packet.Connack](c).Props.AssignedClientID)
		c.subscribe(1, "missed")
		h.leave(c)
		h.connect(t, packet.V5, "p", nil).published("missed", "x", false)
		h.back(t, packet.V5, id).gets("missed", "x")
	})
}

// TestCleanStart: what the flag asks for is done [MQTT-3.1.4-4] [MQTT-3.1.4-3 of 3.1.1], and CONNACK tells what there
// was, as its first bytes [MQTT-3.1.4-5] [MQTT-3.1.4-4 of 3.1.1] [MQTT-3.2.2-1].
func TestCleanStart(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		for i, step := range []struct {
			clean, lasts bool
			there        bool // a session that subscribed
		}{
			// [MQTT-3.1.2-6] [MQTT-3.1.2-4 of 3.1.1] [MQTT-3.2.2-3] [MQTT-3.2.2-3 of 3.1.1]
			{clean: false, lasts: true, there: false},
			// [MQTT-3.1.2-5] [MQTT-3.1.2-4 of 3.1.1] [MQTT-3.2.2-2 of 3.1.1]
			{clean: false, lasts: true, there: true},
			{clean: false, lasts: true, there: true},
			// [MQTT-3.1.2-4] [MQTT-3.1.2-6 of 3.1.1] [MQTT-3.2.2-2] [MQTT-3.2.2-1 of 3.1.1]
			{clean: true, lasts: false, there: false},
			{clean: false, lasts: true, there: false}, // that one ended with its connection
		} {
			c := h.cleanStart(t, v, step.clean, step.lasts, step.there)
			c.publish(0, 0, "its/own", fmt.Sprint(i))
			if step.there {
				c.gets("its/own", fmt.Sprint(i))
			}
			c.quiet()
			c.subscribe(0, "its/own")
			c.send(&packet.Disconnect{})
			c.closed()
			eventually(t, "it has left", func() bool { return h.door.Stats().Clients == 0 })
		}
	})
}

// cleanStart says CONNECT and reads a CONNACK that tells whether there was a session.
func (h *house) cleanStart(t *testing.T, v packet.Version, clean, lasts, there bool) *raw {
	t.Helper()
	c := h.dial(t)
	c.hello(v, "one", func(p *packet.Connect) {
		if p.CleanStart = clean; v == packet.V5 && lasts {
			p.Props.SetSessionExpiry(1000)
		}
	})
	var b [4]byte
	if _, err := io.ReadFull(c.net, b[:]); err != nil {
		t.Fatal(err)
	}
	if b[0] != 0x20 || b[2] != map[bool]byte{true: 1}[there] || b[3] != 0 {
		t.Errorf("CONNACK begins with % x", b)
	}
	c.buf = append(c.buf, b[:]...)
	want[*packet.Connack](c)
	return c
}

// TestConnectRefused: a CONNECT that fails a further check is answered so [MQTT-3.1.4-2], without Session Present
// though there is a session [MQTT-3.2.2-6] [MQTT-3.2.2-4 of 3.1.1], and the connection ends [MQTT-3.2.2-7]
// [MQTT-3.2.2-5 of 3.1.1] [MQTT-4.13.2-1]. Nothing behind it counts [MQTT-3.1.4-6] [MQTT-3.1.4-5 of 3.1.1], and the
// session stays as it was.
func TestConnectRefused(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, func(o *mqtt.Options) { judged(t, o, &guard{}) })
		c, _ := h.comeBack(t, v, "one", nil)
		c.subscribe(1, "kept")
		h.leave(c)
		c = h.dial(t)
		hello := &packet.Connect{ClientID: []byte("one"), Will: &packet.Will{Topic: []byte("nowrite")}}
		hello.Props.SetRequestProblemInfo(0)
		if v != packet.V5 {
			hello.Props = packet.Properties{}
		}
		behind := hello.AppendTo(nil, v)
		for _, p := range []packet.Packet{&packet.Publish{Topic: []byte("kept"), Payload: []byte("behind")},
			&packet.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("kept")}}, &packet.Pingreq{}} {
			behind = p.AppendTo(behind, v)
		}
		c.bytes(behind)
		c.expect(map[packet.Version]string{packet.V5: "20 03 00 87 00", packet.V311: "20 02 00 05"}[v])
		if n := len(h.records("kept")); n != 0 {
			t.Errorf("%d messages of a client that was refused", n)
		}
		c = h.back(t, v, "one")
		c.quiet()
		h.connect(t, v, "p", nil).published("kept", "live", false)
		c.gets("kept", "live")
	})
}

// TestConnackIsFirst: nothing comes before it [MQTT-3.2.0-1] [MQTT-3.2.0-1 of 3.1.1], though messages wait, and there
// is one [MQTT-3.2.0-2].
func TestConnackIsFirst(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c, _ := h.comeBack(t, v, "one", nil)
		c.subscribe(1, "waits")
		p := h.connect(t, v, "p", nil)
		for range 20 {
			h.leave(c)
			p.published("waits", "x", false)
			c = h.back(t, v, "one") // fails if anything else is first
			c.gets("waits", "x")
			c.quiet() // fails if there is another
		}
	})
}

// TestWillsFlags: a will comes with its QoS, and is retained if it is to be [MQTT-3.1.2-14] [MQTT-3.1.2-15]
// [MQTT-3.1.2-16 of 3.1.1] [MQTT-3.1.2-17 of 3.1.1]. All that is asked for is available: a will with QoS 2
// [MQTT-3.2.2-12], and a retained one [MQTT-3.2.2-13].
func TestWillsFlags(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		watcher := h.connect(t, v, "watcher", nil)
		watcher.subscribe(2, "w/#")
		for qos := range byte(3) {
			for _, retain := range []bool{false, true} {
				name := fmt.Sprintf("w/%d/%v", qos, retain)
				h.connect(t, v, "", func(p *packet.Connect) {
					p.Will = &packet.Will{Topic: []byte(name), Payload: []byte("gone"), QoS: qos, Retain: retain}
				}).net.Close()
				p := watcher.gets(name, "gone")
				if p.QoS != qos || p.Retain {
					t.Errorf("%s came as %+v", name, p)
				}
				if qos == 2 {
					watcher.receives2(p.PacketID)
				}
				late := h.connect(t, v, "", nil)
				late.subscribe(0, name)
				if retain {
					late.gets(name, "gone")
				}
				late.quiet()
				late.net.Close()
			}
		}
	})
}

// TestWillOnce: a will is the session's [MQTT-3.1.2-7] until it was published or deleted [MQTT-3.1.2-8] [MQTT-3.1.2-10]
// [MQTT-3.1.2-8 of 3.1.1] [MQTT-3.1.2-10 of 3.1.1] [MQTT-3.14.4-3] [MQTT-3.14.4-3 of 3.1.1]; a connection without one
// leaves none [MQTT-3.1.2-12 of 3.1.1].
func TestWillOnce(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		watcher := h.connect(t, v, "watcher", nil)
		watcher.subscribe(1, "w")
		lost := func(c *raw) {
			t.Helper()
			c.net.Close()
			eventually(t, "it is away", func() bool { return h.door.Stats().Away == 1 })
		}
		willing := func(p *packet.Connect) { p.Will = &packet.Will{Topic: []byte("w"), Payload: []byte("gone"), QoS: 1} }
		c, _ := h.comeBack(t, v, "one", willing)
		lost(c)
		watcher.gets("w", "gone")
		c, _ = h.comeBack(t, v, "one", nil) // without one
		lost(c)
		watcher.quiet()
		c, _ = h.comeBack(t, v, "one", willing)
		h.leave(c) // deletes it
		c, _ = h.comeBack(t, v, "one", nil)
		lost(c)
		watcher.quiet()
		c, _ = h.comeBack(t, v, "one", willing)
		c.hex("ff ff") // our end of it, too
		watcher.gets("w", "gone")
		watcher.quiet()
	})
}

// TestWillAtTakeover: another connection of the client ends the one before, whose will is published [MQTT-3.1.2-8]
// unless it has a delay and its session goes on [MQTT-3.1.3-9].
func TestWillAtTakeover(t *testing.T) {
	h := open(t, nil)
	watcher := h.connect(t, packet.V5, "watcher", nil)
	watcher.subscribe(0, "w/+")
	p := h.connect(t, packet.V5, "p", nil)
	for _, test := range []struct {
		delay, expiry uint32
		clean         bool // the connection that takes over
		published     bool
	}{
		{delay: 0, expiry: 1000, clean: false, published: true},
		{delay: 1000, expiry: 1000, clean: false, published: false},
		{delay: 1000, expiry: 1000, clean: true, published: true},
		{delay: 0, expiry: 1000, clean: true, published: true},
		{delay: 1000, expiry: 0, clean: false, published: true},
	} {
		old := h.connect(t, packet.V5, "c", func(p *packet.Connect) {
			p.Will = &packet.Will{Topic: []byte("w/will"), Payload: []byte("gone")}
			p.Will.Props.SetWillDelay(test.delay)
			p.Props.SetSessionExpiry(test.expiry)
		})
		h.connect(t, packet.V5, "c", func(p *packet.Connect) {
			p.CleanStart = test.clean
			p.Props.SetSessionExpiry(test.expiry)
		}).send(&packet.Disconnect{})
		want[*packet.Disconnect](old)
		p.published("w/end", "end", false)
		published := false
		for m := (&packet.Publish{}); string(m.Payload) != "end"; {
			m = want[*packet.Publish](watcher)
			published = published || string(m.Payload) == "gone"
		}
		if published != test.published {
			t.Errorf("%+v: published %v", test, published)
		}
	}
}

// TestWillProperties: the user properties of a will keep their order [MQTT-3.1.3-10], and it has its other properties.
func TestWillProperties(t *testing.T) {
	h := open(t, nil)
	watcher := h.connect(t, packet.V5, "watcher", nil)
	watcher.subscribe(1, "w")
	h.connect(t, packet.V5, "", func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte("w"), Payload: []byte("{}")}
		p.Will.Props.SetContentType([]byte("application/json"))
		p.Will.Props.SetResponseTopic([]byte("answers"))
		p.Will.Props.SetCorrelationData([]byte("c"))
		p.Will.Props.SetMessageExpiry(1000)
		for _, name := range []string{"b", "a", "b"} {
			p.Will.Props.AddUser(name, fmt.Sprint(len(p.Will.Props.User)))
		}
	}).net.Close()
	p := watcher.gets("w", "{}")
	var users []string
	for name, value := range p.Props.User.All() {
		users = append(users, string(name)+string(value))
	}
	if fmt.Sprint(users) != "[b0 a7 b14]" || string(p.Props.ContentType) != "application/json" ||
		string(p.Props.ResponseTopic) != "answers" || string(p.Props.CorrelationData) != "c" ||
		p.Props.MessageExpiry == 0 || p.Props.MessageExpiry > 1000 {
		t.Errorf("%v %+v", users, p.Props)
	}
}

// TestKeepAliveOfClient: without a Server Keep Alive that of the client is in force [MQTT-3.2.2-22]; who is silent for
// longer is ended, in MQTT 3.1.1 without a word [MQTT-3.1.2-24 of 3.1.1].
func TestKeepAliveOfClient(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := shared(t)
		begin := time.Now()
		c := h.dial(t)
		c.hello(v, "", func(p *packet.Connect) { p.KeepAlive = 1 })
		if ack := want[*packet.Connack](c); ack.Props.Has(packet.PropServerKeepAlive) {
			t.Errorf("CONNACK %+v", ack)
		}
		if v == packet.V5 {
			if p := want[*packet.Disconnect](c); p.Reason != packet.KeepAliveTimeout {
				t.Errorf("DISCONNECT %s", p.Reason)
			}
		}
		c.closed()
		if took := time.Since(begin); took < 1400*time.Millisecond {
			t.Errorf("it took %s, want 1.5 s", took)
		}
	})
}

// TestOneConnectionAClient: the one that had the client identifier is ended [MQTT-3.1.4-3] [MQTT-3.1.4-2 of 3.1.1],
// also where the session goes on.
func TestOneConnectionAClient(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		old, _ := h.comeBack(t, v, "same", nil)
		h.back(t, v, "same").quiet()
		if v == packet.V5 {
			if p := want[*packet.Disconnect](old); p.Reason != packet.SessionTakenOver {
				t.Errorf("DISCONNECT %s", p.Reason)
			}
		}
		if _, err := old.net.(*net.TCPConn).Read(make([]byte, 1)); err == nil {
			t.Error("something comes behind it")
		}
	})
}
