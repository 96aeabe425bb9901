package cases

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestD1: a filter of more than 200 levels is refused.
func TestD1(t *testing.T) {
	n := start(t)
	for level, code := range map[byte]byte{v311: 0x80, v5: 0x8f} {
		d := n.connect(level, "d1")
		d.send(d.subscribe("d1"+strings.Repeat("/", 300), 0))
		if p := d.read(); p[0] != 0x90 || p[len(p)-1] != code {
			t.Errorf("level %d: SUBACK % x, want the code %x", level, p, code)
		}
	}
}

// TestD3: a filter that section 4.7 calls malformed ends the connection.
func TestD3(t *testing.T) {
	n := start(t)
	for level, words := range map[byte][]byte{v311: nil, v5: {0xe0, 1, 0x81}} {
		for _, filter := range []string{"ab/+e", "#/x", "", "a/#b", "a+", "+a/b", "##"} {
			d := n.connect(level, "d3")
			d.send(d.subscribe(filter, 0))
			d.wantEnd(fmt.Sprintf("level %d: SUBSCRIBE %q", level, filter), words)
			d = n.connect(level, "d3")
			d.send(d.unsubscribe(filter))
			d.wantEnd(fmt.Sprintf("level %d: UNSUBSCRIBE %q", level, filter), words)
		}
	}
}

// TestD4: no packet is larger than the client takes [MQTT-3.1.2-24].
func TestD4(t *testing.T) {
	n := start(t)
	d := n.dial(v5)
	d.send(connect{level: v5, flags: 2, props: []byte{0x27, 0, 0, 0, 2}, clientID: "d4"}.packet())
	d.wantEnd("CONNECT with Maximum Packet Size 2", nil)
}

// TestD5: MQTT 3.1 is judged by its own rules.
func TestD5(t *testing.T) {
	n := start(t)
	for what, c := range map[string]connect{
		"user name flag, no user name":      {level: v31, flags: 0x82, clientID: "d5"},
		"both flags, neither there":         {level: v31, flags: 0xc2, clientID: "d5"},
		"bit 0 of the flags":                {level: v31, flags: 3, clientID: "d5"},
		"bits of the fixed header":          {first: 0x14, level: v31, flags: 2, clientID: "d5"},
		"user name flag and will, no name":  {level: v31, flags: 0x86, clientID: "d5", rest: append(text("w"), text("x")...)},
		"bits of the fixed header, all set": {first: 0x1f, level: v31, flags: 2, clientID: "d5"},
	} {
		d := n.dial(v31)
		d.send(c.packet())
		if p, err := d.next(patience); !bytes.Equal(p, []byte{0x20, 2, 0, 0}) {
			t.Errorf("%s: got % x, %v", what, p, err)
		}
	}
	d := n.connect(v31, "d5")
	for want, b := range map[byte][]byte{0x90: d.subscribe("d5", 0), 0xb0: d.unsubscribe("d5")} {
		b[0] |= 8
		d.send(b)
		if p := d.read(); p[0] != want {
			t.Errorf("% x with DUP: got % x", b[0], p)
		}
	}
}

// TestD6: a topic alias that was never set is a protocol error (section 3.3.4).
func TestD6(t *testing.T) {
	n := start(t)
	d := n.connect(v5, "d6")
	d.send(packet(0x30, append(text(""), 3, 0x23, 0, 1, 'x')))
	d.wantEnd("PUBLISH with an alias that was never set", []byte{0xe0, 1, 0x82})
}

// TestD7: an acknowledgement of a kind that does not fit is a protocol error.
func TestD7(t *testing.T) {
	n := start(t)
	for level, words := range map[byte][]byte{v311: nil, v5: {0xe0, 1, 0x82}} {
		for _, kind := range []byte{0x50, 0x70} {
			d := n.connect(level, "d7")
			d.send(d.subscribe("d7", 1))
			d.read()
			from := n.connect(level, "d7 from")
			from.send(from.publish(2, "d7", 1, []byte("x")))
			d.send(packet(kind, idOf(d.read())))
			d.wantEnd(fmt.Sprintf("level %d: % x for QoS 1", level, kind), words)
		}
	}
}

