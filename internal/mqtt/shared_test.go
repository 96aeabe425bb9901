package mqtt_test

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Shared subscriptions (section 4.8.2).

// takeAll takes what comes to some clients, and acknowledges it, until nothing more does: the payloads by client.
func takeAll(clients ...*raw) [][]string {
	all := make([][]string, len(clients))
	for i, c := range clients {
		c.t.Helper()
		for _, m := range c.untilPing(true) {
			all[i] = append(all[i], string(m.Payload))
		}
	}
	return all
}

// untilPing is what comes before the answer to a ping.
func (c *raw) untilPing(ack bool) (all []*packet.Publish) {
	c.t.Helper()
	c.send(&packet.Pingreq{})
	for {
		p, err := c.next(patience)
		if err != nil {
			c.t.Fatal(err)
		}
		m, ok := p.(*packet.Publish)
		if !ok {
			if _, ok := p.(*packet.Pingresp); !ok {
				c.t.Fatalf("got %#v", p)
			}
			return all
		}
		if ack && m.QoS > 0 {
			c.send(&packet.Puback{PacketID: m.PacketID})
		}
		all = append(all, new(*m))
	}
}

// gather takes and acknowledges what comes to some clients until there are so many messages, and then that there are no
// more: how often each payload came.
func gather(t *testing.T, count int, clients ...*raw) (times map[string]int, per []int) {
	t.Helper()
	times, per = make(map[string]int), make([]int, len(clients))
	n := 0
	take := func() {
		for i, list := range takeAll(clients...) {
			for _, payload := range list {
				times[payload]++
			}
			n, per[i] = n+len(list), per[i]+len(list)
		}
	}
	eventually(t, fmt.Sprintf("%d messages", count), func() bool { take(); return n >= count })
	if take(); n != count {
		t.Fatalf("%d messages, want %d: %v", n, count, times)
	}
	return times, per
}

// once wants each of the numbers from first to below end once.
func once(t *testing.T, times map[string]int, first, end int) {
	t.Helper()
	for i := first; i < end; i++ {
		if n := times[strconv.Itoa(i)]; n != 1 {
			t.Errorf("message %d came %d times", i, n)
		}
	}
	if len(times) != end-first {
		t.Errorf("%d different messages, want %d", len(times), end-first)
	}
}

// countTo publishes those from first to below end.
func (c *raw) countTo(topic string, first, end int) {
	c.t.Helper()
	for i := first; i < end; i++ {
		c.published(topic, strconv.Itoa(i), false)
	}
}

// TestSharedInTurn: each message goes to one member, to all of them about as often, with the QoS that was granted to it
// [MQTT-4.8.2-3] and as its subscription and its version ask.
func TestSharedInTurn(t *testing.T) {
	h := open(t, nil)
	old := h.connect(t, packet.V311, "old", nil)
	old.subscribe(1, "$share/g/a/#")
	none := h.connect(t, packet.V5, "none", nil)
	none.subscribe(0, "$share/g/a/#")
	rich := h.connect(t, packet.V5, "rich", nil)
	sub := &packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
		{Filter: []byte("$share/g/a/#"), QoS: 1, RetainAsPublished: true}}}
	sub.Props.AddSubscriptionID(300)
	rich.send(sub)
	want[*packet.Suback](rich)
	own := h.connect(t, packet.V5, "own", nil) // the same filter, but not shared; and another group
	own.subscribe(1, "a/#", "$share/another/a/#")

	p := h.connect(t, packet.V5, "p", nil)
	const count = 60
	for i := range count {
		m := &packet.Publish{Topic: []byte("a/b"), Payload: []byte(strconv.Itoa(i)), QoS: 1, PacketID: 7, Retain: true}
		m.Props.SetContentType([]byte("text"))
		m.Props.AddUser("k", "v")
		p.send(m)
		want[*packet.Puback](p)
	}
	times := make(map[string]int)
	seen := make([]int, 3)
	total := 0
	eventually(t, "all messages", func() bool {
		for i, c := range []*raw{old, none, rich} {
			for _, m := range c.untilPing(true) {
				times[string(m.Payload)]++
				total++
				seen[i]++
				qos, retain, ids := byte(1), false, 0
				switch c {
				case none:
					qos = 0
				case rich:
					retain, ids = true, 1
				}
				if m.QoS != qos || m.Retain != retain || m.Dup || len(m.Props.SubscriptionIDs) != ids ||
					string(m.Topic) != "a/b" {
					t.Errorf("client %d got %+v", i, m)
				}
				if ids > 0 && m.Props.SubscriptionIDs[0] != 300 {
					t.Errorf("subscription identifiers %v", m.Props.SubscriptionIDs)
				}
				if c != old && (string(m.Props.ContentType) != "text" || len(m.Props.User) == 0) {
					t.Errorf("client %d got the properties %+v", i, m.Props)
				}
			}
		}
		return total >= count
	})
	once(t, times, 0, count)
	for i, n := range seen {
		if n < count/6 {
			t.Errorf("member %d got %d of %d: %v", i, n, count, seen)
		}
	}
	if times, _ := gather(t, 2*count, own); times["0"] != 2 {
		t.Errorf("who is subscribed by itself and in another group got %v", times)
	}
}

