package torture

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/conformance/outside"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// memoryFlag scales the loads of the tests of memory: at 1 they are a tenth of what docs/limits.md is held to,
// with 10 all of it.
var memoryFlag = flag.Int("memory", 1, "scale of the memory tests: 10 is the full load")

// grown is how much more resident memory the server has than before, once it has settled.
func grown(t *testing.T, s *server, before int64) int64 {
	t.Helper()
	n := settled(t, s) - before
	t.Logf("%.1f MiB more than the %.1f MiB before", mib(n), mib(before))
	return n
}

func startServer(t *testing.T, set ...string) *server {
	t.Helper()
	s := newServer(t, set...)
	if _, err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// names is how many topic names a publisher uses.
const names = 256

// TestMemoryLongNames has publishers use many long topic names once, and stay. It is held against what the same
// bytes cost as payloads, which fill the cache of the log all the same.
func TestMemoryLongNames(t *testing.T) {
	s := startServer(t)
	publishers := 10 * *memoryFlag
	long := bytes.Repeat([]byte{'n'}, 65_000)
	publishAll(t, s, "short", publishers, func(n, _ int) *packet.Publish {
		return &packet.Publish{Topic: fmt.Appendf(nil, "t/%d", n), Payload: long}
	})
	before := settled(t, s)
	publishAll(t, s, "long", publishers, func(n, i int) *packet.Publish {
		return &packet.Publish{Topic: append(fmt.Appendf(nil, "t/%d/%d/", n, i), long...), Payload: []byte("x")}
	})
	if n := grown(t, s, before); n > 64<<20 {
		t.Errorf("%d publishers with %d names of 65,000 bytes cost %.1f MiB", publishers, names, mib(n))
	}
}

// publishAll has each of some publishers send names messages, at QoS 1, and stay connected until the test ends.
func publishAll(t *testing.T, s *server, id string, publishers int, message func(publisher, n int) *packet.Publish) {
	t.Helper()
	for n := range publishers {
		c, err := client.Dial(t.Context(), s.mqtt, client.Options{ClientID: fmt.Sprint(id, n)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Abort)
		for i := range names {
			p := message(n, i)
			p.QoS = 1
			if err := c.Publish(p, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// cacheBound is limits.cache_bytes: the newest records stay in memory, whoever sent them.
const cacheBound = 64 << 20

// TestMemorySmallBatches sends large Produce requests in which one small batch is good: the log keeps the batch,
// not the request.
func TestMemorySmallBatches(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	if err := makeTopics(ctx, s.kafka, 1, 1); err != nil {
		t.Fatal(err)
	}
	before := settled(t, s)
	requests, connections := 1000**memoryFlag, 8
	var bu record.Builder
	bu.Reset(nil, time.Now().UnixMilli())
	bu.Append(&record.Record{Value: []byte("v")})
	good := bu.Seal(0, 0)
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 10_000
	req.Topics = []kmsg.ProduceRequestTopic{
		{Topic: scaleTopic(0), Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: good}}},
		{Topic: "nobody", Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: make([]byte, 1<<20-300)}}},
	}
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			if err := converse(s.kafka, frame, requests/connections); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := grown(t, s, before); n > cacheBound+32<<20 {
		t.Errorf("%d requests of %d bytes with a batch of %d cost %.1f MiB", requests, len(frame), len(good), mib(n))
	}
}

// converse sends a Kafka request so often and reads the answers.
func converse(address string, frame []byte, times int) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	for range times {
		if _, err := outside.Ask(c, frame); err != nil {
			return err
		}
	}
	return nil
}

// TestMemoryParkedFetches has fetches wait for more than there is, over records that only the disk has.
func TestMemoryParkedFetches(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	if err := makeTopics(ctx, s.kafka, 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := produceBulk(ctx, s.kafka, 54<<20); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.start(); err != nil { // nothing is in memory now
		t.Fatal(err)
	}
	before := settled(t, s)
	const fetches = 50
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 11, 30_000, 55<<20, 55<<20
	req.Topics = []kmsg.FetchRequestTopic{{Topic: scaleTopic(0), Partitions: []kmsg.FetchRequestTopicPartition{
		{Partition: 0, FetchOffset: 0, PartitionMaxBytes: 55 << 20, CurrentLeaderEpoch: -1, LogStartOffset: -1},
	}}}
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	for range fetches {
		c, err := net.Dial("tcp", s.kafka)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	if n := grown(t, s, before); n > 100<<20 {
		t.Errorf("%d fetches that wait cost %.1f MiB", fetches, mib(n))
	}
}

// produceBulk writes so many bytes in records of 64 KiB.
func produceBulk(ctx context.Context, address string, bytes int) error {
	c, err := dialKafka(address)
	if err != nil {
		return err
	}
	defer c.Close()
	value := make([]byte, 64<<10)
	for i := range value {
		value[i] = byte(i * 7)
	}
	var records []*kgo.Record
	for range bytes / len(value) {
		records = append(records, &kgo.Record{Topic: scaleTopic(0), Value: value})
	}
	return c.ProduceSync(ctx, records...).FirstErr()
}

// TestMemoryRetained starts on many large retained messages, which stay in the log.
func TestMemoryRetained(t *testing.T) {
	s := startServer(t)
	messages := 200 * *memoryFlag // of 1 MiB
	c, err := client.Dial(t.Context(), s.mqtt, client.Options{ClientID: "keeper", WriteBuffer: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 1<<20)
	for i := range messages {
		p := &packet.Publish{Topic: fmt.Appendf(nil, "state/%d", i), Payload: payload, QoS: 1, Retain: true}
		if err := c.Publish(p, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.start(); err != nil {
		t.Fatal(err)
	}
	if n := settled(t, s); n > 150<<20 {
		t.Errorf("started with %d retained messages of 1 MiB: %.1f MiB", messages, mib(n))
	} else {
		t.Logf("%d retained messages of 1 MiB: %.1f MiB at start", messages, mib(n))
	}
	got := make(chan int, 1)
	sub, err := client.Dial(t.Context(), s.mqtt, client.Options{ClientID: "reader", OnMessage: func(p *packet.Publish) {
		got <- len(p.Payload)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Abort()
	filter := packet.Subscription{Filter: fmt.Appendf(nil, "state/%d", messages-1), QoS: 1}
	if _, err := sub.Subscribe(t.Context(), packet.Properties{}, filter); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-got:
		if n != len(payload) {
			t.Errorf("a retained message of %d bytes", n)
		}
	case <-time.After(startLimit):
		t.Error("the retained message does not come")
	}
}

// TestMemoryDeafSubscribers has subscribers stop reading while much is published: the door's budget bounds what
// waits for them.
func TestMemoryDeafSubscribers(t *testing.T) {
	s := startServer(t)
	before := settled(t, s)
	subscribers := 2000 * *memoryFlag
	for n := range subscribers {
		c, err := net.Dial("tcp", s.mqtt)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := deaf(c, fmt.Sprint("deaf", n)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.Dial(t.Context(), s.mqtt, client.Options{ClientID: "loud", Inflight: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	payload := make([]byte, 256<<10)
	for range 32 {
		if err := c.Publish(&packet.Publish{Topic: []byte("news"), Payload: payload, QoS: 1}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := grown(t, s, before); n > doorBudget+cacheBound {
		t.Errorf("%d subscribers that do not read cost %.1f MiB", subscribers, mib(n))
	}
}

// doorBudget is the default of what all devices together may make the door hold.
const doorBudget = 256 << 20

// deaf connects and subscribes to news, and reads no further than the SUBACK.
func deaf(c net.Conn, id string) error {
	if tcp, ok := c.(*net.TCPConn); ok {
		if err := tcp.SetReadBuffer(4 << 10); err != nil {
			return err
		}
	}
	hello := (&packet.Connect{Version: packet.V311, ClientID: []byte(id), CleanStart: true}).AppendTo(nil, packet.V311)
	sub := packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("news"), QoS: 1}}}
	if _, err := c.Write(sub.AppendTo(hello, packet.V311)); err != nil {
		return err
	}
	const connack, suback = 4, 5
	_, err := io.CopyN(io.Discard, c, connack+suback)
	return err
}
