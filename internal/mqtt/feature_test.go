package mqtt_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

func TestRetained(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		fs := vfs.NewMemory()
		h := openOn(t, fs, nil)
		pub := h.connect(t, v, "pub", nil)
		pub.published("a/1", "first", true)
		pub.published("a/1", "second", true)
		pub.published("a/2", "gone", true)
		pub.published("a/2", "", true)
		pub.published("b", "not asked for", true)
		check := func(h *house) {
			t.Helper()
			sub := h.connect(t, v, "sub", nil)
			sub.subscribe(1, "a/#")
			if p := sub.gets("a/1", "second"); !p.Retain || p.QoS != 1 {
				t.Errorf("retained message came as %+v", p)
			}
			sub.quiet()
		}
		check(h)
		h.stop()
		h = openOn(t, fs, nil)
		defer h.stop()
		if n := h.door.Stats().Retained; n != 2 {
			t.Errorf("%d retained messages after a restart, want 2", n)
		}
		check(h)
	})
}

func TestRetainedIsVisibleRightAfterPuback(t *testing.T) {
	h := open(t, nil)
	pub, sub := h.connect(t, packet.V5, "pub", nil), h.connect(t, packet.V5, "sub", nil)
	for i := range 200 {
		topic := fmt.Sprintf("now/%d", i)
		pub.published(topic, "set", true)
		sub.subscribe(0, topic)
		sub.gets(topic, "set")
		pub.published(topic, "", true)
		sub.gets(topic, "") // live
		sub.subscribe(0, topic)
		sub.quiet()
	}
}

func TestManyRetainedInASmallWindow(t *testing.T) {
	h := open(t, nil)
	const count = 5000
	pub := h.connect(t, packet.V311, "pub", nil)
	go func() {
		for i := range count {
			topic := fmt.Appendf(nil, "kept/%d", i)
			pub.send(&packet.Publish{Topic: topic, Payload: []byte("y"), QoS: 1, PacketID: uint16(i + 1), Retain: true})
		}
	}()
	for range count {
		want[*packet.Puback](pub)
	}
	sub := h.connect(t, packet.V5, "sub", func(p *packet.Connect) { p.Props.SetReceiveMaximum(10) })
	sub.subscribe(1, "kept/#")
	seen := map[string]bool{}
	for range count {
		p := want[*packet.Publish](sub)
		if !p.Retain || p.QoS != 1 || seen[string(p.Topic)] {
			t.Fatalf("%+v, seen %v", p, seen[string(p.Topic)])
		}
		seen[string(p.Topic)] = true
		sub.send(&packet.Puback{PacketID: p.PacketID})
	}
	sub.quiet()
}

// TestRetainHandlingAndRetainAsPublished sends what is retained as Retain Handling asks: always [MQTT-3.3.1-9], for a
// new subscription [MQTT-3.3.1-10], never [MQTT-3.3.1-11]; and RETAIN as Retain As Published asks [MQTT-3.3.1-12]
// [MQTT-3.3.1-13].
func TestRetainHandlingAndRetainAsPublished(t *testing.T) {
	h := open(t, nil)
	pub, sub := h.connect(t, packet.V5, "pub", nil), h.connect(t, packet.V5, "sub", nil)
	pub.published("r", "kept", true)
	subscribe := func(handling byte, asPublished bool) {
		t.Helper()
		sub.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
			{Filter: []byte("r"), QoS: 1, RetainHandling: handling, RetainAsPublished: asPublished}}})
		want[*packet.Suback](sub)
	}
	subscribe(2, false)
	sub.quiet()
	subscribe(1, false) // the subscription exists
	sub.quiet()
	subscribe(0, true)
	sub.gets("r", "kept")
	pub.published("r", "again", true)
	if p := sub.gets("r", "again"); !p.Retain {
		t.Error("RETAIN is lost although retain as published was asked for")
	}
	subscribe(2, false)
	pub.published("r", "once more", true)
	if p := sub.gets("r", "once more"); p.Retain {
		t.Error("RETAIN is set on a live message")
	}
	sub.send(&packet.Unsubscribe{PacketID: 2, Filters: [][]byte{[]byte("r"), []byte("none")}})
	ack := want[*packet.Unsuback](sub)
	if ack.Reasons[0] != packet.Success || ack.Reasons[1] != packet.NoSubscriptionExisted {
		t.Errorf("UNSUBACK %+v", ack)
	}
	subscribe(1, false) // a new one
	sub.gets("r", "once more")
}

