package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Shared subscriptions with QoS 2 (section 4.8.2): a message that a member was sent goes to nobody else.

// complete goes through the steps of QoS 2 for a message.
func (c *raw) complete(m *packet.Publish) {
	c.t.Helper()
	c.send(&packet.Pubrec{PacketID: m.PacketID})
	want[*packet.Pubrel](c)
	c.send(&packet.Pubcomp{PacketID: m.PacketID})
}

// publishExactly publishes with QoS 2.
func (c *raw) publishExactly(topic, payload string) {
	c.t.Helper()
	c.send(&packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 2, PacketID: 9})
	want[*packet.Pubrec](c)
	c.send(&packet.Pubrel{PacketID: 9})
	want[*packet.Pubcomp](c)
}

// TestSharedQoS2StaysWithItsMember: a member whose connection is lost gets what it was sent again, with DUP and its
// packet id, when it is back; nobody else does [MQTT-4.8.2-4].
func TestSharedQoS2StaysWithItsMember(t *testing.T) {
	for fate, befalls := range fates {
		t.Run(fate, func(t *testing.T) {
			both(t, func(t *testing.T, v packet.Version) {
				h := open(t, nil)
				a, _ := h.comeBack(t, v, "a", nil)
				a.subscribe(2, "$share/g/x")
				p := h.connect(t, v, "p", nil)
				ids := make(map[string]uint16)
				for i := range 6 {
					p.publishExactly("x", strconv.Itoa(i))
					m := want[*packet.Publish](a)
					if m.QoS != 2 || m.Dup {
						t.Fatalf("QoS %d, DUP %v", m.QoS, m.Dup)
					}
					ids[string(m.Payload)] = m.PacketID
					if i < 2 {
						a.complete(m)
					}
				}
				b, _ := h.comeBack(t, v, "b", nil)
				b.subscribe(2, "$share/g/x")
				h.leave(a)
				b.quiet()
				h.leave(b)
				p.send(&packet.Disconnect{})
				h = befalls(t, h)
				b = h.back(t, v, "b")
				b.quiet()
				a = h.back(t, v, "a")
				for i := 2; i < 6; i++ {
					m := want[*packet.Publish](a)
					if string(m.Payload) != strconv.Itoa(i) || !m.Dup || m.QoS != 2 || m.PacketID != ids[strconv.Itoa(i)] {
						t.Fatalf("got %s, DUP %v, QoS %d, id %d", m.Payload, m.Dup, m.QoS, m.PacketID)
					}
				}
				a.quiet()
				b.quiet()
			})
		})
	}
}

// TestSharedQoS2EndsWithItsSession: what a client was sent whose session ends goes to nobody [MQTT-4.8.2-5].
func TestSharedQoS2EndsWithItsSession(t *testing.T) {
	for name, lasts := range map[string]bool{"with the connection": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			h := open(t, nil)
			var a *raw
			if lasts {
				a, _ = h.comeBack(t, packet.V5, "a", nil)
			} else {
				a = h.connect(t, packet.V5, "a", nil)
			}
			a.subscribe(2, "$share/g/x")
			p := h.connect(t, packet.V5, "p", nil)
			p.publishExactly("x", "mine")
			want[*packet.Publish](a)
			b := h.connect(t, packet.V5, "b", nil)
			b.subscribe(2, "$share/g/x")
			a.net.Close()
			eventually(t, "it has left", func() bool { return h.door.Stats().Clients == 2 })
			if lasts {
				h.connect(t, packet.V5, "a", nil)
			}
			b.quiet()
			p.published("x", "next", false)
			b.gets("x", "next")
		})
	}
}

