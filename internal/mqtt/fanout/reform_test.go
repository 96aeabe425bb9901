package fanout

import (
	"fmt"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestReform: a message that is put into another form is what it would be if it had been made in that form.
func TestReform(t *testing.T) {
	for _, size := range []int{0, 10, 110, 130, 20_000} {
		var m Message
		m.pub = packet.Publish{Topic: []byte("a/b"), Payload: []byte(strings.Repeat("x", size)), QoS: 2, Retain: true}
		for _, rich := range []bool{false, true} {
			if rich {
				m.pub.Props.SetContentType([]byte("text"))
				m.pub.Props.AddUser("k", strings.Repeat("v", 120))
			}
			for qos := range byte(3) {
				var whole Delivery
				m.Deliver(&whole, Form{Version: packet.V5, QoS: qos, Retain: true}, nil)
				reformAll(t, &m, &whole)
			}
		}
	}
}

func reformAll(t *testing.T, m *Message, whole *Delivery) {
	t.Helper()
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		for _, ids := range [][]uint32{nil, {7}, {1, 300, 70_000}} {
			for qos := range whole.QoS + 1 {
				f := Form{Version: v, QoS: qos, Retain: qos == 1, IDs: ids}
				var got, want Delivery
				whole.Reform(&got, f, []byte("before"))
				m.Deliver(&want, f, nil)
				if a, b := shown(t, v, &got), shown(t, v, &want); a != b || got.ID != want.ID ||
					string(got.Topic) != string(want.Topic) || got.QoS != want.QoS || got.Retain() != f.Retain {
					t.Fatalf("%+v:\n got %s, id at %d\nwant %s, id at %d", f, a, got.ID, b, want.ID)
				}
			}
		}
	}
}

// shown is a frame as its client decodes it, with packet id 1.
func shown(t *testing.T, v packet.Version, d *Delivery) string {
	t.Helper()
	frame := append([]byte(nil), d.Frame...)
	if d.ID > 0 {
		frame[d.ID+1] = 1
	}
	dec := packet.Decoder{Version: v, Client: true}
	p, err := dec.Decode(frame)
	if err != nil {
		t.Fatalf("%v: %x", err, d.Frame)
	}
	return fmt.Sprintf("%d %+v", len(frame), p)
}

// TestSetBytes: a delivery whose frame has come from another node is what it was there; what is no PUBLISH is refused.
func TestSetBytes(t *testing.T) {
	var m Message
	m.pub = packet.Publish{Topic: []byte("a/b"), Payload: []byte(strings.Repeat("x", 200)), QoS: 2}
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		for qos := range byte(3) {
			var want, got Delivery
			m.Deliver(&want, Form{Version: v, QoS: qos, IDs: []uint32{7}}, nil)
			if err := got.SetBytes(want.Frame, want.Payload); err != nil || shown(t, v, &got) != shown(t, v, &want) ||
				got.ID != want.ID || string(got.Topic) != "a/b" || got.QoS != qos || got.Payload != 200 {
				t.Errorf("%v: got %+v, %v", v, got, err)
			}
			for cut := range want.Frame {
				if err := got.SetBytes(want.Frame[:cut], 0); !fault.Is(err, fault.Corrupt) {
					t.Errorf("the first %d bytes gave %v", cut, err)
				}
			}
			if err := got.SetBytes(want.Frame, len(want.Frame)); !fault.Is(err, fault.Corrupt) {
				t.Errorf("more payload than bytes gave %v", err)
			}
		}
	}
}

func FuzzSetBytes(f *testing.F) {
	f.Add([]byte("\x30\x04\x00\x01tx"), 1)
	f.Add([]byte("\x32\x06\x00\x01t\x00\x00x"), 1)
	f.Add([]byte("\x30\x01\x00"), 0)
	f.Fuzz(func(t *testing.T, b []byte, payload int) {
		var d Delivery
		if err := d.SetBytes(b, payload); err == nil && (len(d.Topic) > len(b) || d.ID >= len(b) || d.Payload > len(b)) {
			t.Errorf("%+v of %d bytes", d, len(b))
		}
	})
}
