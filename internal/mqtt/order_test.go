package mqtt_test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// slow opens a house on files whose writes and syncs take a while, as they do on a disk.
func slow(t *testing.T) *house {
	disk := vfs.NewFaulty(vfs.NewMemory())
	disk.Inject(vfs.Fault{On: vfs.OpWrite, Name: "journal", Times: -1, Delay: 2 * time.Millisecond})
	disk.Inject(vfs.Fault{On: vfs.OpSync, Times: -1, Delay: 2 * time.Millisecond})
	h := openOn(t, disk, nil)
	t.Cleanup(func() { h.stop() })
	return h
}

// until gathers messages, each with its RETAIN flag, until there is one with a payload.
func (c *raw) until(payload string) (all []string) {
	c.t.Helper()
	for {
		p, err := c.next(patience)
		if err != nil {
			c.t.Fatal(err)
		}
		m, ok := p.(*packet.Publish)
		switch {
		case ok && string(m.Payload) == payload:
			return all
		case ok:
			all = append(all, fmt.Sprintf("%s retain=%v", m.Payload, m.Retain))
		}
	}
}

// TestPublishThenSubscribe is case D2: what comes before a SUBSCRIBE on the same connection is older than it.
func TestPublishThenSubscribe(t *testing.T) {
	h := slow(t)
	other := h.connect(t, packet.V5, "other", nil)
	other.published("marker", "marker", true)
	for _, tt := range []struct {
		version  packet.Version
		retain   bool
		handling byte
		want     string
	}{
		{packet.V311, true, 0, "[x retain=true]"},
		{packet.V5, true, 0, "[x retain=true]"},
		{packet.V5, true, 1, "[x retain=true]"},
		{packet.V5, true, 2, "[]"},
		{packet.V5, false, 0, "[]"},
	} {
		for qos := range byte(2) {
			for i := range 10 {
				name := fmt.Sprintf("d2/%d/%v/%d/%d/%d", tt.version, tt.retain, tt.handling, qos, i)
				c := h.connect(t, tt.version, name, nil)
				c.send(
					&packet.Publish{Topic: []byte(name), Payload: []byte("x"), QoS: qos, PacketID: 5, Retain: tt.retain},
					&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
						{Filter: []byte(name), RetainHandling: tt.handling}}})
				for {
					p, err := c.next(patience)
					if _, is := p.(*packet.Suback); is {
						break
					}
					if _, is := p.(*packet.Puback); err != nil || !is {
						t.Fatalf("%#v, %v before the SUBACK", p, err)
					}
				}
				// What comes live came before this, and what is retained before the marker.
				other.published(name, "last", false)
				all := c.until("last")
				c.send(&packet.Subscribe{PacketID: 2, Subscriptions: []packet.Subscription{{Filter: []byte("marker")}}})
				all = append(all, c.until("marker")...)
				if got := fmt.Sprint(all); got != tt.want {
					t.Fatalf("version %d, RETAIN %v, QoS %d, Retain Handling %d: got %s, want %s",
						tt.version, tt.retain, qos, tt.handling, got, tt.want)
				}
			}
		}
	}
}

// TestSubscribeWhileRetainedAreSet is case D2 between connections: some clients set retained messages, each name once
// and one name again and again, while others subscribe. Each of those gets every name once: with RETAIN 1 those that
// were set before, with RETAIN 0 the others. Of the name that changes it gets at most one with RETAIN 1, and from there
// on every one: what replaces the first before it could be sent comes live in its place.
func TestSubscribeWhileRetainedAreSet(t *testing.T) {
	h := slow(t)
	const setters, sets, subscribers = 3, 120, 50
	pubs := make([]*raw, setters)
	for i := range pubs {
		pubs[i] = h.connect(t, packet.V5, fmt.Sprintf("pub%d", i), nil)
		pubs[i].published(fmt.Sprintf("set/%d", i), "0", true)
	}
	var wg sync.WaitGroup
	for i, pub := range pubs {
		wg.Go(func() {
			for n := 1; n <= sets; n++ {
				payload := strconv.AppendInt(nil, int64(n), 10)
				for _, name := range []string{fmt.Sprintf("set/%d", i), fmt.Sprintf("set/%d/%d", i, n)} {
					pub.send(&packet.Publish{Topic: []byte(name), Payload: payload, QoS: 1, PacketID: 1, Retain: true})
					want[*packet.Puback](pub)
				}
			}
		})
	}
	for i := range subscribers {
		c := h.connect(t, packet.V5, fmt.Sprintf("sub%d", i), nil)
		c.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("set/#")}}})
		want[*packet.Suback](c)
		wg.Go(func() { c.sets(setters, sets) })
	}
	wg.Wait()
}

