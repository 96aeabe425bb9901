package mqtt_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

// Cases from the field, each with the bytes that are right.

// TestDeepFilters is D1: a filter of more levels than docs/limits.md allows is refused, alone and for every version.
func TestDeepFilters(t *testing.T) {
	for _, v := range []packet.Version{packet.V31, packet.V311, packet.V5} {
		t.Run(v.String(), func(t *testing.T) {
			c := shared(t).connect(t, v, "deep", nil)
			refused := packet.TopicFilterInvalid
			if v != packet.V5 {
				refused = packet.UnspecifiedError
			}
			most := strings.Repeat("/", names.MaxLevels-1)
			got := c.subscribe(1, "a", most, most+"/", strings.Repeat("/", 65535), most+"/#", "b").Reasons
			want := []packet.ReasonCode{1, 1, refused, refused, refused, 1}
			if !slices.Equal(got, want) {
				t.Errorf("SUBACK %v, want %v", got, want)
			}
			c.quiet()
		})
	}
}

// TestMalformedFilters is D3: a filter that breaks a rule of form [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] is a
// malformed packet [MQTT-4.13.1-1], in SUBSCRIBE and in UNSUBSCRIBE.
func TestMalformedFilters(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := shared(t)
		ends := func(p packet.Packet) {
			t.Helper()
			c := h.connect(t, v, "", nil)
			c.send(p)
			if v == packet.V5 {
				if d := want[*packet.Disconnect](c); d.Reason != packet.Malformed {
					t.Errorf("DISCONNECT %s", d.Reason)
				}
			}
			c.closed()
		}
		for _, filter := range []string{"", "ab/+e", "a+", "+a/b", "++", "#/x", "a#", "##", "a/#/b", "a\x00", "\xff"} {
			ends(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
				{Filter: []byte("good")}, {Filter: []byte(filter)}}})
			ends(&packet.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("good"), []byte(filter)}})
		}
		for _, name := range []string{"a/+", "#", "a\x00", "\xff"} { // [MQTT-4.7.0-1] [MQTT-4.7.3-2] [MQTT-1.5.4-1]
			ends(&packet.Publish{Topic: []byte(name)})
		}
	})
}

// TestOldClientsAreTakenAsTheyAre is D5: MQTT 3.1 gives many bits no meaning, and lets the remaining length take
// precedence over the flags of user name and password.
func TestOldClientsAreTakenAsTheyAre(t *testing.T) {
	const in = "20 02 00 00"
	for _, test := range []struct{ name, send, answer string }{
		{"user name flag, no user name", "10 0f 0006 4d5149736470 03 82 003c 0001 61", in},
		{"both flags, neither there", "10 0f 0006 4d5149736470 03 c2 003c 0001 61", in},
		{"both flags, no password", "10 12 0006 4d5149736470 03 c2 003c 0001 61 0001 75", in},
		{"the reserved flag", "10 0f 0006 4d5149736470 03 03 003c 0001 61", in},
		{"flags of a will without a will", "10 0f 0006 4d5149736470 03 3a 003c 0001 61", in},
		{"fixed header of CONNECT", "1f 0f 0006 4d5149736470 03 02 003c 0001 61", in},
		{"SUBSCRIBE with DUP", "10 0f 0006 4d5149736470 03 02 003c 0001 61  8a 06 0001 0001 61 01", in + "90 03 0001 01"},
		{"unused bits of the options",
			"10 0f 0006 4d5149736470 03 02 003c 0001 61  82 06 0001 0001 61 fd", in + "90 03 0001 01"},
		{"UNSUBSCRIBE with DUP", "10 0f 0006 4d5149736470 03 02 003c 0001 61  aa 05 0001 0001 61", in + "b0 02 0001"},
		{"PINGREQ with flags", "10 0f 0006 4d5149736470 03 02 003c 0001 61  c3 00", in + "d0 00"},
		{"PUBLISH QoS 0 with DUP", "10 0f 0006 4d5149736470 03 02 003c 0001 61  38 04 0001 61 78", in},
		{"PUBREL with DUP", "10 0f 0006 4d5149736470 03 02 003c 0001 61  6a 02 0007", in + "70 02 0007"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := shared(t).dial(t)
			c.hex(test.send)
			c.expect("+" + test.answer)
		})
	}
}

