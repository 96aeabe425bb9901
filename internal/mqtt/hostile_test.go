package mqtt_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// What a client may send that is odd, large or many, and more than a line of bytes: docs/conformance/bad-input.md.

// largeConnect is a CONNECT of about so many bytes: its will has as many user properties.
func largeConnect(id string, bytes int) []byte {
	will := &packet.Will{Topic: []byte("w"), Payload: []byte("gone")}
	value := make([]byte, 1000)
	for i := range value {
		value[i] = 'x'
	}
	for range bytes / (len(value) + 10) {
		will.Props.AddUser("k", string(value))
	}
	hello := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte(id), Will: will}
	return hello.AppendTo(nil, packet.V5)
}

// TestPacketIDInFlightAgain: a packet id that is in flight with another payload. With QoS 1 both are messages; with QoS
// 2 it is the first one again, with DUP or not, until it is released. An id that was never seen is a new message, also
// with DUP.
func TestPacketIDInFlightAgain(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c := h.connect(t, v, "c", nil)
		payloads := func(topic string) string {
			var all []string
			for _, r := range h.records(topic) {
				all = append(all, string(r.Value))
			}
			return strings.Join(all, " ")
		}
		c.publish(1, 5, "one/a", "first")
		c.publish(1, 5, "one/a", "second")
		for range 2 {
			if p := want[*packet.Puback](c); p.PacketID != 5 || p.Reason.Failed() {
				t.Errorf("%+v", p)
			}
		}
		if got := payloads("one"); got != "first second" {
			t.Errorf("QoS 1: %s", got)
		}
		c.sends2(6, "two/a", "first", true) // never seen
		c.sends2(6, "two/a", "second", false)
		c.sends2(6, "two/a", "third", true)
		c.releases(6)
		c.sends2(6, "two/a", "fourth", true)
		if got := payloads("two"); got != "first fourth" {
			t.Errorf("QoS 2: %s", got)
		}
	})
}

// TestManyFilters: 10,000 filters in one SUBSCRIBE have 10,000 reason codes, one more than that is refused by itself.
func TestManyFilters(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		c := open(t, func(o *mqtt.Options) { o.MaxSubscriptions = 9999 }).connect(t, v, "", nil)
		filters := make([]string, 10_000)
		for i := range filters {
			filters[i] = fmt.Sprintf("f/%d/+", i)
		}
		reasons := c.subscribe(1, filters...).Reasons
		refused := packet.QuotaExceeded
		if v != packet.V5 {
			refused = packet.UnspecifiedError
		}
		if len(reasons) != len(filters) || reasons[0] != 1 || reasons[9998] != 1 || reasons[9999] != refused {
			t.Errorf("%d reason codes, the last %s", len(reasons), reasons[len(reasons)-1])
		}
	})
}

// TestOverlappingWildcards: filters of every depth that all match give one copy of a message, and no time.
func TestOverlappingWildcards(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		c := h.connect(t, v, "", nil)
		var filters []string
		for n := range 100 {
			deep := strings.Repeat("/+", n)
			rest := strings.Repeat("/a", n) + strings.Repeat("/+", 100-n)
			filters = append(filters, "w"+deep+"/#", "+"+deep+"/#", "w"+rest)
		}
		c.subscribe(0, filters...)
		p := h.connect(t, v, "", nil)
		topic := "w" + strings.Repeat("/a", 100)
		for i := range 20 {
			p.published(topic, fmt.Sprint(i), false)
			c.gets(topic, fmt.Sprint(i))
		}
		c.quiet()
	})
}

// TestExtremeIntervals: an expiry interval of 0 is over at once, one of 2^32-1 seconds and a will that waits as long
// are legal, and nothing overflows.
func TestExtremeIntervals(t *testing.T) {
	h := open(t, nil)
	p := h.connect(t, packet.V5, "p", nil)
	for i, seconds := range []uint32{0, math.MaxUint32} {
		topic := fmt.Appendf(nil, "e/%d", seconds)
		m := &packet.Publish{Topic: topic, Payload: []byte("x"), QoS: 1, PacketID: 1, Retain: true}
		m.Props.SetMessageExpiry(seconds)
		p.send(m)
		if ack := want[*packet.Puback](p); ack.Reason.Failed() {
			t.Errorf("%d: PUBACK %s", i, ack.Reason)
		}
	}
	s := h.connect(t, packet.V5, "s", nil)
	s.subscribe(0, "e/#")
	m := s.gets("e/4294967295", "x")
	if left := m.Props.MessageExpiry; left < math.MaxUint32-3600 {
		t.Errorf("it expires in %d s", left)
	}
	s.quiet()
	w := h.connect(t, packet.V5, "w", func(c *packet.Connect) {
		c.Props.SetSessionExpiry(math.MaxUint32)
		c.Will = &packet.Will{Topic: []byte("e/will"), Payload: []byte("gone")}
		c.Will.Props.SetWillDelay(math.MaxUint32)
	})
	w.net.Close()
	eventually(t, "it is away", func() bool { return h.door.Stats().Away == 1 })
	s.quiet()
}

