package mqtt_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// history makes records n of [from, to) in the partitions of a topic in turn, stamped a minute apart; the last of count
// is stamped now.
func (h *house) history(topic string, partitions, from, to, count int) {
	h.t.Helper()
	tp := h.log.Topics().ByName(topic)
	if tp == nil {
		var err error
		spec := stream.TopicSpec{Name: topic, Partitions: partitions}
		if tp, err = h.log.CreateTopic(context.Background(), spec); err != nil {
			h.t.Fatal(err)
		}
	}
	now := time.Now()
	for n := from; n < to; n++ {
		r := &record.Record{Timestamp: now.Add(time.Duration(n-count) * time.Minute).UnixMilli(),
			Key: fmt.Appendf(nil, "%s/%d", topic, n%10), Value: strconv.AppendInt(nil, int64(n), 10),
			Headers: []record.Header{{Key: hinge.HeaderFlags, Value: []byte("1")}}} // QoS 1
		done := make(receipt, 1)
		w := stream.Write{Partition: tp.Partitions[n%len(tp.Partitions)], Record: r}
		if err := streamtest.Append(h.log, done, w); err != nil {
			h.t.Fatal(err)
		}
		if err := <-done; err != nil {
			h.t.Fatal(err)
		}
	}
}

// replay subscribes with user properties, given as names and values.
func (c *raw) replay(qos byte, filter string, props ...string) *packet.Suback {
	c.t.Helper()
	p := &packet.Subscribe{PacketID: 100, Subscriptions: []packet.Subscription{{Filter: []byte(filter), QoS: qos}}}
	for i := 0; i < len(props); i += 2 {
		p.Props.AddUser(props[i], props[i+1])
	}
	c.send(p)
	return want[*packet.Suback](c)
}

// numbers takes n messages, acknowledges them, and gives their numbers, sorted, after it has held each partition of
// parts to its order; 0: none.
func (c *raw) numbers(n, parts int) (got []int) {
	c.t.Helper()
	last := make(map[int]int)
	for range n {
		p := want[*packet.Publish](c)
		number, err := strconv.Atoi(string(p.Payload))
		if err != nil {
			c.t.Fatal(err)
		}
		if parts > 0 {
			if before, had := last[number%parts]; had && number <= before {
				c.t.Fatalf("%d came after %d", number, before)
			}
			last[number%parts] = number
		}
		got = append(got, number)
		if p.QoS == 1 {
			c.send(&packet.Puback{PacketID: p.PacketID})
		}
	}
	slices.Sort(got)
	return got
}

// upTo is the numbers from one to another.
func upTo(from, to int) (all []int) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// TestReplay: what a subscription gets that begins in the past, by version, filter and where it begins.
func TestReplay(t *testing.T) {
	const count = 60
	h := open(t, nil)
	h.history("a", 4, 0, count, count)
	h.history("b", 1, 0, count, count)
	every := upTo(0, count)
	sevens := []int{7, 17, 27, 37, 47, 57}
	for i, tc := range []struct {
		from, filter string
		parts        int
		want         []int
	}{
		{"earliest", "a/#", 4, every},
		{"earliest", "+/7", 0, slices.Concat(sevens, sevens)},
		{"earliest", "a/7", 4, sevens},
		{"0", "b/+", 1, every},
		{"50", "b/#", 1, every[50:]},
		{"10", "a/#", 4, every[40:]}, // in each of four partitions
		{"999", "a/#", 4, nil},
		{"-10m30s", "a/#", 4, every[50:]},
		{"-365d", "a/#", 4, every},
		{"1970-01-01T00:00:00Z", "b/#", 1, every},
		{"2999-01-01T00:00:00Z", "b/#", 1, nil},
		{time.Now().Add(-30*time.Minute - 30*time.Second).UTC().Format(time.RFC3339), "b/#", 1, every[30:]},
		{"earliest", "nothing/#", 1, nil},
	} {
		for _, v := range []packet.Version{packet.V311, packet.V5} {
			for qos := range byte(2) {
				t.Run(fmt.Sprintf("%d/%s/%d", i, v, qos), func(t *testing.T) {
					c := h.connect(t, v, "", nil)
					filter, props := tc.filter, []string{"firth-from", tc.from}
					if v != packet.V5 {
						filter, props = "$replay/"+tc.from+"/"+tc.filter, nil
					}
					if ack := c.replay(qos, filter, props...); ack.Reasons[0] != packet.ReasonCode(qos) {
						t.Fatalf("SUBACK %v", ack.Reasons)
					}
					got, want := c.numbers(len(tc.want), tc.parts), slices.Sorted(slices.Values(tc.want))
					if !slices.Equal(got, want) {
						t.Fatalf("got %v, want %v", got, want)
					}
					c.quiet()
				})
			}
		}
	}
}

