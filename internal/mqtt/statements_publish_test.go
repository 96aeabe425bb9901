package mqtt_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// PUBLISH and its acknowledgements: sections 3.3 to 3.7, 4.3 and 4.4.

// exchange is bytes that go behind a good CONNECT, and their answer as of raw.expect, for each version. Behind = is
// what comes before the PINGREQ goes out: it waits for the log, which no PINGRESP does.
type exchange struct{ name, send5, answer5, send311, answer311 string }

func (h *house) exchange(t *testing.T, all []exchange) {
	t.Helper()
	for _, one := range all {
		t.Run(one.name, func(t *testing.T) {
			c := h.connect(t, packet.V5, "", quietly)
			c.hex(one.send5)
			c.answers(one.answer5)
			if one.send311 == "" {
				return // only MQTT 5 has it
			}
			c = h.connect(t, packet.V311, "", nil)
			c.hex(one.send311)
			c.answers(one.answer311)
		})
	}
}

// answers reads the answer of an exchange.
func (c *raw) answers(answer string) {
	c.t.Helper()
	first, waits := strings.CutPrefix(answer, "=")
	if !waits {
		c.expect(answer)
		return
	}
	wanted, err := hex.DecodeString(strings.ReplaceAll(first, " ", ""))
	if err != nil {
		c.t.Fatal(err)
	}
	got := make([]byte, len(wanted))
	if _, err := io.ReadFull(c.net, got); err != nil || !bytes.Equal(got, wanted) {
		c.t.Errorf("got %x, %v, want %x", got, err, wanted)
	}
	c.expect("+")
}

// TestPublishForm: the bytes of PUBLISH, and what they are answered with [MQTT-3.3.4-1] [MQTT-3.3.4-1 of 3.1.1].
func TestPublishForm(t *testing.T) {
	const malformed, wrong = "e0 01 81", "e0 01 82"
	shared(t).exchange(t, []exchange{
		// [MQTT-2.2.1-2] [MQTT-2.3.1-5 of 3.1.1]: what stands where a packet id would is the payload
		{"QoS 0", "30 06 0001 61 00 0007", "+", "30 05 0001 61 0007", "+"},
		// [MQTT-4.3.2-4] [MQTT-4.3.2-2 of 3.1.1] [MQTT-2.2.1-5] [MQTT-2.3.1-6 of 3.1.1]
		{"QoS 1", "32 06 0001 61 0007 00", "= 40 02 0007", "32 05 0001 61 0007", "= 40 02 0007"},
		// [MQTT-4.3.3-8] [MQTT-4.3.3-2 of 3.1.1]
		{"QoS 2", "34 06 0001 61 0007 00", "= 50 02 0007", "34 05 0001 61 0007", "= 50 02 0007"},
		// [MQTT-3.3.1-4] [MQTT-3.3.1-4 of 3.1.1]
		{"QoS 3", "36 06 0001 61 0007 00", malformed, "36 05 0001 61 0007", ""},
		// [MQTT-3.3.1-2] [MQTT-3.3.1-2 of 3.1.1]
		{"QoS 0 with DUP", "38 04 0001 61 00", malformed, "38 03 0001 61", ""},
		// [MQTT-2.2.1-3] [MQTT-2.3.1-1 of 3.1.1]
		{"packet id 0, QoS 1", "32 06 0001 61 0000 00", wrong, "32 05 0001 61 0000", ""},
		{"packet id 0, QoS 2", "34 06 0001 61 0000 00", wrong, "34 05 0001 61 0000", ""},
		{"no packet id", "32 03 0001 61", malformed, "32 03 0001 61", ""},
		// [MQTT-3.3.2-1] [MQTT-3.3.2-1 of 3.1.1]
		{"no topic name", "30 00", malformed, "30 00", ""},
		{"a topic name longer than the packet", "30 03 0002 61", malformed, "30 03 0002 61", ""},
		{"a topic name that is no UTF-8", "30 04 0001 ff 00", malformed, "30 03 0001 ff", ""},
		{"a topic name with U+0000", "30 05 0002 6100 00", malformed, "30 04 0002 6100", ""},
		// [MQTT-3.3.2-2] [MQTT-3.3.2-2 of 3.1.1] [MQTT-4.7.0-1] [MQTT-4.7.1-1 of 3.1.1]
		{"+ in the topic name", "30 06 0003 612f2b 00", malformed, "30 05 0003 612f2b", ""},
		{"# in the topic name", "30 06 0003 612f23 00", malformed, "30 05 0003 612f23", ""},
		// [MQTT-4.7.3-1] [MQTT-4.7.3-1 of 3.1.1]
		{"an empty topic name", "30 03 0000 00", wrong, "30 02 0000", ""},
		// [MQTT-3.3.2-13] [MQTT-3.3.2-14] [MQTT-3.3.2-19] [MQTT-3.3.4-6] [MQTT-3.3.2-8]
		{"a response topic that is no UTF-8", "30 08 0001 61 04 08 0001 ff", malformed, "", ""},
		{"a response topic with #", "30 08 0001 61 04 08 0001 23", wrong, "", ""},
		{"a response topic with +", "30 08 0001 61 04 08 0001 2b", wrong, "", ""},
		{"a content type that is no UTF-8", "30 08 0001 61 04 03 0001 ff", malformed, "", ""},
		{"a subscription identifier", "30 06 0001 61 02 0b 01", wrong, "", ""},
		{"topic alias 0", "30 07 0001 61 03 23 0000", "e0 01 94", "", ""},
		// [MQTT-1.5.7-1]
		{"a user property that is no UTF-8", "30 0b 0001 61 07 26 0001 ff 0001 76", malformed, "", ""},
		{"the value of one that is no UTF-8", "30 0b 0001 61 07 26 0001 6b 0001 ff", malformed, "", ""},
		{"the value of one with U+0000", "30 0b 0001 61 07 26 0001 6b 0001 00", malformed, "", ""},
		// [MQTT-2.2.2-1]
		{"no length of properties", "30 03 0001 61", malformed, "", ""},
	})
}