// sets takes all that comes of TestSubscribeWhileRetainedAreSet.
func (c *raw) sets(setters, sets int) {
	seen := map[string]bool{}  // the names that come once
	live := map[string]int{}   // the last number of those that change, by name
	began := map[string]bool{} // something of it came
	newest := map[string]int{} // the newest of the names of a setter with RETAIN 1
	oldest := map[string]int{} // and the oldest with RETAIN 0
	behind := func(name string) bool { return live[name] < sets }
	for len(seen) < setters*sets || slices.ContainsFunc([]string{"set/0", "set/1", "set/2"}, behind) {
		p, err := c.next(patience)
		if err != nil {
			c.t.Errorf("%v behind %d names and %v", err, len(seen), live)
			return
		}
		m, ok := p.(*packet.Publish)
		if !ok {
			continue
		}
		name := string(m.Topic)
		n, err := strconv.Atoi(string(m.Payload))
		if err != nil {
			c.t.Error(err)
		}
		if setter, _ := strings.CutSuffix(name, "/"+string(m.Payload)); strings.Count(name, "/") == 2 {
			if seen[name] {
				c.t.Errorf("%s came twice", name)
			}
			seen[name] = true
			if m.Retain {
				newest[setter] = max(newest[setter], n)
			} else if oldest[setter] == 0 {
				oldest[setter] = n
			}
			continue
		}
		switch {
		case m.Retain && began[name] && live[name] != 0 && n >= live[name]:
			c.t.Errorf("%s: %d with RETAIN 1 came live too", name, n)
		case !m.Retain && live[name] > 0 && n != live[name]+1:
			c.t.Errorf("%s: %d came behind %d", name, n, live[name])
		}
		began[name] = true
		if !m.Retain || n == sets {
			live[name] = n
		}
	}
	for setter, n := range oldest {
		if n <= newest[setter] {
			c.t.Errorf("%s: %d came live, %d with RETAIN 1", setter, n, newest[setter])
		}
	}
	c.quiet()
}

// TestUnsubscribeEndsRetained is case F34: an UNSUBSCRIBE amid the retained messages of a subscription ends them, but
// for those in flight [MQTT-3.10.4-2].
func TestUnsubscribeEndsRetained(t *testing.T) {
	const count, window = 10_000, 20
	h := open(t, func(o *mqtt.Options) { o.OutboxBytes = 64 << 10 })
	pub := h.connect(t, packet.V5, "pub", nil)
	for i := 0; i < count; i += 500 {
		for j := i; j < i+500; j++ {
			pub.send(&packet.Publish{Topic: fmt.Appendf(nil, "h/%d", j), Payload: make([]byte, 600), QoS: 1,
				PacketID: uint16(j + 1), Retain: true})
		}
		for range 500 {
			want[*packet.Puback](pub)
		}
	}
	for qos := range byte(2) {
		c := h.connect(t, packet.V5, fmt.Sprint("sub", qos), func(p *packet.Connect) { p.Props.SetReceiveMaximum(window) })
		c.net.(*net.TCPConn).SetReadBuffer(32 << 10)
		c.subscribe(qos, "h/#")
		take := func() bool {
			p, err := c.next(patience)
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := p.(*packet.Publish); ok && m.QoS > 0 {
				c.send(&packet.Puback{PacketID: m.PacketID})
			}
			_, ended := p.(*packet.Unsuback)
			return ended
		}
		for range 100 {
			take()
		}
		c.send(&packet.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("h/#")}})
		for !take() {
			continue
		}
		after := 0
		for range 50 { // each acknowledgement would bring more
			c.send(&packet.Pingreq{})
			for ponged := false; !ponged; {
				p, err := c.next(patience)
				if err != nil {
					t.Fatal(err)
				}
				if m, ok := p.(*packet.Publish); ok {
					after++
					if m.QoS > 0 {
						c.send(&packet.Puback{PacketID: m.PacketID})
					}
				}
				_, ponged = p.(*packet.Pingresp)
			}
		}
		if after > window {
			t.Errorf("QoS %d: %d messages behind the UNSUBACK", qos, after)
		}
	}
}

