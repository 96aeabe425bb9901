package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

// patient waits for goroutines that are about to end: goleak does so for half a second, too little on a busy machine.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for limit := time.Now().Add(time.Minute); code == 0 && goleak.Find() != nil && time.Now().Before(limit); {
	}
	return code
}

func TestPercentiles(t *testing.T) {
	order := rand.New(rand.NewPCG(1, 2)).Perm(1000)
	var a, b samples
	for i, v := range order { // 1 µs to 1 ms, each once, in two lots
		to := &a
		if i%3 == 0 {
			to = &b
		}
		to.add(time.Duration(v+1) * time.Microsecond)
	}
	got := latency(a, b)
	want := Latency{
		Count: 1000, P50: 501 * time.Microsecond, P90: 901 * time.Microsecond, P99: 991 * time.Microsecond,
		P999: time.Millisecond, Worst: time.Millisecond,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := latency(); got != (Latency{}) {
		t.Errorf("without samples: %+v", got)
	}
}

// slowBroker acknowledges every PUBLISH of QoS 1 a delay after it came, and the one with number stall (from
// 0) much later, which holds up all behind it.
type slowBroker struct {
	delay time.Duration
	stall int
	long  time.Duration
}

func (b slowBroker) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		b.serve(c)
		c.Close()
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
	})
	return l.Addr().String()
}

func (b slowBroker) serve(c net.Conn) {
	broker := &conn{Conn: c, buf: make([]byte, 4096)}
	for n := 0; ; {
		f, err := broker.frame()
		if err != nil {
			return
		}
		switch f[0] >> 4 {
		case 1:
			broker.out = append(broker.out, 0x20, 2, 0, 0)
		case 3:
			due := broker.readAt.Add(b.delay)
			if n == b.stall {
				due = broker.readAt.Add(b.long)
			}
			sleepUntil(due)
			n++
			if _, err := broker.acknowledge(f); err != nil {
				return
			}
		}
		if broker.flush() != nil {
			return
		}
	}
}

// longer runs a load, and again for four times as long while something is amiss, up to 10 s: on a busy machine a load
// may not come far in a short time, nor keep its pace.
func longer(t *testing.T, d *time.Duration, run func() (amiss string)) {
	t.Helper()
	amiss := run()
	for ; amiss != "" && *d < 10*time.Second; amiss = run() {
		t.Logf("in %v: %s", *d, amiss)
		*d *= 4
	}
	if amiss != "" {
		t.Error(amiss)
	}
}

// single is one publisher with one message in flight.
func single(address string, d time.Duration) MQTT {
	return MQTT{Address: address, Publishers: 1, QoS: 1, InFlight: 1, PayloadSize: 16, Topic: "t", Duration: d}
}

// A broker that stalls once for 200 ms: with a rate the messages that were due meanwhile count the stall as
// well, so that it is seen in the percentiles and not only in the worst case.
func TestStallIsSeenInFull(t *testing.T) {
	m := single("", time.Second)
	m.Rate = 100
	longer(t, &m.Duration, func() string {
		stall := m.Duration / 5
		m.Address = slowBroker{delay: time.Millisecond, stall: 20, long: stall}.listen(t)
		res, err := m.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res.Latency.Worst < stall-5*time.Millisecond {
			return fmt.Sprintf("the stall of %v is not there: %v", stall, res.Latency)
		}
		if res.Latency.P90 < stall/4 {
			return fmt.Sprintf("a fifth of the messages were due in the stall of %v, but p90 is %v", stall, res.Latency.P90)
		}
		if p50 := res.Latency.P50; p50 < time.Millisecond || p50 > stall/4 {
			return fmt.Sprintf("p50 is %v where the broker takes 1 ms", p50)
		}
		if res.Latency.Count < int(50*m.Duration.Seconds()) || res.Total < res.Messages {
			return fmt.Sprintf("%+v", res)
		}
		return ""
	})
}

