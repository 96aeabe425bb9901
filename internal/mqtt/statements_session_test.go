package mqtt_test

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// PINGREQ, DISCONNECT and AUTH, and what the specification asks of sessions: sections 3.12 to 3.15, 4.1 and 4.7.

// TestRestForm: the bytes of PINGREQ, DISCONNECT and AUTH.
func TestRestForm(t *testing.T) {
	const malformed, wrong = "e0 01 81", "e0 01 82"
	shared(t).exchange(t, []exchange{
		// [MQTT-3.12.4-1] [MQTT-3.12.4-1 of 3.1.1]
		{"PINGREQ", "c0 00 c0 00", "+ d0 00 d0 00", "c0 00 c0 00", "+ d0 00 d0 00"},
		{"PINGREQ with flags", "c2 00", malformed, "c2 00", ""},
		// [MQTT-3.14.1-1] [MQTT-3.14.1-1 of 3.1.1]
		{"DISCONNECT with flags", "e1 00", malformed, "e1 00", ""},
		{"DISCONNECT with other flags", "e8 00", malformed, "e8 00", ""},
		{"DISCONNECT with a body", "e0 02 00 00", "", "e0 02 00 00", ""},
		// [MQTT-3.14.2-1]
		{"DISCONNECT with a reason code of its own", "e0 01 04", "", "", ""},
		{"DISCONNECT with one of the server", "e0 01 8d", wrong, "", ""},
		{"DISCONNECT with one that is none", "e0 01 05", wrong, "", ""},
		// [MQTT-3.15.1-1]
		{"AUTH with flags", "f1 00", malformed, "", ""},
		{"AUTH with other flags", "f2 00", malformed, "", ""},
		{"AUTH", "f0 02 18 00", wrong, "f0 00", ""},
	})
}

// TestNothingBehindDisconnect: with its DISCONNECT the server has said all [MQTT-3.14.4-1], and closes the connection
// [MQTT-3.14.4-2] [MQTT-4.13.2-1], whatever waits for the client or comes from it.
func TestNothingBehindDisconnect(t *testing.T) {
	h := shared(t)
	p := h.connect(t, packet.V5, "p", nil)
	for range 20 {
		c := h.connect(t, packet.V5, "c", nil)
		c.subscribe(0, "d/#")
		p.publish(0, 0, "d/1", "x")
		c.hex("c0 00  ff ff  c0 00 c0 00") // a PINGREQ, what is no packet, and more
		p.publish(0, 0, "d/1", "x")
		ended := false
		for {
			m, err := c.next(patience)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || ended {
				t.Fatalf("%#v, %v behind DISCONNECT", m, err)
			}
			_, ended = m.(*packet.Disconnect)
		}
		if !ended {
			t.Error("no DISCONNECT")
		}
	}
}

// TestSessionLastsAsItsConnection: a session is not over before its connection [MQTT-4.1.0-1] [MQTT-4.1.0-1 of 3.1.1]
// [MQTT-4.1.0-2 of 3.1.1], however short its expiry interval; then it is when that is over [MQTT-4.1.0-2], and lasts
// until then [MQTT-3.1.2-23].
func TestSessionLastsAsItsConnection(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		var ahead atomic.Int64
		h := open(t, func(o *mqtt.Options) {
			o.MaxExpiry = time.Hour
			o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		})
		p := h.connect(t, v, "p", nil)
		c, _ := h.comeBack(t, v, "c", nil)
		c.subscribe(1, "s")
		clean := h.connect(t, v, "clean", nil)
		clean.subscribe(1, "s")
		ahead.Add(int64(24 * time.Hour))
		p.published("s", "x", false)
		c.gets("s", "x")
		clean.gets("s", "x")
		h.leave(c)
		ahead.Add(int64(50 * time.Minute)) // a busy machine may take some more
		c = h.back(t, v, "c")
		h.leave(c)
		ahead.Add(int64(time.Hour + time.Second))
		if _, present := h.comeBack(t, v, "c", nil); present {
			t.Error("the session is there after its expiry interval")
		}
		clean.quiet()
	})
}

// TestLongNames: names and filters have 65,535 bytes at most [MQTT-4.7.3-3] [MQTT-4.7.3-3 of 3.1.1].
func TestLongNames(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		c := shared(t).connect(t, v, "c", nil)
		long := "long/" + strings.Repeat("x", 65535-len("long/"))
		if ack := c.subscribe(1, long); ack.Reasons[0] != packet.GrantedQoS1 {
			t.Fatalf("SUBACK %v", ack.Reasons)
		}
		c.publish(0, 0, long, "x")
		c.gets(long, "x")
		c.send(&packet.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte(long)}})
		want[*packet.Unsuback](c)
	})
}

// TestNotAllowed311: MQTT 3.1.1 cannot be told that a message is not allowed: it is acknowledged
// [MQTT-3.3.5-2 of 3.1.1], and goes nowhere.
func TestNotAllowed311(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { judged(t, o, &guard{}) })
	c := h.connect(t, packet.V311, "c", nil)
	c.subscribe(1, "nowrite")
	c.published("nowrite", "x", true)
	c.sends2(1, "nowrite", "x", false)
	if reason := c.releases(1); reason != packet.Success {
		t.Errorf("PUBCOMP %s", reason)
	}
	if n := len(h.records("nowrite")) + h.door.Stats().Retained; n != 0 {
		t.Errorf("%d messages that are not allowed", n)
	}
	c.quiet()
}

// TestRetainedLive: who has subscribed before gets a message that is retained with RETAIN 0 [MQTT-3.3.1-12]
// [MQTT-3.3.1-9 of 3.1.1].
func TestRetainedLive(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		c := open(t, nil).connect(t, v, "c", nil)
		c.subscribe(0, "r")
		c.send(&packet.Publish{Topic: []byte("r"), Payload: []byte("x"), Retain: true})
		if m := c.gets("r", "x"); m.Retain {
			t.Error("RETAIN is 1")
		}
	})
}

// TestSessionOf31: MQTT 3.1 has sessions too, though its CONNACK cannot tell.
func TestSessionOf31(t *testing.T) {
	h := open(t, nil)
	c, present := h.comeBack(t, packet.V31, "c", nil)
	c.subscribe(2, "s/#")
	h.leave(c)
	p := h.connect(t, packet.V31, "p", nil)
	p.published("s/1", "one", false)
	p.sends2(1, "s/1", "two", false)
	c, again := h.comeBack(t, packet.V31, "c", nil)
	c.gets("s/1", "one")
	c.gets2("two")
	c.quiet()
	if present || again {
		t.Error("CONNACK of MQTT 3.1 tells of a session")
	}
}
