package mqtt

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/race"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// sinkhole is a socket that takes everything and tells how much that was.
type sinkhole struct {
	net.Conn
	wrote chan int
}

func (s sinkhole) Write(b []byte) (int, error)     { s.wrote <- len(b); return len(b), nil }
func (s sinkhole) Close() error                    { return nil }
func (s sinkhole) SetReadDeadline(time.Time) error { return nil }
func (s sinkhole) RemoteAddr() net.Addr            { return nil }

// benchDoor is a door with a real log.
func benchDoor(tb testing.TB) *Door {
	tb.Helper()
	ctx := context.Background()
	disk, err := vfs.NewDisk(tb.TempDir()) // files in memory would allocate what is written to them
	if err != nil {
		tb.Fatal(err)
	}
	log, err := store.Open(ctx, store.Options{FS: disk, Logger: logtest.New(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := log.Close(); err != nil {
			tb.Error(err)
		}
	})
	table, err := hinge.New(nil, hinge.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	d, err := Open(ctx, Options{Log: log, Mapping: table, Logger: logtest.New(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// bench is a connection without a socket on such a door.
func bench(tb testing.TB) (c *conn, wrote chan int) {
	tb.Helper()
	ctx := context.Background()
	d := benchDoor(tb)
	wrote = make(chan int, 1024)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(running) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	c = d.newConn(d.plain(), sinkhole{wrote: wrote})
	hello := (&packet.Connect{CleanStart: true, ClientID: []byte("bench")}).AppendTo(nil, packet.V5)
	if _, err := c.consume(hello, false); err != nil {
		tb.Fatal(err)
	}
	<-wrote
	return c, wrote
}

// run is 64 PUBLISH packets in one read.
func run(qos byte, topics int) []byte {
	var b []byte
	payload := make([]byte, 100)
	for i := range 64 {
		topic := fmt.Appendf(nil, "bench/room%d/temp", i%topics)
		p := packet.Publish{Topic: topic, Payload: payload, QoS: qos, PacketID: uint16(i + 1)}
		b = p.AppendTo(b, packet.V5)
	}
	return b
}

// consumed consumes a run and waits for its acknowledgements.
func consumed(tb testing.TB, c *conn, wrote chan int, b []byte, acks int) {
	used, err := c.consume(b, false)
	if err != nil || used != len(b) {
		tb.Fatalf("consumed %d of %d: %v", used, len(b), err)
	}
	for got := 0; got < acks*4; {
		got += <-wrote
	}
}

// TestPublishAllocs: a PUBLISH allocates nothing on its way to the disk and back to its PUBACK.
func TestPublishAllocs(t *testing.T) {
	if race.Detector {
		t.Skip("the race detector makes pools forget")
	}
	for qos, acks := range []int{0, 64} {
		for _, topics := range []int{1, 16} {
			t.Run(fmt.Sprintf("QoS %d, %d topics", qos, topics), func(t *testing.T) {
				c, wrote := bench(t)
				b := run(byte(qos), topics)
				perRun := alloctest.PerRun(500, 0, func() { consumed(t, c, wrote, b, acks) })
				if perRun > 0 {
					t.Errorf("%.0f allocations for 64 messages", perRun)
				}
			})
		}
	}
}

// TestPublishAllocsNoLocal: nor does one that its client must not get.
func TestPublishAllocsNoLocal(t *testing.T) {
	if race.Detector {
		t.Skip("the race detector makes pools forget")
	}
	c, wrote := bench(t)
	sub := packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("bench/#"), NoLocal: true}}}
	if _, err := c.consume(sub.AppendTo(nil, packet.V5), false); err != nil {
		t.Fatal(err)
	}
	<-wrote
	b := run(1, 16)
	perRun := alloctest.PerRun(500, 0, func() { consumed(t, c, wrote, b, 64) })
	if perRun > 0 {
		t.Errorf("%.0f allocations for 64 messages", perRun)
	}
}

// TestPublishAllocsPaced: nor does one whose client is bound to a rate.
func TestPublishAllocsPaced(t *testing.T) {
	if race.Detector {
		t.Skip("the race detector makes pools forget")
	}
	c, wrote := bench(t)
	rates := Rates{Messages: 1 << 40, Bytes: 1 << 50, AllMessages: 1 << 40}
	by, err := c.door.Listener(ListenerOptions{Name: "paced", Rates: rates})
	if err != nil {
		t.Fatal(err)
	}
	c.pace = by.newPace(c)
	b := run(1, 1)
	if perRun := alloctest.PerRun(500, 0, func() { consumed(t, c, wrote, b, 64) }); perRun > 0 {
		t.Errorf("%.0f allocations for 64 messages", perRun)
	}
}

// offer is a run of the same message for a client of MQTT 5.
type offer struct {
	run fanout.Run
	all []*fanout.Delivery
}

func newOffer(n, payload int, qos byte) *offer {
	var m fanout.Message
	m.Set(&hinge.Message{Topic: []byte("bench/1"), Payload: make([]byte, payload)}, time.Now())
	d := &fanout.Delivery{}
	m.Deliver(d, fanout.Form{Version: packet.V5, QoS: qos}, nil)
	return &offer{all: slices.Repeat([]*fanout.Delivery{d}, n)}
}

// deliver offers the run to a connection, which has to take it.
func (o *offer) deliver(tb testing.TB, c *conn) {
	if v := c.Deliver(o.run.Offer(o.all...)); v != fanout.Taken || o.run.Next() != nil {
		tb.Fatalf("verdict %d, %d are left", v, len(o.run.Rest()))
	}
}

// TestDeliverAllocs: to hand messages to a session allocates nothing.
func TestDeliverAllocs(t *testing.T) {
	if race.Detector {
		t.Skip("the race detector makes pools forget")
	}
	c, wrote := bench(t)
	o := newOffer(50, 100, 0)
	allocs := alloctest.PerRun(500, 1, func() {
		o.deliver(t, c)
		c.Flush()
		<-wrote
	})
	if allocs > 1 {
		t.Errorf("%.1f allocations for 50 deliveries", allocs)
	}
}

func BenchmarkPublish(b *testing.B) {
	for qos, acks := range []int{0, 64} {
		b.Run(fmt.Sprintf("QoS%d", qos), func(b *testing.B) {
			c, wrote := bench(b)
			packets := run(byte(qos), 1)
			b.ReportAllocs()
			for b.Loop() {
				consumed(b, c, wrote, packets, acks)
			}
			b.ReportMetric(float64(b.N)*64/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkDeliver is 50 messages handed to a session, together or one by one, and with QoS 1 their acknowledgements.
func BenchmarkDeliver(b *testing.B) {
	const messages = 50
	for qos := range byte(2) {
		for _, each := range []int{1, messages} {
			b.Run(fmt.Sprintf("QoS%d,together=%d", qos, each), func(b *testing.B) {
				c, wrote := bench(b)
				o := newOffer(each, 100, qos)
				var acks []byte
				id := uint16(0)
				b.ReportAllocs()
				for b.Loop() {
					for range messages / each {
						o.deliver(b, c)
					}
					c.Flush()
					<-wrote
					acks = acks[:0]
					for range messages * int(qos) {
						if id++; id == 0 {
							id = 1
						}
						acks = append(acks, byte(packet.PUBACK)<<4, 2, byte(id>>8), byte(id))
					}
					if _, err := c.consume(acks, false); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