// TestAcknowledgementsThatDoNotFit is D7: a PUBREC, PUBREL or PUBCOMP for a message of QoS 1 is a protocol error,
// whichever side sent the message.
func TestAcknowledgementsThatDoNotFit(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := shared(t)
		pub := h.connect(t, v, "pub", nil)
		for _, ack := range []func(id uint16) packet.Packet{
			func(id uint16) packet.Packet { return &packet.Pubrec{PacketID: id} },
			func(id uint16) packet.Packet { return &packet.Pubcomp{PacketID: id} },
		} {
			sub := h.connect(t, v, "", nil)
			sub.subscribe(1, "fit")
			pub.published("fit", "x", false)
			sub.send(ack(want[*packet.Publish](sub).PacketID))
			if v == packet.V5 {
				if d := want[*packet.Disconnect](sub); d.Reason != packet.ProtocolError {
					t.Errorf("DISCONNECT %s", d.Reason)
				}
			}
			sub.closed()
		}
		// Acknowledged already, the id means nothing, and what means nothing is let pass.
		sub := h.connect(t, v, "", nil)
		sub.subscribe(1, "fit")
		pub.published("fit", "x", false)
		id := want[*packet.Publish](sub).PacketID
		sub.send(&packet.Puback{PacketID: id}, &packet.Puback{PacketID: id}, &packet.Pubcomp{PacketID: id})
		sub.quiet()
	})
}

// lines is a logger's output.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestWillToDollarTopic is F29: the client gets in with every version, its will is not published, one line says so.
func TestWillToDollarTopic(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		var log lines
		h := open(t, func(o *mqtt.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		const topic = "$SYS/broker/bridges/b/state"
		c := h.connect(t, v, "bridge", func(p *packet.Connect) {
			p.Will = &packet.Will{Topic: []byte(topic), Payload: []byte("0"), Retain: true, QoS: 1}
		})
		c.net.Close()
		eventually(t, "the session is over", func() bool { return h.door.Stats().Clients == 0 })
		if n := strings.Count(log.text(), topic); n != 1 {
			t.Errorf("%d lines tell of the will, want 1:\n%s", n, log.text())
		}
		if n := h.door.Stats().Retained; n != 0 {
			t.Errorf("%d retained messages", n)
		}
	})
}

// TestForeignTextInLines is D9: whatever clients call themselves and their topics, a line stays a line.
func TestForeignTextInLines(t *testing.T) {
	var log lines
	h := open(t, func(o *mqtt.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		judged(t, o, &guard{})
	})
	long := strings.Repeat("\x1b[31m", 13000)
	c := h.connect(t, packet.V5, long, func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte("$" + long)}
	})
	c.publish(0, 0, "nowrite/"+long, "x")
	c.publish(0, 0, "w/"+strings.Repeat("/", 300), "x")
	c.hex("00 00")
	want[*packet.Disconnect](c)
	c.closed()
	c = h.dial(t)
	c.hello(packet.V5, long, func(p *packet.Connect) { p.Will = &packet.Will{Topic: []byte("nowrite" + long)} })
	want[*packet.Connack](c)
	eventually(t, "the line of the refusal", func() bool { return strings.Contains(log.text(), "connection refused") })
	text := log.text()
	if strings.ContainsRune(text, '\x1b') {
		t.Error("an escape character is in the log")
	}
	if !strings.Contains(text, "(65000 bytes)") {
		t.Errorf("no text is marked as cut:\n%.2000s", text)
	}
	for line := range strings.Lines(text) {
		if len(line) > 2500 {
			t.Errorf("a line of %d bytes: %.200s", len(line), line)
		}
	}
}
