package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// flood publishes n messages of QoS 1 at once, each with a payload of some bytes, and gives how long it was until the
// last PUBACK came.
func (c *raw) flood(n, bytes int) time.Duration {
	c.t.Helper()
	begin := time.Now()
	var all []packet.Packet
	for i := range n {
		all = append(all, &packet.Publish{Topic: []byte("flood"), Payload: []byte(strings.Repeat("x", bytes)), QoS: 1,
			PacketID: uint16(i + 1)})
	}
	c.send(all...)
	for i := range n {
		if ack := want[*packet.Puback](c); int(ack.PacketID) != i+1 || ack.Reason.Failed() {
			c.t.Fatalf("PUBACK %+v, want %d", ack, i+1)
		}
	}
	return time.Since(begin)
}

// TestMessageRate: what a client publishes too fast waits, and is lost by nobody. It is heard all the same.
func TestMessageRate(t *testing.T) {
	const rate, sends = 40, 80 // so that it takes a second
	for what, rates := range map[string]mqtt.Rates{
		"messages": {Messages: rate}, "bytes": {Bytes: rate * 10}, "all": {AllMessages: rate},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			set := telemetry.New()
			h := open(t, func(o *mqtt.Options) { o.Rates, o.Metrics = rates, set })
			c := h.connect(t, packet.V5, "c", nil)
			if took := c.flood(sends, 10); took < 900*time.Millisecond {
				t.Errorf("%d messages took %s", sends, took)
			}
			if n := len(h.records("flood")); n != sends {
				t.Errorf("%d records", n)
			}
			if n := sample(set, `firth_mqtt_slowed_total{listener="mqtt"}`); n < 1 {
				t.Errorf("slowed %v times", n)
			}
		})
	}
	t.Run("WebSocket", func(t *testing.T) {
		t.Parallel()
		h := open(t, func(o *mqtt.Options) { o.Rates.Messages = rate })
		web := httptest.NewServer(h.door.WebSocket())
		defer web.Close()
		c, _ := webSocket(t, web.URL, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		c.hello(packet.V5, "c", nil)
		want[*packet.Connack](c)
		if took := c.flood(sends, 10); took < 900*time.Millisecond {
			t.Errorf("%d messages took %s", sends, took)
		}
	})
	t.Run("heard while it waits", func(t *testing.T) {
		t.Parallel()
		h := open(t, func(o *mqtt.Options) { o.Rates.Messages = 1 })
		begin := time.Now()
		c := h.connect(t, packet.V5, "c", nil)
		for i := range 1000 { // more than one read
			c.publish(0, 0, "flood", fmt.Sprint(i))
		}
		c.send(&packet.Pingreq{})
		want[*packet.Pingresp](c)
		n := len(h.records("flood"))
		if took := time.Since(begin); n > 2+int(took/time.Second) {
			t.Errorf("PINGRESP came after %d messages and %s", n, took)
		}
	})
}

// TestAllMessagesRate: clients of one listener share its rate, those of another have their own.
func TestAllMessagesRate(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics = set })
	l, err := h.door.Listener(mqtt.ListenerOptions{Name: "slow", Rates: mqtt.Rates{AllMessages: 40}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = l.Serve(context.Background(), n) }()
	defer n.Close()
	slow := &house{t: t, door: h.door, addr: n.Addr().String()}
	begin := time.Now()
	var both sync.WaitGroup
	for _, id := range []string{"a", "b"} {
		c := slow.connect(t, packet.V5, id, nil)
		both.Go(func() { c.flood(40, 1) })
	}
	h.connect(t, packet.V5, "free", nil).flood(500, 1)
	if n := sample(set, `firth_mqtt_slowed_total{listener="mqtt"}`); n != 0 {
		t.Errorf("a client of another listener was slowed %v times", n)
	}
	both.Wait()
	if took := time.Since(begin); took < 900*time.Millisecond {
		t.Errorf("80 messages took %s", took)
	}
}

// TestConnectRate: who comes too fast is refused with 0x9F, in MQTT 3 with return code 3, and if many do, closed.
func TestConnectRate(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		set := telemetry.New()
		h := open(t, func(o *mqtt.Options) { o.Rates.Connects, o.Metrics = 2, set })
		begin := time.Now()
		tries, served, refused, closed := 0, 0, 0, 0
		for ; (refused < 2 || closed == 0) && time.Since(begin) < patience; tries++ { // a busy machine may not be too fast
			c, i := h.dial(t), tries
			c.v, c.dec = v, packet.Decoder{Version: v, Client: true}
			hello := (&packet.Connect{CleanStart: true, ClientID: fmt.Append(nil, i)}).AppendTo(nil, v)
			if _, err := c.net.Write(hello); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
			switch p, err := c.next(patience); {
			case err != nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
				closed++
			case err != nil:
				t.Fatal(err)
			case p.(*packet.Connack).Reason == packet.Success:
				served++
			case v == packet.V5 && p.(*packet.Connack).Reason == packet.ConnectionRateExceeded,
				v != packet.V5 && p.(*packet.Connack).Reason == packet.ServerUnavailable:
				refused++
				c.closed()
			default:
				t.Fatalf("got %#v", p)
			}
		}
		most := 2 + int(2*time.Since(begin).Seconds())
		if served < 2 || served > most || refused < 2 || refused > most || closed == 0 || served+refused+closed != tries {
			t.Errorf("%d served, %d refused, %d closed; at most %d of each", served, refused, closed, most)
		}
		name := `firth_mqtt_listener_refused_total{listener="mqtt",reason="rate"}`
		if n := int(sample(set, name)); n != refused+closed {
			t.Errorf("%d are counted", n)
		}
	})
}

// TestSetRates: other rates hold for who connects from then on, and for connections at once; not for a listener that
// has its own.
func TestSetRates(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics = set })
	own, err := h.door.Listener(mqtt.ListenerOptions{Name: "own", Rates: mqtt.Rates{Messages: 1_000_000}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- own.Serve(context.Background(), n) }()
	t.Cleanup(func() {
		n.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	slowed := func(listener string) float64 {
		return sample(set, fmt.Sprintf("firth_mqtt_slowed_total{listener=%q}", listener))
	}
	before := h.connect(t, packet.V5, "before", nil)
	h.door.SetRates(mqtt.Rates{Messages: 40})
	before.flood(80, 10)
	if n := slowed("mqtt"); n != 0 {
		t.Errorf("slowed %v times that was connected before", n)
	}
	if took := h.connect(t, packet.V5, "after", nil).flood(80, 10); took < 900*time.Millisecond {
		t.Errorf("80 messages took %s at 40 a second", took)
	}
	other := &house{t: t, door: h.door, addr: n.Addr().String()}
	other.connect(t, packet.V5, "own", nil).flood(80, 10)
	if n := slowed("own"); n != 0 {
		t.Errorf("slowed %v times that has a rate of its own", n)
	}
	h.door.SetRates(mqtt.Rates{Connects: 1})
	refused := func() bool {
		c := h.dial(t)
		c.hello(packet.V5, "hasty", nil)
		p, err := c.next(patience)
		ack, ok := p.(*packet.Connack)
		return err != nil || ok && ack.Reason == packet.ConnectionRateExceeded
	}
	eventually(t, "a connection too many is refused", refused)
	h.door.SetRates(mqtt.Rates{})
	h.connect(t, packet.V5, "free", nil).flood(80, 10)
}
