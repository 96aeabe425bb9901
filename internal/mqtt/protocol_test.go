package mqtt_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestPayloadFormat: a payload that is said to be UTF-8 has to be, in a message and in a will.
func TestPayloadFormat(t *testing.T) {
	h := open(t, nil)
	c := h.connect(t, packet.V5, "", nil)
	c.subscribe(1, "format/#")
	for _, test := range []struct {
		payload string
		format  byte
		reason  packet.ReasonCode
	}{
		{"grüße", 1, packet.Success},
		{"", 1, packet.Success},
		{"\x00 is a character", 1, packet.Success},
		{"\xff", 0, packet.Success},
		{"\xff", 1, packet.PayloadFormatInvalid},
		{"surrogate \xed\xa0\x80", 1, packet.PayloadFormatInvalid},
		{"cut \xc3", 1, packet.PayloadFormatInvalid},
	} {
		p := &packet.Publish{Topic: []byte("format/1"), Payload: []byte(test.payload), QoS: 1, PacketID: 9}
		p.Props.SetPayloadFormat(test.format)
		c.send(p)
		answers := 1
		if test.reason == packet.Success {
			answers = 2 // it comes back
		}
		for range answers {
			got, err := c.next(patience)
			if err != nil {
				t.Fatal(err)
			}
			switch got := got.(type) {
			case *packet.Puback:
				if got.Reason != test.reason {
					t.Errorf("PUBACK %s for %q, format %d", got.Reason, test.payload, test.format)
				}
			case *packet.Publish:
				if string(got.Payload) != test.payload || got.Props.PayloadFormat != test.format {
					t.Errorf("%q of format %d came as %q, %d", test.payload, test.format, got.Payload, got.Props.PayloadFormat)
				}
				c.send(&packet.Puback{PacketID: got.PacketID})
			}
		}
		if p.QoS, p.PacketID = 0, 0; test.reason != packet.Success {
			c.send(p) // it is dropped
			c.quiet()
		}
	}
	will := h.dial(t)
	will.hello(packet.V5, "", func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte("format/will"), Payload: []byte("\xff")}
		p.Will.Props.SetPayloadFormat(1)
	})
	if ack := want[*packet.Connack](will); ack.Reason != packet.PayloadFormatInvalid {
		t.Errorf("CONNACK %s for a will that is no UTF-8", ack.Reason)
	}
	will.closed()
}

// TestResponseInformation: who asks for it gets a place for its answers, nobody else [MQTT-3.1.2-28], and nobody for
// whom CONNACK would be too large.
func TestResponseInformation(t *testing.T) {
	with := open(t, func(o *mqtt.Options) { o.ResponsePrefix = "answers/" })
	without := open(t, nil)
	for _, test := range []struct {
		name, id string
		house    *house
		asks     int // 0, 1, or -1: it does not say
		takes    uint32
		want     string
	}{
		{"asked for", "me", with, 1, 0, "answers/me"},
		{"any client identifier", "50%+#/$x", with, 1, 0, "answers/50%25%2B%23%2F%24x"},
		{"not asked for", "me", with, 0, 0, ""},
		{"nothing said", "me", with, -1, 0, ""},
		{"too large", strings.Repeat("x", 100), with, 1, 100, ""},
		{"far too large", strings.Repeat("+", 30_000), with, 1, 0, ""},
		{"there is none", "me", without, 1, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.house.dial(t)
			c.hello(packet.V5, test.id, func(p *packet.Connect) {
				if test.asks >= 0 {
					p.Props.SetRequestResponseInfo(byte(test.asks))
				}
				if test.takes > 0 {
					p.Props.SetMaximumPacketSize(test.takes)
				}
			})
			ack := want[*packet.Connack](c)
			if got := string(ack.Props.ResponseInfo); ack.Reason != packet.Success || got != test.want {
				t.Errorf("CONNACK %s, response information %.100q, want %q", ack.Reason, got, test.want)
			}
		})
	}
}

