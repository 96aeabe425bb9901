package mqtt_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// crowdedLog is a log that has no room for units of devices while it is told so.
type crowdedLog struct {
	stream.Keeper
	mu      sync.Mutex
	crowded bool
	turns   []*stream.Turn
	refused int
}

func (l *crowdedLog) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.crowded {
		turn := u.Turn
		u.Turn = nil
		defer func() { u.Turn = turn }()
		return l.Keeper.Append(u, to, ticket)
	}
	l.refused++
	if u.Turn != nil {
		l.turns = append(l.turns, u.Turn)
	}
	return stream.ErrCrowded
}

func (l *crowdedLog) Crowded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.crowded
}

func (l *crowdedLog) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.turns)
}

func (l *crowdedLog) crowd() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.crowded = true
}

// room makes room and tells those who wait.
func (l *crowdedLog) room() {
	l.mu.Lock()
	turns := l.turns
	l.turns, l.crowded = nil, false
	l.mu.Unlock()
	for _, t := range turns {
		t.Roomy()
	}
}

func openCrowded(t testing.TB, change func(*mqtt.Options)) (*house, *crowdedLog) {
	var log *crowdedLog
	h := open(t, func(o *mqtt.Options) {
		log = &crowdedLog{Keeper: o.Log}
		o.Log = log
		if change != nil {
			change(o)
		}
	})
	return h, log
}

// TestControlIsHeardWhileMessagesWait: while the log has no room, messages wait, but PINGREQ is answered and PUBACK is
// taken, in front of the messages and behind them; when there is room everything comes in order, once.
func TestControlIsHeardWhileMessagesWait(t *testing.T) {
	both(t, controlIsHeardWhileMessagesWait)
}

func controlIsHeardWhileMessagesWait(t *testing.T, v packet.Version) {
	h, log := openCrowded(t, nil)
	feeder := h.connect(t, v, "feeder", nil)
	c := h.connect(t, v, "c", nil)
	c.subscribe(1, "in")
	feeder.published("in", "before", false)
	waiting := want[*packet.Publish](c).PacketID
	feeder.published("out/1", "makes the topic", false)
	c.published("out/1", "learns the way", false)
	log.crowd()

	var b []byte
	message := func(id int) []byte {
		p := packet.Publish{Topic: []byte("out/1"), Payload: fmt.Append(nil, id), QoS: 1, PacketID: uint16(id)}
		return p.AppendTo(nil, v)
	}
	b = append(b, message(1)...)
	b = (&packet.Pingreq{}).AppendTo(b, v)
	b = append(b, message(2)...)
	c.bytes(b)
	want[*packet.Pingresp](c)
	eventually(t, "the messages wait", func() bool { return log.waiting() > 0 })
	c.bytes(message(3))
	c.send(&packet.Pingreq{})
	want[*packet.Pingresp](c)
	c.send(&packet.Puback{PacketID: waiting}, &packet.Pingreq{})
	want[*packet.Pingresp](c)
	c.bytes(message(4))
	c.send(&packet.Pingreq{})
	want[*packet.Pingresp](c)

	log.room()
	for id := range 4 {
		if ack := want[*packet.Puback](c); int(ack.PacketID) != id+1 || ack.Reason.Failed() {
			t.Errorf("PUBACK %d %s, want %d", ack.PacketID, ack.Reason, id+1)
		}
	}
	c.send(&packet.Pubcomp{PacketID: waiting})
	c.quiet()
	var got []string
	for _, r := range h.records("out")[2:] {
		got = append(got, string(r.Value))
	}
	if s := strings.Join(got, " "); s != "1 2 3 4" {
		t.Errorf("the log holds %s", s)
	}
}

// TestWaitingMessagesOutliveTheirConnection: what a client sent before it closed is stored although it had to wait.
func TestWaitingMessagesOutliveTheirConnection(t *testing.T) {
	h, log := openCrowded(t, nil)
	c := h.connect(t, packet.V311, "c", nil)
	c.published("late/1", "makes the topic", false)
	log.crowd()
	const count = 300
	for i := range count {
		c.publish(0, 0, "late/1", fmt.Sprint(i))
	}
	c.send(&packet.Disconnect{})
	c.net.Close()
	eventually(t, "the messages wait", func() bool { return log.waiting() > 0 })
	log.room()
	eventually(t, "all is stored", func() bool { return len(h.records("late")) == count+1 })
	for i, r := range h.records("late")[1:] {
		if string(r.Value) != fmt.Sprint(i) {
			t.Fatalf("record %d is %s", i, r.Value)
		}
	}
}

