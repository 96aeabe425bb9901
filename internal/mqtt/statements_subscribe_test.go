package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// SUBSCRIBE, UNSUBSCRIBE and their answers, and what filters match: sections 3.8 to 3.11 and 4.7.

// TestSubscribeForm: the bytes of SUBSCRIBE, and the SUBACK that answers it [MQTT-3.8.4-1] [MQTT-3.8.4-1 of 3.1.1].
func TestSubscribeForm(t *testing.T) {
	const malformed, wrong = "e0 01 81", "e0 01 82"
	shared(t).exchange(t, []exchange{
		// [MQTT-2.2.1-6] [MQTT-2.3.1-7 of 3.1.1] [MQTT-3.8.4-2] [MQTT-3.8.4-2 of 3.1.1]
		{"one filter", "82 07 1234 00 0001 61 01", "+ 90 04 1234 00 01", "82 06 1234 0001 61 01", "+ 90 03 1234 01"},
		// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.2.2-10] [MQTT-3.8.4-4 of 3.1.1]
		// [MQTT-3.8.4-5 of 3.1.1] [MQTT-3.9.3-1 of 3.1.1]
		{"many filters", "82 0f 0001 00 0001 61 02 0001 62 00 0001 63 01", "+ 90 06 0001 00 02 00 01",
			"82 0e 0001 0001 61 02 0001 62 00 0001 63 01", "+ 90 05 0001 02 00 01"},
		// [MQTT-3.8.1-1] [MQTT-3.8.1-1 of 3.1.1]
		{"flags 0", "80 07 0001 00 0001 61 01", malformed, "80 06 0001 0001 61 01", ""},
		{"flags 3", "83 07 0001 00 0001 61 01", malformed, "83 06 0001 0001 61 01", ""},
		{"flags 10", "8a 07 0001 00 0001 61 01", malformed, "8a 06 0001 0001 61 01", ""},
		// [MQTT-2.2.1-3] [MQTT-2.3.1-1 of 3.1.1]
		{"packet id 0", "82 07 0000 00 0001 61 01", wrong, "82 06 0000 0001 61 01", ""},
		// [MQTT-3.8.3-1] [MQTT-3.8.3-1 of 3.1.1] [MQTT-4.7.3-2] [MQTT-4.7.3-2 of 3.1.1]
		{"a filter that is no UTF-8", "82 07 0001 00 0001 ff 01", malformed, "82 06 0001 0001 ff 01", ""},
		{"a filter with U+0000", "82 07 0001 00 0001 00 01", malformed, "82 06 0001 0001 00 01", ""},
		// [MQTT-4.7.1-1] [MQTT-4.7.1-2 of 3.1.1] [MQTT-4.7.1-2] [MQTT-4.7.1-3 of 3.1.1]
		{"# that is not the last level", "82 09 0001 00 0003 232f61 01", malformed, "82 08 0001 0003 232f61 01", ""},
		{"# that is no level", "82 08 0001 00 0002 6123 01", malformed, "82 07 0001 0002 6123 01", ""},
		{"+ that is no level", "82 08 0001 00 0002 612b 01", malformed, "82 07 0001 0002 612b 01", ""},
		// [MQTT-3.8.3-2] [MQTT-3.8.3-3 of 3.1.1] [MQTT-4.7.3-1] [MQTT-4.7.3-1 of 3.1.1]
		{"no filter", "82 03 0001 00", wrong, "82 02 0001", ""},
		{"an empty filter", "82 06 0001 00 0000 01", malformed, "82 05 0001 0000 01", ""},
		// [MQTT-3.8.3-5] [MQTT-3.8.3-4 of 3.1.1]
		{"a reserved bit", "82 07 0001 00 0001 61 41", malformed, "82 06 0001 0001 61 41", ""},
		{"the other reserved bit", "82 07 0001 00 0001 61 81", malformed, "82 06 0001 0001 61 81", ""},
		{"No Local", "82 07 0001 00 0001 61 05", "+ 90 04 0001 00 01", "82 06 0001 0001 61 05", ""},
		{"QoS 3", "82 07 0001 00 0001 61 03", wrong, "82 06 0001 0001 61 03", ""},
		// [MQTT-3.8.3-4]
		{"No Local on a share", "82 10 0001 00 000a 2473686172652f672f61 05", wrong, "", ""},
	})
}