// TestReplayGoesOnLive: while history is read others publish, and all of it comes, each once and in order, beside what
// comes by another subscription meanwhile.
func TestReplayGoesOnLive(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		const before, after = 3000, 2000
		h := open(t, nil)
		h.history("a", 3, 0, before, before)
		c := h.connect(t, v, "", nil)
		c.subscribe(0, "live/#")
		live := make(chan struct{})
		go func() {
			defer close(live)
			h.history("a", 3, before, before+after, before+after)
		}()
		if v == packet.V5 {
			c.replay(1, "a/#", "firth-from", "earliest")
		} else {
			c.replay(1, "$replay/earliest/a/#")
		}
		if got := c.numbers(before+after, 3); !slices.Equal(got, upTo(0, before+after)) {
			t.Fatalf("%d numbers, not each once", len(got))
		}
		<-live
		h.history("live", 1, 0, 1, 1)
		c.gets("live/0", "0")
		c.quiet()
	})
}

// TestReplaySurvives: a session that lasts goes on where it was in its history, after its connection ended and after
// the server did, and gets each message once.
func TestReplaySurvives(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		for name, from := range map[string]string{"earliest": "earliest", "offset": "100", "ago": "-5000m"} {
			t.Run(name, func(t *testing.T) {
				const count = 3000
				first := map[string]int{"offset": 300}[name]
				often := func(o *mqtt.Options) { o.CheckpointInterval = 10 * time.Millisecond }
				h := openOn(t, vfs.NewMemory(), often)
				h.history("a", 3, 0, count, count)
				c, _ := h.comeBack(t, v, "c", fewAtATime)
				c.subscribe(1, "b/#") // stands elsewhere
				if v == packet.V5 {
					c.replay(1, "a/#", "firth-from", from)
				} else {
					c.replay(1, "$replay/"+from+"/a/#")
				}
				got := c.numbers(500, 3)
				h.leaveInFlight(c)
				h.history("a", 3, count, count+100, count)
				c = h.goesOn(t, v, &got, 700, fewAtATime)
				h.leaveInFlight(c)
				h.stop()
				h = openOn(t, h.fs, often)
				h.history("a", 3, count+100, count+200, count)
				c = h.goesOn(t, v, &got, count+200-first-1200, fewAtATime)
				slices.Sort(got)
				if got = slices.Compact(got); !slices.Equal(got, upTo(first, count+200)) {
					t.Errorf("%d numbers", len(got))
				}
				h.history("b", 1, 0, 1, 1)
				c.gets("b/0", "0")
				c.quiet()
				h.leave(c)
				h.stop()
				afterReplay(t, h.fs, v, count)
			})
		}
	})
}

// leaveInFlight is leave while messages come.
func (h *house) leaveInFlight(c *raw) {
	h.t.Helper()
	before := h.door.Stats().Away
	c.send(&packet.Disconnect{})
	for {
		if _, err := c.next(patience); err != nil {
			break
		}
	}
	eventually(h.t, "the session is away", func() bool { return h.door.Stats().Away > before })
}

// fewAtATime takes few messages at a time.
func fewAtATime(p *packet.Connect) {
	if p.Version == packet.V5 {
		p.Props.SetReceiveMaximum(20)
	}
}

// goesOn brings the session back and takes more numbers; those in flight come again with DUP, and do not count.
func (h *house) goesOn(t *testing.T, v packet.Version, got *[]int, n int, change func(*packet.Connect)) *raw {
	c, present := h.comeBack(t, v, "c", change)
	if !present {
		t.Fatal("the session is not there")
	}
	seen := make(map[int]bool)
	for _, number := range *got {
		seen[number] = true
	}
	for n > 0 {
		p := want[*packet.Publish](c)
		number, err := strconv.Atoi(string(p.Payload))
		if err != nil {
			t.Fatal(err)
		}
		c.send(&packet.Puback{PacketID: p.PacketID})
		if seen[number] {
			if !p.Dup {
				t.Fatalf("%d came again as a new message", number)
			}
			continue
		}
		seen[number] = true
		*got = append(*got, number)
		n--
	}
	return c
}