// TestSharedQoS0 goes to one member, too.
func TestSharedQoS0(t *testing.T) {
	h := open(t, nil)
	a, b := h.connect(t, packet.V5, "a", nil), h.connect(t, packet.V311, "b", nil)
	a.subscribe(1, "$share/g/a")
	b.subscribe(1, "$share/g/a")
	p := h.connect(t, packet.V5, "p", nil)
	for i := range 40 {
		p.publish(0, 0, "a", strconv.Itoa(i))
	}
	times, per := gather(t, 40, a, b)
	once(t, times, 0, 40)
	if per[0] == 0 || per[1] == 0 {
		t.Errorf("%v", per)
	}
}

// TestSharedGetsNoRetained: a shared subscription gets no retained messages when it is made, whatever it asks for.
func TestSharedGetsNoRetained(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		p := h.connect(t, v, "p", nil)
		p.published("a", "kept", true)
		c := h.connect(t, v, "c", nil)
		c.subscribe(1, "$share/g/a")
		c.quiet()
		p.published("a", "new", true)
		if m := c.gets("a", "new"); m.Retain {
			t.Error("RETAIN is set")
		}
	})
}

// TestSharedNotForWhoIsAway: a member without a connection gets nothing while another has one, and of the group only
// what comes when it is back.
func TestSharedNotForWhoIsAway(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		away, _ := h.comeBack(t, v, "away", nil)
		away.subscribe(1, "$share/g/a")
		here, _ := h.comeBack(t, v, "here", nil)
		here.subscribe(1, "$share/g/a")
		h.leave(away)
		p := h.connect(t, v, "p", nil)
		p.countTo("a", 0, 30)
		times, _ := gather(t, 30, here)
		once(t, times, 0, 30)
		away = h.back(t, v, "away")
		away.quiet()
		p.countTo("a", 30, 60)
		times, per := gather(t, 30, here, away)
		once(t, times, 30, 60)
		if per[0] == 0 || per[1] == 0 {
			t.Errorf("%v", per)
		}
	})
}

// TestSharedGoesToAnother: what a member did not acknowledge when its connection ended goes to another, as a new
// message.
func TestSharedGoesToAnother(t *testing.T) {
	ends := map[string]func(h *house, c *raw){
		"lost":       func(_ *house, c *raw) { c.net.Close() },
		"disconnect": func(_ *house, c *raw) { c.send(&packet.Disconnect{}) },
		"takeover":   func(h *house, c *raw) { h.connect(h.t, c.v, "a", nil) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, v packet.Version) {
				h := open(t, nil)
				a, b := h.connect(t, v, "a", nil), h.connect(t, v, "b", nil)
				a.subscribe(1, "$share/g/a/+")
				b.subscribe(1, "$share/g/a/+")
				p := h.connect(t, v, "p", nil)
				p.countTo("a/1", 0, 20)
				var mine []*packet.Publish
				others := 0
				eventually(t, "all", func() bool {
					mine = append(mine, a.untilPing(false)...)
					others += len(b.untilPing(true))
					return len(mine)+others == 20
				})
				if len(mine) < 5 {
					t.Fatalf("only %d for one of two", len(mine))
				}
				a.send(&packet.Puback{PacketID: mine[1].PacketID})
				a.quiet()
				end(h, a)
				lost := make(map[string]bool)
				for i, m := range mine {
					if i != 1 {
						lost[string(m.Payload)] = true
					}
				}
				for range len(mine) - 1 {
					m := want[*packet.Publish](b)
					if !lost[string(m.Payload)] || m.Dup {
						t.Errorf("%s, DUP %v", m.Payload, m.Dup)
					}
					delete(lost, string(m.Payload))
					b.send(&packet.Puback{PacketID: m.PacketID})
				}
				p.countTo("a/1", 20, 30)
				times, _ := gather(t, 10, b)
				once(t, times, 20, 30)
			})
		})
	}
}