// TestAcknowledgementForm: the bytes of PUBACK, PUBREC, PUBREL and PUBCOMP.
func TestAcknowledgementForm(t *testing.T) {
	const malformed, wrong = "e0 01 81", "e0 01 82"
	shared(t).exchange(t, []exchange{
		// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
		{"PUBACK with a reason code of its own", "40 03 0007 10", "+", "40 02 0007", "+"},
		{"PUBACK with one of PUBREL", "40 03 0007 92", wrong, "", ""},
		{"PUBACK with one that is none", "40 03 0007 7f", wrong, "", ""},
		{"PUBREC with a reason code of its own", "50 03 0007 87", "+", "50 02 0007", "+ 62 02 0007"},
		{"PUBREC with one of PUBREL", "50 03 0007 92", wrong, "", ""},
		{"PUBREL with a reason code of its own", "62 03 0007 92", "+ 70 03 0007 92", "62 02 0007", "+ 70 02 0007"},
		{"PUBREL with one of PUBACK", "62 03 0007 97", wrong, "", ""},
		{"PUBCOMP with a reason code of its own", "70 03 0007 92", "+", "70 02 0007", "+"},
		{"PUBCOMP with one of PUBACK", "70 03 0007 10", wrong, "", ""},
		// [MQTT-3.6.1-1] [MQTT-3.6.1-1 of 3.1.1]
		{"PUBREL with flags 0", "60 02 0007", malformed, "60 02 0007", ""},
		{"PUBREL with flags 3", "63 02 0007", malformed, "63 02 0007", ""},
		{"PUBREL with flags 6", "66 02 0007", malformed, "66 02 0007", ""},
		{"PUBREL with flags 10", "6a 02 0007", malformed, "6a 02 0007", ""},
		// [MQTT-2.1.3-1] [MQTT-2.2.2-1 of 3.1.1] [MQTT-2.2.2-2 of 3.1.1]
		{"PUBACK with flags", "41 02 0007", malformed, "41 02 0007", ""},
		{"PUBREC with flags", "52 02 0007", malformed, "52 02 0007", ""},
		{"PUBCOMP with flags", "78 02 0007", malformed, "78 02 0007", ""},
	})
}