// afterReplay: a replay that has caught up follows what is new as any subscription, also over a restart.
func afterReplay(t *testing.T, fs vfs.FS, v packet.Version, count int) {
	h := openOn(t, fs, nil)
	defer h.stop()
	h.history("a", 3, count+200, count+300, count)
	c := h.back(t, v, "c")
	if got := c.numbers(100, 3); !slices.Equal(got, upTo(count+200, count+300)) {
		t.Errorf("got %v", got)
	}
	c.quiet()
}

// TestReplayWhere: deliveries say where they are, live ones too, in words that firth-from takes.
func TestReplayWhere(t *testing.T) {
	h := open(t, nil)
	h.history("a", 2, 0, 4, 4)
	c := h.connect(t, packet.V5, "", nil)
	c.replay(1, "a/#", "firth-from", "earliest", "firth-where", "yes")
	where := func(p *packet.Publish) (all []string) {
		for name, value := range p.Props.User.All() {
			all = append(all, string(name)+"="+string(value))
		}
		return all
	}
	check := func(p *packet.Publish) string {
		n, _ := strconv.Atoi(string(p.Payload))
		w := where(p)
		if len(w) < 4 || w[0] != "firth-topic=a" || w[1] != fmt.Sprintf("firth-partition=%d", n%2) ||
			w[2] != fmt.Sprintf("firth-offset=%d", n/2) || w[3][:11] != "firth-time=" {
			t.Fatalf("%d: %q", n, w)
		}
		c.send(&packet.Puback{PacketID: p.PacketID})
		return w[3][11:]
	}
	var stamp string
	for range 4 {
		if p := want[*packet.Publish](c); string(p.Payload) == "3" {
			stamp = check(p)
		} else {
			check(p)
		}
	}
	h.history("a", 2, 4, 5, 4)
	check(want[*packet.Publish](c))
	if at, err := time.Parse(time.RFC3339, stamp); err != nil || time.Since(at) < 30*time.Second {
		t.Errorf("%q, %v", stamp, err)
	}
	again := h.connect(t, packet.V5, "", nil)
	again.replay(0, "a/#", "firth-from", stamp)
	if got := again.numbers(2, 2); !slices.Equal(got, []int{3, 4}) {
		t.Errorf("from %s: %v", stamp, got)
	}
	again.quiet()
	none := h.connect(t, packet.V5, "", nil)
	none.replay(0, "a/#", "firth-from", "2")
	if w := where(want[*packet.Publish](none)); len(w) > 0 {
		t.Errorf("it says where it is to who did not ask: %q", w)
	}
	plain := h.connect(t, packet.V5, "", nil)
	plain.replay(0, "p/#", "firth-where", "yes")
	plain.send(&packet.Publish{Topic: []byte("p/x"), Payload: []byte("x"), Props: user("firth-offset", "forged")})
	if w := where(want[*packet.Publish](plain)); len(w) != 5 || w[2] != "firth-offset=0" {
		t.Errorf("live: %q", w)
	}
}

func user(name, value string) (p packet.Properties) {
	p.AddUser(name, value)
	return p
}

