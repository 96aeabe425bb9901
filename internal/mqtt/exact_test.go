package mqtt_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// sends2 sends a PUBLISH with QoS 2 and waits for its PUBREC.
func (c *raw) sends2(id uint16, topic, payload string, dup bool) {
	c.t.Helper()
	c.send(&packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 2, PacketID: id, Dup: dup})
	if p := want[*packet.Pubrec](c); p.PacketID != id || p.Reason != packet.Success {
		c.t.Fatalf("PUBREC %+v", p)
	}
}

// releases sends a PUBREL and gives the reason of its PUBCOMP.
func (c *raw) releases(id uint16) packet.ReasonCode {
	c.t.Helper()
	c.send(&packet.Pubrel{PacketID: id})
	p := want[*packet.Pubcomp](c)
	if p.PacketID != id {
		c.t.Fatalf("PUBCOMP %+v", p)
	}
	return p.Reason
}

// gets2 takes a PUBLISH with QoS 2 up to its PUBREL, and completes it.
func (c *raw) gets2(payload string) {
	c.t.Helper()
	p := want[*packet.Publish](c)
	if string(p.Payload) != payload || p.QoS != 2 || p.Dup {
		c.t.Fatalf("got %s, QoS %d, DUP %v; want %s", p.Payload, p.QoS, p.Dup, payload)
	}
	c.receives2(p.PacketID)
}

func (c *raw) receives2(id uint16) {
	c.t.Helper()
	c.send(&packet.Pubrec{PacketID: id})
	if rel := want[*packet.Pubrel](c); rel.PacketID != id || rel.Reason != packet.Success {
		c.t.Fatalf("PUBREL %+v", rel)
	}
	c.send(&packet.Pubcomp{PacketID: id})
}

// kinds are sessions that last and sessions that do not.
var kinds = map[string]func(*packet.Connect){"lasting": lasting, "clean": nil}

// TestQoS2: one message goes in and out, once each, by each kind of session.
func TestQoS2(t *testing.T) {
	for kind, change := range kinds {
		t.Run(kind, func(t *testing.T) {
			every(t, func(t *testing.T, v packet.Version) {
				h := open(t, nil)
				s, p := h.connect(t, v, "s", change), h.connect(t, v, "p", change)
				if ack := s.subscribe(2, "#"); ack.Reasons[0] != 2 {
					t.Fatalf("SUBACK %v", ack.Reasons)
				}
				for i := range 10 {
					id := uint16(1 + i%3)
					p.sends2(id, "a/1", fmt.Sprint(i), false)
					s.gets2(fmt.Sprint(i))
					p.sends2(id, "a/1", fmt.Sprint(i), true) // again, and nobody gets it
					if reason := p.releases(id); reason != packet.Success {
						t.Fatalf("PUBCOMP %s", reason)
					}
				}
				s.quiet()
				want := packet.PacketIDNotFound
				if v != packet.V5 {
					want = packet.Success
				}
				if reason := p.releases(77); reason != want {
					t.Errorf("PUBCOMP %s for an id that is not known", reason)
				}
				if n := len(h.records("a")); n != 10 {
					t.Errorf("%d records", n)
				}
			})
		})
	}
}

// TestQoS2InOneGo: what a client sends in one write has its acknowledgements in the order of the packets
// [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4].
func TestQoS2InOneGo(t *testing.T) {
	for kind, change := range kinds {
		t.Run(kind, func(t *testing.T) { qos2InOneGo(t, change) })
	}
}

