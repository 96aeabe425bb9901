package mqtt

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/logtest"
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
	c = d.newConn(sinkhole{wrote: wrote})
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
	if RaceDetector {
		t.Skip("the race detector makes pools forget")
	}
	for qos, acks := range []int{0, 64} {
		for _, topics := range []int{1, 16} {
			t.Run(fmt.Sprintf("QoS %d, %d topics", qos, topics), func(t *testing.T) {
				c, wrote := bench(t)
				b := run(byte(qos), topics)
				perRun := testing.AllocsPerRun(500, func() { consumed(t, c, wrote, b, acks) })
				if perRun > 0 {
					t.Errorf("%.0f allocations for 64 messages", perRun)
				}
			})
		}
	}
}

// TestDeliverAllocs: to hand a message to a session allocates nothing.
func TestDeliverAllocs(t *testing.T) {
	if RaceDetector {
		t.Skip("the race detector makes pools forget")
	}
	c, wrote := bench(t)
	var m fanout.Message
	from := hinge.Message{Topic: []byte("bench/1"), Payload: make([]byte, 100), QoS: 1}
	now := time.Now()
	allocs := testing.AllocsPerRun(500, func() {
		m.Set(&from, now)
		for range 50 {
			if v := c.Deliver(&m, &fanout.Delivery{QoS: 0}); v != fanout.Taken {
				t.Fatalf("verdict %d", v)
			}
		}
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

// BenchmarkDeliver is a message of QoS 0 handed to a session, 50 in a run.
func BenchmarkDeliver(b *testing.B) {
	c, wrote := bench(b)
	var m fanout.Message
	from := hinge.Message{Topic: []byte("bench/1"), Payload: make([]byte, 100)}
	m.Set(&from, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		for range 50 {
			c.Deliver(&m, &fanout.Delivery{QoS: 0})
		}
		c.Flush()
		<-wrote
	}
}