// TestPacketIDsOfServer: each message in flight has a packet id of its own, never 0 [MQTT-2.2.1-4]
// [MQTT-2.3.1-4 of 3.1.1] [MQTT-4.3.2-1] [MQTT-4.3.2-1 of 3.1.1] [MQTT-4.3.3-1] [MQTT-4.3.3-1 of 3.1.1], also when all
// 65,535 have been used and some still are. New messages have DUP 0, whatever it was when they were published
// [MQTT-3.3.1-3] [MQTT-3.3.1-3 of 3.1.1] [MQTT-4.3.1-1] [MQTT-4.3.1-1 of 3.1.1] [MQTT-4.3.2-2] [MQTT-4.3.3-2].
func TestPacketIDsOfServer(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c, p := h.connect(t, v, "c", nil), h.connect(t, v, "p", nil)
		c.subscribe(2, "#")
		const count, window = 105_000, 300
		inFlight := map[uint16][]packet.Packet{} // and what completes them
		for from := 0; from < count; from += window {
			var all, released []packet.Packet
			for i := from; i < from+window; i++ {
				m := &packet.Publish{Topic: []byte("a/1"), Payload: fmt.Append(nil, i), QoS: byte(i % 3), Dup: i%3 > 0}
				if m.QoS > 0 {
					m.PacketID = uint16(i%window + 1)
				}
				if all = append(all, m); m.QoS == 2 {
					released = append(released, &packet.Pubrel{PacketID: m.PacketID})
				}
			}
			p.send(all...)
			for range 2 * window / 3 {
				if _, err := p.next(patience); err != nil { // PUBACK or PUBREC
					t.Fatal(err)
				}
			}
			p.send(released...)
			for range released {
				want[*packet.Pubcomp](p)
			}
			c.takesWindow(from, window, inFlight)
		}
	})
}

// takesWindow takes messages with numbers and completes them, but for a few; and those that were in flight before, at
// the end.
func (c *raw) takesWindow(from, n int, inFlight map[uint16][]packet.Packet) {
	c.t.Helper()
	var done []packet.Packet
	left := map[uint16][]packet.Packet{}
	for i := from; i < from+n; {
		p, err := c.next(patience)
		m, is := p.(*packet.Publish)
		if err == nil && !is {
			continue // a PUBREL
		}
		if err != nil || string(m.Payload) != fmt.Sprint(i) || m.Dup || int(m.QoS) != i%3 ||
			(m.PacketID == 0) != (m.QoS == 0) || inFlight[m.PacketID] != nil || left[m.PacketID] != nil {
			c.t.Fatalf("message %d: %v, %+v", i, err, m)
		}
		var completes []packet.Packet
		switch m.QoS {
		case 1:
			completes = []packet.Packet{&packet.Puback{PacketID: m.PacketID}}
		case 2:
			completes = []packet.Packet{&packet.Pubrec{PacketID: m.PacketID}, &packet.Pubcomp{PacketID: m.PacketID}}
		}
		if i++; len(completes) > 0 && i < from+10 {
			left[m.PacketID] = completes
		} else {
			done = append(done, completes...)
		}
	}
	for _, completes := range inFlight {
		done = append(done, completes...)
	}
	clear(inFlight)
	maps.Copy(inFlight, left)
	c.send(done...)
}

