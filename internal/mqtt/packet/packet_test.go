package packet

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestFrame(t *testing.T) {
	big := append([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, 'x')
	for _, tt := range []struct {
		name   string
		buf    []byte
		max    int
		want   int
		reason ReasonCode
	}{
		{"empty", nil, 100, 0, 0},
		{"type only", []byte{0xc0}, 100, 0, 0},
		{"pingreq", []byte{0xc0, 0}, 100, 2, 0},
		{"pingreq and more", []byte{0xc0, 0, 0xc0}, 100, 2, 0},
		{"body missing", []byte{0x30, 5, 0, 1}, 100, 0, 0},
		{"length cut", []byte{0x30, 0x80, 0x80}, 100, 0, 0},
		{"length cut after three", []byte{0x30, 0xff, 0xff, 0xff}, 100, 0, 0},
		{"five bytes of length", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 1}, 1 << 30, 0, Malformed},
		{"bad before the fifth byte comes", []byte{0x30, 0x80, 0x80, 0x80, 0x80}, 1 << 30, 0, Malformed},
		{"length not minimal", []byte{0x30, 0x80, 0}, 100, 0, Malformed},
		{"length 0 in two bytes", []byte{0xc0, 0x80, 0x00}, 100, 0, Malformed},
		{"type 0", []byte{0}, 100, 0, Malformed},
		{"QoS 3 at the first byte", []byte{0x36}, 100, 0, Malformed},
		{"at the limit", append([]byte{0x30, 98}, make([]byte, 98)...), 100, 100, 0},
		{"above the limit", []byte{0x30, 99}, 100, 0, PacketTooLarge},
		{"largest length with one byte sent", big, 1 << 20, 0, PacketTooLarge},
		{"largest length within a huge limit", big, MaxSize, 0, 0},
	} {
		n, err := Frame(tt.buf, tt.max)
		if n != tt.want || tt.reason == 0 && err != nil || tt.reason != 0 && ReasonOf(err) != tt.reason {
			t.Errorf("%s: %d, %v; want %d, %v", tt.name, n, err, tt.want, tt.reason)
		}
	}
	if n, err := Length(big, MaxSize); n != MaxSize || err != nil {
		t.Errorf("Length of the largest packet: %d, %v", n, err)
	}
}

func TestFirstBytes(t *testing.T) {
	allowed := map[byte]bool{
		0x10: true, 0x20: true, 0x40: true, 0x50: true, 0x62: true, 0x70: true, 0x82: true, 0x90: true, 0xa2: true,
		0xb0: true, 0xc0: true, 0xd0: true, 0xe0: true, 0xf0: true,
		0x30: true, 0x31: true, 0x32: true, 0x33: true, 0x34: true, 0x35: true, // QoS 0 to 2
		0x3a: true, 0x3b: true, 0x3c: true, 0x3d: true, // and DUP
	}
	for b := range 256 {
		_, err := Frame([]byte{byte(b)}, 100)
		if ok := err == nil; ok != allowed[byte(b)] {
			t.Errorf("first byte 0x%02x: %v", b, err)
		}
		if err != nil && ReasonOf(err) != Malformed {
			t.Errorf("first byte 0x%02x: %v, not malformed", b, err)
		}
	}
}

func TestErrorKind(t *testing.T) {
	_, err := Frame([]byte{0x30, 99}, 10)
	if !fault.Is(err, fault.TooLarge) {
		t.Errorf("kind of %v is %v", err, fault.KindOf(err))
	}
	_, err = Frame([]byte{0}, 10)
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("kind of %v is %v", err, fault.KindOf(err))
	}
	if got := ReasonOf(errors.New("x")); got != UnspecifiedError {
		t.Errorf("reason of a foreign error is %v", got)
	}
}

func TestNames(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"CONNECT": CONNECT, "UNSUBSCRIBE": UNSUBSCRIBE, "AUTH": AUTH, "type 16": Type(16),
		"3.1": V31, "3.1.1": V311, "5.0": V5, "level 6": Version(6),
		"packet too large": PacketTooLarge, "reason code 0x03": ReasonCode(3),
		"topic alias": PropTopicAlias, "property 0x04": Property(4),
	} {
		if got.String() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPublishPath(t *testing.T) {
	d := Decoder{Version: V5}
	p := Publish{Topic: []byte("sensors/room1/temp"), Payload: []byte("21.5"), QoS: 1, PacketID: 7, Retain: true}
	p.Props.SetContentType([]byte("text/plain"))
	p.Props.AddUser("a", "1")
	p.Props.AddUser("a", "2")
	b := p.AppendTo(nil, V5)
	if len(b) != p.Size(V5) {
		t.Fatalf("Size %d, %d bytes", p.Size(V5), len(b))
	}
	got, err := d.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	q := got.(*Publish)
	const want = `PUBLISH id=7 topic="sensors/room1/temp" payload="21.5" qos=1 retain content type="text/plain"` +
		` user property="a"="1" user property="a"="2"`
	if describe(q) != want || q.Props.User.Len() != 2 {
		t.Fatal(describe(q))
	}
	if again := q.AppendTo(nil, V5); !bytes.Equal(again, b) {
		t.Fatalf("%x\n%x", again, b)
	}
}

// TestBareAck: it takes what Decode takes, and nothing else.
func TestBareAck(t *testing.T) {
	for first := range 256 {
		for _, rest := range [][]byte{{}, {2}, {2, 0}, {2, 0, 0}, {2, 0, 1}, {2, 0xff, 0xfe, 9}, {3, 1, 2, 0}, {0x82, 0, 1}} {
			buf := append([]byte{byte(first)}, rest...)
			kind, id, ok := BareAck(buf)
			frame := buf[:min(len(buf), BareAckBytes)]
			var want uint16
			p, err := (&Decoder{Version: V5}).Decode(frame)
			switch p := p.(type) {
			case *Puback:
				want = p.PacketID
			case *Pubrec:
				want = p.PacketID
			case *Pubcomp:
				want = p.PacketID
			}
			if err != nil {
				want = 0
			}
			if ok != (want != 0) || ok && (id != want || kind != p.Type()) {
				t.Errorf("% x: %v %d %v, but it is %v, %v", buf, kind, id, ok, p, err)
			}
		}
	}
}
