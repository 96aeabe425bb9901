package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// takesAliases is a client that knows topics by aliases.
type takesAliases struct {
	*raw
	most   uint16
	topics map[uint16]string
	saved  int // packets without a topic name
}

func (h *house) takesAliases(t *testing.T, most uint16) *takesAliases {
	t.Helper()
	c := h.connect(t, packet.V5, "", func(p *packet.Connect) { p.Props.SetTopicAliasMaximum(most) })
	return &takesAliases{raw: c, most: most, topics: map[uint16]string{}}
}

// message is the next message, its topic name resolved.
func (c *takesAliases) message() (topic string, p *packet.Publish) {
	c.t.Helper()
	p = want[*packet.Publish](c.raw)
	if p.QoS > 0 {
		c.send(&packet.Puback{PacketID: p.PacketID})
	}
	return c.topicOf(p), p
}

// topicOf resolves the topic name of a message.
func (c *takesAliases) topicOf(p *packet.Publish) (topic string) {
	c.t.Helper()
	alias := p.Props.TopicAlias
	switch topic = string(p.Topic); {
	case !p.Props.Has(packet.PropTopicAlias):
	case alias == 0 || alias > c.most:
		c.t.Fatalf("alias %d of %d", alias, c.most)
	case topic != "":
		c.topics[alias] = topic
	case c.topics[alias] == "":
		c.t.Fatalf("alias %d is not set", alias)
	default:
		c.saved++
		topic = c.topics[alias]
	}
	return topic
}

// TestAliasesToSubscribers: a topic that comes again gets an alias, at most as many as the client takes
// [MQTT-3.1.2-26] [MQTT-3.3.2-11] [MQTT-3.3.2-8], also while topics come and go, and whatever the QoS, the
// properties and the size.
func TestAliasesToSubscribers(t *testing.T) {
	h := open(t, nil)
	for _, most := range []uint16{1, 4, 1000} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			c := h.takesAliases(t, most)
			c.subscribe(1, "aliased/#")
			pub := h.connect(t, packet.V5, "", nil)
			rng := rand.New(rand.NewPCG(1, uint64(most)))
			const count = 1000
			for i := range count {
				topic := fmt.Sprintf("aliased/topic/%d", rng.IntN(3)+i/200)
				p := &packet.Publish{Topic: []byte(topic), QoS: byte(i % 2), Payload: make([]byte, rng.IntN(200))}
				if p.QoS > 0 {
					p.PacketID = 7
				}
				if i%3 == 0 {
					p.Props.AddUser("n", fmt.Sprint(i))
					p.Props.SetCorrelationData(make([]byte, rng.IntN(200)))
				}
				p.Payload = append(p.Payload, fmt.Sprint(i)...)
				pub.send(p)
				if p.QoS > 0 {
					want[*packet.Puback](pub)
				}
				got, m := c.message()
				if got != topic || string(m.Payload) != string(p.Payload) ||
					string(m.Props.User) != string(p.Props.User) || m.QoS != p.QoS ||
					string(m.Props.CorrelationData) != string(p.Props.CorrelationData) {
					t.Fatalf("message %d to %s came as %s: %+v", i, topic, got, m)
				}
			}
			if least := count / 5; c.saved < least {
				t.Errorf("%d of %d packets without a topic name, want %d at least", c.saved, count, least)
			}
			t.Logf("%d of %d packets without a topic name", c.saved, count)
		})
	}
}