// TestPacketIDIsFree: after its acknowledgement a packet id stands for a new message, whatever DUP says
// [MQTT-4.3.2-5] [MQTT-4.3.2-2 of 3.1.1] [MQTT-4.3.3-12] [MQTT-4.3.3-9]; before it, with QoS 2, for the same one
// [MQTT-4.3.3-10] [MQTT-4.3.3-11].
func TestPacketIDIsFree(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, func(o *mqtt.Options) { judged(t, o, &guard{}) })
		c := h.connect(t, v, "c", nil)
		for i := range 4 {
			c.send(&packet.Publish{Topic: []byte("one/1"), Payload: fmt.Append(nil, i), QoS: 1, PacketID: 7, Dup: i > 1})
			if p := want[*packet.Puback](c); p.PacketID != 7 || p.Reason.Failed() {
				t.Fatalf("PUBACK %+v", p)
			}
		}
		for i := range 4 {
			c.sends2(7, "two/1", fmt.Sprint(i), i > 1)
			c.sends2(7, "two/1", "the same", true)
			if reason := c.releases(7); reason != packet.Success {
				t.Fatalf("PUBCOMP %s", reason)
			}
		}
		c.send(&packet.Publish{Topic: []byte("nowrite"), QoS: 2, PacketID: 7})
		if p := want[*packet.Pubrec](c); (v == packet.V5) != (p.Reason == packet.NotAuthorized) {
			t.Errorf("PUBREC %s", p.Reason)
		}
		if v == packet.V5 { // it was refused
			c.sends2(7, "three/1", "new", false)
			if n := len(h.records("three")); n != 1 {
				t.Errorf("%d records", n)
			}
		}
		for _, topic := range []string{"one", "two"} {
			if n := len(h.records(topic)); n != 4 {
				t.Errorf("%s has %d records", topic, n)
			}
		}
	})
}

// TestRefusedByReceiver: a PUBACK or PUBREC of 0x80 and above ends a message [MQTT-4.4.0-2]: no PUBREL follows
// [MQTT-4.3.3-4], it does not come again, and makes room for another.
func TestRefusedByReceiver(t *testing.T) {
	h := open(t, nil)
	c, _ := h.comeBack(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetReceiveMaximum(1) })
	c.subscribe(2, "#")
	p := h.connect(t, packet.V5, "p", nil)
	p.published("a/1", "one", false)
	p.sends2(1, "a/1", "two", false)
	p.published("a/1", "three", false)
	c.send(&packet.Puback{PacketID: want[*packet.Publish](c).PacketID, Reason: packet.QuotaExceeded})
	m := want[*packet.Publish](c)
	c.send(&packet.Pubrec{PacketID: m.PacketID, Reason: packet.NotAuthorized})
	if m := want[*packet.Publish](c); string(m.Payload) != "three" {
		t.Fatalf("got %s", m.Payload)
	}
	c.net.Close()
	eventually(t, "it is away", func() bool { return h.door.Stats().Away == 1 })
	c = h.back(t, packet.V5, "c")
	c.gets("a/1", "three")
	c.quiet()
}

