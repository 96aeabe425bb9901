package mqtt_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

const publisherHeader = "mqtt.publisher"

// noLocal subscribes with No Local and QoS 1.
func (c *raw) noLocal(filters ...string) {
	c.t.Helper()
	p := &packet.Subscribe{PacketID: 100}
	for _, f := range filters {
		p.Subscriptions = append(p.Subscriptions, packet.Subscription{Filter: []byte(f), QoS: 1, NoLocal: true})
	}
	c.send(p)
	want[*packet.Suback](c)
}

// everyEnd runs a test for each fate of the server, for a client of MQTT 5.
func everyEnd(t *testing.T, test func(t *testing.T, befalls fate)) {
	for name, befalls := range fates {
		t.Run(name, func(t *testing.T) { test(t, befalls) })
	}
}

// publishers are those that the records of a topic name, without the checksum; "" for a record that names none.
func (h *house) publishers(topic string) (all []string) {
	h.t.Helper()
	for _, v := range h.records(topic) {
		by := ""
		for key, value := range v.Headers {
			if string(key) == publisherHeader {
				by = string(value[9:])
			}
		}
		all = append(all, by)
	}
	return all
}

// TestNoLocal: a client gets nothing that it published by a subscription with No Local, and all that others did
// [MQTT-3.8.3-3].
func TestNoLocal(t *testing.T) {
	h := open(t, nil)
	a, b := h.connect(t, packet.V5, "a", nil), h.connect(t, packet.V5, "b", nil)
	a.noLocal("n/#")
	next := func(want string) {
		t.Helper()
		for {
			p, err := a.next(patience)
			if err != nil {
				t.Fatal(err)
			}
			switch p := p.(type) {
			case *packet.Puback:
				continue
			case *packet.Publish:
				if string(p.Payload) != want {
					t.Fatalf("got %s, want %s", p.Payload, want)
				}
				if p.QoS > 0 {
					a.send(&packet.Puback{PacketID: p.PacketID})
				}
				return
			}
		}
	}
	for i := range 100 {
		a.publish(byte(i%2), uint16(i+1), "n/own", "own")
		b.published("n/other", fmt.Sprint(i), false)
		next(fmt.Sprint(i))
	}
}

// TestNoLocalWhileAway: nor does it get its own messages when it comes back to them by another connection, whatever
// befell the server [MQTT-3.8.3-3].
func TestNoLocalWhileAway(t *testing.T) { everyEnd(t, noLocalWhileAway) }

func noLocalWhileAway(t *testing.T, befalls fate) {
	h := open(t, nil)
	c, _ := h.comeBack(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetReceiveMaximum(1) })
	c.noLocal("n/#")
	c.subscribe(1, "m/#")
	p := h.connect(t, packet.V5, "p", nil)
	p.published("n/1", "first", false)
	want[*packet.Publish](c) // not acknowledged: the session falls behind
	for i := range 10 {
		c.published("n/1", "own", false)
		c.published("n/2", "own", false)
		p.published("n/1", fmt.Sprint(i), false)
	}
	c.published("m/1", "by another subscription", false)
	h.leave(c)
	h = befalls(t, h)
	c = h.back(t, packet.V5, "c")
	got := map[string]int{}
	for range 12 {
		m := want[*packet.Publish](c)
		got[string(m.Payload)]++
		c.send(&packet.Puback{PacketID: m.PacketID})
	}
	c.quiet()
	expected := map[string]int{"first": 1, "by another subscription": 1}
	for i := range 10 {
		expected[fmt.Sprint(i)] = 1
	}
	if !maps.Equal(got, expected) {
		t.Errorf("got %v", got)
	}
	c.published("n/1", "own", false)
	p = h.connect(t, packet.V5, "p", nil)
	p.published("n/1", "live", false)
	c.gets("n/1", "live")
}

// TestNoLocalAfterACrash: a session that a power cut takes back to where it stood before is not given its own messages.
func TestNoLocalAfterACrash(t *testing.T) {
	h := open(t, nil)
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	c.noLocal("n/#")
	p := h.connect(t, packet.V5, "p", nil)
	for range 20 {
		c.published("n/1", "own", false)
		p.published("n/1", "other", false)
		c.gets("n/1", "other")
	}
	clone := onFiles(t, h.fs.(*vfs.Memory)).CrashClone(rand.New(rand.NewPCG(3, 4)))
	h.stop()
	h = openOn(t, clone, nil)
	t.Cleanup(func() { h.stop() })
	c = h.back(t, packet.V5, "c")
	p = h.connect(t, packet.V5, "p", nil)
	p.published("n/1", "end", false)
	for _, payload := range c.until("end") {
		if payload != "other retain=false" {
			t.Errorf("got %s", payload)
		}
	}
}

