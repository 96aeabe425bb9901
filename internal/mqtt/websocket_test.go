package mqtt_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Frames of RFC 6455, section 5.2.
const (
	frameContinues = 0x0
	frameText      = 0x1
	frameBinary    = 0x2
	framePing      = 0x9
	framePong      = 0xa
	frameLast      = 0x80 // FIN
)

// frames is a client that makes its WebSocket frames itself.
type frames struct {
	t   *testing.T
	net net.Conn
	r   *bufio.Reader
	// what came in binary frames, and how many pongs
	got   []byte
	pongs int
}

// dialFrames opens a WebSocket with a sub-protocol, and tells which one the server took.
func dialFrames(t *testing.T, address, offers string) (f *frames, takes string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /mqtt HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", address, offers)
	f = &frames{t: t, net: c, r: bufio.NewReader(c)}
	answer, err := http.ReadResponse(f.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %s", answer.Status)
	}
	return f, answer.Header.Get("Sec-WebSocket-Protocol")
}

// frame appends a frame, masked as those of clients are.
func frame(b []byte, kind byte, payload []byte) []byte {
	b = append(b, kind)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	default:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func (f *frames) send(b []byte) {
	f.t.Helper()
	if _, err := f.net.Write(b); err != nil {
		f.t.Fatal(err)
	}
}

// next reads a frame. It gives io.EOF for a close.
func (f *frames) next() error {
	head := make([]byte, 2)
	if _, err := io.ReadFull(f.r, head); err != nil {
		return err
	}
	n := int(head[1])
	if n == 126 {
		var size [2]byte
		if _, err := io.ReadFull(f.r, size[:]); err != nil {
			return err
		}
		n = int(binary.BigEndian.Uint16(size[:]))
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(f.r, payload); err != nil {
		return err
	}
	switch head[0] & 0xf {
	case frameBinary, frameContinues:
		f.got = append(f.got, payload...)
	case framePong:
		f.pongs++
	default:
		return io.EOF
	}
	return nil
}

// conversation is packets of a client, and what they are answered with: how many packets of each type.
func conversation(v packet.Version) (all []byte, answers map[packet.Type]int) {
	for _, p := range []packet.Packet{
		&packet.Connect{Version: v, CleanStart: true},
		&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("w/#")}}},
		&packet.Publish{Topic: []byte("w/1"), QoS: 1, PacketID: 2, Payload: []byte("x")},
		&packet.Pingreq{},
	} {
		all = p.AppendTo(all, v)
	}
	return all, map[packet.Type]int{packet.CONNACK: 1, packet.SUBACK: 1, packet.PUBACK: 1, packet.PUBLISH: 1,
		packet.PINGRESP: 1}
}

// answered reads until everything is answered.
func (f *frames) answered(want map[packet.Type]int) {
	f.t.Helper()
	total := 0
	for _, n := range want {
		total += n
	}
	for got := (map[packet.Type]int{}); total > 0; {
		n, err := packet.Frame(f.got, packet.MaxSize)
		if err != nil {
			f.t.Fatal(err)
		}
		if n == 0 {
			if err := f.next(); err != nil {
				f.t.Fatalf("%v after %v", err, got)
			}
			continue
		}
		got[packet.Type(f.got[0]>>4)]++
		total--
		if total == 0 && fmt.Sprint(got) != fmt.Sprint(want) {
			f.t.Errorf("got %v", got)
		}
		f.got = f.got[n:]
	}
}

// TestWebSocketSplits cuts the packets of a conversation into messages and frames at every byte, with control frames
// between the parts [MQTT-6.0.0-2] [MQTT-6.0.0-2 of 3.1.1].
func TestWebSocketSplits(t *testing.T) { both(t, webSocketSplits) }