// TestUnacknowledged: what was sent stays in flight until it is acknowledged [MQTT-4.3.2-3] [MQTT-4.3.3-3]
// [MQTT-4.3.3-5], and is not sent again on the same connection; then it comes again with its packet id and DUP
// [MQTT-3.3.1-1] [MQTT-3.3.1-1 of 3.1.1] [MQTT-2.3.1-3 of 3.1.1] [MQTT-4.4.0-1] [MQTT-4.4.0-1 of 3.1.1], but after a
// PUBREC as a PUBREL [MQTT-4.3.3-6]. Each PUBREC is answered by a PUBREL of its packet id [MQTT-4.3.3-4]
// [MQTT-2.2.1-5] [MQTT-2.3.1-6 of 3.1.1].
func TestUnacknowledged(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c, _ := h.comeBack(t, v, "c", nil)
		c.subscribe(2, "#")
		p := h.connect(t, v, "p", nil)
		p.published("a/1", "one", false)
		p.sends2(1, "a/1", "two", false)
		p.sends2(2, "a/1", "received", false)
		one := *want[*packet.Publish](c)
		two := *want[*packet.Publish](c)
		received := *want[*packet.Publish](c)
		c.send(&packet.Pubrec{PacketID: received.PacketID})
		for range 3 {
			if rel := want[*packet.Pubrel](c); rel.PacketID != received.PacketID || rel.Reason != packet.Success {
				t.Fatalf("PUBREL %+v", rel)
			}
			c.quiet()
			c.net.Close()
			eventually(t, "it is away", func() bool { return h.door.Stats().Away == 1 })
			c = h.back(t, v, "c")
			for _, was := range []packet.Publish{one, two} {
				m := want[*packet.Publish](c)
				if m.PacketID != was.PacketID || !m.Dup || m.QoS != was.QoS || string(m.Payload) != string(was.Payload) {
					t.Fatalf("%+v came again as %+v", was, m)
				}
			}
		}
		if rel := want[*packet.Pubrel](c); rel.PacketID != received.PacketID {
			t.Fatalf("PUBREL %+v", rel)
		}
		c.send(&packet.Puback{PacketID: one.PacketID}, &packet.Pubcomp{PacketID: received.PacketID})
		c.receives2(two.PacketID)
		c.quiet()
		c.net.Close()
		eventually(t, "it is away", func() bool { return h.door.Stats().Away == 1 })
		h.back(t, v, "c").quiet()
	})
}

// TestWhatWasSentDoesNotExpire: the exchange of a message goes on when it has expired, with who is sent it
// [MQTT-4.3.3-7] and with who sent it [MQTT-4.3.3-13]; who was not sent it does not get it any more [MQTT-3.3.2-5].
func TestWhatWasSentDoesNotExpire(t *testing.T) {
	var ahead atomic.Int64
	h := open(t, func(o *mqtt.Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	c.subscribe(2, "#")
	late, _ := h.comeBack(t, packet.V5, "late", nil)
	late.subscribe(2, "#")
	h.leave(late)
	p := h.connect(t, packet.V5, "p", nil)
	for qos := byte(1); qos <= 2; qos++ {
		m := &packet.Publish{Topic: []byte("a/1"), Payload: fmt.Append(nil, qos), QoS: qos, PacketID: uint16(qos)}
		m.Props.SetMessageExpiry(10)
		p.send(m)
	}
	want[*packet.Puback](p)
	want[*packet.Pubrec](p)
	var ids []uint16
	for range 2 {
		ids = append(ids, want[*packet.Publish](c).PacketID)
	}
	c.net.Close()
	eventually(t, "both are away", func() bool { return h.door.Stats().Away == 2 })
	ahead.Store(int64(20 * time.Second))
	if reason := p.releases(2); reason != packet.Success {
		t.Errorf("PUBCOMP %s", reason)
	}
	c = h.back(t, packet.V5, "c")
	for i, id := range ids {
		if m := want[*packet.Publish](c); m.PacketID != id || !m.Dup || m.Props.MessageExpiry != 0 {
			t.Errorf("message %d came again as %+v", i+1, m)
		}
	}
	c.send(&packet.Puback{PacketID: ids[0]})
	c.receives2(ids[1])
	c.quiet()
	h.back(t, packet.V5, "late").quiet()
}

// TestRetainFlag: what is retained of a topic is the last message with RETAIN [MQTT-3.3.1-5] [MQTT-3.3.1-5 of 3.1.1],
// of any QoS [MQTT-3.3.1-7 of 3.1.1]; one without RETAIN changes nothing [MQTT-3.3.1-8] [MQTT-3.3.1-12 of 3.1.1], and
// one without payload removes it [MQTT-3.3.1-6] [MQTT-3.3.1-10 of 3.1.1] and is not retained itself [MQTT-3.3.1-7]
// [MQTT-3.3.1-11 of 3.1.1]. It outlives the session of who published it [MQTT-3.1.2-7 of 3.1.1].
func TestRetainFlag(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		for _, step := range []struct { // messages, and what is retained then
			payload string
			qos     byte
			retain  bool
			kept    string
		}{
			{"first", 1, true, "first"},
			{"live", 1, false, "first"},
			{"", 1, false, "first"},
			{"second", 2, true, "second"},
			{"third", 0, true, "third"},
			{"", 1, true, ""},
			{"", 0, true, ""},
			{"live", 0, false, ""},
			{"fourth", 0, true, "fourth"},
			{"", 0, true, ""},
		} {
			p := h.connect(t, v, "p", nil)
			p.publishWith(step.qos, step.retain, "r", step.payload)
			p.send(&packet.Disconnect{}) // its session is over
			p.closed()
			c := h.connect(t, v, "", nil)
			c.subscribe(0, "r")
			if step.kept != "" {
				if m := c.gets("r", step.kept); !m.Retain { // [MQTT-3.3.1-8 of 3.1.1]
					t.Error("RETAIN is 0 on what answers a SUBSCRIBE")
				}
			}
			c.quiet()
			c.net.Close()
		}
	})
}