// TestD8: a client of a later protocol is told so in the form of MQTT 5, one of an earlier in that of 3.1.1
// (section 3.1.2.2).
func TestD8(t *testing.T) {
	n := start(t)
	for _, c := range []struct {
		level byte
		want  []byte
	}{
		{6, []byte{0x20, 3, 0, 0x84, 0}}, {127, []byte{0x20, 3, 0, 0x84, 0}},
		{2, []byte{0x20, 2, 0, 1}}, {0, []byte{0x20, 2, 0, 1}},
	} {
		d := n.dial(c.level)
		d.send(packet(0x10, append(append(text("MQTT"), c.level, 2, 0, 60), text("d8")...)))
		d.wantEnd(fmt.Sprintf("protocol level %d", c.level), c.want)
	}
}

// TestD9: what clients call themselves and what they publish to comes cut and escaped into log lines.
func TestD9(t *testing.T) {
	n := start(t, "log.level=debug")
	name := strings.Repeat("\x1b", 65_000)
	d := n.connect(v5, name)
	d.send(d.publish(0, "$d9/"+strings.Repeat("d", 60_000), 0, nil), d.publish(2, "d9/"+name[:60_000], 1, nil))
	if got := d.read(); got[0] != 0x40 { // the PUBACK, lest it comes behind what ends the connection
		t.Fatalf("% x for a PUBLISH", got)
	}
	d.ping()
	d.send(packet(0x30, append(text(""), 3, 0x23, 0, 1, 'x')))
	d.wantEnd("a protocol error", []byte{0xe0, 1, 0x82})
	until(t, "a line about the client", func() bool { return len(n.lines("client=")) > 0 })
	for line := range strings.Lines(n.log.String()) {
		if len(line) > 1500 || strings.Contains(line, "\x1b") {
			t.Errorf("a line of %d bytes: %.200q", len(line), line)
		}
	}
}

// TestF29: a will that may not be published does not keep its client out, in either dialect.
func TestF29(t *testing.T) {
	n := start(t)
	watch := n.connect(v5, "watch")
	watch.send(watch.subscribe("#", 0), watch.subscribe("$SYS/#", 0))
	for _, level := range []byte{v311, v5} {
		d := n.dial(level)
		rest := append(text("$SYS/broker/bridges/b/state"), text("0")...)
		if level == v5 {
			rest = append([]byte{0}, rest...)
		}
		d.send(connect{level: level, flags: 2 | 4 | 8 | 32, clientID: fmt.Sprint("f29 ", level), rest: rest}.packet())
		if p, err := d.next(patience); err != nil || p[0] != 0x20 || p[3] != 0 {
			t.Errorf("level %d: % x, %v", level, p, err)
		}
		d.conn.Close()
	}
	last := n.connect(v5, "last")
	last.send(last.publish(2, "last", 1, nil))
	last.read()
	for {
		p := watch.read()
		switch {
		case p[0]>>4 != 3:
		case topicOf(p) == "last":
			return
		case topicOf(p) == "$SYS/broker/bridges/b/state": // others of $SYS come by themselves
			t.Errorf("the will came: % x", p)
		}
	}
}

// TestF38: control characters in names are taken, as docs/names.md says.
func TestF38(t *testing.T) {
	n := start(t)
	d := n.connect(v5, "a\x1b]0;x\a\r\n")
	const topic = "f38/\x1b[2J\r\n\u0085"
	d.send(d.subscribe(topic, 1))
	d.read()
	d.send(d.publish(2, topic, 1, []byte("x")))
	for range 2 {
		switch p := d.read(); p[0] >> 4 {
		case 3:
			if topicOf(p) != topic {
				t.Errorf("came as %q", topicOf(p))
			}
		case 4:
			if len(p) > 4 && p[4] != 0 {
				t.Errorf("PUBACK % x", p)
			}
		default:
			t.Errorf("got % x", p)
		}
	}
}