// TestNoLocalWill: a will is the client's own, too, when it comes at once and when it comes after the server was away.
func TestNoLocalWill(t *testing.T) {
	for _, delay := range []uint32{0, 3600} {
		for name, cut := range map[string]bool{"restart": false, "power cut": true} {
			t.Run(fmt.Sprintf("delay %d, %s", delay, name), func(t *testing.T) { noLocalWill(t, delay, cut) })
		}
	}
}

func noLocalWill(t *testing.T, delay uint32, cut bool) {
	var now wall
	now.set(time.Now())
	h := open(t, func(o *mqtt.Options) { o.Clock = now.now })
	c, _ := h.comeBack(t, packet.V5, "c", func(p *packet.Connect) {
		p.Props.SetSessionExpiry(2 * 3600)
		p.Will = &packet.Will{Topic: []byte("n/will"), Payload: []byte("own will"), QoS: 1}
		p.Will.Props.SetWillDelay(delay)
	})
	c.noLocal("n/#")
	p := h.connect(t, packet.V5, "p", nil)
	p.subscribe(1, "n/will")
	if c.net.Close(); delay == 0 {
		p.gets("n/will", "own will")
	}
	eventually(t, "the session is away", func() bool { return h.door.Stats().Away > 0 })
	p.published("n/other", "other", false)
	fs := h.fs.(*vfs.Memory)
	if cut {
		fs = onFiles(t, fs).CrashClone(rand.New(rand.NewPCG(5, 6)))
	}
	h.stop()
	change := func(o *mqtt.Options) { o.Clock = now.now }
	if delay > 0 {
		if cut { // it is away since the server knows
			openOn(t, fs, change).stop()
		}
		now.set(now.now().Add(time.Hour + time.Minute))
	}
	h = openOn(t, fs, change)
	t.Cleanup(func() { h.stop() })
	eventually(t, "the will was published", func() bool {
		return slices.ContainsFunc(h.records("n"), func(v record.View) bool { return string(v.Value) == "own will" })
	})
	c = h.back(t, packet.V5, "c")
	c.gets("n/other", "other")
	p = h.connect(t, packet.V5, "p", nil)
	p.published("n/other", "end", false)
	c.gets("n/other", "end")
}

// TestNoLocalDelayed: what the client published to come later is its own.
func TestNoLocalDelayed(t *testing.T) {
	h := open(t, nil)
	c, p := h.connect(t, packet.V5, "c", nil), h.connect(t, packet.V5, "p", nil)
	c.published("$delayed/1/n/1", "own", false)
	c.noLocal("n/#")
	p.subscribe(1, "n/#")
	p.gets("n/1", "own")
	p.published("n/1", "other", false)
	c.gets("n/1", "other")
}

// TestNoLocalRetained: a retained message that the client published is not sent to its subscription with No Local, even
// if it was published before that; a larger one, which lies in the log only, neither.
func TestNoLocalRetained(t *testing.T) { everyEnd(t, noLocalRetained) }

func noLocalRetained(t *testing.T, befalls fate) {
	h := open(t, nil)
	c, p := h.connect(t, packet.V5, "c", nil), h.connect(t, packet.V311, "p", nil)
	large := string(bytes.Repeat([]byte("x"), 600))
	c.published("r/a", "own", true)
	c.published("r/b", large, true)
	c.published("r/both", "own", true)
	p.published("r/both", "other", true)
	p.published("r/other", large+"other", true)
	h = befalls(t, h)
	c = h.connect(t, packet.V5, "c", nil)
	c.noLocal("r/#")
	got := map[string]string{}
	for range 2 {
		m := want[*packet.Publish](c)
		got[string(m.Topic)] = string(m.Payload)
		c.send(&packet.Puback{PacketID: m.PacketID})
	}
	c.quiet()
	if !maps.Equal(got, map[string]string{"r/both": "other", "r/other": large + "other"}) {
		t.Errorf("got %.100v", got)
	}
	other := h.connect(t, packet.V5, "C", nil)
	other.noLocal("r/a")
	if m := other.gets("r/a", "own"); !m.Props.Empty() {
		t.Errorf("properties %+v", m.Props)
	}
}