// gate is a guard that lets one client's first message wait until the test goes on.
type gate struct {
	client  string
	shut    atomic.Bool
	reached chan struct{}
	open    chan struct{}
}

func (g *gate) may(who *rule.Subject, does doing, _ string) bool {
	if who.ClientID == g.client && does == receiving && g.shut.CompareAndSwap(false, true) {
		close(g.reached)
		<-g.open
	}
	return true
}

// TestRetainedComeBeforeWhatIsNewer publishes to two names while their retained messages are on their way to a new
// subscriber: it gets those first [MQTT-3.3.1-9], with RETAIN 1, then what is newer, with RETAIN as its subscription
// asks [MQTT-3.3.1-12] [MQTT-3.3.1-13], each once. To the subscriber the last message of a topic is its state, and
// messages of one topic and publisher come in their order [MQTT-4.6.0-5] [MQTT-4.6.0-6].
func TestRetainedComeBeforeWhatIsNewer(t *testing.T) {
	for _, retained := range []bool{false, true} {
		for _, asPublished := range []bool{false, true} {
			for qos := range byte(2) {
				name := fmt.Sprintf("retain=%v, as published=%v, QoS %d", retained, asPublished, qos)
				t.Run(name, func(t *testing.T) { testRetainedFirst(t, retained, asPublished, qos) })
			}
		}
	}
}

func testRetainedFirst(t *testing.T, retained, asPublished bool, qos byte) {
	g := &gate{client: "sub", reached: make(chan struct{}), open: make(chan struct{})}
	h := open(t, func(o *mqtt.Options) { judged(t, o, g) })
	pub, witness := h.connect(t, packet.V5, "pub", nil), h.connect(t, packet.V5, "witness", nil)
	names := []string{"order/a", "order/b"}
	for _, name := range names {
		pub.published(name, "old", true)
	}
	witness.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
		{Filter: []byte("order/#"), QoS: 1, RetainHandling: 2}}})
	want[*packet.Suback](witness)
	sub := h.connect(t, packet.V5, "sub", nil)
	sub.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
		{Filter: []byte("order/#"), QoS: qos, RetainAsPublished: asPublished}}})
	want[*packet.Suback](sub)
	<-g.reached
	for _, name := range names {
		pub.published(name, "new", retained)
	}
	pub.published("order/end", "end", false)
	witness.until("end") // whoever hears the end live has been offered what came before it
	close(g.open)
	live := fmt.Sprintf("new retain=%v", retained && asPublished)
	wanted := []string{"old retain=true", "old retain=true", live, live}
	if got := sub.until("end"); !slices.Equal(got, wanted) {
		t.Errorf("got %v, want %v", got, wanted)
	}
	sub.quiet()
}

// TestLiveGoesOnWhereRetainedCannotBeRead lets the disk fail to read a retained message: what comes live does not wait
// for it.
func TestLiveGoesOnWhereRetainedCannotBeRead(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMemory())
	h := openOn(t, disk, nil)
	pub := h.connect(t, packet.V5, "pub", nil)
	pub.published("far/large", strings.Repeat("x", 2000), true)
	h.stop()
	h = openOn(t, disk, nil, // it lies in a file now, and nowhere else
		"cannot read a retained message, trying again", "housekeeping of the log failed")
	defer func() { h.stop() }()
	disk.Inject(vfs.Fault{On: vfs.OpRead, Name: "log/", Times: -1, Kind: fault.IO})
	pub, sub := h.connect(t, packet.V5, "pub", nil), h.connect(t, packet.V5, "sub", nil)
	sub.subscribe(1, "far/#")
	pub.published("far/small", "live", false)
	sub.gets("far/small", "live")
	disk.Heal()
	if m := want[*packet.Publish](sub); string(m.Topic) != "far/large" || !m.Retain {
		t.Errorf("%s, RETAIN %v", m.Topic, m.Retain)
	}
}