func qos2InOneGo(t *testing.T, change func(*packet.Connect)) {
	h := open(t, nil)
	c := h.connect(t, packet.V5, "c", change)
	publish := func(qos byte, id uint16) packet.Packet {
		return &packet.Publish{Topic: []byte("a/1"), Payload: []byte{byte(id)}, QoS: qos, PacketID: id}
	}
	answers := func(want ...string) {
		t.Helper()
		for _, w := range want {
			p, err := c.next(patience)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			switch p := p.(type) {
			case *packet.Pubrec:
				got = fmt.Sprintf("PUBREC %d %d", p.PacketID, p.Reason)
			case *packet.Puback:
				got = fmt.Sprintf("PUBACK %d %d", p.PacketID, p.Reason)
			case *packet.Pubcomp:
				got = fmt.Sprintf("PUBCOMP %d %d", p.PacketID, p.Reason)
			}
			if got != w {
				t.Fatalf("got %s (%T), want %s", got, p, w)
			}
		}
	}
	c.send(publish(2, 1), publish(1, 2), publish(2, 3), publish(2, 1), publish(2, 3), publish(1, 4))
	answers("PUBREC 1 0", "PUBACK 2 0", "PUBREC 3 0", "PUBREC 1 0", "PUBREC 3 0", "PUBACK 4 0")
	c.send(&packet.Pubrel{PacketID: 3}, publish(2, 5), &packet.Pubrel{PacketID: 1}, &packet.Pubrel{PacketID: 1})
	answers("PUBCOMP 3 0", "PUBREC 5 0", "PUBCOMP 1 0", "PUBCOMP 1 146")
	if n := len(h.records("a")); n != 5 {
		t.Errorf("%d records", n)
	}
}

// TestReleaseBeforeReceived: a client that releases a message before it has the PUBREC has its answers in their order,
// and its packet id is free: what it sends with it next is a new message.
func TestReleaseBeforeReceived(t *testing.T) {
	for kind, change := range kinds {
		t.Run(kind, func(t *testing.T) {
			every(t, func(t *testing.T, v packet.Version) {
				h := slow(t) // PUBREL comes before the log has the message, whether in one read with it or not
				c := h.connect(t, v, "c", change)
				for i := range 20 {
					c.publish(2, 1, "a/1", fmt.Sprint(i))
					c.send(&packet.Pubrel{PacketID: 1})
					c.send(&packet.Publish{Topic: []byte("a/1"), QoS: 2, PacketID: 1}, &packet.Pubrel{PacketID: 1})
					for range 2 {
						if p := want[*packet.Pubrec](c); p.Reason != packet.Success {
							t.Fatalf("PUBREC %s", p.Reason)
						}
						if p := want[*packet.Pubcomp](c); p.Reason != packet.Success {
							t.Fatalf("PUBCOMP %s", p.Reason)
						}
					}
				}
				if n := len(h.records("a")); n != 40 {
					t.Errorf("%d records for 40 messages", n)
				}
			})
		})
	}
}

// TestQoS2GoesOn: an exchange goes on where it stood after the connection or the server was lost, both ways: the log
// has each message once, and the subscriber sees each once.
func TestQoS2GoesOn(t *testing.T) {
	everyFate(t, qos2GoesOn)
}