func TestOverlappingSubscriptionsGiveOneCopy(t *testing.T) {
	h := open(t, nil)
	sub, pub := h.connect(t, packet.V5, "sub", nil), h.connect(t, packet.V5, "pub", nil)
	for i, filter := range []string{"o/#", "o/+", "o/x"} {
		p := &packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte(filter), QoS: byte(i % 2)}}}
		p.Props.AddSubscriptionID(uint32(10 + i))
		sub.send(p)
		want[*packet.Suback](sub)
	}
	pub.published("o/x", "1", false)
	p := sub.gets("o/x", "1")
	ids := map[uint32]bool{}
	for _, id := range p.Props.SubscriptionIDs {
		ids[id] = true
	}
	if p.QoS != 1 || len(ids) != 3 || !ids[10] || !ids[11] || !ids[12] {
		t.Errorf("QoS %d, identifiers %v", p.QoS, p.Props.SubscriptionIDs)
	}
	sub.quiet()
}

func TestMessageProperties(t *testing.T) {
	h := open(t, nil)
	sub, pub := h.connect(t, packet.V5, "sub", nil), h.connect(t, packet.V5, "pub", nil)
	sub.subscribe(0, "p/#")
	m := &packet.Publish{Topic: []byte("p/1"), Payload: []byte("{}")}
	m.Props.SetPayloadFormat(1)
	m.Props.SetContentType([]byte("application/json"))
	m.Props.SetResponseTopic([]byte("answers/1"))
	m.Props.SetCorrelationData([]byte{1, 0, 2})
	m.Props.SetMessageExpiry(100)
	m.Props.AddUser("b", "1")
	m.Props.AddUser("a", "2")
	m.Props.AddUser("b", "3")
	pub.send(m)
	p := sub.gets("p/1", "{}")
	var users []string
	for name, value := range p.Props.User.All() {
		users = append(users, string(name)+"="+string(value))
	}
	if p.Props.PayloadFormat != 1 || string(p.Props.ContentType) != "application/json" ||
		string(p.Props.ResponseTopic) != "answers/1" || string(p.Props.CorrelationData) != "\x01\x00\x02" ||
		fmt.Sprint(users) != "[b=1 a=2 b=3]" || p.Props.MessageExpiry != 100 {
		t.Errorf("properties %+v, user properties %v", p.Props, users)
	}
	m.Props = packet.Properties{}
	pub.send(m)
	if p := sub.gets("p/1", "{}"); !p.Props.Empty() {
		t.Errorf("properties came from nowhere: %+v", p.Props)
	}
}

func TestMessageExpiry(t *testing.T) { // [MQTT-3.3.2-6]
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	h := open(t, func(o *mqtt.Options) { o.Clock = func() time.Time { return time.UnixMilli(now.Load()) } })
	pub := h.connect(t, packet.V5, "pub", nil)
	for i, seconds := range []uint32{10, 100} {
		m := &packet.Publish{Topic: fmt.Appendf(nil, "e/%d", i), Payload: []byte("x"), QoS: 1, PacketID: 1, Retain: true}
		m.Props.SetMessageExpiry(seconds)
		pub.send(m)
		want[*packet.Puback](pub)
	}
	now.Add(30_000)
	sub := h.connect(t, packet.V5, "sub", nil)
	sub.subscribe(0, "e/#")
	if p := sub.gets("e/1", "x"); p.Props.MessageExpiry != 70 {
		t.Errorf("expiry %d after 30 of 100 s", p.Props.MessageExpiry)
	}
	sub.quiet()
}

func TestTopicAlias(t *testing.T) {
	h := open(t, nil)
	sub, pub := h.connect(t, packet.V5, "sub", nil), h.connect(t, packet.V5, "pub", nil)
	sub.subscribe(0, "alias/#")
	m := &packet.Publish{Topic: []byte("alias/1"), Payload: []byte("a")}
	m.Props.SetTopicAlias(3)
	pub.send(m)
	m.Topic, m.Payload = nil, []byte("b")
	pub.send(m)
	m.Topic, m.Payload = []byte("alias/2"), []byte("c")
	pub.send(m)
	m.Topic, m.Payload = nil, []byte("d")
	pub.send(m)
	sub.gets("alias/1", "a")
	sub.gets("alias/1", "b")
	sub.gets("alias/2", "c")
	if p := sub.gets("alias/2", "d"); p.Props.Has(packet.PropTopicAlias) {
		t.Error("the alias of the publisher reached a subscriber")
	}
}

