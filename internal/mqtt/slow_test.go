package mqtt_test

import (
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// blast publishes count messages with QoS 1 to the topics name/0, name/1, ... in turn and waits for all
// acknowledgements.
func (h *house) blast(t testing.TB, name string, topics, count, size int) {
	t.Helper()
	c := h.connect(t, packet.V311, "blast-"+name, nil)
	payload := strings.Repeat("x", size)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		var b []byte
		for i := range count {
			p := packet.Publish{
				Topic: fmt.Appendf(nil, "%s/%d", name, i%topics), Payload: fmt.Appendf(nil, "%d %s", i, payload),
				QoS: 1, PacketID: uint16(i%60000 + 1),
			}
			if b = p.AppendTo(b, packet.V311); len(b) > 16<<10 || i == count-1 {
				if _, err := c.net.Write(b); err != nil {
					t.Errorf("blast: %v", err)
					return
				}
				b = b[:0]
			}
		}
	})
	for range count {
		want[*packet.Puback](c)
	}
}

// TestStalledSubscriberLosesNothing lets a QoS 1 subscriber stop reading while much more is published
// than fits anywhere but into the log, and then read on.
func TestStalledSubscriberLosesNothing(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.OutboxBytes = 64 << 10; o.MaxInflight = 100 })
	slow := h.connect(t, packet.V5, "slow", nil)
	slow.net.(*net.TCPConn).SetReadBuffer(128 << 10)
	slow.subscribe(1, "flood/#")
	fast := h.connect(t, packet.V5, "fast", nil)
	fast.subscribe(0, "other/#")

	const topics, count, size = 3, 20000, 1000
	before := heap()
	h.blast(t, "flood", topics, count, size)
	fast.publish(0, 0, "other/1", "still served")
	fast.gets("other/1", "still served")
	if grown := heap() - before; grown > 80<<20 { // the log's own cache is 64 MiB
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	// Another publishes while it catches up: the hand-over must not lose, double or reorder.
	var wg sync.WaitGroup
	wg.Go(func() { h.blast(t, "flood2", topics, count/4, size) })
	slow.subscribe2(1, "flood2/#")
	last := map[string]int{}
	for range count {
		slow.inOrder(last, topics)
	}
	wg.Wait()
	for topic, n := range last {
		if strings.HasPrefix(topic, "flood/") && n < count-topics {
			t.Errorf("%s ended at %d", topic, n)
		}
	}
}

// subscribe2 subscribes while messages may be on their way.
func (c *raw) subscribe2(qos byte, filter string) {
	c.t.Helper()
	c.send(&packet.Subscribe{PacketID: 200, Subscriptions: []packet.Subscription{{Filter: []byte(filter), QoS: qos}}})
}

// inOrder takes one message of blast on flood/...: the one after the last of its topic. Others are only
// checked to rise.
func (c *raw) inOrder(last map[string]int, topics int) {
	c.t.Helper()
	for {
		p, err := c.next(patience)
		if err != nil {
			c.t.Fatalf("after %v: %v", last, err)
		}
		m, ok := p.(*packet.Publish)
		if !ok {
			continue
		}
		topic := string(m.Topic)
		number, _, _ := strings.Cut(string(m.Payload), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			c.t.Fatal(err)
		}
		before, seen := last[topic]
		if strings.HasPrefix(topic, "flood/") {
			if seen && n != before+topics || !seen && n >= topics {
				c.t.Fatalf("%s: %d came after %d", topic, n, before)
			}
		} else if seen && n != before+topics {
			c.t.Fatalf("%s: %d came after %d", topic, n, before)
		}
		last[topic] = n
		c.send(&packet.Puback{PacketID: m.PacketID})
		if strings.HasPrefix(topic, "flood/") {
			return
		}
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

const (
	sentQoS0    = `firth_mqtt_messages_sent_total{qos="0"}`
	droppedFull = `firth_mqtt_messages_dropped_total{reason="outbox_full"}`
)

// TestStalledSubscriberOfQoS0IsDropped shows that a QoS 0 subscriber that does not read costs its bound
// and that every drop is counted.
func TestStalledSubscriberOfQoS0IsDropped(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.OutboxBytes = 64 << 10; o.Metrics = set })
	slow := h.connect(t, packet.V5, "slow", nil)
	slow.net.(*net.TCPConn).SetReadBuffer(128 << 10)
	slow.subscribe(0, "flood/#")
	const count = 30000
	h.blast(t, "flood", 1, count, 500)
	eventually(t, "all messages sent or dropped", func() bool {
		sent, dropped := sample(set, sentQoS0), sample(set, droppedFull)
		return sent+dropped == count
	})
	dropped := int(sample(set, droppedFull))
	if dropped == 0 {
		t.Fatal("nothing was dropped")
	}
	for range count - dropped {
		want[*packet.Publish](slow)
	}
	slow.quiet()
}

// TestSmallWindowCatchesUp sends through a receive maximum of 1, so that every message is caught up.
func TestSmallWindowCatchesUp(t *testing.T) {
	h := open(t, nil)
	sub := h.connect(t, packet.V5, "one", func(p *packet.Connect) { p.Props.SetReceiveMaximum(1) })
	sub.subscribe(1, "flood/#")
	const count = 3000
	h.blast(t, "flood", 2, count, 10)
	last := map[string]int{}
	for range count {
		sub.inOrder(last, 2)
	}
	sub.quiet()
	h.blast(t, "flood", 2, 1, 10) // live again
	if p := want[*packet.Publish](sub); !strings.HasPrefix(string(p.Payload), "0 ") {
		t.Errorf("got %.10s", p.Payload)
	}
}