func qos2GoesOn(t *testing.T, v packet.Version, befalls fate) {
	h := open(t, nil)
	p, _ := h.comeBack(t, v, "p", nil)
	s, _ := h.comeBack(t, v, "s", nil)
	s.subscribe(2, "a/#")
	for i := range uint16(3) {
		p.sends2(i+1, "a/1", fmt.Sprint(i+1), false)
	}
	if reason := p.releases(2); reason != packet.Success {
		t.Fatal(reason)
	}
	var ids []uint16
	for i := range 3 {
		m := want[*packet.Publish](s)
		if string(m.Payload) != fmt.Sprint(i+1) {
			t.Fatalf("got %s", m.Payload)
		}
		ids = append(ids, m.PacketID)
	}
	s.receives2(ids[0]) // through
	s.send(&packet.Pubrec{PacketID: ids[1]})
	want[*packet.Pubrel](s) // and the PUBCOMP is lost
	s.quiet()
	s.net.Close()
	p.net.Close()
	eventually(t, "both are away", func() bool { return h.door.Stats().Away == 2 })
	h = befalls(t, h)

	p = h.back(t, v, "p")
	p.sends2(1, "a/1", "1", true)
	p.sends2(3, "a/1", "3", true)
	p.sends2(2, "a/1", "4", false) // its id is free
	for id := range uint16(3) {
		if reason := p.releases(id + 1); reason != packet.Success {
			t.Errorf("PUBCOMP %s for %d", reason, id+1)
		}
	}
	if n := len(h.records("a")); n != 4 {
		t.Errorf("%d records", n)
	}

	s = h.back(t, v, "s")
	if rel := want[*packet.Pubrel](s); rel.PacketID != ids[1] { // not its PUBLISH: the client has it
		t.Fatalf("PUBREL %d, want %d", rel.PacketID, ids[1])
	}
	again := want[*packet.Publish](s)
	if again.PacketID != ids[2] || !again.Dup || string(again.Payload) != "3" {
		t.Fatalf("PUBLISH %d, DUP %v, %s", again.PacketID, again.Dup, again.Payload)
	}
	fresh := want[*packet.Publish](s)
	if fresh.Dup || string(fresh.Payload) != "4" {
		t.Fatalf("DUP %v, %s", fresh.Dup, fresh.Payload)
	}
	id := fresh.PacketID
	s.send(&packet.Pubcomp{PacketID: ids[1]})
	s.receives2(ids[2])
	s.receives2(id)
	s.quiet()
}

// TestQoS2AtEveryPowerCut: a publisher and a subscriber that go through their exchanges while the power is cut again
// and again. The log holds each message once, and the subscriber sees each once. Long: it is one play.
func TestQoS2AtEveryPowerCut(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	h := openOn(t, vfs.NewMemory(), nil)
	defer func() { h.stop() }()
	p, _ := h.comeBack(t, packet.V5, "p", nil)
	s, _ := h.comeBack(t, packet.V5, "s", nil)
	s.subscribe(2, "a/#")
	var seen []string             // by the subscriber, of what it takes for new
	received := map[uint16]bool{} // packet ids that the subscriber has received and that were not released
	step := func(m packet.Packet) {
		switch m := m.(type) {
		case *packet.Publish:
			id := m.PacketID
			if !received[id] {
				received[id] = true
				seen = append(seen, string(m.Payload))
			}
			s.send(&packet.Pubrec{PacketID: id})
		case *packet.Pubrel:
			delete(received, m.PacketID)
			s.send(&packet.Pubcomp{PacketID: m.PacketID})
		}
	}
	const count = 60
	for i := range count {
		id := uint16(1 + i%4)
		payload := fmt.Sprint(i)
		dup := false
		for done, state := false, 0; !done; {
			if state == 0 {
				p.send(&packet.Publish{Topic: []byte("a/1"), Payload: []byte(payload), QoS: 2, PacketID: id, Dup: dup})
				dup = true
			} else {
				p.send(&packet.Pubrel{PacketID: id})
			}
			if rng.IntN(6) == 0 { // before the answer, or after it
				if rng.IntN(2) == 0 {
					p.next(patience)
				}
				clone := onFiles(t, h.fs.(*vfs.Memory)).CrashClone(rng)
				h.stop()
				h = openOn(t, clone, nil)
				p, s = h.back(t, packet.V5, "p"), h.back(t, packet.V5, "s")
				continue
			}
			switch m, err := p.next(patience); m := m.(type) {
			case *packet.Pubrec:
				state = 1
			case *packet.Pubcomp:
				done = state == 1
			default:
				t.Fatalf("%#v, %v", m, err)
			}
		}
		for rng.IntN(3) > 0 && len(seen) <= i {
			m, err := s.next(patience)
			if err != nil {
				t.Fatal(err)
			}
			step(m)
		}
	}
	for len(seen) < count {
		m, err := s.next(patience)
		if err != nil {
			t.Fatalf("%v after %d of %d", err, len(seen), count)
		}
		step(m)
	}
	for i := range seen {
		if seen[i] != fmt.Sprint(i) {
			t.Fatalf("message %d is %s: %v", i, seen[i], seen)
		}
	}
	if n := len(h.records("a")); n != count {
		t.Errorf("%d records for %d messages", n, count)
	}
}