// TestSharedRefused: what a member answers with an error goes to nobody else [MQTT-4.8.2-6].
func TestSharedRefused(t *testing.T) {
	h := open(t, nil)
	a, b := h.connect(t, packet.V5, "a", nil), h.connect(t, packet.V5, "b", nil)
	a.subscribe(1, "$share/g/a")
	p := h.connect(t, packet.V5, "p", nil)
	p.published("a", "bad", false)
	m := want[*packet.Publish](a)
	a.send(&packet.Puback{PacketID: m.PacketID, Reason: packet.UnspecifiedError})
	a.quiet()
	b.subscribe(1, "$share/g/a")
	a.net.Close()
	eventually(t, "one left", func() bool { return h.door.Stats().Clients == 2 })
	b.quiet()
	p.published("a", "good", false)
	b.gets("a", "good")
}

// TestSharedTooLarge: what is too large for one member goes to another [MQTT-3.1.2-25].
func TestSharedTooLarge(t *testing.T) {
	h := open(t, nil)
	small := h.connect(t, packet.V5, "small", func(p *packet.Connect) { p.Props.SetMaximumPacketSize(100) })
	large := h.connect(t, packet.V5, "large", nil)
	small.subscribe(1, "$share/g/a")
	large.subscribe(1, "$share/g/a")
	p := h.connect(t, packet.V5, "p", nil)
	big := strings.Repeat("x", 200)
	for range 10 {
		p.published("a", big, false)
	}
	times, _ := gather(t, 10, large)
	if small.quiet(); times[big] != 10 {
		t.Errorf("%v", times)
	}
	large.send(&packet.Disconnect{})
	large.closed()
	eventually(t, "one left", func() bool { return h.door.Stats().Clients == 2 })
	p.published("a", big, false) // for nobody
	p.published("a", "fits", false)
	small.gets("a", "fits")
	small.quiet()
}

// TestSharedPassesOverWhoIsSlow: a member whose window is full is passed over; when all are, the group waits, and each
// goes on as it acknowledges.
func TestSharedPassesOverWhoIsSlow(t *testing.T) {
	h := open(t, nil)
	slow := h.connect(t, packet.V5, "slow", func(p *packet.Connect) { p.Props.SetReceiveMaximum(3) })
	fast := h.connect(t, packet.V5, "fast", nil)
	slow.subscribe(1, "$share/g/a")
	fast.subscribe(1, "$share/g/a")
	p := h.connect(t, packet.V5, "p", nil)
	p.countTo("a", 0, 50)
	times, _ := gather(t, 47, fast)
	held := slow.untilPing(false)
	if len(held) != 3 {
		t.Fatalf("%d messages in a window of 3", len(held))
	}
	for _, m := range held {
		times[string(m.Payload)]++
	}
	once(t, times, 0, 50)
	fast.send(&packet.Disconnect{})
	fast.closed()
	p.countTo("a", 50, 60)
	slow.quiet()
	for _, m := range held {
		slow.send(&packet.Puback{PacketID: m.PacketID})
	}
	times, _ = gather(t, 10, slow)
	once(t, times, 50, 60)
}

// TestSharedKeepsForItsMembers: what is published while no member is there is kept if the session of one lasts, and
// so is what they had in hand. Whatever happens to the server meanwhile.
func TestSharedKeepsForItsMembers(t *testing.T) {
	for fate, befalls := range fates {
		t.Run(fate, func(t *testing.T) {
			both(t, func(t *testing.T, v packet.Version) { keepsForItsMembers(t, v, befalls) })
		})
	}
}