// TestSharedQoS2Refused: a PUBREC with an error ends the message for all [MQTT-4.8.2-6].
func TestSharedQoS2Refused(t *testing.T) {
	h := open(t, nil)
	a, _ := h.comeBack(t, packet.V5, "a", nil)
	a.subscribe(2, "$share/g/x")
	p := h.connect(t, packet.V5, "p", nil)
	p.publishExactly("x", "bad")
	m := want[*packet.Publish](a)
	a.send(&packet.Pubrec{PacketID: m.PacketID, Reason: packet.QuotaExceeded})
	a.quiet()
	b := h.connect(t, packet.V5, "b", nil)
	b.subscribe(2, "$share/g/x")
	h.leave(a)
	b.quiet()
	a = h.back(t, packet.V5, "a")
	a.quiet()
}

// exactMember is a client that takes messages of QoS 2 as it should, over all its connections.
type exactMember struct {
	id      string
	version packet.Version
	open    map[uint16]bool // received, and not released
	got     []string
}

// serve takes what comes until the connection ends. Each step is taken with the world in hand, so that a crash is
// between two steps.
func (m *exactMember) serve(c *raw, world *sync.Mutex, over <-chan struct{}) {
	for {
		world.Lock()
		select {
		case <-over:
			world.Unlock()
			return
		default:
		}
		p, err := c.next(time.Millisecond)
		var answer packet.Packet
		switch p := p.(type) {
		case *packet.Publish:
			if !m.open[p.PacketID] {
				m.got = append(m.got, string(p.Payload))
			}
			m.open[p.PacketID] = true
			answer = &packet.Pubrec{PacketID: p.PacketID}
		case *packet.Pubrel:
			delete(m.open, p.PacketID)
			answer = &packet.Pubcomp{PacketID: p.PacketID}
		}
		if err == nil && answer != nil {
			_, err = c.net.Write(answer.AppendTo(nil, c.v))
		}
		world.Unlock()
		if err != nil {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// TestSharedQoS2BeyondPowerCuts: a group with QoS 2 and sessions that last gets each message exactly once, whenever the
// power is cut.
func TestSharedQoS2BeyondPowerCuts(t *testing.T) {
	cuts := 12
	if testing.Short() {
		cuts = 3
	}
	for seed := range uint64(cuts) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { powerCut(t, seed) })
	}
}

func powerCut(t *testing.T, seed uint64) {
	const count = 200
	rng := rand.New(rand.NewPCG(seed, 3))
	h := open(t, nil)
	var world sync.Mutex
	var members []*exactMember
	var all sync.WaitGroup
	over := make(chan struct{})
	begin := func() {
		for _, m := range members {
			c, _ := h.comeBack(t, m.version, m.id, nil)
			if len(m.got) == 0 && len(m.open) == 0 {
				c.subscribe(2, "$share/g/x/+")
			}
			all.Go(func() { m.serve(c, &world, over) })
		}
	}
	for i := range 4 {
		m := &exactMember{id: fmt.Sprint("m", i), open: make(map[uint16]bool)}
		m.version = []packet.Version{packet.V311, packet.V5}[i%2]
		members = append(members, m)
	}
	begin()
	p := h.connect(t, packet.V5, "p", nil)
	for i := range count {
		p.publishExactly(fmt.Sprintf("x/%d", i%3), strconv.Itoa(i))
		if rng.IntN(40) == 0 {
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
		}
	}
	time.Sleep(time.Duration(rng.IntN(4000)) * time.Microsecond)
	world.Lock()
	clone := onFiles(t, h.fs.(*vfs.Memory)).CrashClone(rng)
	close(over)
	world.Unlock()
	all.Wait()
	h.stop()
	h = openOn(t, clone, nil)
	defer func() { h.stop() }()
	over = make(chan struct{})
	begin()
	total := func() (n int) {
		world.Lock()
		defer world.Unlock()
		for _, m := range members {
			n += len(m.got)
		}
		return n
	}
	eventually(t, "all messages", func() bool { return total() >= count })
	p = h.connect(t, packet.V5, "p", nil)
	p.publishExactly("x/0", "last")
	eventually(t, "the last one", func() bool { return total() >= count+1 })
	close(over)
	all.Wait()
	times := make(map[string]int)
	for _, m := range members {
		for _, payload := range m.got {
			times[payload]++
		}
	}
	delete(times, "last")
	once(t, times, 0, count)
}