// TestReceiveMaximumOfQoS2 counts an exchange until its PUBCOMP [MQTT-3.3.4-7] [MQTT-3.3.4-9].
func TestReceiveMaximumOfQoS2(t *testing.T) {
	h := open(t, nil)
	s := h.connect(t, packet.V5, "s", func(p *packet.Connect) { p.Props.SetReceiveMaximum(2) })
	s.subscribe(2, "#")
	p := h.connect(t, packet.V5, "p", nil)
	for i := range 4 {
		p.published("a/1", fmt.Sprint(i), false)
		p.sends2(uint16(20+i), "a/1", fmt.Sprint("two ", i), false)
	}
	one := want[*packet.Publish](s).PacketID
	two := want[*packet.Publish](s).PacketID
	s.quiet()
	s.send(&packet.Pubrec{PacketID: two})
	want[*packet.Pubrel](s)
	s.quiet()
	s.send(&packet.Puback{PacketID: one}, &packet.Pubcomp{PacketID: two})
	want[*packet.Publish](s)
	want[*packet.Publish](s)
	s.quiet()
}

// TestWrongAcknowledgement: an acknowledgement of the other QoS is a protocol error.
func TestWrongAcknowledgement(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		for _, wrong := range []func(id uint16) packet.Packet{
			func(id uint16) packet.Packet { return &packet.Puback{PacketID: id} },
			func(id uint16) packet.Packet { return &packet.Pubrec{PacketID: id} },
		} {
			h := open(t, nil)
			c := h.connect(t, packet.V5, "c", nil)
			c.subscribe(2, "#")
			h.connect(t, packet.V5, "p", nil).publish(qos, 1, "a/1", "x")
			m := want[*packet.Publish](c)
			bad := wrong(m.PacketID)
			if _, puback := bad.(*packet.Puback); puback == (qos == 1) {
				continue
			}
			c.send(bad)
			if d := want[*packet.Disconnect](c); d.Reason != packet.ProtocolError {
				t.Errorf("QoS %d, %s: DISCONNECT %s", qos, bad.Type(), d.Reason)
			}
		}
	}
}

// makingLog is a log in which somebody who makes a topic waits for the test.
type makingLog struct {
	stream.Keeper
	topic        string
	making, wait chan struct{}
	goOn         func()
}

// newMakingLog is for one topic, which may be made once.
func newMakingLog(topic string) *makingLog {
	l := &makingLog{topic: topic, making: make(chan struct{}), wait: make(chan struct{})}
	l.goOn = sync.OnceFunc(func() { close(l.wait) })
	return l
}

// under has a door work on it.
func (l *makingLog) under(o *mqtt.Options) { l.Keeper, o.Log = o.Log, l }

// CreateTopic implements stream.Admin.
func (l *makingLog) CreateTopic(ctx context.Context, spec stream.TopicSpec) (*stream.Topic, error) {
	if spec.Name == l.topic {
		close(l.making)
		<-l.wait
	}
	return l.Keeper.CreateTopic(ctx, spec)
}