func TestWill(t *testing.T) {
	will := func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte("will/t"), Payload: []byte("dead"), QoS: 1, Retain: true}
	}
	every(t, func(t *testing.T, v packet.Version) {
		for name, end := range map[string]func(h *house, c *raw) bool{
			"reset":      func(_ *house, c *raw) bool { c.net.(*net.TCPConn).SetLinger(0); c.net.Close(); return true },
			"close":      func(_ *house, c *raw) bool { c.net.Close(); return true },
			"keep alive": func(_ *house, c *raw) bool { return true },
			"takeover":   func(h *house, c *raw) bool { h.connect(t, v, "dying", nil); return true },
			"error":      func(_ *house, c *raw) bool { c.hex("ff 00"); return true },
			"normal":     func(_ *house, c *raw) bool { c.send(&packet.Disconnect{}); c.closed(); return false },
			"with will": func(_ *house, c *raw) bool {
				c.send(&packet.Disconnect{Reason: packet.DisconnectWithWill})
				c.closed()
				return v == packet.V5
			},
		} {
			t.Run(name, func(t *testing.T) {
				h := open(t, nil)
				sub := h.connect(t, v, "sub", nil)
				sub.subscribe(1, "will/#")
				dying := h.connect(t, v, "dying", func(p *packet.Connect) {
					if will(p); name == "keep alive" {
						p.KeepAlive = 1
					}
				})
				if end(h, dying) {
					sub.gets("will/t", "dead")
					late := h.connect(t, v, "late", nil)
					late.subscribe(0, "will/#")
					late.gets("will/t", "dead")
					return
				}
				dying.net.Close()
				h.connect(t, v, "dying", nil)
				sub.quiet()
			})
		}
	})
}

func TestTakeover(t *testing.T) {
	every(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		old := h.connect(t, v, "same", nil)
		old.subscribe(1, "t/#")
		fresh := h.connect(t, v, "same", nil)
		if v == packet.V5 {
			if p := want[*packet.Disconnect](old); p.Reason != packet.SessionTakenOver {
				t.Errorf("DISCONNECT %s", p.Reason)
			}
		}
		old.closed()
		fresh.published("t/1", "x", false)
		fresh.quiet() // the subscription went with the old session
	})
}

func TestTakeoverStorm(t *testing.T) {
	h := open(t, nil)
	const storms, each = 16, 60
	var wg sync.WaitGroup
	for i := range storms {
		wg.Go(func() {
			for range each {
				n, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Error(err)
					return
				}
				hello := (&packet.Connect{CleanStart: true, ClientID: []byte("storm")}).AppendTo(nil, packet.V5)
				sub := packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("s/#"), QoS: 1}}}
				pub := packet.Publish{Topic: []byte("s/1"), Payload: []byte{byte(i)}, QoS: 1, PacketID: 2}
				hello = pub.AppendTo(sub.AppendTo(hello, packet.V5), packet.V5)
				if _, err := n.Write(hello); err != nil {
					t.Error(err)
				}
				n.Close()
			}
		})
	}
	wg.Wait()
	eventually(t, "all connections ended", func() bool { return h.door.Stats().Connections == 0 })
	last := h.connect(t, packet.V5, "calm", nil) // late ones of the storm may still come: they take over each other
	last.subscribe(1, "after/#")
	last.send(&packet.Publish{Topic: []byte("after/1"), Payload: []byte("calm"), QoS: 0})
	last.gets("after/1", "calm")
	eventually(t, "only the last is left", func() bool {
		s := h.door.Stats()
		return s.Clients == 1 && s.Subscriptions == 1
	})
}

func TestPacketsBehindConnectAreTakenInOrder(t *testing.T) {
	h := open(t, nil)
	c := h.dial(t)
	c.v, c.dec = packet.V5, packet.Decoder{Version: packet.V5, Client: true}
	c.send(&packet.Connect{CleanStart: true},
		&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("early/#")}}},
		&packet.Publish{Topic: []byte("early/1"), Payload: []byte("x")})
	ack := want[*packet.Connack](c)
	if len(ack.Props.AssignedClientID) == 0 || ack.Props.Has(packet.PropMaximumQoS) ||
		!ack.Props.Has(packet.PropSharedAvailable) {
		t.Errorf("CONNACK %+v", ack)
	}
	want[*packet.Suback](c)
	c.gets("early/1", "x")
}