// TestUnsubscribeForm: the bytes of UNSUBSCRIBE, and the UNSUBACK that answers it [MQTT-3.10.4-4]
// [MQTT-3.10.4-4 of 3.1.1].
func TestUnsubscribeForm(t *testing.T) {
	const malformed, wrong = "e0 01 81", "e0 01 82"
	shared(t).exchange(t, []exchange{
		// [MQTT-2.2.1-6] [MQTT-2.3.1-7 of 3.1.1] [MQTT-3.10.4-5] [MQTT-3.10.4-5 of 3.1.1]
		{"a filter that is not there", "a2 06 1234 00 0001 61", "+ b0 04 1234 00 11",
			"a2 05 1234 0001 61", "+ b0 02 1234"},
		// [MQTT-3.10.4-1] [MQTT-3.10.4-6] [MQTT-3.10.4-6 of 3.1.1] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
		{"many filters", "82 0b 0001 00 0001 61 01 0001 62 01  a2 0f 0002 00 0001 41 0001 62 0001 2b 0001 61",
			"+ 90 05 0001 00 01 01  b0 07 0002 00 11 00 11 00",
			"82 0a 0001 0001 61 01 0001 62 01  a2 0e 0002 0001 41 0001 62 0001 2b 0001 61",
			"+ 90 04 0001 01 01  b0 02 0002"},
		// [MQTT-3.10.1-1] [MQTT-3.10.1-1 of 3.1.1]
		{"flags 0", "a0 06 0001 00 0001 61", malformed, "a0 05 0001 0001 61", ""},
		{"flags 3", "a3 06 0001 00 0001 61", malformed, "a3 05 0001 0001 61", ""},
		// [MQTT-2.2.1-3] [MQTT-2.3.1-1 of 3.1.1]
		{"packet id 0", "a2 06 0000 00 0001 61", wrong, "a2 05 0000 0001 61", ""},
		// [MQTT-3.10.3-1] [MQTT-3.10.3-1 of 3.1.1]
		{"a filter that is no UTF-8", "a2 06 0001 00 0001 ff", malformed, "a2 05 0001 0001 ff", ""},
		{"a filter with U+0000", "a2 06 0001 00 0001 00", malformed, "a2 05 0001 0001 00", ""},
		// [MQTT-3.10.3-2] [MQTT-3.10.3-2 of 3.1.1]
		{"no filter", "a2 03 0001 00", wrong, "a2 02 0001", ""},
	})
}

// TestRefusedFilters: each filter has its own answer [MQTT-3.8.4-7] [MQTT-3.9.3-2], which in 3.1.1 knows one failure
// [MQTT-3.9.3-2 of 3.1.1] [MQTT-3.8.4-5 of 3.1.1].
func TestRefusedFilters(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, func(o *mqtt.Options) { judged(t, o, &guard{}) })
		c := h.connect(t, v, "c", nil)
		denied := packet.NotAuthorized
		if v != packet.V5 {
			denied = packet.UnspecifiedError
		}
		got := c.subscribe(2, "a", "nosubscribe", "b/#", "nosubscribe/+", "+").Reasons
		if want := []packet.ReasonCode{2, denied, 2, denied, 2}; !slices.Equal(got, want) {
			t.Errorf("SUBACK %v, want %v", got, want)
		}
	})
}

// TestGrantedQoS: a message comes with the smaller of its QoS and the one granted [MQTT-3.8.4-8]
// [MQTT-3.8.4-6 of 3.1.1].
func TestGrantedQoS(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		p := h.connect(t, v, "p", nil)
		for granted := range byte(3) {
			c := h.connect(t, v, "", nil)
			c.subscribe(granted, "g")
			for qos := range byte(3) {
				p.publishWith(qos, false, "g", "x")
				if qos == 2 {
					p.releases(9)
				}
				m := c.gets("g", "x")
				if m.QoS != min(qos, granted) {
					t.Errorf("QoS %d came with %d, granted %d", qos, m.QoS, granted)
				}
				if m.QoS == 2 {
					c.receives2(m.PacketID)
				}
			}
		}
	})
}

// TestSubscribeAgain: a filter that is there is replaced [MQTT-3.8.4-3] [MQTT-3.8.4-3 of 3.1.1]: there is one
// subscription, with the new QoS; what is retained comes again, as Retain Handling asks.
func TestSubscribeAgain(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c, p := h.connect(t, v, "c", nil), h.connect(t, v, "p", nil)
		p.published("s/1", "kept", true)
		for i, qos := range []byte{0, 1, 0, 1} {
			if ack := c.subscribe(qos, "s/+"); ack.Reasons[0] != packet.ReasonCode(qos) {
				t.Fatalf("SUBACK %v", ack.Reasons)
			}
			if m := c.gets("s/1", "kept"); !m.Retain || m.QoS != qos { // [MQTT-3.3.1-6 of 3.1.1] [MQTT-3.3.1-9]
				t.Errorf("%+v", m)
			}
			p.published("s/2", fmt.Sprint(i), false)
			if m := c.gets("s/2", fmt.Sprint(i)); m.QoS != qos {
				t.Errorf("%+v", m)
			}
			c.quiet()
		}
		c.send(&packet.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("s/+")}})
		want[*packet.Unsuback](c)
		p.published("s/2", "not any more", false)
		c.quiet()
	})
}