// TestNoAliasesForOthers: who does not ask for aliases gets none [MQTT-3.1.2-27], nor does anybody where the server
// sets none, nor is what the client forgets with its connection taken for known [MQTT-3.3.2-7].
func TestNoAliasesForOthers(t *testing.T) {
	h := open(t, nil)
	none := open(t, func(o *mqtt.Options) { o.TopicAliases = -1 })
	sees := func(c *takesAliases, from *house) {
		t.Helper()
		c.subscribe(0, "plain/+")
		pub := from.connect(t, packet.V5, "", nil)
		for range 10 {
			pub.publish(0, 0, "plain/topic", "x")
			if topic, p := c.message(); topic != "plain/topic" || p.Props.Has(packet.PropTopicAlias) {
				t.Fatalf("%+v", p)
			}
		}
	}
	sees(h.takesAliases(t, 0), h)
	sees(none.takesAliases(t, 10), none)

	connect := func() *takesAliases {
		c, _ := h.comeBack(t, packet.V5, "keeps", func(p *packet.Connect) { p.Props.SetTopicAliasMaximum(10) })
		return &takesAliases{raw: c, most: 10, topics: map[uint16]string{}}
	}
	c := connect()
	c.subscribe(1, "kept/topic")
	pub := h.connect(t, packet.V5, "", nil)
	for range 2 {
		for range 5 {
			pub.published("kept/topic", "x", false)
			c.message() // fails for an alias that is not set on this connection
		}
		if c.saved == 0 {
			t.Error("no alias was used")
		}
		h.leave(c.raw)
		pub.published("kept/topic", "missed", false)
		c = connect()
		if topic, _ := c.message(); topic != "kept/topic" {
			t.Fatalf("got %q", topic)
		}
	}
}

// TestAliasesBesideQoS2: a message of QoS 2 waits until its session is stored, and those behind it do not; no alias
// that it would set or use is in it.
func TestAliasesBesideQoS2(t *testing.T) {
	h := open(t, nil)
	r, _ := h.comeBack(t, packet.V5, "keeps", func(p *packet.Connect) { p.Props.SetTopicAliasMaximum(2) })
	c := &takesAliases{raw: r, most: 2, topics: map[uint16]string{}}
	c.subscribe(2, "mixed/#")
	pub := h.connect(t, packet.V5, "", nil)
	const count = 600
	var b []byte
	for i := range count {
		topic := fmt.Appendf(nil, "mixed/%d", i/7%5)
		p := packet.Publish{Topic: topic, Payload: topic, QoS: byte(i % 3), PacketID: uint16(i + 1)}
		b = p.AppendTo(b, packet.V5)
	}
	pub.bytes(b)
	for got := 0; got < count; {
		p, err := c.next(patience)
		if err != nil {
			t.Fatal(err)
		}
		switch p := p.(type) {
		case *packet.Publish:
			got++
			if topic := c.topicOf(p); topic != string(p.Payload) {
				t.Fatalf("message %d of QoS %d to %s came as %s", got, p.QoS, p.Payload, topic)
			}
			switch p.QoS {
			case 1:
				c.send(&packet.Puback{PacketID: p.PacketID})
			case 2:
				c.send(&packet.Pubrec{PacketID: p.PacketID})
			}
		case *packet.Pubrel:
			c.send(&packet.Pubcomp{PacketID: p.PacketID})
		}
	}
	if c.saved == 0 {
		t.Error("no alias was used")
	}
}

// TestAliasesOfDroppedMessages: what finds no room sets no alias.
func TestAliasesOfDroppedMessages(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.OutboxBytes = 4 << 10 })
	c := h.takesAliases(t, 10)
	c.subscribe(0, "drop/+/long/name")
	c.subscribe(1, "drop/last/long/name") // this one is not dropped
	pub := h.connect(t, packet.V5, "", nil)
	const count = 20_000
	for i := range count {
		pub.publish(0, 0, fmt.Sprintf("drop/%d/long/name", i%40), fmt.Sprintf("%-1000d", i%40))
	}
	pub.quiet()
	pub.published("drop/last/long/name", "last", false)
	for got := 0; ; got++ {
		topic, p := c.message()
		name := strings.TrimRight(string(p.Payload), " ")
		if topic != "drop/"+name+"/long/name" {
			t.Fatalf("%q came as %s", name, topic)
		}
		if name == "last" {
			if got == count {
				t.Error("nothing was dropped")
			}
			t.Logf("%d of %d messages came, %d without a topic name", got, count, c.saved)
			return
		}
	}
}