// publishWith publishes with a QoS and waits for the first acknowledgement, if there is one.
func (c *raw) publishWith(qos byte, retain bool, topic, payload string) {
	c.t.Helper()
	m := &packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, Retain: retain}
	if qos > 0 {
		m.PacketID = 9
	}
	if c.send(m); qos == 0 {
		return
	}
	if _, err := c.next(patience); err != nil {
		c.t.Fatal(err)
	}
}

// TestForwarded: what a subscriber gets is what was published: topic name, payload and all properties of the message
// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [MQTT-3.1.3-10],
// byte by byte, and no character of a name is made another [MQTT-4.7.3-4] [MQTT-4.7.3-4 of 3.1.1] [MQTT-1.5.4-3]
// [MQTT-1.5.3-3 of 3.1.1].
func TestForwarded(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c, p, watcher := h.connect(t, v, "c", nil), h.connect(t, v, "p", nil), h.connect(t, v, "watcher", nil)
		watcher.subscribe(0, "#")
		names := []string{"f/a", "f/A", "f/ a", "f//a", "f/a/", "/f/a", "f/å", "f/a\u030a", "f/\ufeffa", "f/\ufeff",
			"f/\uffff", "f/\x01", "f/日本/😀"}
		for _, name := range names {
			c.subscribe(0, name)
			for _, all := range names {
				m := &packet.Publish{Topic: []byte(all), Payload: []byte(all + "\x00\xff")}
				if v == packet.V5 {
					everyProperty(&m.Props)
				}
				p.send(m)
			}
			for range names { // nothing is on its way to who subscribes next
				want[*packet.Publish](watcher)
			}
			got := want[*packet.Publish](c)
			sent := &packet.Publish{Topic: []byte(name), Payload: []byte(name + "\x00\xff")}
			if v == packet.V5 {
				everyProperty(&sent.Props)
			}
			if !bytes.Equal(got.AppendTo(nil, v), sent.AppendTo(nil, v)) {
				t.Errorf("%+v came as %+v", sent, got)
			}
			c.quiet()
			c.send(&packet.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte(name)}})
			want[*packet.Unsuback](c)
		}
	})
}

// everyProperty sets all properties that a message may have from its publisher but its expiry.
func everyProperty(props *packet.Properties) {
	props.SetPayloadFormat(0)
	props.SetContentType([]byte("ä"))
	props.SetResponseTopic([]byte("answers/\ufeff"))
	props.SetCorrelationData([]byte{0, 0xff, 0x80})
	for _, user := range []string{"b", "a", "b", "", "\ufeff"} {
		props.AddUser(user, strings.Repeat(user, 3))
	}
}