// TestUnsubscribe: the filter that is the same, character by character, is gone [MQTT-3.10.4-1]
// [MQTT-3.10.4-1 of 3.1.1]; nothing new comes by it [MQTT-3.10.4-2] [MQTT-3.10.4-2 of 3.1.1], and what is in flight is
// completed [MQTT-3.10.4-3] [MQTT-3.10.4-3 of 3.1.1].
func TestUnsubscribe(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c, _ := h.comeBack(t, v, "c", nil)
		p := h.connect(t, v, "p", nil)
		c.subscribe(2, "u/a", "u/+/x", "other")
		p.published("u/a", "one", false)
		p.sends2(1, "u/a", "two", false)
		one := want[*packet.Publish](c).PacketID
		two := want[*packet.Publish](c).PacketID
		for _, filter := range []string{"u/A", "u/+", "u/#", "u/a/", "u/å"} {
			c.send(&packet.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte(filter)}})
			want[*packet.Unsuback](c)
		}
		p.publish(0, 0, "u/a", "still there")
		c.gets("u/a", "still there")
		c.send(&packet.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("u/a"), []byte("u/+/x")}})
		want[*packet.Unsuback](c)
		p.published("u/a", "not any more", false)
		p.published("u/b/x", "nor this", false)
		p.published("other", "other", false)
		c.gets("other", "other")
		c.net.Close()
		eventually(t, "it is away", func() bool { return h.door.Stats().Away == 1 })
		c = h.back(t, v, "c")
		if m := want[*packet.Publish](c); m.PacketID != one || !m.Dup || string(m.Payload) != "one" {
			t.Fatalf("%+v", m)
		}
		if m := want[*packet.Publish](c); m.PacketID != two || !m.Dup || string(m.Payload) != "two" {
			t.Fatalf("%+v", m)
		}
		c.send(&packet.Puback{PacketID: one})
		c.receives2(two)
		c.quiet()
	})
}

// TestOverlap: who has several filters that match gets one copy, with the highest QoS of them [MQTT-3.3.4-2]
// [MQTT-3.3.5-1 of 3.1.1] and all their identifiers [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5].
func TestOverlap(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c, p := h.connect(t, v, "c", nil), h.connect(t, v, "p", nil)
		for i, filter := range []string{"o/#", "o/+", "o/x", "+/x", "o/y"} {
			s := &packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte(filter), QoS: byte(i % 3)}}}
			if v == packet.V5 && i > 0 {
				s.Props.AddSubscriptionID(uint32(i))
			}
			c.send(s)
			want[*packet.Suback](c)
		}
		for topic, ids := range map[string]string{"o/x": "[1 2 3]", "o/y": "[1 4]", "o/x/y": "[]"} {
			p.sends2(1, topic, "x", false)
			p.releases(1)
			m := want[*packet.Publish](c)
			got := slices.Sorted(slices.Values(m.Props.SubscriptionIDs))
			most := map[string]byte{"o/x": 2, "o/y": 1, "o/x/y": 0}[topic]
			if m.QoS != most || v == packet.V5 && fmt.Sprint(got) != ids {
				t.Errorf("%s came with QoS %d, identifiers %v", topic, m.QoS, got)
			}
			switch m.QoS {
			case 1:
				c.send(&packet.Puback{PacketID: m.PacketID})
			case 2:
				c.receives2(m.PacketID)
			}
			c.quiet()
		}
	})
}

// TestFiltersMatch: what a subscriber gets matches its filter [MQTT-3.3.2-3] [MQTT-3.3.2-3 of 3.1.1], with wildcards
// [MQTT-3.8.3-2 of 3.1.1]. No level is left out, trimmed or made another [MQTT-4.7.3-4] [MQTT-4.7.3-4 of 3.1.1].
func TestFiltersMatch(t *testing.T) {
	names := []string{"m", "m/", "m//", "m/a", "m/A", "m/a ", "m/a/", "m/a/b", "m/å"} // of one log topic: in order
	h := open(t, nil)
	p := h.connect(t, packet.V5, "p", nil)
	every(t, func(t *testing.T, v packet.Version) {
		for filter, matches := range map[string]string{
			"#": strings.Join(names, ","), "m/#": strings.Join(names, ","),
			"+": "m", "m": "m", "+/+": "m/,m/a,m/A,m/a ,m/å", "m/+": "m/,m/a,m/A,m/a ,m/å", "m/": "m/", "+/": "m/",
			"m//": "m//", "m/+/": "m//,m/a/", "+/+/+": "m//,m/a/,m/a/b", "m/a": "m/a", "m/a/#": "m/a,m/a/,m/a/b",
			"m/+/#": "m/,m//,m/a,m/A,m/a ,m/a/,m/a/b,m/å", "+/A": "m/A", "m/a ": "m/a ", "M": "", "/m": "", " m": "",
			"m/a/b/#": "m/a/b", "m/a/b/+": "", "m/a\u030a": "", "$m/#": "",
		} {
			c := h.connect(t, v, "", nil)
			c.subscribe(0, filter, "m/end")
			for _, name := range append(names, "m/end") {
				p.publish(0, 0, name, name)
			}
			var got []string
			for {
				name := string(want[*packet.Publish](c).Topic)
				if name == "m/end" {
					break
				}
				got = append(got, name)
			}
			if strings.Join(got, ",") != matches {
				t.Errorf("%q got %q, want %q", filter, got, matches)
			}
			c.net.Close()
		}
	})
}
