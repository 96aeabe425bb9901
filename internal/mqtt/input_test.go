package mqtt_test

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// What a CONNECT looks like: protocol, level, flags, keep alive 60, and for 5 no properties.
const (
	connect311 = "10 0d 0004 4d515454 04 02 003c 0001 61"
	connect5   = "10 0e 0004 4d515454 05 02 003c 00 0001 61"
)

// TestBadConnect sends what is no good CONNECT and states the bytes that come back before the
// connection ends.
func TestBadConnect(t *testing.T) {
	for _, test := range []struct{ name, send, answer string }{
		{"first packet PINGREQ", "c000", ""}, // [MQTT-3.1.0-1] [MQTT-3.1.0-1 of 3.1.1]
		{"first packet PUBLISH", "3005 0001 61 3131", ""},
		{"first packet SUBSCRIBE", "82 06 0001 0001 61 00", ""},
		{"first packet AUTH", "f000", ""},
		{"first packet CONNACK", "20020000", ""},
		{"reserved type 0", "0000", ""},
		{"remaining length of five bytes", "10 ff ff ff ff 01", ""},
		{"remaining length not minimal", "10 8d 80 00", ""}, // [MQTT-1.5.5-1]
		{"remaining length over the limit", "10 ff ff ff 7f 00", ""},
		// [MQTT-3.1.2-1] [MQTT-3.1.2-1 of 3.1.1]
		{"wrong protocol name", "10 0d 0004 4d515458 04 02 003c 0001 61", "20 02 00 01"},
		{"protocol name with a wrong length", "10 0d 00ff 4d515454 04 02 003c 0001 61", ""},
		{"level 0", "10 0d 0004 4d515454 00 02 003c 0001 61", "20 02 00 01"}, // [MQTT-3.1.2-2] [MQTT-3.1.2-2 of 3.1.1]
		{"level 2", "10 0d 0004 4d515454 02 02 003c 0001 61", "20 02 00 01"},
		{"level 6", "10 0d 0004 4d515454 06 02 003c 0001 61", "20 03 00 84 00"},
		{"level 255", "10 0d 0004 4d515454 ff 02 003c 0001 61", "20 03 00 84 00"},
		{"reserved flag, 3.1.1", "10 0d 0004 4d515454 04 03 003c 0001 61", ""},
		{"reserved flag, 5", "10 0e 0004 4d515454 05 03 003c 00 0001 61", "20 03 00 81 00"},
		{"will QoS without will, 5", "10 0e 0004 4d515454 05 0a 003c 00 0001 61", "20 03 00 81 00"},
		{"will QoS 3, 5", "10 13 0004 4d515454 05 1e 003c 00 0001 61 0001 77 0000", "20 03 00 81 00"},
		{"MQIsdp, level 6", "10 0f 0006 4d5149736470 06 02 003c 0001 61", "20 02 00 01"},
		{"MQIsdp, level 4", "10 0f 0006 4d5149736470 04 02 003c 0001 61", "20 02 00 01"},
		{"wrong protocol name, level 5", "10 0d 0004 4d515458 05 02 003c 0001 61", "20 02 00 01"},
		// [MQTT-2.2.2-1 of 3.1.1] [MQTT-2.2.2-2 of 3.1.1]
		{"flags in the fixed header, 3.1.1", "11 0d 0004 4d515454 04 02 003c 0001 61", ""},
		// [MQTT-2.1.3-1]
		{"flags in the fixed header, 5", "14 0e 0004 4d515454 05 02 003c 00 0001 61", "20 03 00 81 00"},
		{"maximum packet size 2", "10 13 0004 4d515454 05 02 003c 05 27 00000002 0001 61", ""},
		{"maximum packet size 4 and a bad will", "10 1a 0004 4d515454 05 06 003c 05 27 00000004 0001 61 00 0001 23 0000", ""},
		{"maximum packet size 4 and authentication", "10 17 0004 4d515454 05 02 003c 09 27 00000004 15 0001 61 0001 61", ""},
		{"maximum packet size 5", "10 13 0004 4d515454 05 02 003c 05 27 00000005 0001 61", "20 03 00 95 00"},
		{"will topic empty, 5", "10 13 0004 4d515454 05 06 003c 00 0001 61 00 0000 0000", "20 03 00 81 00"},
		{"will topic with a wildcard, 5", "10 14 0004 4d515454 05 06 003c 00 0001 61 00 0001 23 0000", "20 03 00 81 00"},
		{"password without user name, 3.1.1", "10 10 0004 4d515454 04 42 003c 0001 61 0001 70", ""},
		// [MQTT-3.1.3-8 of 3.1.1] [MQTT-3.1.3-9 of 3.1.1]
		{"empty client id without clean session, 3.1.1", "10 0c 0004 4d515454 04 00 003c 0000", "20 02 00 02"},
		{"client id with U+0000, 5", "10 0e 0004 4d515454 05 02 003c 00 0001 00", "20 03 00 81 00"},
		{"client id that is no UTF-8, 5", "10 0e 0004 4d515454 05 02 003c 00 0001 ff", "20 03 00 81 00"},
		{"receive maximum 0", "10 11 0004 4d515454 05 02 003c 03 21 0000 0001 61", "20 03 00 82 00"},
		{"maximum packet size 0", "10 13 0004 4d515454 05 02 003c 05 27 00000000 0001 61", "20 03 00 82 00"},
		{"duplicate property", "10 14 0004 4d515454 05 02 003c 06 21 0001 21 0001 0001 61", "20 03 00 82 00"},
		{"property of another packet", "10 11 0004 4d515454 05 02 003c 03 23 0001 0001 61", "20 03 00 81 00"},
		{"unknown property", "10 10 0004 4d515454 05 02 003c 02 7f 00 0001 61", "20 03 00 81 00"},
		{"property length of five bytes", "10 12 0004 4d515454 05 02 003c 8080808001 0001 61", "20 03 00 81 00"},
		{"TLS on a plain port", "16 03 01 02 00 01 00 01 fc 03 03", ""},
		{"HTTP on an MQTT port", "474554202f20485454502f312e310d0a0d0a", ""},
		{"property length beyond the packet", "10 0e 0004 4d515454 05 02 003c 7f 0001 61", "20 03 00 81 00"},
		{"authentication data without method", "10 12 0004 4d515454 05 02 003c 04 16 0001 61 0001 61", "20 03 00 82 00"},
		{"unknown authentication method", "10 14 0004 4d515454 05 02 003c 06 15 0001 61 1700 0001 61", "20 03 00 8c 00"},
		{"more bytes than the content", "10 0e 0004 4d515454 04 02 003c 0001 61 00", ""},
		{"less bytes than the content", "10 0c 0004 4d515454 04 02 003c 0001", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := shared(t)
			c := h.dial(t)
			c.hex(test.send)
			c.expect(test.answer)
		})
	}
}