func keepsForItsMembers(t *testing.T, v packet.Version, befalls func(*testing.T, *house) *house) {
	h := open(t, nil)
	a, _ := h.comeBack(t, v, "a", nil)
	a.subscribe(1, "$share/g/+/x")
	b, _ := h.comeBack(t, v, "b", nil)
	b.subscribe(1, "$share/g/+/x")
	p := h.connect(t, v, "p", nil)
	p.countTo("t1/x", 0, 10)
	p.countTo("t2/x", 10, 20)
	held := make(map[string]bool)
	done := 0
	eventually(t, "all", func() bool {
		for _, m := range a.untilPing(false) {
			held[string(m.Payload)] = true
		}
		done += len(b.untilPing(true))
		return len(held)+done == 20
	})
	h.leave(a)
	// Nothing is given to b before it has left, too: that of a comes to it first.
	again := len(held)
	for _, m := range b.some(again) {
		if !held[string(m.Payload)] {
			t.Errorf("%s came again", m.Payload)
		}
	}
	h.leave(b) // it has all of it in hand, and acknowledged nothing
	p.countTo("t2/x", 20, 40)
	p.countTo("t3/x", 40, 50)
	p.published("t1/y", "other", false)
	p.send(&packet.Disconnect{})
	h = befalls(t, h)
	b = h.back(t, v, "b")
	a = h.back(t, v, "a")
	times, _ := gather(t, again+30, a, b)
	for payload := range held {
		if times[payload] != 1 {
			t.Errorf("%s in hand came %d times", payload, times[payload])
		}
		delete(times, payload)
	}
	once(t, times, 20, 50)
	p = h.connect(t, v, "p2", nil)
	p.countTo("t1/x", 50, 60)
	times, _ = gather(t, 10, a, b)
	once(t, times, 50, 60)
}

// some takes so many messages.
func (c *raw) some(count int) (all []*packet.Publish) {
	c.t.Helper()
	for range count {
		all = append(all, new(*want[*packet.Publish](c)))
	}
	return all
}

// TestSharedStandsAfterACrash: a group that was in step, and acknowledged everything, gets nothing again by a restart.
func TestSharedStandsAfterACrash(t *testing.T) {
	for _, fate := range []string{"restart", "power cut"} {
		t.Run(fate, func(t *testing.T) {
			h := open(t, func(o *mqtt.Options) { o.CheckpointInterval = 10 * time.Millisecond })
			a, _ := h.comeBack(t, packet.V5, "a", nil)
			a.subscribe(1, "$share/g/#")
			p := h.connect(t, packet.V5, "p", nil)
			p.countTo("t/x", 0, 100)
			times, _ := gather(t, 100, a)
			once(t, times, 0, 100)
			h.checkpoint()
			h = fates[fate](t, h)
			a = h.back(t, packet.V5, "a")
			p = h.connect(t, packet.V5, "p", nil)
			p.countTo("t/x", 100, 110)
			times, _ = gather(t, 10, a)
			once(t, times, 100, 110)
		})
	}
}

// checkpoint waits until the places of now are stored: two checkpoints begin and end.
func (h *house) checkpoint() {
	h.t.Helper()
	for range 2 {
		h.door.Checkpoint()
	}
}

// TestSharedEnds: without a subscription a group is gone, and one that is made anew begins with what is new; also
// beyond a crash. The session that made it ends, or unsubscribes [MQTT-3.10.4-1].
func TestSharedEnds(t *testing.T) {
	for fate, befalls := range fates {
		for _, how := range []string{"unsubscribe", "clean start"} {
			t.Run(how+"/"+fate, func(t *testing.T) {
				h := open(t, nil)
				a, _ := h.comeBack(t, packet.V5, "a", nil)
				a.subscribe(1, "$share/g/a")
				p := h.connect(t, packet.V5, "p", nil)
				p.published("a", "in hand", false)
				m := want[*packet.Publish](a)
				if how == "unsubscribe" {
					a.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("$share/g/a")}})
					if r := want[*packet.Unsuback](a).Reasons; r[0] != packet.Success {
						t.Fatalf("UNSUBACK %v", r)
					}
					a.send(&packet.Puback{PacketID: m.PacketID})
					p.published("a", "missed", false)
					a.quiet()
					h.leave(a)
				} else {
					h.leave(a)
					p.published("a", "missed", false)
					h.connect(t, packet.V5, "a", nil).send(&packet.Disconnect{})
				}
				eventually(t, "the group is gone", func() bool { return h.door.Stats().SharedGroups == 0 })
				h.checkpoint()
				p.send(&packet.Disconnect{})
				h = befalls(t, h)
				if n := h.door.Stats().SharedGroups; n != 0 {
					t.Fatalf("%d groups", n)
				}
				a, _ = h.comeBack(t, packet.V5, "a", nil)
				a.subscribe(1, "$share/g/a")
				a.quiet()
				p = h.connect(t, packet.V5, "p", nil)
				p.published("a", "new", false)
				a.gets("a", "new")
				a.quiet()
			})
		}
	}
}

