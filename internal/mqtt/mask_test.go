package mqtt_test

import (
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// veil masks what clients see that are called masked, of every name but one.
type veil struct {
	judges
	set *mask.Set
}

func (v veil) MaskName(p *access.Pass, name []byte, _ string) *mask.Set {
	if !strings.HasPrefix(p.Who().ClientID, "masked") || string(name) == "t/open" {
		return nil
	}
	return v.set
}

// everything lets everybody do everything.
type everything struct{}

func (everything) may(*rule.Subject, doing, string) bool { return true }

// veiled opens a door whose clients that are called masked see what masks leave.
func veiled(t *testing.T, metrics *telemetry.Set, texts ...string) *house {
	t.Helper()
	var list []mask.Mask
	for _, text := range texts {
		m, err := mask.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	set := &mask.Set{Secret: []byte("secret"), Fields: []*mask.Fields{mask.New(list)}}
	return open(t, func(o *mqtt.Options) {
		judged(t, o, everything{})
		o.Guard, o.Metrics = veil{judges{everything{}}, set}, metrics
	})
}

// says publishes a message with a secret in its payload and in a user property, and waits for the PUBACK.
func (c *raw) says(topic string, retain bool) {
	c.t.Helper()
	p := &packet.Publish{Topic: []byte(topic), Payload: []byte(secretly), QoS: 1, PacketID: 7, Retain: retain}
	p.Props.AddUser("who", "canary")
	p.Props.AddUser("what", "a meter")
	p.Props.SetResponseTopic([]byte("answers/here"))
	c.send(p)
	want[*packet.Puback](c)
}

const secretly, openly = `{"n":1,"who":{"name":"canary"}}`, `{"n":1,"who":{}}`

// seesMasked wants the next message to be what may be seen, and gives it.
func (c *raw) seesMasked(topic string, v packet.Version) *packet.Publish {
	c.t.Helper()
	p := c.gets(topic, openly)
	var names []string
	for name := range p.Props.User.All() {
		names = append(names, string(name))
	}
	if got := strings.Join(names, " "); v == packet.V5 && got != "what" {
		c.t.Errorf("user properties %q", got)
	}
	if v == packet.V5 && string(p.Props.ResponseTopic) != "answers/here" {
		c.t.Errorf("response topic %q", p.Props.ResponseTopic)
	}
	return p
}

// TestMasks: live, retained, replayed, shared, after an absence and sent again, a client sees what masks leave, and
// others see all of it.
func TestMasks(t *testing.T) {
	for name, v := range map[string]packet.Version{"3.1.1": packet.V311, "5": packet.V5} {
		t.Run(name, func(t *testing.T) { masksOnEveryWay(t, v) })
	}
}

func masksOnEveryWay(t *testing.T, v packet.Version) {
	h := veiled(t, nil, "json:who.name=remove", "header:who=remove")
	pub, other := h.connect(t, packet.V5, "pub", nil), h.connect(t, v, "other", nil)
	zero, one := h.connect(t, v, "masked-0", nil), h.connect(t, v, "masked-1", nil)
	shared := h.connect(t, v, "masked-share", nil)
	zero.subscribe(0, "t/#")
	one.subscribe(1, "t/#")
	other.subscribe(1, "t/#")
	shared.subscribe(1, "$share/g/t/#")
	away, _ := h.comeBack(t, v, "masked-away", nil)
	away.subscribe(1, "t/#")
	pub.says("t/a", true)
	for _, c := range []*raw{zero, one, shared} {
		c.seesMasked("t/a", v)
	}
	other.gets("t/a", secretly)
	in := want[*packet.Publish](away) // in flight when the connection ends
	if string(in.Payload) != openly {
		t.Errorf("got %s", in.Payload)
	}
	away.net.Close()
	eventually(t, "the session is away", func() bool { return h.door.Stats().Away > 0 })
	pub.says("t/b", false)
	pub.published("t/open", secretly, false)
	away, _ = h.comeBack(t, v, "masked-away", nil)
	if p := away.seesMasked("t/a", v); !p.Dup {
		t.Error("it is not sent again")
	}
	away.seesMasked("t/b", v)
	away.gets("t/open", secretly)
	late := h.connect(t, v, "masked-late", nil)
	late.subscribe(1, "t/#")
	if p := late.seesMasked("t/a", v); !p.Retain {
		t.Error("it is not the retained message")
	}
	if v == packet.V5 {
		replay := h.connect(t, v, "masked-replay", nil)
		replay.replay(1, "t/#", "firth-from", "earliest")
		replay.seesMasked("t/a", v)
		replay.seesMasked("t/b", v)
	}
}

// TestMaskedThatCannotBe: what is no JSON comes without its payload, and so does what masks make larger than the client
// takes, which loses its user properties too. Both are counted.
func TestMaskedThatCannotBe(t *testing.T) {
	metrics := telemetry.New()
	h := veiled(t, metrics, "json:list[]=hash")
	pub := h.connect(t, packet.V5, "pub", nil)
	c := h.connect(t, packet.V5, "masked", func(p *packet.Connect) { p.Props.SetMaximumPacketSize(600) })
	c.subscribe(1, "t/#")
	pub.published("t/a", "secret", false)
	c.gets("t/a", "")
	pub.published("t/b", `{"list":[`+strings.Repeat("1,", 200)+`1]}`, false)
	c.gets("t/b", "")
	pub.published("t/c", `{"list":[1]}`, false)
	if p := want[*packet.Publish](c); len(p.Payload) != len(`{"list":[""]}`)+mask.HashDigits {
		t.Errorf("got %s", p.Payload)
	}
	for shown, n := range map[string]float64{"nothing": 2, "part": 1} {
		if got := sample(metrics, `firth_mqtt_masked_total{shown="`+shown+`"}`); got != n {
			t.Errorf("%v are counted of which %s is shown", got, shown)
		}
	}
}