// TestPowerCutBetweenTwoUnits: a message of QoS 2 whose log topic is not there yet goes to the log in a unit behind
// that of the one before it. A power cut between the two leaves its packet id unknown, so that it is stored when it
// comes again, and not taken for one that was.
func TestPowerCutBetweenTwoUnits(t *testing.T) {
	log := newMakingLog("b")
	h := open(t, log.under)
	defer log.goOn()
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	c.sends2(7, "a/1", "makes the topic", false)
	c.send(
		&packet.Publish{Topic: []byte("a/1"), Payload: []byte("1"), QoS: 2, PacketID: 1},
		&packet.Publish{Topic: []byte("b/1"), Payload: []byte("2"), QoS: 2, PacketID: 2},
	)
	if p := want[*packet.Pubrec](c); p.PacketID != 1 {
		t.Fatalf("PUBREC %+v", p)
	}
	<-log.making
	clone := onFiles(t, h.fs.(*vfs.Memory)).CrashClone(nil)
	log.goOn()
	want[*packet.Pubrec](c)

	again := openOn(t, clone, nil)
	defer func() { again.stop() }()
	c = again.back(t, packet.V5, "c")
	c.sends2(1, "a/1", "1", true)
	c.sends2(2, "b/1", "2", true)
	if a, b := len(again.records("a")), len(again.records("b")); a != 2 || b != 1 {
		t.Errorf("%d and %d records", a, b)
	}
}

// hidden is a listener whose connections are driven by goroutines: they hide their sockets.
type hidden struct{ net.Listener }

func (l hidden) Accept() (net.Conn, error) {
	n, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{n}, nil
}

// TestTakeoverBetweenPubrelAndLog: a PUBREL that was read and did not get to the log before another connection took
// over has released nothing: the exchange is open for that connection, and so it is after a restart.
func TestTakeoverBetweenPubrelAndLog(t *testing.T) {
	log := newMakingLog("__firth_delayed")
	h := open(t, log.under)
	defer log.goOn()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.door.Serve(ctx, hidden{l}) }()
	stop := h.stop
	h.stop = func() {
		stop()
		cancel()
		l.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	poller := h.addr
	h.addr = l.Addr().String()
	old, _ := h.comeBack(t, packet.V5, "c", nil)
	h.addr = poller
	old.sends2(1, "a/1", "1", false)
	old.send(&packet.Pubrel{PacketID: 1}, &packet.Publish{Topic: []byte("$delayed/3600/a/1")})
	<-log.making // the PUBREL waits for the message behind it
	c := h.back(t, packet.V5, "c")
	clone := onFiles(t, h.fs.(*vfs.Memory)).CrashClone(nil)
	again := openOn(t, clone, nil)
	defer func() { again.stop() }()
	for _, c := range []*raw{c, again.back(t, packet.V5, "c")} {
		if reason := c.releases(1); reason != packet.Success {
			t.Errorf("PUBCOMP %s", reason)
		}
		c.sends2(1, "a/1", "2", false)
	}
	if a, b := len(h.records("a")), len(again.records("a")); a != 2 || b != 2 {
		t.Errorf("%d and %d records", a, b)
	}
}

// TestPowerCutWhereASessionEnds: a session that a client takes up with an expiry interval of 0 ends with that
// connection, also by a power cut: no packet id of it makes the server take a new message for one that it has
// [MQTT-3.1.2-23].
func TestPowerCutWhereASessionEnds(t *testing.T) {
	h := open(t, nil)
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	c.subscribe(1, "x")
	c.sends2(1, "a/1", "1", false)
	h.leave(c)
	c, present := h.comeBack(t, packet.V5, "c", func(p *packet.Connect) { p.Props.SetSessionExpiry(0) })
	if !present {
		t.Fatal("the session is not there")
	}
	if reason := c.releases(1); reason != packet.Success {
		t.Fatalf("PUBCOMP %s", reason)
	}
	again := openOn(t, onFiles(t, h.fs.(*vfs.Memory)).CrashClone(nil), nil)
	defer func() { again.stop() }()
	c, present = again.comeBack(t, packet.V5, "c", nil)
	if present {
		t.Error("the session is there again")
	}
	c.sends2(1, "a/1", "2", false)
	if n := len(again.records("a")); n != 2 {
		t.Errorf("%d records", n)
	}
}