// TestAliasesOfWaitingMessages: messages that wait are read again, by the topic aliases of their time.
func TestAliasesOfWaitingMessages(t *testing.T) {
	h, log := openCrowded(t, nil)
	c := h.connect(t, packet.V5, "c", nil)
	c.published("al/a", "makes the topic", false)
	c.published("al/b", "and the way", false)
	publish := func(topic string, payload string) *packet.Publish {
		p := &packet.Publish{Topic: []byte(topic), Payload: []byte(payload)}
		p.Props.SetTopicAlias(1)
		return p
	}
	c.send(publish("al/a", "1"))
	eventually(t, "the first is stored", func() bool { return len(h.records("al")) == 3 })
	log.crowd()
	c.send(publish("", "2"), publish("al/b", "3"), publish("", "4"), publish("al/a", "5"), publish("", "6"))
	eventually(t, "the messages wait", func() bool { return log.waiting() > 0 })
	log.room()
	eventually(t, "all is stored", func() bool { return len(h.records("al")) == 8 })
	var got []string
	for _, r := range h.records("al")[2:] {
		got = append(got, string(r.Key)+"="+string(r.Value))
	}
	if s := strings.Join(got, " "); s != "al/a=1 al/a=2 al/b=3 al/b=4 al/a=5 al/a=6" {
		t.Errorf("the log holds %s", s)
	}
}

// TestKeepAliveWhileMessagesWait: a client is not taken for dead because we do not listen.
func TestKeepAliveWhileMessagesWait(t *testing.T) {
	h, log := openCrowded(t, nil)
	h.connect(t, packet.V5, "first", nil).published("ka/1", "makes the topic", false)
	staysAlive(t, func(keepAlive time.Duration) error {
		log.crowd()
		defer log.room()
		c := h.connectFor(t, "c", keepAlive)
		// More than is read ahead, and then as much as the sockets take.
		c.write(&packet.Publish{Topic: []byte("ka/1"), Payload: make([]byte, 100<<10), QoS: 1, PacketID: 1}, patience)
		for c.write(&packet.Publish{Topic: []byte("ka/1"), Payload: make([]byte, 1<<20)}, 200*time.Millisecond) {
		}
		timer := time.AfterFunc(5*keepAlive/2, log.room) // longer than one and a half keep alive
		defer timer.Stop()
		p, err := c.next(patience)
		if ack, ok := p.(*packet.Puback); err == nil && (!ok || ack.PacketID != 1) {
			err = fmt.Errorf("got %#v", p)
		}
		return err
	})
}

// staysAlive tries with ever longer keep alives, from a second on, whether a client is not taken for dead: where a
// machine is busy, the client itself may be too late for a short one.
func staysAlive(t *testing.T, try func(keepAlive time.Duration) error) {
	t.Helper()
	for keepAlive := time.Second; ; keepAlive *= 2 {
		err := try(keepAlive)
		if err == nil {
			return
		}
		if keepAlive > 10*time.Second {
			t.Fatalf("with a keep alive of %s: %v", keepAlive, err)
		}
		t.Logf("with a keep alive of %s: %v", keepAlive, err)
	}
}

// connectFor connects with a keep alive.
func (h *house) connectFor(t *testing.T, id string, keepAlive time.Duration) *raw {
	t.Helper()
	return h.connect(t, packet.V5, id, func(p *packet.Connect) { p.KeepAlive = uint16(keepAlive / time.Second) })
}

// write sends a packet if the socket takes it in time.
func (c *raw) write(p packet.Packet, most time.Duration) bool {
	c.t.Helper()
	if err := c.net.SetWriteDeadline(time.Now().Add(most)); err != nil {
		c.t.Fatal(err)
	}
	_, err := c.net.Write(p.AppendTo(nil, c.v))
	return err == nil
}

// TestControlIsHeardWhileAnswersWait: a client that is slow to read what it subscribed to goes on being heard, and is
// not taken for dead, although its own messages wait.
func TestControlIsHeardWhileAnswersWait(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.OutboxBytes = 64 << 10 })
	staysAlive(t, func(keepAlive time.Duration) error {
		c := h.connectFor(t, "slow", keepAlive)
		if err := c.net.(interface{ SetReadBuffer(int) error }).SetReadBuffer(16 << 10); err != nil {
			t.Fatal(err)
		}
		if err := c.writeAll(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
			{Filter: []byte("big/#")}}}); err != nil {
			return err
		}
		if _, err := c.next(patience); err != nil {
			return err
		}
		var blast sync.WaitGroup
		defer blast.Wait()
		blast.Go(func() { h.blast(t, "big", 1, 200, 60<<10) })
		tick := time.NewTicker(keepAlive * 3 / 10)
		defer tick.Stop()
		const count = 10 // for three keep alives, of which nothing is read
		for range count {
			if err := c.writeAll(&packet.Pingreq{}); err != nil {
				return err
			}
			<-tick.C
		}
		for pings := 0; pings < count; {
			p, err := c.next(patience)
			if err != nil {
				return fmt.Errorf("after %d PINGRESP: %w", pings, err)
			}
			switch p := p.(type) {
			case *packet.Pingresp:
				pings++
			case *packet.Disconnect:
				return fmt.Errorf("DISCONNECT %s after %d PINGRESP", p.Reason, pings)
			}
		}
		return nil
	})
}

// writeAll sends a packet, to a connection that may have ended.
func (c *raw) writeAll(p packet.Packet) error {
	_, err := c.net.Write(p.AppendTo(nil, c.v))
	return err
}