func webSocketSplits(t *testing.T, v packet.Version) {
	h := open(t, nil)
	web := httptest.NewServer(h.door.WebSocket())
	defer web.Close()
	at := web.Listener.Addr().String()
	const offers = "Sec-WebSocket-Protocol: mqtt\r\n"
	all, answers := conversation(v)
	ping := frame(nil, frameLast|framePing, []byte("still there?"))
	play := func(name string, pongs int, b []byte) {
		t.Helper()
		f, takes := dialFrames(t, at, offers)
		if takes != "mqtt" {
			t.Fatalf("sub-protocol %q", takes)
		}
		f.send(b)
		f.answered(answers)
		for f.pongs < pongs {
			if err := f.next(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		f.net.Close()
	}
	play("several packets in one message", 0, frame(nil, frameLast|frameBinary, all))
	var single []byte
	for i := range all {
		single = frame(single, frameLast|frameBinary, all[i:i+1])
	}
	play("a message for each byte", 0, single)
	fragments := frame(nil, frameBinary, nil)
	for i := range all {
		fragments = append(frame(fragments, frameContinues, all[i:i+1]), ping...)
	}
	play("a frame for each byte, and a ping", len(all), frame(fragments, frameLast|frameContinues, nil))
	for cut := range all {
		name := fmt.Sprintf("cut at %d", cut)
		messages := append(frame(nil, frameLast|frameBinary, all[:cut]), ping...)
		play(name+" into messages", 1, frame(messages, frameLast|frameBinary, all[cut:]))
		one := append(frame(nil, frameBinary, all[:cut]), ping...)
		play(name+" into frames", 1, frame(one, frameLast|frameContinues, all[cut:]))
	}
}

// TestLargeWebSocketMessage: a message may be larger than any packet: its packets are taken one by one.
func TestLargeWebSocketMessage(t *testing.T) {
	h := open(t, nil)
	web := httptest.NewServer(h.door.WebSocket())
	defer web.Close()
	f, _ := dialFrames(t, web.Listener.Addr().String(), "Sec-WebSocket-Protocol: mqtt\r\n")
	hello := (&packet.Connect{Version: packet.V5, CleanStart: true}).AppendTo(nil, packet.V5)
	f.send(frame(nil, frameBinary, hello))
	publish := packet.Publish{Topic: []byte("w/1"), Payload: make([]byte, 60_000)}
	for range 100 {
		f.send(frame(nil, frameContinues, publish.AppendTo(nil, packet.V5)))
	}
	f.send(frame(nil, frameLast|frameContinues, (&packet.Pingreq{}).AppendTo(nil, packet.V5)))
	f.answered(map[packet.Type]int{packet.CONNACK: 1, packet.PINGRESP: 1})
}

// TestWebSocketRefuses: text frames [MQTT-6.0.0-1] [MQTT-6.0.0-1 of 3.1.1], no sub-protocol of ours [MQTT-6.0.0-3],
// frames that are none. The sub-protocol that is chosen is mqtt where it is offered [MQTT-6.0.0-4]
// [MQTT-6.0.0-4 of 3.1.1].
func TestWebSocketRefuses(t *testing.T) { both(t, webSocketRefuses) }

func webSocketRefuses(t *testing.T, v packet.Version) {
	h := open(t, nil)
	web := httptest.NewServer(h.door.WebSocket())
	defer web.Close()
	at := web.Listener.Addr().String()
	all, answers := conversation(v)
	binaryFrame := frame(nil, frameLast|frameBinary, all)
	const mqtt = "Sec-WebSocket-Protocol: mqtt\r\n"
	for name, c := range map[string]struct {
		offers, takes string
		send          []byte
		served        bool
	}{
		"mqtt":              {"Sec-WebSocket-Protocol: mqtt\r\n", "mqtt", binaryFrame, true},
		"mqttv3.1":          {"Sec-WebSocket-Protocol: mqttv3.1\r\n", "mqttv3.1", binaryFrame, true},
		"both":              {"Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n", "mqtt", binaryFrame, true},
		"one of others":     {"Sec-WebSocket-Protocol: chat, mqtt\r\n", "mqtt", binaryFrame, true},
		"none":              {"", "", binaryFrame, false},
		"another":           {"Sec-WebSocket-Protocol: chat\r\n", "", binaryFrame, false},
		"text":              {mqtt, "mqtt", frame(nil, frameLast|frameText, all), false},
		"text in frames":    {mqtt, "mqtt", frame(nil, frameText, all), false},
		"lone continuation": {mqtt, "mqtt", frame(nil, frameLast|frameContinues, all), false},
		"two beginnings": {mqtt, "mqtt",
			frame(frame(nil, frameBinary, nil), frameLast|frameBinary, all), false},
		"no mask":     {mqtt, "mqtt", append([]byte{0x82, byte(len(all))}, all...), false},
		"cut ping":    {mqtt, "mqtt", frame(nil, framePing, nil), false},
		"large ping":  {mqtt, "mqtt", frame(nil, frameLast|framePing, make([]byte, 126)), false},
		"unknown":     {mqtt, "mqtt", frame(nil, frameLast|0x3, all), false},
		"compressed":  {mqtt, "mqtt", frame(nil, 0x40|frameLast|frameBinary, all), false},
		"endless one": {mqtt, "mqtt", []byte(strings.Repeat("\xff", 64)), false},
	} {
		t.Run(name, func(t *testing.T) {
			f, takes := dialFrames(t, at, c.offers)
			if takes != c.takes {
				t.Errorf("took %q, want %q", takes, c.takes)
			}
			f.send(c.send)
			if c.served {
				f.answered(answers)
				return
			}
			for f.next() == nil {
			}
			if len(f.got) > 0 {
				t.Errorf("was answered with %x", f.got)
			}
		})
	}
}