// TestReasonStrings: a CONNACK that refuses says why unless the client does not want to know, a DISCONNECT if the
// client asks for it, and both only if it fits
// [MQTT-3.2.2-19] [MQTT-3.14.2-3] [MQTT-3.2.2-20] [MQTT-3.14.2-4]; the server's DISCONNECT says no more
// [MQTT-3.14.2-2].
func TestReasonStrings(t *testing.T) {
	h := open(t, nil)
	for _, test := range []struct {
		name    string
		change  func(*packet.Connect)
		refused bool // CONNACK says why
		ended   bool // DISCONNECT does
	}{
		{"nothing asked", func(*packet.Connect) {}, true, false},
		{"asked for", func(p *packet.Connect) { p.Props.SetRequestProblemInfo(1) }, true, true},
		{"not wanted", quietly, false, false},
		{"too large", func(p *packet.Connect) {
			p.Props.SetRequestProblemInfo(1)
			p.Props.SetMaximumPacketSize(40)
		}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := h.dial(t)
			c.hello(packet.V5, "", func(p *packet.Connect) {
				withMethod("a method that nobody has")(p)
				test.change(p)
			})
			ack := want[*packet.Connack](c)
			if ack.Reason != packet.BadAuthenticationMethod || (len(ack.Props.ReasonString) > 0) != test.refused ||
				ack.Props.Has(packet.PropUser) {
				t.Errorf("CONNACK %s, %q", ack.Reason, ack.Props.ReasonString)
			}
			c = h.connect(t, packet.V5, "me", test.change)
			c.send(&packet.Publish{Topic: []byte("a"), QoS: 0, Props: aliasOf(1000)})
			p := want[*packet.Disconnect](c)
			if p.Reason != packet.TopicAliasInvalid || (len(p.Props.ReasonString) > 0) != test.ended ||
				p.Props.Has(packet.PropUser) || p.Props.Has(packet.PropSessionExpiry) {
				t.Errorf("DISCONNECT %s, %q", p.Reason, p.Props.ReasonString)
			}
		})
	}
}

func aliasOf(n uint16) (props packet.Properties) {
	props.SetTopicAlias(n)
	return props
}

// TestNoReasonStringsInAnswers: what answers a client says what went wrong by its code only, so that it has neither a
// reason string nor user properties that could be too large or unwanted [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.4.2-3]
// [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.6.2-2]
// [MQTT-3.6.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.15.2-2] [MQTT-3.15.2-3].
func TestNoReasonStringsInAnswers(t *testing.T) {
	h := open(t, riddles(t))
	c := h.dial(t)
	c.hello(packet.V5, "me", withMethod("RIDDLE"))
	plain := func(props *packet.Properties) {
		t.Helper()
		if props.Has(packet.PropReasonString) || props.Has(packet.PropUser) {
			t.Errorf("%+v", props)
		}
	}
	plain(&want[*packet.Auth](c).Props)
	c.send(authPacket(packet.ContinueAuthentication, "RIDDLE", "me"))
	want[*packet.Connack](c)
	c.publish(1, 1, "$SYS/x", "refused")
	plain(&want[*packet.Puback](c).Props)
	plain(&c.subscribe(1, strings.Repeat("/", 300)).Props)
	c.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("never")}})
	plain(&want[*packet.Unsuback](c).Props)
	c.send(&packet.Pubrel{PacketID: 4})
	plain(&want[*packet.Pubcomp](c).Props)
	c.send(&packet.Pubrec{PacketID: 5})
	plain(&want[*packet.Pubrel](c).Props)
}

// TestRedirect sends clients to another server.
func TestRedirect(t *testing.T) {
	for _, test := range []struct {
		redirect mqtt.Redirect
		reason   packet.ReasonCode
	}{{mqtt.RedirectForNow, packet.UseAnotherServer}, {mqtt.RedirectForGood, packet.ServerMoved}} {
		t.Run(test.reason.String(), func(t *testing.T) {
			h := open(t, func(o *mqtt.Options) { o.ServerReference, o.Redirect = "other.example:1883", test.redirect })
			c := h.dial(t)
			c.hello(packet.V5, "", nil)
			ack := want[*packet.Connack](c)
			if ack.Reason != test.reason || string(ack.Props.ServerReference) != "other.example:1883" {
				t.Errorf("CONNACK %s, server reference %q", ack.Reason, ack.Props.ServerReference)
			}
			c.closed()
			c = h.dial(t)
			c.hello(packet.V311, "", nil)
			if ack := want[*packet.Connack](c); ack.Reason != packet.ServerUnavailable {
				t.Errorf("CONNACK %s for MQTT 3.1.1", ack.Reason)
			}
			c.closed()
		})
	}
	t.Run("at the end", func(t *testing.T) {
		h := open(t, func(o *mqtt.Options) { o.ServerReference = "other.example:1883" })
		c, small := h.connect(t, packet.V5, "c", nil), h.connect(t, packet.V5, "s", func(p *packet.Connect) {
			p.Props.SetMaximumPacketSize(24) // one byte too few
		})
		if err := h.door.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		p := want[*packet.Disconnect](c)
		if p.Reason != packet.UseAnotherServer || string(p.Props.ServerReference) != "other.example:1883" {
			t.Errorf("DISCONNECT %s, server reference %q", p.Reason, p.Props.ServerReference)
		}
		if p := want[*packet.Disconnect](small); p.Reason != packet.ServerShuttingDown {
			t.Errorf("DISCONNECT %s", p.Reason)
		}
	})
}