// TestSharedMadeAgain: a group that has ended leaves nothing to the one that is made by its name at once, though its
// records were stored, and the server is lost then.
func TestSharedMadeAgain(t *testing.T) {
	for fate, befalls := range fates {
		t.Run(fate, func(t *testing.T) {
			h := open(t, func(o *mqtt.Options) { o.CheckpointInterval = time.Hour })
			a, _ := h.comeBack(t, packet.V5, "a", nil)
			a.subscribe(1, "$share/g/a")
			p := h.connect(t, packet.V5, "p", nil)
			p.countTo("a", 0, 10)
			for range 5 {
				a.send(&packet.Puback{PacketID: want[*packet.Publish](a).PacketID})
			}
			for range 5 {
				want[*packet.Publish](a)
			}
			h.checkpoint()
			a.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("$share/g/a")}})
			want[*packet.Unsuback](a)
			p.countTo("a", 10, 20)
			a.subscribe(1, "$share/g/a")
			p.send(&packet.Disconnect{})
			h.leave(a)
			h = befalls(t, h)
			a = h.back(t, packet.V5, "a")
			a.quiet()
			p = h.connect(t, packet.V5, "p", nil)
			p.published("a", "new", false)
			a.gets("a", "new")
			a.quiet()
		})
	}
}

// TestSharedAgain: a second SUBSCRIBE of a member changes its options, and nothing is lost or doubled [MQTT-3.8.4-3].
func TestSharedAgain(t *testing.T) {
	h := open(t, nil)
	a := h.connect(t, packet.V5, "a", nil)
	a.subscribe(1, "$share/g/a")
	p := h.connect(t, packet.V5, "p", nil)
	p.published("a", "1", false)
	m := want[*packet.Publish](a)
	a.subscribe(0, "$share/g/a")
	a.send(&packet.Puback{PacketID: m.PacketID})
	p.published("a", "2", false)
	if m := a.gets("a", "2"); m.QoS != 0 {
		t.Errorf("QoS %d", m.QoS)
	}
	a.subscribe(1, "$share/g/a")
	p.published("a", "3", false)
	if m := a.gets("a", "3"); m.QoS != 1 {
		t.Errorf("QoS %d", m.QoS)
	}
	a.quiet()
}

// TestSharedByKey: with order by key all messages of a key go to one member, in order, also when members come and go.
func TestSharedByKey(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.SharedByKey = true })
	const members, keys, rounds = 4, 12, 30
	var clients []*raw
	for i := range members {
		c := h.connect(t, packet.V5, fmt.Sprint("m", i), nil)
		c.subscribe(1, "$share/g/k/+")
		clients = append(clients, c)
	}
	p := h.connect(t, packet.V5, "p", nil)
	last := make(map[string]int)
	by := make(map[string]int)
	publish := func(first, end int) {
		for i := first; i < end; i++ {
			for k := range keys {
				p.published(fmt.Sprintf("k/%d", k), strconv.Itoa(i), false)
			}
		}
	}
	check := func(end int) {
		n := 0
		eventually(t, "all messages", func() bool {
			for i, c := range clients {
				for _, m := range c.untilPing(true) {
					topic := string(m.Topic)
					if got, _ := strconv.Atoi(string(m.Payload)); got != last[topic] {
						t.Fatalf("%s: %d came, want %d", topic, got, last[topic])
					}
					if who, before := by[topic]; before && who != i {
						t.Fatalf("%s went from member %d to %d", topic, who, i)
					}
					by[topic] = i
					last[topic]++
				}
			}
			n = 0
			for _, c := range last {
				n += c
			}
			return n == keys*end
		})
	}
	publish(0, rounds)
	check(rounds)
	used := make(map[int]bool)
	for _, who := range by {
		used[who] = true
	}
	if len(used) < 2 {
		t.Errorf("all keys went to %v", used)
	}
	clients[0].net.Close()
	clients = clients[1:]
	clear(by)
	eventually(t, "one has left", func() bool { return h.door.Stats().Clients == members })
	publish(rounds, 2*rounds)
	check(2 * rounds)
}