// TestTopicAliases: all up to our maximum are taken [MQTT-3.3.2-12], and end with their connection [MQTT-3.3.2-7].
func TestTopicAliases(t *testing.T) {
	h := shared(t)
	watcher := h.connect(t, packet.V5, "watcher", nil)
	watcher.subscribe(0, "alias/#")
	c := h.dial(t)
	c.hello(packet.V5, "c", lasting)
	most := want[*packet.Connack](c).Props.TopicAliasMaximum
	if most == 0 {
		t.Fatal("no topic aliases are taken")
	}
	for _, set := range []bool{true, false} {
		for n := uint16(1); n <= most; n++ {
			m := &packet.Publish{Props: aliasOf(n)}
			if set {
				m.Topic = fmt.Appendf(nil, "alias/%d", n)
			}
			c.send(m)
			watcher.gets(fmt.Sprintf("alias/%d", n), "")
		}
	}
	h.leave(c)
	c = h.back(t, packet.V5, "c")
	c.send(&packet.Publish{Props: aliasOf(1)})
	if d := want[*packet.Disconnect](c); d.Reason != packet.ProtocolError {
		t.Errorf("DISCONNECT %s", d.Reason)
	}
}

// TestFlowControl: with its quota used up a client is sent no message above QoS 0 [MQTT-4.9.0-1] [MQTT-4.9.0-2]
// [MQTT-3.3.4-9], but all else [MQTT-4.9.0-3] [MQTT-3.3.4-10].
func TestFlowControl(t *testing.T) {
	h := open(t, nil)
	for _, most := range []uint16{1, 2, 10} {
		c := h.connect(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetReceiveMaximum(most) })
		c.subscribe(1, "flow/1")
		p := h.connect(t, packet.V5, "p", nil)
		for i := range 2 * most {
			p.published("flow/1", fmt.Sprint(i), false)
		}
		var ids []uint16
		for i := range most {
			m := want[*packet.Publish](c)
			if string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("got %s, want %d", m.Payload, i)
			}
			ids = append(ids, m.PacketID)
		}
		c.quiet()
		c.subscribe(0, "flow/other")
		c.publish(1, 1, "flow/own", "x")
		want[*packet.Puback](c)
		c.publish(2, 2, "flow/own", "x")
		want[*packet.Pubrec](c)
		c.send(&packet.Puback{PacketID: ids[0]})
		want[*packet.Publish](c)
		c.quiet()
		c.net.Close()
	}
}

// TestOrder: messages of one client, topic and QoS come in their order [MQTT-4.6.0-5] [MQTT-4.6.0-6 of 3.1.1], and so
// does every topic [MQTT-4.6.0-6] [MQTT-4.6.0-5 of 3.1.1], to every session that subscribed to it [MQTT-4.5.0-1]
// [MQTT-4.5.0-1 of 3.1.1].
func TestOrder(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		const count, subscribers = 300, 3
		var subs [subscribers]*raw
		for i := range subs {
			subs[i] = h.connect(t, v, "", nil)
			subs[i].subscribe(byte(i), "o/+")
		}
		p := h.connect(t, v, "p", nil)
		for i := range count {
			for topic := range 2 {
				p.send(&packet.Publish{Topic: fmt.Appendf(nil, "o/%d", topic), Payload: fmt.Append(nil, i), QoS: 1, PacketID: 1})
				want[*packet.Puback](p)
			}
		}
		for i, c := range subs {
			next := [2]int{}
			for range 2 * count {
				m := want[*packet.Publish](c)
				topic := m.Topic[2] - '0'
				if string(m.Payload) != fmt.Sprint(next[topic]) || int(m.QoS) != min(i, 1) {
					t.Fatalf("%s = %s, QoS %d; want %d", m.Topic, m.Payload, m.QoS, next[topic])
				}
				if next[topic]++; m.QoS > 0 {
					c.send(&packet.Puback{PacketID: m.PacketID})
				}
			}
			c.quiet()
		}
	})
}