// TestReplayRefused: what is wrong with where a subscription begins has a reason code, and words for those who want
// them.
func TestReplayRefused(t *testing.T) {
	h := open(t, nil)
	h.history("a", 1, 0, 1, 1)
	for _, tc := range []struct {
		filter string
		props  []string
		reason packet.ReasonCode
		words  string
	}{
		{"a/#", []string{"firth-from", "yesterday"}, 0x83,
			`firth-from: "yesterday" is not earliest, an offset, a time as 2026-01-31T12:00:00Z or -1h`},
		{"a/#", []string{"firth-from", ""}, 0x83, `firth-from: "" is not earliest, an offset, ` +
			`a time as 2026-01-31T12:00:00Z or -1h`},
		{"a/#", []string{"firth-from", "-1"}, 0x83, `firth-from: "-1" is not earliest, an offset, ` +
			`a time as 2026-01-31T12:00:00Z or -1h`},
		{"a/#", []string{"firth-from", "0", "firth-from", "1"}, 0x83, "firth-from comes twice"},
		{"a/#", []string{"firth-where", "there"}, 0x83, `firth-where: "there" is not yes or no`},
		{"$replay/earliest", nil, 0x8f, "$replay/: no filter behind where it begins"},
		{"$replay/soon/a", nil, 0x8f, `$replay/: "soon" is not earliest, an offset, ` +
			`a time as 2026-01-31T12:00:00Z or -1h`},
		{"$replay/0/$SYS/#", nil, 0x8f, `"$SYS/#": what begins with $ has no history`},
		{"$share/g/a", []string{"firth-from", "0"}, 0x8f, `"$share/g/a": what begins with $ has no history`},
		{"$SYS/#", []string{"firth-from", "0"}, 0x8f, `"$SYS/#": what begins with $ has no history`},
	} {
		c := h.connect(t, packet.V5, "", nil)
		if ack := c.replay(1, tc.filter, tc.props...); ack.Reasons[0] != tc.reason ||
			string(ack.Props.ReasonString) != tc.words {
			t.Errorf("%s %q: %s %q", tc.filter, tc.props, ack.Reasons[0], ack.Props.ReasonString)
		}
		c.quiet()
		silent := h.connect(t, packet.V5, "", func(p *packet.Connect) { p.Props.SetRequestProblemInfo(0) })
		if ack := silent.replay(1, tc.filter, tc.props...); ack.Props.Has(packet.PropReasonString) {
			t.Errorf("%q to who wants no words", ack.Props.ReasonString)
		}
	}
	c := h.connect(t, packet.V5, "", nil)
	p := &packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("a/#"), NoLocal: true}}}
	p.Props.AddUser("firth-from", "0")
	c.send(p)
	if ack := want[*packet.Suback](c); ack.Reasons[0] != packet.ImplementationError {
		t.Errorf("with No Local: %s", ack.Reasons[0])
	}
	c3 := h.connect(t, packet.V311, "", nil)
	if ack := c3.subscribe(1, "$replay/soon/a"); !ack.Reasons[0].Failed() {
		t.Errorf("MQTT 3: %v", ack.Reasons)
	}
}

// TestReplayNoLocal: nor does a subscription that begins in the past get No Local by a SUBSCRIBE that only changes its
// options: that is refused, and it stays as it was. Once it has ended No Local holds [MQTT-3.8.3-3].
func TestReplayNoLocal(t *testing.T) {
	h := open(t, nil)
	h.history("a", 1, 0, 3, 3)
	c, other := h.connect(t, packet.V5, "c", nil), h.connect(t, packet.V5, "other", nil)
	c.replay(1, "a/#", "firth-from", "earliest")
	if got := c.numbers(3, 1); !slices.Equal(got, upTo(0, 3)) {
		t.Errorf("got %v", got)
	}
	noLocal := &packet.Subscribe{PacketID: 2, Subscriptions: []packet.Subscription{
		{Filter: []byte("a/#"), QoS: 1, NoLocal: true, RetainHandling: 2}}}
	c.send(noLocal)
	if ack := want[*packet.Suback](c); ack.Reasons[0] != packet.ImplementationError ||
		!strings.Contains(string(ack.Props.ReasonString), "No Local") {
		t.Errorf("with No Local: %s %q", ack.Reasons[0], ack.Props.ReasonString)
	}
	other.published("a/0", "4", false)
	c.gets("a/0", "4")
	c.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("a/#")}})
	want[*packet.Unsuback](c)
	c.send(noLocal)
	if ack := want[*packet.Suback](c); ack.Reasons[0] != 1 {
		t.Errorf("with No Local, and no history any more: %s", ack.Reasons[0])
	}
	c.published("a/0", "own", false)
	other.published("a/0", "5", false)
	c.gets("a/0", "5")
}