// quietly asks for no reason strings.
func quietly(p *packet.Connect) {
	if p.Version == packet.V5 {
		p.Props.SetRequestProblemInfo(0)
	}
}

// TestBadPacket sends a packet behind a good CONNECT. The answer in MQTT 5 is stated; 3.1.1 only closes
// the connection. An answer that begins with + leaves the connection open.
func TestBadPacket(t *testing.T) {
	disconnect := func(code string) string { return "e0 01 " + code }
	for _, test := range []struct{ name, send, answer5, answer311 string }{
		{"second CONNECT", connect5, disconnect("82"), ""}, // [MQTT-3.1.0-2] [MQTT-3.1.0-2 of 3.1.1]
		{"CONNACK from a client", "20 03 00 00 00", disconnect("82"), ""},
		{"SUBACK from a client", "90 04 0001 00 00", disconnect("82"), ""},
		{"PINGRESP from a client", "d0 00", disconnect("82"), ""},
		{"type 0", "00 00", disconnect("81"), ""},
		{"PINGREQ with a body", "c0 01 00", disconnect("81"), ""},
		{"PINGREQ with flags", "c1 00", disconnect("81"), ""},
		{"PUBLISH QoS 3", "36 06 0001 61 0001 00", disconnect("81"), ""},
		{"PUBLISH QoS 0 with DUP", "38 04 0001 61 00", disconnect("81"), ""},
		{"PUBLISH with packet id 0", "32 06 0001 61 0000 00", disconnect("82"), ""},
		{"PUBLISH to a wildcard", "30 04 0001 23 00", disconnect("81"), ""},
		{"PUBLISH to U+0000", "30 04 0001 00 00", disconnect("81"), ""},
		{"PUBLISH larger than the limit", "30 ff ff ff 7f", disconnect("95"), ""},
		{"PUBACK for nothing", "40 02 0007", "+", "+"},
		{"PUBREL for nothing", "62 02 0007", "+ 70 03 0007 92", "+ 70 02 0007"},
		{"PUBREC for nothing", "50 02 0007", "+ 62 03 0007 92", "+ 62 02 0007"},
		{"PUBCOMP for nothing", "70 02 0007", "+", "+"},
		{"PUBREL with wrong flags", "60 02 0007", disconnect("81"), ""},
		{"SUBSCRIBE with wrong flags", "80 07 0001 00 0001 61 00", disconnect("81"), ""},
		{"UNSUBSCRIBE with wrong flags", "a0 06 0001 00 0001 61", disconnect("81"), ""},
	} {
		for v, answer := range map[packet.Version]string{packet.V5: test.answer5, packet.V311: test.answer311} {
			t.Run(test.name+" "+v.String(), func(t *testing.T) {
				c := shared(t).connect(t, v, "", quietly)
				c.hex(test.send)
				c.expect(answer)
			})
		}
	}
}

