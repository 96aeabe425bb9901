package mqtt_test

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/rewrite"
)

// TestRewrite: topics of PUBLISH, wills, SUBSCRIBE and UNSUBSCRIBE are those that the rules make of them.
func TestRewrite(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, func(o *mqtt.Options) {
			o.Rewrite = []rewrite.Rule{
				{Action: rewrite.All, From: "old/#", Match: `^old/(.+)$`, To: "new/$1"},
				{Action: rewrite.Publish, From: "mine/#", Match: `^mine/(.+)$`, To: "of/${clientid}/$1"},
				{Action: rewrite.Publish, From: "soon/#", Match: `^soon/(.+)$`, To: "$delayed/0/new/$1"},
				{Action: rewrite.Publish, From: "bad/#", Match: `^bad/(.+)$`, To: "bad/#"},
			}
		})
		sub := h.connect(t, v, "sub", nil)
		sub.subscribe(1, "old/+", "of/#")
		pub := h.connect(t, v, "pub", func(p *packet.Connect) {
			p.Will = &packet.Will{Topic: []byte("old/will"), Payload: []byte("dead"), QoS: 1}
		})
		pub.published("old/1", "a", false)
		sub.gets("new/1", "a")
		pub.published("new/1", "b", false)
		sub.gets("new/1", "b")
		pub.published("mine/x", "c", false)
		sub.gets("of/pub/x", "c")
		pub.published("soon/2", "d", false)
		sub.gets("new/2", "d")
		if v == packet.V5 {
			pub.publish(1, 9, "bad/1", "x")
			if ack := want[*packet.Puback](pub); ack.Reason != packet.TopicNameInvalid {
				t.Errorf("PUBACK %s", ack.Reason)
			}
		}
		pub.net.Close()
		sub.gets("new/will", "dead")
		sub.send(&packet.Unsubscribe{PacketID: 5, Filters: [][]byte{[]byte("old/+")}})
		if ack := want[*packet.Unsuback](sub); v == packet.V5 && ack.Reasons[0] != packet.Success {
			t.Errorf("UNSUBACK %s", ack.Reasons[0])
		}
		h.connect(t, v, "pub", nil).published("old/1", "e", false)
		sub.quiet()
		if n := len(h.records("old")); n > 0 {
			t.Errorf("%d records of old topics", n)
		}
	})
}

// TestAutoSubscribe: a client gets what it is subscribed to unasked, and no SUBACK; once it has it, nothing is new.
func TestAutoSubscribe(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, func(o *mqtt.Options) {
			o.AutoSubscribe = []mqtt.AutoSubscription{
				{Filter: "to/${clientid}/#", QoS: 1}, {Filter: "for/${username}/#", QoS: 1}, {Filter: "all", QoS: 0},
			}
		})
		pub := h.connect(t, v, "pub", nil)
		pub.published("to/c/config", "kept", true)
		c, _ := h.comeBack(t, v, "c", nil)
		if p := c.gets("to/c/config", "kept"); !p.Retain || p.QoS != 1 {
			t.Errorf("got %+v", p)
		}
		c.quiet()
		pub.published("to/c/1", "live", false)
		c.gets("to/c/1", "live")
		c.quiet()
		h.leave(c)
		pub.published("to/c/1", "missed", false)
		c = h.back(t, v, "c")
		c.gets("to/c/1", "missed")
		c.quiet() // what is retained does not come again
		odd := h.connect(t, v, "a/+", func(p *packet.Connect) { p.HasUserName, p.UserName = true, []byte("u") })
		pub.published("to/a/x", "not for it", false)
		pub.published("for/u/1", "for the user", false)
		odd.gets("for/u/1", "for the user")
		pub.publish(0, 0, "all", "x")
		if p := odd.gets("all", "x"); p.QoS != 0 {
			t.Errorf("got %+v", p)
		}
	})
}

// TestSetRewriting: other rules hold for what clients say from then on, and who connects; what they have subscribed to
// stays.
func TestSetRewriting(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		sub, pub := h.connect(t, v, "sub", nil), h.connect(t, v, "pub", nil)
		sub.subscribe(1, "old/+", "new/+")
		pub.published("old/1", "a", false)
		sub.gets("old/1", "a")
		r, err := mqtt.NewRewriting([]rewrite.Rule{
			{Action: rewrite.All, From: "old/#", Match: `^old/(.+)$`, To: "new/$1"},
		}, []mqtt.AutoSubscription{{Filter: "new/+"}})
		if err != nil {
			t.Fatal(err)
		}
		h.door.SetRewriting(r)
		pub.published("old/1", "b", false)
		sub.gets("new/1", "b")
		late := h.connect(t, v, "late", nil)
		pub.published("old/1", "c", false)
		late.gets("new/1", "c")
		sub.gets("new/1", "c")
		if _, err := mqtt.NewRewriting([]rewrite.Rule{{From: "a/#/b"}}, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("a wrong rule: %v", err)
		}
	})
}
