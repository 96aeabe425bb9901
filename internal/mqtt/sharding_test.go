package mqtt_test

import (
	"strconv"
	"testing"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/tenure"
)

const otherServer = "other.example:1883"

// sharing has a door serve shards, and know the server of those that it has not, or not.
func sharing(known bool) func(*mqtt.Options) {
	s := &mqtt.Sharding{Shards: 4}
	if known {
		s.Elsewhere = func(string) string { return otherServer }
	}
	return func(o *mqtt.Options) { o.Sharding = s }
}

// beside opens another door on the log of a house.
func (h *house) beside(t *testing.T, change func(*mqtt.Options)) *house {
	t.Helper()
	other := openDoor(t, h.log, logtest.New(t), change)
	other.fs = h.fs
	t.Cleanup(func() { other.stop() })
	return other
}

// serves gives all sessions to a door.
func (h *house) serves(t *testing.T) {
	t.Helper()
	for shard := range h.door.Shards() {
		h.door.Gain(shard)
	}
	for shard := range h.door.Shards() {
		eventually(t, "the shard serves", func() bool { return h.door.ShardState(shard) == tenure.Serving })
	}
}

// isEmpty waits until a door has let go of all.
func (h *house) isEmpty(t *testing.T) {
	t.Helper()
	for shard := range h.door.Shards() {
		eventually(t, "it has let go", func() bool { return h.door.ShardState(shard) == tenure.Absent })
	}
}

// letsGo takes them away again.
func (h *house) letsGo() {
	for shard := range h.door.Shards() {
		h.door.Lose(shard)
	}
}

// TestElsewhere: a client whose session is on another node is told which, where that is known and MQTT has a word for
// it, at CONNECT as when its session moves.
func TestElsewhere(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run("known "+strconv.FormatBool(known), func(t *testing.T) {
			h := open(t, sharing(known))
			refused := func(v packet.Version, reason packet.ReasonCode, server string) {
				t.Helper()
				c := h.dial(t)
				c.hello(v, "c", nil)
				ack := want[*packet.Connack](c)
				if ack.Reason != reason || string(ack.Props.ServerReference) != server {
					t.Errorf("CONNACK %s, server %q", ack.Reason, ack.Props.ServerReference)
				}
				c.closed()
			}
			at, moved, server := packet.UseAnotherServer, packet.ServerMoved, otherServer
			if !known {
				at, moved, server = packet.ServerUnavailable, packet.ServerShuttingDown, ""
			}
			refused(packet.V5, at, server)
			refused(packet.V311, packet.ServerUnavailable, "")
			h.serves(t)
			five, three := h.connect(t, packet.V5, "five", nil), h.connect(t, packet.V311, "three", nil)
			small := h.connect(t, packet.V5, "small", func(p *packet.Connect) { p.Props.SetMaximumPacketSize(24) })
			h.letsGo()
			p := want[*packet.Disconnect](five)
			if p.Reason != moved || string(p.Props.ServerReference) != server {
				t.Errorf("DISCONNECT %s, server %q", p.Reason, p.Props.ServerReference)
			}
			five.closed()
			three.closed()
			if p := want[*packet.Disconnect](small); p.Reason != packet.ServerShuttingDown {
				t.Errorf("DISCONNECT %s where no server fits", p.Reason)
			}
			eventually(t, "nothing is left", func() bool {
				s := h.door.Stats()
				return s.Connections == 0 && s.Clients == 0 && s.Away == 0 && s.Subscriptions == 0
			})
			refused(packet.V5, at, server)
		})
	}
}

// TestAssignedHere: a client that leaves its identifier to the server gets one whose session is here.
func TestAssignedHere(t *testing.T) {
	h := open(t, sharing(false))
	h.door.Gain(2)
	eventually(t, "the shard serves", func() bool { return h.door.ShardState(2) == tenure.Serving })
	for range 20 {
		c := h.dial(t)
		c.hello(packet.V5, "", nil)
		ack := want[*packet.Connack](c)
		if id := string(ack.Props.AssignedClientID); ack.Reason != packet.Success || h.door.ShardOf(id) != 2 {
			t.Fatalf("CONNACK %s, %q", ack.Reason, id)
		}
	}
}

// TestMessagesMove: a session that moves from node to node under its client gets every message, in order, those that
// were in flight again with DUP, and none twice that it has acknowledged when the node lets go.
func TestMessagesMove(t *testing.T) {
	a := open(t, sharing(false))
	doors := [2]*house{a, a.beside(t, sharing(false))}
	doors[0].serves(t)
	message := func(payload string) *record.Record {
		return &record.Record{Value: []byte(payload), Headers: []record.Header{{Key: hinge.HeaderFlags, Value: []byte("1")}}}
	}
	a.produce("t", message("before"))
	watcher, _ := doors[0].comeBack(t, packet.V5, "w", func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte("t"), Payload: []byte("its will"), QoS: 1}
	})
	watcher.subscribe(2, "t")
	next := 0
	produce := func(n int) {
		for range n {
			a.produce("t", message(strconv.Itoa(next)))
			next++
		}
	}
	seen := 0
	see := func(upTo int) {
		t.Helper()
		for seen < upTo {
			p := want[*packet.Publish](watcher)
			watcher.send(&packet.Puback{PacketID: p.PacketID})
			if string(p.Payload) != strconv.Itoa(seen) {
				t.Fatalf("got %q, want %d", p.Payload, seen)
			}
			seen++
		}
	}
	for round := range 6 {
		from, to := doors[round%2], doors[(round+1)%2]
		produce(5)
		see(next)
		watcher.quiet() // it has the acknowledgements
		produce(3)
		from.letsGo()
		for {
			p, err := watcher.next(patience)
			if err != nil {
				t.Fatal(err)
			}
			if publish, ok := p.(*packet.Publish); ok {
				if string(publish.Payload) != strconv.Itoa(seen) {
					t.Fatalf("got %q, want %d", publish.Payload, seen)
				}
				seen++ // it is in flight, and comes again
				continue
			}
			break // the DISCONNECT
		}
		produce(2)
		from.isEmpty(t)
		to.serves(t)
		watcher = to.back(t, packet.V5, "w")
		inFlight := seen
		for seen = next - 5; seen < inFlight; seen++ {
			if p := want[*packet.Publish](watcher); string(p.Payload) != strconv.Itoa(seen) || !p.Dup {
				t.Fatalf("got %q, DUP %v, want %d again", p.Payload, p.Dup, seen)
			} else {
				watcher.send(&packet.Puback{PacketID: p.PacketID})
			}
		}
	}
	see(next)
	watcher.quiet()
}