// TestBadPacket5 is the same for what only MQTT 5 has.
func TestBadPacket5(t *testing.T) {
	for _, test := range []struct{ name, send, answer string }{
		{"PUBLISH without topic and alias", "30 03 0000 00", "e0 01 82"},
		{"topic alias 0", "30 07 0001 61 03 23 0000", "e0 01 94"},
		{"topic alias above the maximum", "30 07 0001 61 03 23 0021", "e0 01 94"},
		{"topic alias that is not set", "30 06 0000 03 23 0001", "e0 01 82"},
		{"subscription identifier from a client", "30 06 0001 61 02 0b 01", "e0 01 82"},
		{"payload format 2", "30 06 0001 61 02 01 02", "e0 01 82"},
		{"response topic with a wildcard", "30 08 0001 61 04 08 0001 23", "e0 01 82"},
		{"publish to $SYS, QoS 1", "32 09 0004 24535953 0009 00", "+ 40 03 0009 90"},
		{"publish to $share, QoS 1", "32 0f 000a 2473686172652f672f61 0009 00", "+ 40 03 0009 90"},
		{"publish to $internal, QoS 2", "34 0e 0009 24696e7465726e616c 0009 00", "+ 50 03 0009 90"},
		{"publish to $SYS, QoS 0", "30 07 0004 24535953 00", "+"},
		{"AUTH", "f0 00", "e0 01 82"},
		{"SUBSCRIBE without a filter", "82 03 0001 00", "e0 01 82"},
		{"SUBSCRIBE with packet id 0", "82 07 0000 00 0001 61 00", "e0 01 82"},
		{"SUBSCRIBE without an options byte", "82 06 0001 00 0001 61", "e0 01 81"},
		{"reserved subscription options", "82 07 0001 00 0001 61 c0", "e0 01 81"},
		{"retain handling 3", "82 07 0001 00 0001 61 30", "e0 01 82"},
		{"subscription QoS 3", "82 07 0001 00 0001 61 03", "e0 01 82"},
		{"subscription identifier 0", "82 09 0001 02 0b 00 0001 61 00", "e0 01 82"},
		{"subscription identifier of five bytes", "82 0d 0001 06 0b 8080808001 0001 61 00", "e0 01 81"},
		{"filter #/a", "82 09 0001 00 0003 232f61 00", "e0 01 81"},
		{"filter a#", "82 08 0001 00 0002 6123 00", "e0 01 81"},
		{"one good filter, one bad", "82 0c 0001 00 0001 61 01 0002 2b61 00", "e0 01 81"},
		{"shared subscription", "82 10 0001 00 000a 2473686172652f672f61 00", "+ 90 04 0001 00 00"},
		{"shared subscription with no local", "82 10 0001 00 000a 2473686172652f672f61 04", "e0 01 82"},
		{"shared subscription without a name", "82 0f 0001 00 0009 2473686172652f2f61 00", "e0 01 81"},
		{"UNSUBSCRIBE without a filter", "a2 03 0001 00", "e0 01 82"},
		{"UNSUBSCRIBE of nothing", "a2 06 0001 00 0001 61", "+ b0 04 0001 00 11"},
		{"DISCONNECT that raises the session expiry", "e0 07 00 05 11 00000001", "e0 01 82"},
		{"DISCONNECT with an unknown reason", "e0 01 7f", "e0 01 82"},
		{"DISCONNECT", "e0 00", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := shared(t).connect(t, packet.V5, "", quietly)
			c.hex(test.send)
			c.expect(test.answer)
		})
	}
}

// TestAnswerTooLargeForClient: what a client has to be told and does not take ends its connection [MQTT-3.1.2-24].
func TestAnswerTooLargeForClient(t *testing.T) {
	takes := func(most uint32) func(*packet.Connect) {
		return func(p *packet.Connect) { quietly(p); p.Props.SetMaximumPacketSize(most) }
	}
	c := shared(t).dial(t)
	c.hello(packet.V5, "", takes(20))
	c.expect("20 03 00 95 00")
	names := make([]string, 100)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	c = shared(t).connect(t, packet.V5, "", takes(100))
	subscribe := &packet.Subscribe{PacketID: 1}
	for _, name := range names {
		subscribe.Subscriptions = append(subscribe.Subscriptions, packet.Subscription{Filter: []byte(name)})
	}
	c.send(subscribe)
	c.expect("e0 01 95")
	c = shared(t).connect(t, packet.V5, "", takes(100))
	unsubscribe := &packet.Unsubscribe{PacketID: 1}
	for _, name := range names {
		unsubscribe.Filters = append(unsubscribe.Filters, []byte(name))
	}
	c.send(unsubscribe)
	c.expect("e0 01 95")
}