// TestNoLocalReplaces: a subscription that takes the place of one without No Local leaves the client what it published
// before.
func TestNoLocalReplaces(t *testing.T) {
	h := open(t, nil)
	c := h.connect(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetReceiveMaximum(1) })
	c.subscribe(1, "n/#")
	c.publish(1, 1, "n/1", "0")
	var held *packet.Publish
	for acks := 0; acks < 1 || held == nil; {
		switch p, _ := c.next(patience); p := p.(type) {
		case *packet.Publish:
			held = p
		case *packet.Puback:
			acks++
		default:
			t.Fatalf("got %#v", p)
		}
	}
	c.published("n/1", "1", false) // waits for the window
	c.noLocal("n/#")
	c.published("n/1", "own", false)
	c.send(&packet.Puback{PacketID: held.PacketID})
	c.gets("n/1", "1")
	h.connect(t, packet.V5, "p", nil).published("n/1", "2", false)
	c.gets("n/1", "2")
}

// TestNoLocalBeside: by another subscription the client does get its own message, with the identifier of that one only,
// also when it is sent again.
func TestNoLocalBeside(t *testing.T) {
	h := open(t, nil)
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	for id, noLocal := range map[uint32]bool{1: true, 2: false} {
		p := &packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
			{Filter: []byte([]string{"n/#", "n/+"}[id-1]), QoS: 1, NoLocal: noLocal}}}
		p.Props.AddSubscriptionID(id)
		c.send(p)
		want[*packet.Suback](c)
	}
	c.publish(1, 9, "n/1", "own")
	var got *packet.Publish
	for got == nil {
		if p, err := c.next(patience); err != nil {
			t.Fatal(err)
		} else if m, ok := p.(*packet.Publish); ok {
			got = m
		}
	}
	ids := func(m *packet.Publish) {
		t.Helper()
		if !slices.Equal(m.Props.SubscriptionIDs, []uint32{2}) || m.Props.User.Len() > 0 {
			t.Errorf("identifiers %d, properties %+v", m.Props.SubscriptionIDs, m.Props)
		}
	}
	ids(got)
	c.net.Close()
	eventually(t, "the session is away", func() bool { return h.door.Stats().Away > 0 })
	c = h.back(t, packet.V5, "c")
	ids(c.gets("n/1", "own"))
}

// TestPublisherHeader: only a record that its publisher must not get says who that is, and who copies it with its
// headers to another topic name makes a message of his own of it.
func TestPublisherHeader(t *testing.T) {
	h := open(t, nil)
	c, p := h.connect(t, packet.V5, "c", nil), h.connect(t, packet.V5, "p", nil)
	p.subscribe(1, "n/#", "m/#")
	c.published("n/1", "before", false)
	p.gets("n/1", "before")
	c.noLocal("n/#", "answers/#")
	c.published("n/1", "own", false)
	if m := p.gets("n/1", "own"); !m.Props.Empty() {
		t.Errorf("properties %+v", m.Props)
	}
	c.published("m/1", "elsewhere", false)
	p.gets("m/1", "elsewhere")
	p.published("n/1", "other", false)
	c.gets("n/1", "other")
	p.gets("n/1", "other")
	if got := h.publishers("n"); !slices.Equal(got, []string{"", "c", ""}) {
		t.Errorf("in n: %q", got)
	}
	if got := h.publishers("m"); !slices.Equal(got, []string{""}) {
		t.Errorf("in m: %q", got)
	}
	var kept []record.Header
	for key, value := range h.records("n")[1].Headers {
		kept = append(kept, record.Header{Key: string(key), Value: bytes.Clone(value)})
	}
	h.produce("answers", &record.Record{Key: []byte("answers/c"), Value: []byte("answer"), Headers: kept})
	c.gets("answers/c", "answer")
	h.produce("n", &record.Record{Key: []byte("n/1"), Value: []byte("mirrored"), Headers: kept})
	p.gets("n/1", "mirrored")
	c.quiet()
}