// Without a rate, a sample is the time of one PUBLISH alone.
func TestAcknowledgementTime(t *testing.T) {
	m := single("", 200*time.Millisecond)
	longer(t, &m.Duration, func() string {
		m.Address = slowBroker{delay: 5 * time.Millisecond, stall: -1}.listen(t)
		res, err := m.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := res.Messages
		if n > int64(m.Duration/(5*time.Millisecond)) || int64(res.Latency.Count) != n {
			t.Errorf("%d messages and %d samples of 5 ms each in %v", n, res.Latency.Count, m.Duration)
		}
		if n < 5 {
			return fmt.Sprintf("%d messages", n)
		}
		if res.Latency.P50 < 5*time.Millisecond {
			t.Errorf("p50 is %v where the broker takes 5 ms", res.Latency.P50)
		}
		return ""
	})
}

func TestAcknowledgementsThatNobodyAskedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Write([]byte{0x20, 2, 0, 0, 0x40, 2, 0, 9}) // CONNACK, and a PUBACK out of nowhere
		io.Copy(io.Discard, c)
	}()
	m := single(l.Addr().String(), time.Second)
	if _, err := m.Run(t.Context()); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

// Acknowledgements that come byte by byte are put together again.
func TestAcknowledgementsInPieces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			byteByByte(c)
			c.Close()
		}
	}()
	m := single(l.Addr().String(), 100*time.Millisecond)
	m.InFlight = 3
	longer(t, &m.Duration, func() string {
		res, err := m.Run(t.Context())
		if err != nil || res.Total < res.Messages {
			t.Fatalf("%+v, %v", res, err)
		}
		if res.Messages == 0 {
			return "no messages"
		}
		return ""
	})
}

// byteByByte is a broker that acknowledges so.
func byteByByte(c net.Conn) {
	broker := &conn{Conn: c, buf: make([]byte, 4096)}
	for {
		f, err := broker.frame()
		if err != nil {
			return
		}
		out := []byte{0x20, 2, 0, 0}
		if f[0]>>4 == 3 {
			out = []byte{0x40, 2, f[7], f[8]} // behind the topic name t/0
		}
		for i := range out {
			if _, err := c.Write(out[i : i+1]); err != nil {
				return
			}
		}
	}
}

// A window that is more than the sockets hold: what is left is sent when they take it.
func TestWindowBeyondTheSocket(t *testing.T) {
	m := single(startNode(t).MQTT, 300*time.Millisecond)
	m.Publishers, m.InFlight, m.PayloadSize = 2, 200, 128<<10
	longer(t, &m.Duration, func() string {
		res, err := m.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res.Total < 400 {
			return fmt.Sprintf("%+v", res)
		}
		return ""
	})
}

func startNode(t *testing.T) node.Addresses {
	t.Helper()
	c := node.Default()
	c.Data, c.Logger = t.TempDir(), logtest.New(t)
	c.Listen.MQTT, c.Listen.Kafka, c.Listen.WS, c.Listen.HTTP = "127.0.0.1:0", "127.0.0.1:0", "", ""
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n.Addresses()
}

const short200 = 200 * time.Millisecond