func TestReceiveMaximumOverrun(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.ReceiveMaximum = 10 })
	c := h.connect(t, packet.V5, "eager", nil)
	var b []byte
	for i := range 200 { // in one write, so that no PUBACK can come in between
		p := packet.Publish{Topic: []byte("r/1"), Payload: []byte("x"), QoS: 1, PacketID: uint16(i + 1)}
		b = p.AppendTo(b, packet.V5)
	}
	c.bytes(b)
	for {
		p, err := c.next(patience)
		if err != nil {
			t.Fatalf("no DISCONNECT: %v", err)
		}
		if d, ok := p.(*packet.Disconnect); ok {
			if d.Reason != packet.ReceiveMaximumExceeded {
				t.Errorf("DISCONNECT %s", d.Reason)
			}
			return
		}
	}
}

func TestSilence(t *testing.T) {
	h := open(t, func(o *mqtt.Options) {
		o.ConnectTimeout = time.Second
		o.CloseTimeout = 100 * time.Millisecond
	})
	for name, beginning := range map[string]string{
		"nothing": "", "a header": "10 0d", "half a CONNECT": "10 0d 0004 4d51",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := h.dial(t)
			c.hex(beginning)
			c.closed()
		})
	}
	t.Run("keep alive", func(t *testing.T) {
		t.Parallel()
		keepAlive(t, func(*raw) {})
	})
}

// keepAlive holds the end of a connection to one and a half times its keep alive of a second. On a busy machine it may
// come late, and is tried again then, but never early; meanwhile the client does something that is no whole packet.
func keepAlive(t *testing.T, meanwhile func(c *raw)) {
	t.Helper()
	late := time.Hour
	for last := time.Now().Add(patience); late > 5*time.Second && time.Now().Before(last); {
		begin := time.Now()
		c := shared(t).connect(t, packet.V5, "", func(p *packet.Connect) { p.KeepAlive = 1 })
		meanwhile(c)
		if p := want[*packet.Disconnect](c); p.Reason != packet.KeepAliveTimeout {
			t.Errorf("DISCONNECT %s", p.Reason)
		}
		took := time.Since(begin)
		if took < 1400*time.Millisecond {
			t.Errorf("it took %s, want 1.5 s", took)
		}
		late = min(late, took)
	}
	if late > 5*time.Second {
		t.Errorf("it took %s at best, want 1.5 s", late)
	}
}

// TestDrip sends a packet so slowly that it is not whole in time: only whole packets count for the keep
// alive [MQTT-3.1.2-22].
func TestDrip(t *testing.T) {
	var drip sync.WaitGroup
	defer drip.Wait()
	keepAlive(t, func(c *raw) {
		c.hex("30 7f")
		drip.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range 120 { // less than the packet has, and more than it may take
				if _, err := c.net.Write([]byte{0}); err != nil {
					return
				}
				<-tick.C
			}
		})
	})
}

func TestOddNamesAreLegal(t *testing.T) { // [MQTT-3.1.3-8]
	h := shared(t)
	for _, id := range []string{"with space", "+#/..", "%00\n\x1b[31m", "ünï", strings.Repeat("x", 65535)} {
		c := h.connect(t, packet.V5, id, nil)
		topic := "odd/ " + id
		if len(topic) > 65535 {
			continue
		}
		topic = strings.NewReplacer("+", "", "#", "").Replace(topic)
		c.subscribe(0, topic)
		c.publish(0, 0, topic, "x")
		c.gets(topic, "x")
		c.net.Close()
	}
	c := h.connect(t, packet.V5, "deep", nil)
	c.publish(1, 5, strings.Repeat("/", 65535), "x")
	if p := want[*packet.Puback](c); p.Reason != packet.TopicNameInvalid {
		t.Errorf("PUBACK %s for a topic of 65,536 levels", p.Reason)
	}
}

func TestMaxConnections(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.MaxConnections = 2 })
	h.connect(t, packet.V5, "1", nil)
	h.connect(t, packet.V5, "2", nil)
	n, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	third := &raw{t: t, net: n}
	third.closed()
	n.Close()
}

// shared is a house for one test with many small cases.
func shared(t *testing.T) *house {
	t.Helper()
	return open(t, func(o *mqtt.Options) { o.CloseTimeout = 100 * time.Millisecond })
}