// TestReplayOptions: the retained message does not come before the history that it is part of; a SUBSCRIBE without a
// beginning keeps the place, one with it begins again, and UNSUBSCRIBE ends it.
func TestReplayOptions(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		pub := h.connect(t, v, "", nil)
		for n := range 5 {
			pub.published("r/x", strconv.Itoa(n), true)
		}
		c := h.connect(t, v, "", nil)
		begin := func(qos byte) {
			if v == packet.V5 {
				c.replay(qos, "r/#", "firth-from", "earliest")
			} else {
				c.replay(qos, "$replay/earliest/r/#")
			}
		}
		name := map[bool]string{true: "r/#", false: "$replay/earliest/r/#"}[v == packet.V5]
		begin(0)
		if got := c.numbers(5, 1); !slices.Equal(got, upTo(0, 5)) {
			t.Errorf("got %v", got)
		}
		c.quiet()
		begin(1)
		if got := c.numbers(5, 1); !slices.Equal(got, upTo(0, 5)) {
			t.Errorf("again: %v", got)
		}
		if v == packet.V5 {
			p := &packet.Subscribe{PacketID: 2, Subscriptions: []packet.Subscription{{Filter: []byte(name), RetainHandling: 2}}}
			c.send(p)
			want[*packet.Suback](c)
			c.quiet()
		}
		pub.published("r/x", "5", false)
		c.gets("r/x", "5")
		c.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte(name)}})
		if ack := want[*packet.Unsuback](c); v == packet.V5 && ack.Reasons[0] != packet.Success {
			t.Errorf("UNSUBACK %v", ack.Reasons)
		}
		pub.published("r/x", "6", false)
		c.quiet()
	})
}

// TestReplayAfterRetention: what retention has taken is passed over.
func TestReplayAfterRetention(t *testing.T) {
	h := open(t, nil)
	h.history("a", 1, 0, 50, 50)
	p := h.log.Topics().ByName("a").Partitions[0]
	if _, err := h.disk().TrimTo(t.Context(), p, 30); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"earliest", "7", "-365d"} {
		c := h.connect(t, packet.V5, "", nil)
		c.replay(1, "a/#", "firth-from", from)
		if got := c.numbers(20, 1); !slices.Equal(got, upTo(30, 50)) {
			t.Errorf("from %s: %v", from, got)
		}
		c.quiet()
	}
}

// TestReplayExactlyOnce: a session that reads its history with QoS 2 gets each message once, though another connection
// takes it over in the middle and the server starts again.
func TestReplayExactlyOnce(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		const count = 400
		h := openOn(t, vfs.NewMemory(), nil)
		pub := h.connect(t, v, "pub", nil)
		for n := range count {
			id := uint16(n + 1)
			pub.publish(2, id, fmt.Sprintf("a/%d", n%7), strconv.Itoa(n))
			want[*packet.Pubrec](pub)
			pub.send(&packet.Pubrel{PacketID: id})
			want[*packet.Pubcomp](pub)
		}
		c, _ := h.comeBack(t, v, "c", fewAtATime)
		if v == packet.V5 {
			c.replay(2, "a/#", "firth-from", "earliest")
		} else {
			c.replay(2, "$replay/earliest/a/#")
		}
		open := make(map[uint16]bool) // received and not released
		var got []int
		for _, most := range []int{100, 200, 300} {
			got = c.takesOnce(open, got, most)
			if most == 200 {
				h.leaveInFlight(c)
				h.stop()
				h = openOn(t, h.fs, nil)
			}
			var present bool
			if c, present = h.comeBack(t, v, "c", fewAtATime); !present {
				t.Fatal("the session is not there")
			}
		}
		defer h.stop()
		got = c.takesOnce(open, got, count)
		if !slices.Equal(got, upTo(0, count)) {
			t.Errorf("%d numbers, not each once in order", len(got))
		}
		c.quiet()
	})
}

// takesOnce takes messages of QoS 2 until there are so many.
func (c *raw) takesOnce(open map[uint16]bool, got []int, most int) []int {
	c.t.Helper()
	for len(got) < most || len(open) > 0 && most == 400 {
		p, err := c.next(patience)
		if err != nil {
			c.t.Fatal(err)
		}
		switch p := p.(type) {
		case *packet.Publish:
			number, err := strconv.Atoi(string(p.Payload))
			if err != nil || p.QoS != 2 {
				c.t.Fatalf("%+v", p)
			}
			if !open[p.PacketID] {
				open[p.PacketID] = true
				got = append(got, number)
			}
			c.send(&packet.Pubrec{PacketID: p.PacketID})
		case *packet.Pubrel:
			delete(open, p.PacketID)
			c.send(&packet.Pubcomp{PacketID: p.PacketID})
		default:
			c.t.Fatalf("%+v", p)
		}
	}
	return got
}

