package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/tenure"
)

// Shared subscriptions whose members are on several doors, which share the sessions of one log.

// pipes is a Listener of connections within the process.
type pipes struct {
	made  chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{made: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.made:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// realm is doors that share the sessions of one log.
type realm struct {
	t     *testing.T
	doors []*house
	links []*pipes
	whole chan struct{} // closed when all doors are open
}

// share opens doors, of which each has some shards: the first one has the first shard.
func share(t *testing.T, n int, change ...func(*mqtt.Options)) *realm {
	t.Helper()
	return shareOn(t, nil, n, change...)
}

// shareOn is share on the log of a door that has ended; nil: on a new one.
func shareOn(t *testing.T, log *house, n int, change ...func(*mqtt.Options)) *realm {
	t.Helper()
	r := &realm{t: t, whole: make(chan struct{})}
	for i := range n {
		r.links = append(r.links, newPipes())
		with := func(o *mqtt.Options) {
			o.Sharding = &mqtt.Sharding{Shards: 2 * n, HandOver: func(ctx context.Context, shard int, from mqtt.Origin) (
				net.Conn, error,
			) {
				return r.handOver(ctx, i, shard, from)
			}}
			for _, more := range change {
				more(o)
			}
		}
		var h *house
		if log == nil {
			h = open(t, with)
			log = h
		} else {
			h = openDoor(t, log.log, logtest.New(t), with)
			h.fs = log.fs
			t.Cleanup(func() { h.stop() })
		}
		r.doors = append(r.doors, h)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func(l *pipes) { served <- h.door.ServeGroups(ctx, l) }(r.links[i])
		t.Cleanup(func() {
			if cancel(); <-served != nil {
				t.Error("it did not serve to the end")
			}
		})
	}
	close(r.whole)
	for shard := range 2 * n {
		r.gives(shard, shard%n)
	}
	return r
}

// gives has a door gain a shard.
func (r *realm) gives(shard, to int) {
	r.t.Helper()
	r.doors[to].door.Gain(shard)
	eventually(r.t, "the shard serves", func() bool { return r.doors[to].door.ShardState(shard) == tenure.Serving })
}

// takes has a door lose a shard.
func (r *realm) takes(shard, from int) {
	r.t.Helper()
	r.doors[from].door.Lose(shard)
	eventually(r.t, "it has let go", func() bool { return r.doors[from].door.ShardState(shard) == tenure.Absent })
}

// handOver links a door to the one that has a shard.
func (r *realm) handOver(ctx context.Context, from, shard int, origin mqtt.Origin) (net.Conn, error) {
	if origin.Listener != mqtt.GroupsListener {
		return nil, fmt.Errorf("a client is handed over from %v", origin.Client)
	}
	<-r.whole
	for {
		for i, h := range r.doors {
			if !h.door.HasShard(shard) {
				continue
			}
			if i == from {
				return nil, nil
			}
			here, there := net.Pipe()
			select {
			case r.links[i].made <- there:
				return here, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// id is a client identifier whose session a door has, in another shard than the first.
func (r *realm) id(door int, prefix string) string {
	for i := 0; ; i++ {
		id := prefix + strconv.Itoa(i)
		if shard := r.doors[0].door.ShardOf(id); shard > 0 && shard%len(r.doors) == door {
			return id
		}
	}
}

// member connects a member of $share/g/a/# to a door, with a session that lasts.
func (r *realm) member(door int, prefix string) *raw {
	r.t.Helper()
	c, _ := r.doors[door].comeBack(r.t, packet.V5, r.id(door, prefix), nil)
	if ack := c.subscribe(1, "$share/g/a/#"); ack.Reasons[0] != 1 {
		r.t.Fatalf("SUBACK %v", ack.Reasons)
	}
	return c
}

// publisher connects who publishes by a door.
func (r *realm) publisher(door int) *raw {
	return r.doors[door].connect(r.t, packet.V5, r.id(door, "p"), nil)
}

// TestSharedAcross: each message goes to one member, wherever that is, to all of them about as often, in the form that
// it asks for; with QoS 2 to nobody.
func TestSharedAcross(t *testing.T) {
	r := share(t, 3)
	var all []*raw
	for i := range r.doors {
		all = append(all, r.member(i, "m"))
	}
	old := r.doors[1].connect(t, packet.V311, r.id(1, "old"), nil) // its session ends with it
	old.subscribe(0, "$share/g/a/#")
	all = append(all, old)
	p := r.publisher(2)
	const count = 80
	p.countTo("a/b", 0, count)
	times, per := gather(t, count, all...)
	once(t, times, 0, count)
	for i, n := range per {
		if n < count/8 {
			t.Errorf("member %d got %d messages of %d", i, n, count)
		}
	}
	rich := r.doors[2].connect(t, packet.V5, r.id(2, "rich"), nil)
	sub := &packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
		{Filter: []byte("$share/rich/a/#"), QoS: 2, RetainAsPublished: true}}}
	sub.Props.AddSubscriptionID(300)
	rich.send(sub)
	if ack := want[*packet.Suback](rich); ack.Reasons[0] != 1 {
		t.Errorf("SUBACK %v", ack.Reasons)
	}
	p.send(&packet.Publish{Topic: []byte("a/c"), Payload: []byte("x"), QoS: 2, PacketID: 9, Retain: true})
	want[*packet.Pubrec](p)
	p.send(&packet.Pubrel{PacketID: 9})
	want[*packet.Pubcomp](p)
	if m := rich.gets("a/c", "x"); m.QoS != 1 || !m.Retain || len(m.Props.SubscriptionIDs) != 1 {
		t.Errorf("got %+v", m)
	}
	gather(t, 1, all...)
	if lines, err := r.doors[0].door.Shares(); err != nil || len(lines) != 2 || lines[0].Members != 4 {
		t.Errorf("groups: %+v, %v", lines, err)
	}
	if lines, _ := r.doors[1].door.Shares(); len(lines) != 0 {
		t.Errorf("groups of the other door: %+v", lines)
	}
}

// TestSharedAcrossAgain: what a member has not acknowledged when its connection ends goes to another, and what comes
// while nobody is there is kept, though the groups move to another door meanwhile.
func TestSharedAcrossAgain(t *testing.T) {
	r := share(t, 3)
	dies, stays := r.member(1, "dies"), r.member(2, "stays")
	p := r.publisher(0)
	p.countTo("a", 0, 20)
	had := map[string]bool{}
	eventually(t, "it has some", func() bool {
		for _, m := range dies.untilPing(false) {
			had[string(m.Payload)] = true
		}
		return len(had) > 0
	})
	if err := dies.net.Close(); err != nil {
		t.Fatal(err)
	}
	times, _ := gather(t, 20, stays)
	once(t, times, 0, 20)
	r.doors[2].leave(stays)
	eventually(t, "the group knows that nobody is there", func() bool {
		lines, err := r.doors[0].door.Shares()
		return err == nil && len(lines) == 1 && lines[0].Members == 0
	})
	p.countTo("a", 20, 30)
	r.takes(0, 0)
	p.countTo("a", 30, 40)
	r.gives(0, 1)
	p.countTo("a", 40, 50)
	back := r.doors[2].back(t, packet.V5, r.id(2, "stays"))
	times, _ = gather(t, 30, back)
	once(t, times, 20, 50)
}

// TestSharedAcrossMoves: while members are there the groups move, by letting go and by fencing: what was published
// comes to one of them, and what was not acknowledged again.
func TestSharedAcrossMoves(t *testing.T) {
	r := share(t, 3)
	all := []*raw{r.member(1, "m"), r.member(2, "m")}
	p := r.publisher(1)
	home, next := 0, 0
	times := map[string]int{}
	for round := range 4 {
		p.countTo("a", next, next+10)
		eventually(t, "all have come", func() bool {
			for _, list := range takeAll(all...) {
				for _, payload := range list {
					times[payload]++
				}
			}
			return len(times) == next+10
		})
		next += 10
		to := (home + 1) % 3
		if round%2 == 0 {
			r.takes(0, home)
		}
		r.gives(0, to)
		home = to
	}
}

// TestSharedAcrossPassesOver: who may not see a message, or takes none of its size, is passed over for it, and who does
// not acknowledge for all; what nobody may have is dropped.
func TestSharedAcrossPassesOver(t *testing.T) {
	r := share(t, 3, func(o *mqtt.Options) { judged(t, o, &guard{}) })
	admin := r.doors[1].connect(t, packet.V5, r.id(1, "admin"), func(p *packet.Connect) {
		p.HasUserName, p.UserName = true, []byte("admin")
	})
	small := r.doors[2].connect(t, packet.V5, r.id(2, "small"), func(p *packet.Connect) {
		p.Props.SetMaximumPacketSize(60)
	})
	slow := r.doors[2].connect(t, packet.V5, r.id(2, "slow"), func(p *packet.Connect) { p.Props.SetReceiveMaximum(2) })
	for _, c := range []*raw{admin, small} {
		c.subscribe(1, "$share/g/a/#")
	}
	p := r.publisher(0)
	p.countTo("a/noread", 0, 20)
	times, per := gather(t, 20, admin, small)
	once(t, times, 0, 20)
	if per[1] > 0 {
		t.Errorf("who may not see them got %d", per[1])
	}
	large := strings.Repeat("x", 100)
	for range 10 {
		p.published("a/b", large, false)
	}
	if _, per = gather(t, 10, admin, small); per[1] > 0 {
		t.Errorf("who takes none so large got %d", per[1])
	}
	slow.subscribe(1, "$share/g/a/#")
	p.countTo("a/b", 20, 60)
	times, _ = gather(t, 38, admin, small)
	held := slow.untilPing(true)
	for _, m := range held {
		times[string(m.Payload)]++
	}
	once(t, times, 20, 60)
	admin.send(&packet.Disconnect{})
	slow.send(&packet.Disconnect{})
	admin.closed()
	slow.closed()
	eventually(t, "they have left", func() bool {
		lines, err := r.doors[0].door.Shares()
		return err == nil && len(lines) == 1 && lines[0].Members == 1
	})
	p.published("a/noread", "for nobody", false)
	p.countTo("a/b", 60, 62)
	times, _ = gather(t, 2, small)
	once(t, times, 60, 62)
}

// TestSharedAcrossStrangers: a link that says what no door says ends, and nothing else does.
func TestSharedAcrossStrangers(t *testing.T) {
	r := share(t, 2)
	c := r.member(1, "m")
	const hello = "\x00\x00\x00\x02\x01\x01" // docs/format/gateways.md
	for what, b := range map[string]string{
		"nothing": "", "no frame": "\x00\x00\x00\x00", "no hello": "\x00\x00\x00\x01\x0c",
		"another version": "\x00\x00\x00\x02\x01\x02", "hello again": hello + hello,
		"a shard that is none": hello + "\x00\x00\x00\x06\x02\xff\xff\x03\x00\x00" + hello,
	} {
		here, there := net.Pipe()
		r.links[0].made <- there
		if err := here.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, _ = here.Write([]byte(b)) // it may end before it has read all
		if b == "" {
			_ = here.Close()
		}
		if n, err := here.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d bytes, %v", what, n, err)
		}
	}
	r.publisher(0).countTo("a", 0, 5)
	gather(t, 5, c)
}

// TestSharedAcrossEnds: a group ends with its last subscription, wherever that was: who subscribes later begins with
// what is news.
func TestSharedAcrossEnds(t *testing.T) {
	r := share(t, 2)
	c := r.member(1, "m")
	r.doors[1].leave(c)
	p := r.publisher(0)
	p.countTo("a", 0, 5)
	c = r.doors[1].back(t, packet.V5, r.id(1, "m"))
	gather(t, 5, c)
	c.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("$share/g/a/#")}})
	if ack := want[*packet.Unsuback](c); ack.Reasons[0] != packet.Success {
		t.Errorf("UNSUBACK %v", ack.Reasons)
	}
	ended := func(door int) {
		t.Helper()
		eventually(t, "the group has ended", func() bool {
			lines, err := r.doors[door].door.Shares()
			return err == nil && len(lines) == 0
		})
	}
	ended(0)
	p.countTo("a", 5, 10)
	r.takes(0, 0)
	r.gives(0, 1)
	ended(1)
	c.subscribe(1, "$share/g/a/#")
	p.countTo("a", 10, 15)
	times, _ := gather(t, 5, c)
	once(t, times, 10, 15)
	c.send(&packet.Disconnect{Props: ended0()})
	ended(1)
}

