package mqtt_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// house is a door on a log in memory, listening on loopback.
type house struct {
	t    testing.TB
	fs   vfs.FS
	log  keeper
	door *mqtt.Door
	addr string
	stop func()
}

func open(t testing.TB, change func(*mqtt.Options), expected ...string) *house {
	t.Helper()
	h := openOn(t, vfs.NewMemory(), change, expected...)
	t.Cleanup(func() { h.stop() })
	return h
}

// openOn opens a house on files; its stop closes all of it. No error is logged but the expected ones.
func openOn(t testing.TB, fs vfs.FS, change func(*mqtt.Options), expected ...string) *house {
	t.Helper()
	logger := logtest.New(t, expected...)
	log := openKeeper(t, fs, logger)
	h := openDoor(t, log, logger, change)
	h.fs = fs
	closeDoor := h.stop
	h.stop = func() {
		h.stop = func() {}
		closeDoor()
		if err := log.Close(); err != nil {
			t.Errorf("log: %v", err)
		}
	}
	return h
}

// openDoor opens a door on a log; its stop closes the door only.
func openDoor(t testing.TB, log keeper, logger *slog.Logger, change func(*mqtt.Options)) *house {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	table, err := hinge.New(nil, hinge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opt := mqtt.Options{Log: log, Mapping: table, CloseTimeout: 200 * time.Millisecond, Logger: logger}
	if change != nil {
		change(&opt)
	}
	door, err := mqtt.Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- door.Run(ctx) }()
	go func() { ended <- door.Serve(ctx, l) }()
	stop := func() {
		l.Close()
		drain, done := context.WithTimeout(context.Background(), patience)
		defer done()
		if err := door.Drain(drain); err != nil {
			t.Errorf("drain: %v", err)
		}
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Errorf("door: %v", err)
			}
		}
	}
	return &house{t: t, log: log, door: door, addr: l.Addr().String(), stop: stop}
}

// produce appends a record as a Kafka producer would, and waits for its receipt.
func (h *house) produce(topic string, r *record.Record) {
	h.t.Helper()
	tp := h.log.Topics().ByName(topic)
	if tp == nil {
		var err error
		if tp, err = h.log.CreateTopic(context.Background(), stream.TopicSpec{Name: topic, Partitions: 1}); err != nil {
			h.t.Fatal(err)
		}
	}
	done := make(receipt, 1)
	if err := streamtest.Append(h.log, done, stream.Write{Partition: tp.Partitions[0], Record: r}); err != nil {
		h.t.Fatal(err)
	}
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

type receipt chan error

func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

// records reads all records of a topic.
func (h *house) records(topic string) (all []record.View) {
	h.t.Helper()
	tp := h.log.Topics().ByName(topic)
	if tp == nil {
		return nil
	}
	for _, p := range tp.Partitions {
		b, err := h.log.Bounds(p)
		if err != nil {
			h.t.Fatal(err)
		}
		for next := b.Start; next < b.Stable; {
			next, err = h.log.Scan(p, next, stream.ScanOptions{}, func(v *record.View) bool {
				all = append(all, kept(v))
				return true
			})
			if err != nil {
				h.t.Fatalf("read at %d: %v", next, err)
			}
		}
	}
	return all
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// raw is a client that speaks bytes.
type raw struct {
	t   testing.TB
	net net.Conn
	dec packet.Decoder
	v   packet.Version
	buf []byte
	was []byte // the frame of the last packet
}

func (h *house) dial(t testing.TB) *raw {
	t.Helper()
	n, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return &raw{t: t, net: n, v: packet.V311}
}

// connect dials and says CONNECT; the CONNACK must be a success.
func (h *house) connect(t testing.TB, v packet.Version, id string, change func(*packet.Connect)) *raw {
	t.Helper()
	c := h.dial(t)
	c.hello(v, id, change)
	if ack := want[*packet.Connack](c); ack.Reason != packet.Success {
		t.Fatalf("CONNACK %s", ack.Reason)
	}
	return c
}

func (c *raw) hello(v packet.Version, id string, change func(*packet.Connect)) {
	c.t.Helper()
	if v == packet.V31 && id == "" { // it has to have one
		id = c.net.LocalAddr().String()
	}
	c.v, c.dec = v, packet.Decoder{Version: v, Client: true}
	p := &packet.Connect{Version: v, CleanStart: true, ClientID: []byte(id)}
	if change != nil {
		change(p)
	}
	c.send(p)
}

func (c *raw) send(ps ...packet.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range ps {
		b = p.AppendTo(b, c.v)
	}
	c.bytes(b)
}

func (c *raw) bytes(b []byte) {
	c.t.Helper()
	if _, err := c.net.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *raw) hex(s string) {
	c.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		c.t.Fatal(err)
	}
	c.bytes(b)
}

// next is the next packet, valid until the one after it, or the error that ended the connection.
func (c *raw) next(wait time.Duration) (packet.Packet, error) {
	c.t.Helper()
	if err := c.net.SetReadDeadline(time.Now().Add(wait)); err != nil {
		c.t.Fatal(err)
	}
	for {
		n, err := packet.Frame(c.buf, packet.MaxSize)
		if err != nil {
			c.t.Fatal(err)
		}
		if n > 0 {
			c.was = bytes.Clone(c.buf[:n])
			c.buf = append(c.buf[:0], c.buf[n:]...)
			return c.dec.Decode(c.was)
		}
		var b [32 << 10]byte
		n, err = c.net.Read(b[:])
		c.buf = append(c.buf, b[:n]...)
		if err != nil && n == 0 {
			return nil, err
		}
	}
}

// want is the next packet, which must be of a type. Messages that come before an acknowledgement of what the client
// published are next: no log promises which is first.
func want[P packet.Packet](c *raw) P {
	c.t.Helper()
	var before []byte
	for {
		p, err := c.next(patience)
		if err != nil {
			c.t.Fatalf("waiting for %T: %v", *new(P), err)
		}
		if q, ok := p.(P); ok {
			c.buf = append(before, c.buf...)
			return q
		}
		if _, message := p.(*packet.Publish); !message || !acknowledges(*new(P)) {
			c.t.Fatalf("got %#v, want %T", p, *new(P))
		}
		before = append(before, c.was...)
	}
}

// acknowledges tells whether a packet answers a PUBLISH or PUBREL of a client.
func acknowledges(p packet.Packet) bool {
	switch p.(type) {
	case *packet.Puback, *packet.Pubrec, *packet.Pubcomp:
		return true
	}
	return false
}

// closed waits for the end of the connection; no packet may come before.
func (c *raw) closed() {
	c.t.Helper()
	p, err := c.next(patience)
	if err == nil {
		c.t.Fatalf("got %#v, want the end of the connection", p)
	}
	if !errors.Is(err, io.EOF) {
		c.t.Fatalf("the connection ended with %v, want EOF", err)
	}
}

// quiet checks that nothing comes: a PINGRESP is the next packet.
func (c *raw) quiet() {
	c.t.Helper()
	c.send(&packet.Pingreq{})
	want[*packet.Pingresp](c)
}

func (c *raw) subscribe(qos byte, filters ...string) *packet.Suback {
	c.t.Helper()
	p := &packet.Subscribe{PacketID: 100}
	for _, f := range filters {
		p.Subscriptions = append(p.Subscriptions, packet.Subscription{Filter: []byte(f), QoS: qos})
	}
	c.send(p)
	return want[*packet.Suback](c)
}

func (c *raw) publish(qos byte, id uint16, topic, payload string) {
	c.t.Helper()
	c.send(&packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: id})
}