// TestReplayBesideOthers: a replay and another subscription that match a message each bring it, and where one ends in
// the middle of its history the other goes on.
func TestReplayBesideOthers(t *testing.T) {
	h := open(t, nil)
	h.history("a", 1, 0, 2000, 2000)
	c := h.connect(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetReceiveMaximum(10) })
	c.subscribe(1, "a/#")
	c.replay(1, "a/+", "firth-from", "earliest")
	p := &packet.Subscribe{PacketID: 2, Subscriptions: []packet.Subscription{{Filter: []byte("a/3"), QoS: 1}}}
	p.Props.AddUser("firth-from", "1000")
	c.send(p)
	until[*packet.Suback](c)
	c.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("a/+")}})
	until[*packet.Unsuback](c)
	h.history("a", 1, 2000, 2004, 2004)
	count := map[string]int{}
	for count["2003"] < 2 {
		p := want[*packet.Publish](c)
		count[string(p.Payload)]++
		c.send(&packet.Puback{PacketID: p.PacketID})
	}
	if count["2000"] != 1 || count["1993"] > 1 || count["1994"] > 0 {
		t.Errorf("%v", count)
	}
	c.quiet()
}

// until takes messages of QoS 1 until another packet comes.
func until[P packet.Packet](c *raw) P {
	c.t.Helper()
	for {
		p, err := c.next(patience)
		if err != nil {
			c.t.Fatal(err)
		}
		if p, is := p.(*packet.Publish); is {
			c.send(&packet.Puback{PacketID: p.PacketID})
			continue
		}
		q, is := p.(P)
		if !is {
			c.t.Fatalf("%+v", p)
		}
		return q
	}
}

// TestReplayAfterACrash: in the middle of its history a session loses nothing to a power cut, and comes back to none of
// what it had before the last checkpoint.
func TestReplayAfterACrash(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		const count = 1000
		h := openOn(t, vfs.NewMemory(), func(o *mqtt.Options) { o.CheckpointInterval = time.Hour })
		h.history("a", 3, 0, count, count)
		c, _ := h.comeBack(t, v, "c", fewAtATime)
		if v == packet.V5 {
			c.replay(1, "a/#", "firth-from", "50")
		} else {
			c.replay(1, "$replay/50/a/#")
		}
		got := c.numbers(300, 3)
		got = append(got, c.untilHeard(t)...)
		h.door.Checkpoint()
		got = append(got, c.numbers(min(200, count-150-len(got)), 3)...)
		h = fates["power cut"](t, h)
		c, present := h.comeBack(t, v, "c", fewAtATime)
		if !present {
			t.Fatal("the session is not there")
		}
		c.takesTheRest(got, 150, count)
	})
}

// untilHeard takes messages until the server has heard all that was said before.
func (c *raw) untilHeard(t *testing.T) (got []int) {
	t.Helper()
	c.send(&packet.Pingreq{})
	for {
		p, err := c.next(patience)
		if err != nil {
			t.Fatal(err)
		}
		if p, is := p.(*packet.Publish); is {
			n, err := strconv.Atoi(string(p.Payload))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
			c.send(&packet.Puback{PacketID: p.PacketID})
			continue
		}
		return got
	}
}

// takesTheRest takes messages until all numbers of [from, to) have come, those of got before a crash. None comes twice
// but of those that were not acknowledged before the last checkpoint, of which there were 300 at least.
func (c *raw) takesTheRest(got []int, from, to int) {
	c.t.Helper()
	seen := make(map[int]int)
	for _, n := range got {
		seen[n]++
	}
	more := 0
	for len(seen) < to-from {
		p := want[*packet.Publish](c)
		n, err := strconv.Atoi(string(p.Payload))
		if err != nil {
			c.t.Fatal(err)
		}
		if seen[n]++; seen[n] == 2 {
			more++
		}
		c.send(&packet.Puback{PacketID: p.PacketID})
	}
	if more > len(got)-300 { // what was acknowledged before the checkpoint does not come again
		c.t.Errorf("%d messages came twice", more)
	}
	for n, times := range seen {
		if n < from || n >= to || times > 2 {
			c.t.Errorf("%d came %d times", n, times)
		}
	}
}
