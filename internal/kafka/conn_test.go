package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// raw writes bytes as they are.
func (c *client) raw(parts ...[]byte) {
	c.t.Helper()
	if _, err := c.nc.Write(bytes.Join(parts, nil)); err != nil {
		c.t.Fatal(err)
	}
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// headOf is the fixed part of a request header.
func headOf(key, version int16) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	return append(b, 0, 0, 0, 1)
}

// What is not a request costs its connection and nothing else, and at once.
func TestBadFrames(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	good := produceTo(topic, 0, -1, batchOf(1, 1))
	good.Version = 9
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, good, 1)
	cases := []struct {
		name  string
		bytes []byte
	}{
		{"size 0", be32(0)},
		{"size 7", append(be32(7), headOf(3, 0)...)},
		{"negative size", be32(1 << 31)},
		{"size 2^31-1 of no Produce", append(be32(1<<31-1), headOf(wire.Metadata, 0)...)},
		{"size 2^31-1 of a Produce", append(be32(1<<31-1), headOf(wire.Produce, 9)...)},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"TLS", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x01\x02")},
		{"MQTT", []byte("\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test")},
		{"unknown API", append(be32(10), append(headOf(999, 0), 0xff, 0xff)...)},
		{"negative API", append(be32(10), append(headOf(-1, 0), 0xff, 0xff)...)},
		{"API that is not served", append(be32(10), append(headOf(38, 0), 0xff, 0xff)...)},
		{"version above the range", append(be32(10), append(headOf(wire.Metadata, 99), 0xff, 0xff)...)},
		{"version below the range", append(be32(10), append(headOf(wire.Fetch, 3), 0xff, 0xff)...)},
		{"negative version", append(be32(10), append(headOf(wire.Metadata, -1), 0xff, 0xff)...)},
		{"header cut short", append(be32(8), headOf(wire.Metadata, 1)...)},
		{"client id that is a lie", append(be32(10), append(headOf(wire.Metadata, 1), 0x7f, 0xff)...)},
		{"array of 2^31-1", append(be32(14), append(headOf(wire.Metadata, 1), 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff)...)},
		{"array of -2", append(be32(14), append(headOf(wire.Metadata, 1), 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe)...)},
		{
			"2^32-1 tagged fields",
			append(be32(15), append(headOf(wire.Metadata, 9), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f)...),
		},
		{
			"varint of 6 bytes",
			append(be32(17), append(headOf(wire.Metadata, 9), 0xff, 0xff, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01)...),
		},
		{
			"2^32-1 tagged fields for kmsg",
			append(be32(17), append(headOf(wire.DescribeCluster, 0), 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f)...),
		},
		{
			"Produce that counts too much",
			append(
				be32(23),
				append(headOf(wire.Produce, 3), 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0)...),
		},
		{"a good request in too small a frame", append(be32(uint32(len(frame)-10)), frame[4:len(frame)-6]...)},
	}
	for _, tc := range cases {
		c := h.dial()
		c.raw(tc.bytes)
		c.closed(tc.name)
	}
	if n := h.readCount(t, topic.Name); n != 0 {
		t.Fatalf("%d records came out of it", n)
	}
	p := produced(askFor[*kmsg.ProduceResponse](h.dial(), 9, produceTo(topic, 0, -1, batchOf(1, 1))))
	wantCode(t, "a good client after them", p.ErrorCode, wire.None)
}

func (h *house) readCount(t *testing.T, name string) int {
	t.Helper()
	_, n := h.readBack(h.store.Topics().ByName(name).Partitions[0])
	return n
}

// Who announces much and sends little costs little.
func TestAnnouncedBytesCostNothing(t *testing.T) {
	h := openHouse(t, Options{})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 50 {
		c := h.dial()
		c.raw(be32(99<<20), headOf(wire.Produce, 9), make([]byte, 1000))
	}
	until(t, "all are being read", func() bool {
		h.door.mu.Lock()
		defer h.door.mu.Unlock()
		n := 0
		for c := range h.door.mu.conns {
			if phase(c.watch.state.Load()>>32) == reading {
				n++
			}
		}
		return n == 50
	})
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 50*200<<10 {
		t.Fatalf("%d bytes for 50 announcements of 99 MiB", grown)
	}
}