// published publishes with QoS 1 and waits for the PUBACK.
func (c *raw) published(topic, payload string, retain bool) {
	c.t.Helper()
	c.send(&packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, PacketID: 7, Retain: retain})
	if ack := want[*packet.Puback](c); ack.PacketID != 7 || ack.Reason.Failed() {
		c.t.Fatalf("PUBACK %+v", ack)
	}
}

func (c *raw) gets(topic, payload string) *packet.Publish {
	c.t.Helper()
	p := want[*packet.Publish](c)
	if string(p.Topic) != topic || string(p.Payload) != payload {
		c.t.Fatalf("got %s = %.40q, want %s = %.40q", p.Topic, p.Payload, topic, payload)
	}
	if p.QoS == 1 {
		c.send(&packet.Puback{PacketID: p.PacketID})
	}
	return p
}

// both runs a test for MQTT 3.1.1 and 5.0.
func both(t *testing.T, test func(t *testing.T, v packet.Version)) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		t.Run(v.String(), func(t *testing.T) { test(t, v) })
	}
}

// every runs a test for all versions.
func every(t *testing.T, test func(t *testing.T, v packet.Version)) {
	both(t, test)
	t.Run(packet.V31.String(), func(t *testing.T) { test(t, packet.V31) })
}

func TestPublishReachesLogAndSubscriber(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		sub := h.connect(t, v, "sub", nil)
		if ack := sub.subscribe(2, "sensors/+/temp"); len(ack.Reasons) != 1 || ack.Reasons[0] != packet.GrantedQoS2 {
			t.Fatalf("SUBACK %+v", ack)
		}
		pub := h.connect(t, v, "pub", nil)
		pub.published("sensors/room1/temp", "21.5", false)
		if p := sub.gets("sensors/room1/temp", "21.5"); p.QoS != 1 || p.Retain || p.Dup {
			t.Errorf("delivered as %+v", p)
		}
		pub.publish(0, 0, "sensors/room2/temp", "22")
		if p := sub.gets("sensors/room2/temp", "22"); p.QoS != 0 {
			t.Errorf("delivered as %+v", p)
		}
		pub.published("sensors/room2/other", "x", false)
		sub.quiet()
		all := h.records("sensors")
		if len(all) != 3 || string(all[0].Key) != "sensors/room1/temp" || string(all[0].Value) != "21.5" {
			t.Errorf("the log has %d records, the first %s=%s", len(all), all[0].Key, all[0].Value)
		}
		now := time.Now().UnixMilli()
		h.produce("sensors", &record.Record{Timestamp: now, Key: []byte("sensors/k/temp"), Value: []byte("from kafka")})
		sub.gets("sensors/k/temp", "from kafka")
	})
}

// expect reads bytes: those of a hexadecimal text and then the end of the connection, or, behind a +,
// those and then the answer to a PINGREQ.
func (c *raw) expect(answer string) {
	c.t.Helper()
	rest, open := strings.CutPrefix(answer, "+")
	if open {
		c.hex("c000")
		rest += "d000"
	}
	wanted, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.net.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	got := c.buf
	var b [256]byte
	for !open || len(got) < len(wanted) {
		n, err := c.net.Read(b[:])
		got = append(got, b[:n]...)
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			c.t.Errorf("the connection ended with %v", err)
		}
		break
	}
	if !bytes.Equal(got, wanted) {
		c.t.Errorf("got %x, want %x", got, wanted)
	}
}

// sample reads one number from the metrics page.
func sample(set *telemetry.Set, name string) float64 {
	w := httptest.NewRecorder()
	set.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			if f, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return f
			}
		}
	}
	return -1
}

// alter changes settings of a topic.
func (h *house) alter(topic string, set map[string]string) {
	h.t.Helper()
	if _, err := h.log.AlterTopic(context.Background(), topic, stream.TopicChange{Set: set}); err != nil {
		h.t.Fatal(err)
	}
}
