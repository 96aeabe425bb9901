package mqtt_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// ofConns is how the names of functions begin that a goroutine of a connection is in.
const ofConns = "github.com/firthmq/firth/internal/mqtt.(*conn)."

// TestManyIdleConnectionsHaveNoGoroutines: what waits costs no goroutine.
func TestManyIdleConnectionsHaveNoGoroutines(t *testing.T) {
	h := open(t, nil)
	const count = 200
	for i := range count {
		h.connect(t, packet.V5, fmt.Sprintf("idle-%d", i), nil)
	}
	eventually(t, "the connections rest", func() bool { return alloctest.Goroutines(ofConns) == 0 })
}

// TestPiecesOfPackets writes packets in pieces of every size: in the poller, in a goroutine that takes over for
// what is rare or large, and back. Every PUBLISH is acknowledged in order, and stored once [MQTT-4.2-1]
// [MQTT-4.2.0-1 of 3.1.1].
func TestPiecesOfPackets(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.OutboxBytes = 64 << 20 }) // nothing is dropped
	sub := h.connect(t, packet.V311, "reader", nil)
	sub.subscribe(0, "pieces/#")
	random := rand.New(rand.NewPCG(1, 2))
	var b []byte
	const count = 400
	for i := range count {
		size := []int{1, 100, 3000, 70_000}[random.IntN(4)]
		p := packet.Publish{
			Topic: fmt.Appendf(nil, "pieces/%d", i%3), QoS: 1, PacketID: uint16(i + 1),
			Payload: fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", size)),
		}
		b = p.AppendTo(b, packet.V311)
		switch random.IntN(10) {
		case 0:
			b = (&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("other")}}}).
				AppendTo(b, packet.V311)
		case 1:
			b = append(b, 0xc0, 0) // PINGREQ
		}
	}
	c := h.connect(t, packet.V311, "pieces", nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for len(b) > 0 {
			n := min(len(b), 1<<random.IntN(18))
			if _, err := c.net.Write(b[:n]); err != nil {
				t.Error(err)
				return
			}
			b = b[n:]
		}
	})
	for id := uint16(1); id <= count; {
		p, err := c.next(patience)
		if err != nil {
			t.Fatal(err)
		}
		if ack, ok := p.(*packet.Puback); ok {
			if ack.PacketID != id {
				t.Fatalf("PUBACK %d, want %d", ack.PacketID, id)
			}
			id++
		}
	}
	for range count { // they lie in three topics of one log topic: one partition, one order
		p := want[*packet.Publish](sub)
		if !bytes.HasSuffix(p.Payload, []byte("x")) {
			t.Fatalf("torn: %.20q of %d bytes", p.Payload, len(p.Payload))
		}
	}
}

// TestChurn has clients come, publish, and go in every way, while others are taken over, and ends with no
// connection left.
func TestChurn(t *testing.T) {
	h := open(t, nil)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 40 {
				n, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Error(err)
					return
				}
				hello := packet.Connect{CleanStart: true, ClientID: fmt.Appendf(nil, "churn-%d", (worker+i)%5)}
				b := hello.AppendTo(nil, packet.V5)
				p := packet.Publish{Topic: []byte("churn/x"), Payload: []byte("x"), QoS: 1, PacketID: 1}
				b = p.AppendTo(b, packet.V5)
				switch i % 4 {
				case 0:
					b = append(b, 0xe0, 0) // DISCONNECT
				case 1:
					b = append(b, 0) // no packet at all
				case 2:
					b = b[:len(b)-3]
				}
				if _, err := n.Write(b); err != nil && i%4 != 1 {
					t.Logf("write: %v", err) // taken over already
				}
				if i%2 == 0 {
					n.(*net.TCPConn).SetLinger(0) // a reset
				}
				n.Close()
			}
		})
	}
	wg.Wait()
	eventually(t, "all connections ended", func() bool { return h.door.Stats() == mqtt.Stats{} })
}

// TestClientThatObeysNagle: a client that has not turned Nagle's rule off keeps its PUBACKs back until TCP has
// acknowledged the first. It gets window after window all the same without waiting for TCP's delayed ACK (40 ms).
func TestClientThatObeysNagle(t *testing.T) {
	const count, window, delayedACK = 10_112, 128, 40 * time.Millisecond
	fast := func(obeys bool) time.Duration { // most windows take longer
		h := open(t, func(o *mqtt.Options) { o.MaxInflight = window })
		sub := h.connect(t, packet.V311, "nagle", nil)
		if err := sub.net.(*net.TCPConn).SetNoDelay(!obeys); err != nil {
			t.Fatal(err)
		}
		sub.subscribe(1, "flood/#")
		h.blast(t, "flood", 1, count, 10)
		last, took := map[string]int{}, make([]time.Duration, count/window)
		for i := range took {
			began := time.Now()
			for range window {
				sub.inOrder(last, 1)
			}
			took[i] = time.Since(began)
		}
		slices.Sort(took)
		return took[len(took)/10]
	}
	// Where TCP is waited for all windows take that long, each time; on a busy machine many do, but not all, or those of
	// another client do, too, if both met the same machine.
	for try := 1; ; try++ {
		obeys, other := fast(true), fast(false)
		if obeys <= other+delayedACK/2 {
			return
		}
		if try == 5 {
			t.Fatalf("nine in ten windows of %d messages took %v and more, those of another client %v", window, obeys, other)
		}
	}
}