// TestSharedLosesNothing: of a group of 8 two members are killed with messages in hand, again and again, while others
// publish: nothing is lost, and only what was in hand comes again.
func TestSharedLosesNothing(t *testing.T) {
	h := open(t, nil)
	const members, count = 8, 4000
	type got struct {
		payload string
		acked   bool
	}
	came, stop := make(chan got, 10*count), make(chan struct{})
	var serving sync.WaitGroup
	defer serving.Wait() // before the connections are closed, from which the members read
	defer close(stop)
	serve := func(c *raw, die int) {
		for n := 0; ; { // messages
			p, err := c.next(100 * time.Millisecond)
			m, ok := p.(*packet.Publish)
			select {
			case <-stop:
				return
			default:
			}
			if err != nil || !ok {
				continue
			}
			if n++; die > 0 && n > die {
				came <- got{string(m.Payload), false}
				if n == die+21 {
					c.net.Close()
					return
				}
				continue
			}
			came <- got{string(m.Payload), true}
			if _, err := c.net.Write((&packet.Puback{PacketID: m.PacketID}).AppendTo(nil, c.v)); err != nil {
				return
			}
		}
	}
	for i := range members {
		c, _ := h.comeBack(t, []packet.Version{packet.V311, packet.V5}[i%2], fmt.Sprint("m", i), nil)
		c.subscribe(1, "$share/g/a/#")
		die := 0
		if i < 2 {
			die = 100
		}
		serving.Go(func() { serve(c, die) })
	}
	p := h.connect(t, packet.V5, "p", nil)
	for i := range count {
		p.send(&packet.Publish{Topic: []byte(fmt.Sprintf("a/%d", i%5)), Payload: []byte(strconv.Itoa(i)), QoS: 1,
			PacketID: uint16(i%1000 + 1)})
		want[*packet.Puback](p)
	}
	acked, held := make(map[string]int), 0 // of those held, some twice: what the second got of the first
	for len(acked) < count {
		g := receive(t, came)
		if g.acked {
			acked[g.payload]++
		} else {
			held++
		}
	}
	for payload, n := range acked {
		if n != 1 {
			t.Errorf("%s was taken %d times", payload, n)
		}
	}
	if held != 2*21 {
		t.Errorf("%d messages were in hand", held)
	}
}

// TestSharedForMosquitto: mosquitto_sub takes part in a group, as it speaks it itself.
func TestSharedForMosquitto(t *testing.T) {
	path, err := exec.LookPath("mosquitto_sub")
	if err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	for _, version := range []string{"311", "5"} {
		h := open(t, nil) // where nobody else is counted
		host, port, _ := strings.Cut(h.addr, ":")
		a := h.connect(t, packet.V5, "a", nil)
		a.subscribe(1, "$share/g/x")
		before := h.door.Stats().Clients
		out := make(chan string, 1)
		cmd := exec.Command(path, "-h", host, "-p", port, "-V", version, "-q", "1", "-t", "$share/g/x", "-C", "10")
		go func() {
			b, _ := cmd.CombinedOutput()
			out <- string(b)
		}()
		eventually(t, "it is there", func() bool { return h.door.Stats().Clients > before })
		p := h.connect(t, packet.V5, "p", nil)
		var theirs string
		n := 0
		for theirs == "" { // until it has had its ten
			p.published("x", strconv.Itoa(n), false)
			n++
			takeAll(a)
			select {
			case theirs = <-out:
			case <-time.After(5 * time.Millisecond):
			}
		}
		if got := strings.Fields(theirs); len(got) != 10 {
			t.Errorf("mosquitto_sub -V %s got %q", version, theirs)
		}
	}
}

// TestSharedMalformed: a share without a name or without a filter, or with a wildcard in its name, is malformed in
// every version [MQTT-4.8.2-1] [MQTT-4.8.2-2]; No Local is a protocol error [MQTT-3.8.3-4].
func TestSharedMalformed(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		for _, filter := range []string{"$share/", "$share//x", "$share/g", "$share/g/", "$share/+/x", "$share/g#/x"} {
			c := h.connect(t, v, "c", nil)
			c.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte(filter)}}})
			if v == packet.V5 {
				if d := want[*packet.Disconnect](c); d.Reason != packet.Malformed {
					t.Errorf("%s: %s", filter, d.Reason)
				}
			}
			c.closed()
		}
	})
	c := open(t, nil).connect(t, packet.V5, "c", nil)
	c.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
		{Filter: []byte("$share/g/x"), NoLocal: true}}})
	if d := want[*packet.Disconnect](c); d.Reason != packet.ProtocolError {
		t.Errorf("No Local: %s", d.Reason)
	}
}