func TestMQTTLoads(t *testing.T) {
	address := startNode(t).MQTT
	base := MQTT{
		Address: address, Publishers: 4, InFlight: 8, PayloadSize: 64, Duration: short200, Warmup: 20 * time.Millisecond,
	}
	for name, change := range map[string]func(*MQTT){
		"qos1":         func(m *MQTT) { m.QoS = 1 },
		"qos0":         func(*MQTT) {},
		"qos1-empty":   func(m *MQTT) { m.QoS, m.PayloadSize = 1, 0 },
		"qos0-small":   func(m *MQTT) { m.PayloadSize = 7 },
		"qos1-rate":    func(m *MQTT) { m.QoS, m.Rate = 1, 1000 },
		"qos0-rate":    func(m *MQTT) { m.Rate = 1000 },
		"qos1-fan-in":  func(m *MQTT) { m.QoS, m.Subscribers = 1, 1 },
		"qos1-time":    func(m *MQTT) { m.QoS, m.Subscribers, m.PayloadSize = 1, 1, 8 }, // and no room for more
		"qos1-fan-out": func(m *MQTT) { m.QoS, m.Subscribers, m.Rate = 1, 5, 500 },
		"qos2":         func(m *MQTT) { m.QoS = 2 },
		"qos2-rate":    func(m *MQTT) { m.QoS, m.Rate = 2, 500 },
		"qos2-fan-in":  func(m *MQTT) { m.QoS, m.Subscribers = 2, 1 },
		"persistent":   func(m *MQTT) { m.QoS, m.Subscribers, m.Persistent = 2, 2, true },
		"shared":       func(m *MQTT) { m.QoS, m.Subscribers, m.Share = 1, 3, "group" },
	} {
		t.Run(name, func(t *testing.T) {
			m := base
			m.Topic = name
			change(&m)
			longer(t, &m.Duration, func() string {
				res, err := m.Run(t.Context())
				switch {
				case err != nil || res.Bytes != int64(m.PayloadSize)*res.Messages:
					t.Fatalf("%+v, %v", res, err)
				case res.Messages == 0 || res.Total == 0:
					return fmt.Sprintf("%+v", res)
				case m.QoS > 0 && res.Latency.Count == 0:
					return "no samples"
				case m.Subscribers > 0 && res.Delivered < res.Messages/2:
					return fmt.Sprintf("%d messages, %d delivered", res.Messages, res.Delivered)
				case m.Rate > 0 && float64(res.Messages) > 1.5*m.Rate*m.Duration.Seconds():
					return fmt.Sprintf("%d messages at %v/s", res.Messages, m.Rate)
				}
				return ""
			})
		})
	}
}

// TestReturn has sessions come back, in one go and in two.
func TestReturn(t *testing.T) {
	b := Returning{Address: startNode(t).MQTT, Sessions: 40, Messages: 25, Together: 8, PayloadSize: 16, Topic: "r"}
	for _, only := range [][]Part{{""}, {Leave, Back}} {
		for _, b.Only = range only {
			res, err := b.Run(t.Context())
			if err != nil || res.Messages != 1000 || res.Total != 1000 {
				t.Fatalf("%q: %+v, %v", b.Only, res, err)
			}
			if b.Only != Leave && res.Latency.Count != 40 {
				t.Errorf("%q: %+v", b.Only, res.Latency)
			}
		}
	}
	b.Only, b.Messages = Leave, 3
	if _, err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Only, b.Messages = Back, 4
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.Run(ctx); err == nil {
		t.Error("a message that is missing is not missed")
	}
}