func TestConnackSaysWhatIsInForce(t *testing.T) { // [MQTT-3.2.2-9]
	h := open(t, func(o *mqtt.Options) {
		o.MaxKeepAlive = 30 * time.Second
		o.ReceiveMaximum = 5
		o.TopicAliasMaximum = 7
		o.MaxExpiry = time.Minute
	})
	c := h.dial(t)
	c.hello(packet.V5, "x", func(p *packet.Connect) { p.Props.SetSessionExpiry(3600); p.KeepAlive = 600 })
	p := want[*packet.Connack](c).Props
	if !p.Has(packet.PropSessionExpiry) || p.SessionExpiry != 60 || p.ServerKeepAlive != 30 || p.ReceiveMaximum != 5 ||
		p.TopicAliasMaximum != 7 || p.Has(packet.PropMaximumQoS) || p.MaximumPacketSize == 0 ||
		!p.Has(packet.PropSharedAvailable) || p.SharedAvailable != 1 {
		t.Errorf("CONNACK %+v", p)
	}
}

func TestMaximumPacketSizeOfClient(t *testing.T) { // [MQTT-3.1.2-25]
	h := open(t, nil)
	sub := h.connect(t, packet.V5, "small", func(p *packet.Connect) {
		p.Props.SetMaximumPacketSize(50)
		p.Props.SetReceiveMaximum(1)
	})
	sub.subscribe(1, "m/#")
	pub := h.connect(t, packet.V5, "pub", nil)
	for range 3 {
		pub.published("m/large", string(make([]byte, 100)), false)
	}
	pub.published("m/ok", "fits", false)
	sub.gets("m/ok", "fits")
}

func TestServerKeepsOrderWithinAPublisher(t *testing.T) {
	h := open(t, nil)
	sub := h.connect(t, packet.V311, "sub", nil)
	sub.subscribe(1, "order/#")
	pub := h.connect(t, packet.V311, "pub", nil)
	const count = 3000
	go func() {
		for i := range count {
			pub.publish(1, uint16(i+1), "order/1", fmt.Sprint(i))
		}
	}()
	for i := range count {
		sub.gets("order/1", fmt.Sprint(i))
	}
	for i := range count {
		if ack := want[*packet.Puback](pub); ack.PacketID != uint16(i+1) {
			t.Fatalf("PUBACK %d in place %d", ack.PacketID, i+1)
		}
	}
}

func TestMaxDeviceTopics(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.MaxDeviceTopics = 2 })
	sub, pub := h.connect(t, packet.V5, "sub", nil), h.connect(t, packet.V5, "pub", nil)
	sub.subscribe(1, "#")
	for i := range 5 {
		topic := fmt.Sprintf("own%d/x", i)
		pub.published(topic, "v", false)
		sub.gets(topic, "v")
	}
	if n := len(h.records("own0")) + len(h.records("own1")); n != 2 {
		t.Errorf("%d records in topics of their own, want 2", n)
	}
	if n := len(h.records("mqtt")); n != 3 {
		t.Errorf("%d records in the catch-all, want 3", n)
	}
}

func TestDrain(t *testing.T) {
	h := open(t, nil)
	c5, c3 := h.connect(t, packet.V5, "five", nil), h.connect(t, packet.V311, "three", nil)
	watch := h.connect(t, packet.V5, "will", func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte("w/1"), Payload: []byte("down")}
	})
	c5.publish(1, 9, "d/1", "last")
	if ack := want[*packet.Puback](c5); ack.PacketID != 9 {
		t.Fatalf("PUBACK %+v", ack)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.door.Drain(ctx) }()
	for _, c := range []*raw{c5, watch} {
		if p := want[*packet.Disconnect](c); p.Reason != packet.ServerShuttingDown {
			t.Errorf("DISCONNECT %s", p.Reason)
		}
		c.closed()
		c.net.Close()
	}
	c3.closed()
	c3.net.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Nobody is told of a will: the log commits it with the next group, at the latest when it closes.
	eventually(t, "the will is in the log", func() bool { return len(h.records("w")) == 1 })
	if n, err := net.Dial("tcp", h.addr); err == nil {
		late := &raw{t: t, net: n}
		late.closed()
		n.Close()
	}
}

func TestOldRecordsAreNotDelivered(t *testing.T) {
	h := open(t, nil)
	pub, sub := h.connect(t, packet.V5, "pub", nil), h.connect(t, packet.V5, "sub", nil)
	for i := range 200 {
		pub.published("old/1", "before", false)
		topic := fmt.Sprintf("old/%d", i%3)
		sub.subscribe(0, "old/#")
		sub.send(&packet.Pingreq{})
		want[*packet.Pingresp](sub)
		pub.published(topic, "after", false)
		sub.gets(topic, "after")
		sub.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("old/#")}})
		want[*packet.Unsuback](sub)
	}
}