// TestSubackFits: SUBACK has a reason string only where it fits, whichever filter it is for [MQTT-3.9.2-1]
// [MQTT-3.9.2-2].
func TestSubackFits(t *testing.T) {
	h := open(t, nil)
	subscribe := &packet.Subscribe{PacketID: 1}
	for i := range 60 {
		filter := fmt.Sprint(i)
		if i == 0 {
			filter = "$replay/soon/a" // refused in words
		}
		subscribe.Subscriptions = append(subscribe.Subscriptions, packet.Subscription{Filter: []byte(filter)})
	}
	said := map[bool]int{}
	const bare = 2 + 2 + 1 + 60
	for most := uint32(bare); most < 3*bare; most++ {
		c := h.connect(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetMaximumPacketSize(most) })
		c.send(subscribe)
		ack := want[*packet.Suback](c)
		if size := ack.Size(packet.V5); size > int(most) || ack.Props.Has(packet.PropUser) {
			t.Fatalf("SUBACK of %d bytes, %d may be", size, most)
		}
		said[ack.Props.Has(packet.PropReasonString)]++
	}
	if said[true] == 0 || said[false] == 0 {
		t.Errorf("with and without a reason string: %v", said)
	}
}

// blunt is a mechanism that refuses with the reason code that the client sends, or accepts it.
type blunt struct{}

func (blunt) Begin(*mqtt.Principal, netip.Addr) mqtt.Exchange { return blunt{} }

func (blunt) Step(_ context.Context, data []byte) (answer []byte, done bool, err error) {
	if data[0] == 0 {
		return nil, true, nil
	}
	return nil, false, &packet.Error{Reason: packet.ReasonCode(data[0]), Detail: "as you wish"}
}

// TestReasonsOfEnd: whatever a connection ends for, CONNACK [MQTT-3.2.2-8] and DISCONNECT [MQTT-3.14.2-1] have a reason
// code of their own: the client's decoder is strict.
func TestReasonsOfEnd(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.Mechanisms = map[string]mqtt.Mechanism{"BLUNT": blunt{}} })
	asks := func(reason packet.ReasonCode) func(*packet.Connect) {
		return func(p *packet.Connect) {
			p.Props.SetAuthMethod([]byte("BLUNT"))
			p.Props.SetAuthData([]byte{byte(reason)})
		}
	}
	for reason := packet.UnspecifiedError; reason <= packet.WildcardSubscriptionsNotSupported; reason++ {
		c := h.dial(t)
		c.hello(packet.V5, "me", asks(reason))
		if ack := want[*packet.Connack](c); !ack.Reason.Failed() {
			t.Errorf("CONNACK %s for %s", ack.Reason, reason)
		}
		c = h.connect(t, packet.V5, "me", asks(packet.Success))
		c.send(authPacket(packet.ReAuthenticate, "BLUNT", string([]byte{byte(reason)})))
		if p := want[*packet.Disconnect](c); !p.Reason.Failed() {
			t.Errorf("DISCONNECT %s for %s", p.Reason, reason)
		}
		c.closed()
	}
}

// TestUnstoredSubscription: a subscription that the log does not take ends the connection of a session that lasts, with
// a reason code that says to come again.
func TestUnstoredSubscription(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMemory())
	h := openOn(t, disk, nil, "commit failed", "housekeeping of the log failed")
	defer h.stop()
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	for _, op := range []vfs.OpKind{vfs.OpWrite, vfs.OpPreallocate} {
		disk.Inject(vfs.Fault{On: op, Times: -1, Kind: fault.Full})
	}
	c.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("a")}}})
	if p := want[*packet.Disconnect](c); p.Reason != packet.ServerBusy {
		t.Errorf("DISCONNECT %s", p.Reason)
	}
	c.closed()
	disk.Heal()
}