// A large frame in small pieces arrives whole.
func TestFrameInPieces(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	for _, size := range []int{1, 900, 1100, 64 << 10, 70 << 10, 3 << 20} {
		req := produceTo(topic, 0, -1, batchOf(1, size))
		req.Version = 9
		frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
		c := h.dial()
		for step := 1; len(frame) > 0; step = step*3 + 1 {
			n := min(step, len(frame))
			c.raw(frame[:n])
			frame = frame[n:]
		}
		c.next = 1
		wantCode(t, "produce", produced(c.receive(req, 1).(*kmsg.ProduceResponse)).ErrorCode, wire.None)
	}
	batches, n := h.readBack(topic.Partitions[0])
	for _, b := range batches {
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if n != 6 {
		t.Fatalf("%d records", n)
	}
}

// KIP-511: an ApiVersions of a version to come is answered in version 0, and the client goes on.
//
// [Kafka-ApiVersions].
func TestApiVersionsOfTheFuture(t *testing.T) {
	c := openHouse(t, Options{}).dial()
	c.raw(be32(20), headOf(wire.ApiVersions, 77), []byte("what a 77 knows"[:12]))
	_, rest, err := c.frame()
	if err != nil {
		t.Fatal(err)
	}
	resp := kmsg.NewApiVersionsResponse()
	if err := resp.ReadFrom(rest); err != nil || resp.ErrorCode != wire.UnsupportedVersion || len(resp.ApiKeys) < 20 {
		t.Fatalf("%+v %v", resp, err)
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == wire.Produce && (k.MinVersion != 0 || k.MaxVersion != 13) {
			t.Fatalf("%+v", k) // KAFKA-18659
		}
	}
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "raw\nclient", "1"
	wantCode(
		t, "software with a line break", askFor[*kmsg.ApiVersionsResponse](c, 3, req).ErrorCode, wire.InvalidRequest,
	)
}

// A handler that breaks costs its connection; the others go on.
func TestPanicCostsOneConnection(t *testing.T) {
	h := openHouse(t, Options{Guard: judges{breaking{}}, Logger: logtest.New(t, "kafka: a request broke its handler")})
	h.topic("good", 1)
	c := h.dial()
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 1, []kmsg.MetadataRequestTopic{{Topic: new("break")}}
	c.send(req)
	c.closed("a handler that breaks")
	req.Topics[0].Topic = new("good")
	askFor[*kmsg.MetadataResponse](h.dial(), 1, req)
}

// What breaks at the very end of a fetch that was parked costs its connection, and no more: the door goes on.
func TestParkedFetchThatBreaks(t *testing.T) {
	h := openHouse(t, Options{Logger: logtest.New(t, "kafka: a request broke its handler")})
	topic := h.topic("t", 1)
	c := h.dial()
	fetch := fetchFrom(topic, 0, 0, 60_000, 1)
	fetch.Version = 12
	c.send(fetch)
	h.parked(1)
	for _, one := range h.door.conns(func(*conn) bool { return true }) {
		until(t, "it waits", func() bool { return one.fetch.state.Load() == fetchParked })
		one.fetch.timer = nil // that ends with the fetch
	}
	h.put(h.dial(), topic, 0, batchOf(1, 10))
	if _, _, err := c.frame(); err == nil { // the answer was out
		c.closed("a fetch that breaks")
	}
	askFor[*kmsg.MetadataResponse](h.dial(), 1, kmsg.NewPtrMetadataRequest())
	h.stop()
}

// breaking is a guard that breaks when asked about one topic.
type breaking struct{}

func (breaking) may(_ string, _ Operation, _ Resource, name string) bool {
	if name == "break" {
		panic("broken on purpose")
	}
	return true
}

// Drain answers what was asked, ends parked fetches, and closes.
func TestDrain(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	parked, idle, busy := h.dial(), h.dial(), h.dial()
	fetch := fetchFrom(topic, 0, 0, 60_000, 1)
	fetch.Version = 12
	id := parked.send(fetch)
	h.parked(1)
	askFor[*kmsg.MetadataResponse](idle, 1, kmsg.NewPtrMetadataRequest())
	produce := produceTo(topic, 0, -1, batchOf(1, 1))
	produce.Version = 9
	pid := busy.send(produce)
	until(t, "the produce is in", func() bool { return h.readCount(t, "t") == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.door.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "produce", produced(busy.receive(produce, pid).(*kmsg.ProduceResponse)).ErrorCode, wire.None)
	parked.receive(fetch, id)
	for _, c := range []*client{parked, idle, busy} {
		c.closed("after Drain")
	}
	if nc, err := net.Dial("tcp", h.addr); err == nil {
		nc.Close()
		t.Fatal("a drained door takes connections")
	}
}

// A client that has said all it wants still gets its answers; then the connection ends.
func TestHalfClosed(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	var ids []int32
	req := produceTo(topic, 0, -1, batchOf(1, 1))
	req.Version = 9
	for range 20 {
		ids = append(ids, c.send(req))
	}
	fetch := fetchFrom(topic, 0, 1000, 60_000, 1)
	fetch.Topics[0].Partitions[0].FetchOffset = 20
	fetch.Version = 12
	id := c.send(fetch)
	h.parked(1)
	if err := c.nc.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		wantCode(t, "produce", produced(c.receive(req, id).(*kmsg.ProduceResponse)).ErrorCode, wire.None)
	}
	c.receive(fetch, id)
	c.closed("after the last answer")
}

// Drain gives up on a client that does not take its answer, when its time is over.
func TestDrainTimeout(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	for range 8 {
		h.put(h.dial(), topic, 0, batchOf(1, 4<<20))
	}
	fetch := fetchFrom(topic, 0, 0, 0, 1)
	fetch.Version, fetch.Topics[0].Partitions[0].PartitionMaxBytes = 12, 50<<20
	c.send(fetch)
	_, err := io.ReadFull(c.nc, make([]byte, 1<<20)) // the beginning of the answer, and then no more
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.door.Drain(ctx); !fault.Is(err, fault.Timeout) {
		t.Fatalf("Drain: %v", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	set := telemetry.New()
	h := openHouse(t, Options{MaxConnections: 2, Metrics: set})
	a, b := h.dial(), h.dial()
	askFor[*kmsg.MetadataResponse](a, 1, kmsg.NewPtrMetadataRequest())
	askFor[*kmsg.MetadataResponse](b, 1, kmsg.NewPtrMetadataRequest())
	h.dial().closed("the third of two")
	if err := a.nc.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "a place is free", func() bool {
		h.door.mu.Lock()
		defer h.door.mu.Unlock()
		return len(h.door.mu.conns) == 1
	})
	askFor[*kmsg.MetadataResponse](h.dial(), 1, kmsg.NewPtrMetadataRequest())
}

// A connection that makes no progress in the middle of a request is closed; one that waits is not.
func TestLateConnections(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	slow, parked := h.dial(), h.dial()
	slow.raw(be32(1000), headOf(wire.Produce, 9))
	fetch := fetchFrom(topic, 0, 0, 60_000, 1)
	fetch.Version = 12
	parked.send(fetch)
	h.parked(1)
	until(t, "the slow one is being read", func() bool {
		h.door.mu.Lock()
		defer h.door.mu.Unlock()
		for c := range h.door.mu.conns {
			if phase(c.watch.state.Load()>>32) == reading {
				return true
			}
		}
		return false
	})
	h.door.clock.Add(patience[reading] + 1)
	h.door.closeLate()
	slow.closed("after half a minute without a byte")
	if h.door.purgatory.parked.Load() != 1 {
		t.Fatal("the parked fetch is gone")
	}
}

func TestAdvertise(t *testing.T) {
	for text, want := range map[string]address{
		"": {}, "auto": {}, "kafka.example.com:9093": {"kafka.example.com", 9093}, "[::1]:1": {"::1", 1},
	} {
		if got, err := parseAdvertise(text); err != nil || got != want {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"host", "host:", ":9092", "host:0", "host:99999", "host:x", "a:b:c"} {
		if _, err := parseAdvertise(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	h := openHouse(t, Options{Advertise: "somewhere.example.com:1234", NodeID: 7})
	c := h.dial()
	meta := askFor[*kmsg.MetadataResponse](c, 9, kmsg.NewPtrMetadataRequest())
	if b := meta.Brokers[0]; b.Host != "somewhere.example.com" || b.Port != 1234 || b.NodeID != 7 ||
		meta.ControllerID != 7 {
		t.Fatalf("%+v", meta)
	}
	cluster := askFor[*kmsg.DescribeClusterResponse](c, 0, kmsg.NewPtrDescribeClusterRequest())
	if b := cluster.Brokers[0]; b.Host != "somewhere.example.com" || b.Port != 1234 {
		t.Fatalf("%+v", cluster)
	}
	got := reached(&net.TCPAddr{IP: net.ParseIP("::ffff:10.1.2.3"), Port: 9})
	if got != (address{"10.1.2.3", 9}) {
		t.Fatalf("%+v", got)
	}
}

// The metrics of the door have their names and move.
func TestMetrics(t *testing.T) {
	set := telemetry.New()
	h := openHouse(t, Options{Metrics: set})
	topic := h.topic("t", 1)
	c := h.dial()
	h.put(c, topic, 0, batchOf(1, 10))
	askFor[*kmsg.FetchResponse](c, 12, fetchFrom(topic, 0, 0, 0, 1))
	askFor[*kmsg.MetadataResponse](c, 9, kmsg.NewPtrMetadataRequest())
	var text string
	for _, line := range []string{
		`firth_kafka_connections 1`, `firth_kafka_batches_produced_total 1`,
		`firth_kafka_request_duration_seconds_count{api="Produce"} 1`,
		`firth_kafka_request_duration_seconds_count{api="Fetch"} 1`,
		`firth_kafka_request_duration_seconds_count{api="Metadata"} 1`,
		`firth_kafka_connections_total{fate="accepted"} 1`,
	} {
		until(t, line, func() bool { // the time is taken after the answer is out
			text = exposition(t, set)
			return strings.Contains(text, line+"\n")
		})
	}
	if strings.Contains(text, "firth_kafka_received_bytes_total 0\n") ||
		strings.Contains(text, "firth_kafka_sent_bytes_total 0\n") {
		t.Error("no bytes are counted")
	}
}

// Clients come and go while requests are under way; nothing is left behind.
func TestChurn(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 40 {
				c := h.dial()
				switch (i + j) % 3 {
				case 0:
					req := produceTo(topic, 0, -1, batchOf(1, 10))
					req.Version = 9
					c.send(req)
				case 1:
					req := fetchFrom(topic, 0, 1<<40, 60_000, 1)
					req.Version = 9
					c.send(req)
				case 2:
					askFor[*kmsg.FetchResponse](c, 9, fetchFrom(topic, 0, 0, 5, 1<<20))
				}
				if err := c.nc.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	until(t, "all connections are gone", func() bool {
		h.door.mu.Lock()
		defer h.door.mu.Unlock()
		return len(h.door.mu.conns) == 0
	})
	stacks := make([]byte, 1<<20)
	until(t, "their goroutines are gone", func() bool {
		return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("kafka.(*conn)"))
	})
	h.parked(0)
}