func TestKafkaLoads(t *testing.T) {
	address := startNode(t).Kafka
	base := Kafka{
		Brokers: []string{address}, Partitions: 4, RecordSize: 100, BatchSize: 4 << 10, Acks: -1, Connections: 2,
		InFlight: 5, Rate: 500, Duration: short200, Warmup: 500 * time.Millisecond, CheckCRC: true,
	}
	for _, encoded := range []bool{false, true} {
		for _, mode := range []Mode{Produce, Consume, Both, Lag} { // in this order: Consume reads what was produced
			name := string(mode) + "-kgo"
			if encoded {
				name = string(mode) + "-encoded"
			}
			t.Run(name, func(t *testing.T) {
				k := base
				k.Mode, k.Encoded, k.Topic = mode, encoded, "bench-"+string(mode)
				if mode == Consume {
					k.Topic = "bench-" + string(Produce)
				}
				both := mode == Both || mode == Lag
				longer(t, &k.Duration, func() string {
					res, err := k.Run(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if res.Messages == 0 || res.Total == 0 || both && res.Delivered == 0 {
						return fmt.Sprintf("%+v", res)
					}
					if l := res.Latency; mode == Lag && (l.Count == 0 || l.P50 <= 0 || l.P50 > 10*time.Second) {
						return fmt.Sprintf("latency %+v", l)
					}
					return ""
				})
			})
		}
	}
}

// What is produced on plain sockets is what a reader finds: as many records, from offset 0 on.
func TestEncodedBatchesAreStored(t *testing.T) {
	k := Kafka{
		Brokers: []string{startNode(t).Kafka}, Mode: Produce, Topic: "stored", Partitions: 3, RecordSize: 0,
		BatchSize: 2 << 10, Acks: 1, Connections: 1, InFlight: 3, Encoded: true, Duration: 100 * time.Millisecond,
	}
	res, err := k.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := k.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var stored int64
	for _, end := range e.ends {
		stored += end
	}
	if stored != res.Total || len(e.ends) != 3 {
		t.Errorf("%d records acknowledged, %d stored in %d partitions", res.Total, stored, len(e.ends))
	}
}

// A number of records is produced and no more, and read exactly once.
func TestCountedLoads(t *testing.T) {
	address := startNode(t).Kafka
	for _, encoded := range []bool{false, true} {
		k := Kafka{
			Brokers: []string{address}, Mode: Produce, Topic: "counted-kgo", Partitions: 3, RecordSize: 100,
			BatchSize: 4 << 10, Acks: -1, Connections: 2, InFlight: 2, Records: 10_000, Encoded: encoded,
			Duration: 10 * time.Minute,
		}
		if encoded {
			k.Topic = "counted-encoded"
		} else {
			k.Keys = 100
		}
		written, err := k.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		late := written.Elapsed >= k.Duration || written.Whole <= 0 || written.Whole >= k.Duration
		if n := written.Total; n < k.Records || n > k.Records+2*slab || late {
			t.Errorf("encoded %v: %d records where %d are asked for, in %v", encoded, n, k.Records, written.Elapsed)
		}
		k.Mode, k.Once, k.Records, k.Keys = Consume, true, 0, 0
		read, err := k.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if read.Total != written.Total || read.Messages > read.Total || read.Elapsed >= k.Duration {
			t.Errorf("encoded %v: %+v read of %d records", encoded, read, written.Total)
		}
	}
}

func TestSeam(t *testing.T) {
	a := startNode(t)
	for _, raw := range []bool{false, true} {
		s := Seam{
			MQTT: MQTT{
				Address: a.MQTT, Publishers: 2, QoS: 1, InFlight: 8, PayloadSize: 64, Topic: "seam", Rate: 500,
				Duration: short200, Warmup: 100 * time.Millisecond,
			},
			Brokers: []string{a.Kafka}, Partitions: 2, Raw: raw,
		}
		longer(t, &s.Duration, func() string {
			res, err := s.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if res.Messages == 0 || res.Delivered == 0 || int64(res.Latency.Count) != res.Delivered {
				return fmt.Sprintf("raw %v: %+v", raw, res)
			}
			return ""
		})
	}
}

func TestRefusals(t *testing.T) {
	m := MQTT{Publishers: 1, InFlight: 1, PayloadSize: 16, Duration: 1, Topic: "t"}
	untimed, negative := m, m
	untimed.PayloadSize, untimed.Subscribers = 7, 1
	negative.PayloadSize = -1
	k := Kafka{Brokers: []string{"127.0.0.1:1"}, Mode: "read", Topic: "t", Partitions: 1, RecordSize: 16, BatchSize: 100,
		Acks: -1, Connections: 1, InFlight: 1, Duration: 1}
	lag := k
	lag.Mode, lag.RecordSize, lag.Rate = Lag, 7, 1
	for name, run := range map[string]func() error{
		"no time":       func() error { _, err := untimed.Run(t.Context()); return err },
		"negative size": func() error { _, err := negative.Run(t.Context()); return err },
		"unknown mode":  func() error { _, err := k.Run(t.Context()); return err },
		"untimed lag":   func() error { _, err := lag.Run(t.Context()); return err },
		"levels":        func() error { s := Seam{MQTT: m}; s.Topic = "a/b"; _, err := s.Run(t.Context()); return err },
	} {
		if err := run(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The bytes of the generator are what our own decoder takes.
func TestPublishBytes(t *testing.T) {
	c := &conn{}
	c.prepare("t/1", 1, 200)
	c.publish(7, time.Unix(0, 42))
	n, err := packet.Frame(c.out, 1000)
	if err != nil || n != len(c.out) {
		t.Fatalf("frame of %d bytes where %d were made: %v", n, len(c.out), err)
	}
}

// TestGroupLoads has groups copy, commit and rebalance.
func TestGroupLoads(t *testing.T) {
	base := Kafka{
		Brokers: []string{startNode(t).Kafka}, Partitions: 4, RecordSize: 100, BatchSize: 4 << 10, Acks: -1,
		Connections: 2, InFlight: 5, Duration: short200, TxnEvery: 20 * time.Millisecond, Topic: "groups",
	}
	source := base
	source.Mode, source.Records, source.Duration = Produce, 20_000, 10*time.Minute
	written, err := source.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("copy", func(t *testing.T) {
		k := base
		k.Mode, k.Duration = Copy, 10*time.Minute
		res, err := k.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res.Total != written.Total || res.Messages != res.Total || res.Elapsed >= k.Duration || res.Latency.Count == 0 {
			t.Errorf("of %d records: %+v", written.Total, res)
		}
		c, err := k.client(kgo.ConsumeTopics(copiesOf(k.Topic)), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for read := int64(0); read != written.Total; {
			fetches := c.PollFetches(t.Context())
			if read += int64(fetches.NumRecords()); read > written.Total || fetches.Err() != nil {
				t.Fatalf("%d records of %d are copied: %v", read, written.Total, fetches.Err())
			}
		}
	})
	t.Run("share", func(t *testing.T) {
		k := base
		k.Mode, k.Members, k.Duration = Share, 3, 10*time.Minute
		res, err := k.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res.Total != written.Total || res.Messages != res.Total || res.Elapsed >= k.Duration {
			t.Errorf("of %d records: %+v", written.Total, res)
		}
	})
	for name, group := range map[string]Kafka{
		"commit-classic":          {Mode: Commit, Protocol: ClassicProtocol},
		"commit-consumer":         {Mode: Commit, Protocol: ConsumerProtocol},
		"commit-classic-encoded":  {Mode: Commit, Protocol: ClassicProtocol, Encoded: true},
		"commit-consumer-encoded": {Mode: Commit, Protocol: ConsumerProtocol, Encoded: true},
		"rebalance-classic":       {Mode: Rebalance, Protocol: ClassicProtocol},
		"rebalance-consumer":      {Mode: Rebalance, Protocol: ConsumerProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			k := base
			k.Mode, k.Protocol, k.Encoded, k.Groups, k.Members = group.Mode, group.Protocol, group.Encoded, 3, 3
			longer(t, &k.Duration, func() string {
				res, err := k.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if res.Messages == 0 || int64(res.Latency.Count) != res.Messages {
					return fmt.Sprintf("%+v", res)
				}
				return ""
			})
		})
	}
}

// TestLive has live messages go while sessions come back: in each phase some came, and none is missing.
func TestLive(t *testing.T) {
	address := startNode(t).MQTT
	b := Returning{Address: address, Sessions: 40, Messages: 25, Together: 8, PayloadSize: 16, Topic: "r", Only: Leave}
	if _, err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	phases := make(chan string)
	var back error
	go func() {
		defer close(phases)
		phases <- "quiet"
		time.Sleep(short200) // is what a phase takes
		phases <- "back"
		b.Only = Back
		_, back = b.Run(t.Context())
		time.Sleep(short200)
	}()
	l := Live{Address: address, PayloadSize: 16, Topic: "live", Rate: 200}
	results, err := l.Run(t.Context(), phases)
	if err != nil || back != nil {
		t.Fatal(err, back)
	}
	if len(results) != 2 || results[0].Work != "quiet" || results[1].Work != "back" {
		t.Fatalf("phases: %+v", results)
	}
	for _, r := range results {
		if r.Messages == 0 || r.Latency.Count != int(r.Messages) || r.Latency.Worst <= 0 {
			t.Errorf("%+v", r)
		}
	}
	for name, bad := range map[string]Live{
		"no rate": {Address: address, PayloadSize: 16, Topic: "live"}, "no room": {Address: address, Topic: "live", Rate: 1},
		"no topic": {Address: address, PayloadSize: 16, Rate: 1},
	} {
		if _, err := bad.Run(t.Context(), nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