// ended0 has a session end with its connection.
func ended0() (p packet.Properties) {
	p.SetSessionExpiry(0)
	return p
}

// TestSharedAcrossFromOne: a group of a time when one door had all sessions goes on where it stood when several share
// them, and again when one has them all; it ends with its last subscription, though nobody had said who is subscribed.
func TestSharedAcrossFromOne(t *testing.T) {
	log := open(t, func(o *mqtt.Options) { o.Sharding = &mqtt.Sharding{Shards: 4} })
	alone := func() *house { return openDoor(t, log.log, logtest.New(t), nil) }
	one := alone()
	c, _ := one.comeBack(t, packet.V5, "c", nil)
	c.subscribe(2, "$share/g/a/#")
	p := one.connect(t, packet.V5, "p", nil)
	p.countTo("a", 0, 5)
	gather(t, 5, c)
	one.leave(c)
	p.countTo("a", 5, 10)
	one.stop()

	r := shareOn(t, log, 2)
	at := r.doors[0].door.ShardOf("c") % 2
	c = r.doors[at].back(t, packet.V5, "c")
	times, _ := gather(t, 5, c)
	once(t, times, 5, 10)
	r.doors[at].leave(c)
	r.publisher(0).countTo("a", 10, 15)
	for shard := range 4 {
		r.takes(shard, shard%2)
	}

	one = alone()
	c = one.back(t, packet.V5, "c")
	times, _ = gather(t, 5, c)
	once(t, times, 10, 15)
	one.leave(c)
	one.stop()

	for shard := range 4 {
		r.gives(shard, shard%2)
	}
	c = r.doors[at].back(t, packet.V5, "c")
	c.send(&packet.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("$share/g/a/#")}})
	want[*packet.Unsuback](c)
	eventually(t, "the group has ended", func() bool {
		lines, err := r.doors[0].door.Shares()
		return err == nil && len(lines) == 0
	})
}