// TestClearWithQoS2: an empty retained message of QoS 2 clears, also what is not there, and one that is larger than a
// packet may be ends the connection and changes nothing.
func TestClearWithQoS2(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, func(o *mqtt.Options) { o.MaxPacketBytes = 4096 })
		c := h.connect(t, v, "", nil)
		for id := range uint16(2) {
			c.send(&packet.Publish{Topic: []byte("r/a"), QoS: 2, PacketID: id + 1, Retain: true})
			want[*packet.Pubrec](c)
			if reason := c.releases(id + 1); reason != packet.Success {
				t.Errorf("PUBCOMP %s", reason)
			}
			if n := h.door.Stats().Retained; n != 0 {
				t.Errorf("%d retained", n)
			}
			if id == 0 {
				c.published("r/a", "x", true)
			}
		}
		c.published("r/a", "kept", true)
		c.send(&packet.Publish{Topic: []byte("r/a"), Payload: make([]byte, 5000), QoS: 1, PacketID: 9, Retain: true})
		if v == packet.V5 {
			if d := want[*packet.Disconnect](c); d.Reason != packet.PacketTooLarge {
				t.Errorf("DISCONNECT %s", d.Reason)
			}
		}
		c.closed()
		if m, err := h.door.RetainedMessage(t.Context(), "r/a"); err != nil || string(m.Payload) != "kept" {
			t.Errorf("%v, %v", m, err)
		}
	})
}

// TestLargeProperties: correlation data of 65,535 bytes and 1,000 user properties reach a subscriber as they are; as
// many of 64 KiB each are too large a packet.
func TestLargeProperties(t *testing.T) {
	h := open(t, nil)
	s, p := h.connect(t, packet.V5, "s", nil), h.connect(t, packet.V5, "p", nil)
	s.subscribe(0, "l")
	data := bytes.Repeat([]byte{7}, 65_535)
	m := &packet.Publish{Topic: []byte("l"), Payload: []byte("x"), QoS: 1, PacketID: 1}
	m.Props.SetCorrelationData(data)
	for i := range 1000 {
		m.Props.AddUser(fmt.Sprint(i), "v")
	}
	p.send(m)
	if ack := want[*packet.Puback](p); ack.Reason.Failed() {
		t.Errorf("PUBACK %s", ack.Reason)
	}
	got := s.gets("l", "x")
	if !bytes.Equal(got.Props.CorrelationData, data) || got.Props.User.Len() != 1000 {
		t.Errorf("%d bytes, %d user properties", len(got.Props.CorrelationData), got.Props.User.Len())
	}
	p.hex("30 80 80 80 20") // 64 MiB
	if d := want[*packet.Disconnect](p); d.Reason != packet.PacketTooLarge {
		t.Errorf("DISCONNECT %s", d.Reason)
	}
	s.quiet()
}

// TestDripBeforeConnect: who sends a CONNECT so slowly that it is not whole in time is ended, however often a byte
// comes.
func TestDripBeforeConnect(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.ConnectTimeout = time.Second; o.CloseTimeout = 100 * time.Millisecond })
	hello := largeConnect("drip", 60_000)
	c := h.dial(t)
	var drip sync.WaitGroup
	defer drip.Wait()
	drip.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := range hello { // 20 minutes
			if _, err := c.net.Write(hello[i : i+1]); err != nil {
				return
			}
			<-tick.C
		}
	})
	if p, err := c.next(patience); err == nil || isTimeout(err) { // it may be a reset: there is more to read
		t.Errorf("got %v, %v, want the end", p, err)
	}
	c.net.Close()
}

// TestWebSocketPings: a client that sends nothing but pings harms nobody, and its packets are answered.
func TestWebSocketPings(t *testing.T) {
	h := open(t, nil)
	web := httptest.NewServer(h.door.WebSocket())
	defer web.Close()
	f, _ := dialFrames(t, web.Listener.Addr().String(), "Sec-WebSocket-Protocol: mqtt\r\n")
	var flood []byte
	for range 5000 {
		flood = frame(flood, frameLast|framePing, []byte("p"))
	}
	hello := (&packet.Connect{Version: packet.V5, CleanStart: true}).AppendTo(nil, packet.V5)
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		flood = frame(flood, frameLast|frameBinary, append(hello, 0xc0, 0))
		if _, err := f.net.Write(flood); err != nil {
			t.Error(err)
		}
	})
	f.answered(map[packet.Type]int{packet.CONNACK: 1, packet.PINGRESP: 1})
	if f.pongs != 5000 {
		t.Errorf("%d pongs", f.pongs)
	}
}

// isTimeout tells whether nothing came in time.
func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