// TestD2: a message published before a subscription on the same connection is older than it: it comes once, with RETAIN
// 1, and with Retain Handling 2 not at all.
func TestD2(t *testing.T) {
	n := start(t)
	for _, tc := range []struct {
		level, options byte
		want           string
	}{{v311, 0, "retain 1"}, {v5, 0, "retain 1"}, {v5, 0x20, ""}, {v5, 0x10, "retain 1"}, {v5, 0x28, ""}} {
		for i := range 40 {
			d := n.connect(tc.level, "d2")
			topic := fmt.Sprintf("d2/%d/%d/%d", tc.level, tc.options, i)
			d.send(append(d.publish(1, topic, 0, []byte("x")), d.subscribe(topic, tc.options)...))
			// What is retained comes before what is newer: behind a later message of the topic nothing of the first one is on
			// its way any more.
			d.send(d.publish(0, topic, 0, []byte("end")))
			got := ""
			for {
				p := d.read()
				if p[0]>>4 != 3 {
					continue
				}
				if b := body(p); string(b[len(b)-3:]) == "end" {
					break
				}
				if got != "" {
					got += ", "
				}
				got += fmt.Sprint("retain ", p[0]&1)
			}
			if got != tc.want {
				t.Errorf("level %d, options %#x: %q, want %q", tc.level, tc.options, got, tc.want)
				break
			}
			d.conn.Close()
		}
	}
}

// TestF26: a large message drops none of the small ones around it.
func TestF26(t *testing.T) {
	n := start(t)
	c := n.client("f26")
	c.create("d", "max.message.bytes", "16777216")
	d := n.connect(v311, "fast")
	d.send(d.subscribe("d/#", 0))
	d.read()
	for range 5 {
		for _, r := range []struct {
			key  string
			size int
		}{{"d/1", 10}, {"d/2", 9 << 20}, {"d/3", 10}} {
			c.produce("d", batch([]entry{{time.Now().UnixMilli(), []byte(r.key), make([]byte, r.size)}}, nil))
		}
		for _, want := range []string{"d/1", "d/2", "d/3"} {
			p, err := d.next(patience)
			if err != nil || topicOf(p) != want {
				t.Fatalf("no %s: %.20x, %v", want, p, err)
			}
		}
	}
}

// TestF34: behind the UNSUBACK comes nothing but what was in flight [MQTT-3.10.4-2].
func TestF34(t *testing.T) {
	n := start(t)
	const total, window = 20_000, 20
	fill := n.connect(v311, "fill")
	for i := range total {
		fill.send(fill.publish(3, fmt.Sprint("h/", i), uint16(i%500+1), make([]byte, 1000)))
		if i%500 == 499 {
			for range 500 {
				fill.read()
			}
		}
	}
	for qos := range byte(2) {
		d := n.dial(v5)
		d.send(connect{level: v5, flags: 2, props: []byte{0x21, 0, window}, clientID: fmt.Sprint("f34 ", qos)}.packet())
		d.read()
		d.send(d.subscribe("h/#", qos))
		for seen := 0; seen < 2000; {
			p := d.read()
			if p[0]>>4 != 3 {
				continue
			}
			if seen++; qos > 0 {
				d.send(packet(0x40, idOf(p)))
			}
		}
		d.send(d.unsubscribe("h/#"))
		for {
			p := d.read()
			if p[0] == 0xb0 {
				break
			}
			if p[0]>>4 == 3 && qos > 0 {
				d.send(packet(0x40, idOf(p)))
			}
		}
		if after := d.publishes(2 * time.Second); len(after) > window {
			t.Errorf("QoS %d: %d messages behind the UNSUBACK, at most %d were in flight", qos, len(after), window)
		}
	}
}

var errQuiet = os.ErrDeadlineExceeded

// publishes reads PUBLISH packets until nothing came for a while, and acknowledges those of QoS 1.
func (d *device) publishes(quiet time.Duration) (all [][]byte) {
	d.t.Helper()
	for {
		p, err := d.next(quiet)
		if errors.Is(err, errQuiet) {
			return all
		}
		if err != nil {
			d.t.Fatalf("after %d messages: %v", len(all), err)
		}
		if p[0]>>4 == 3 {
			all = append(all, p)
			if p[0]&6 != 0 {
				d.send(packet(0x40, idOf(p)))
			}
		}
	}
}
