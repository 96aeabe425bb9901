package session_test

import (
	"testing"

	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// TestWillKeepsNoPacket: a will is of memory of its own: it may stay when the CONNECT is over, with the password and
// what else was in it.
func TestWillKeepsNoPacket(t *testing.T) {
	c := &packet.Connect{Version: packet.V5, ClientID: []byte("c"), Password: []byte("secret"),
		Will: &packet.Will{Topic: []byte("topic"), Payload: []byte("payload"), QoS: 1}}
	w := &c.Will.Props
	w.SetContentType([]byte("type"))
	w.SetResponseTopic([]byte("response"))
	w.SetCorrelationData([]byte("data"))
	w.AddUser("name", "value")
	frame := c.AppendTo(nil, packet.V5)
	var dec packet.Decoder
	p, err := dec.Decode(frame)
	if err != nil {
		t.Fatal(err)
	}
	s := session.New(session.Open(p.(*packet.Connect), &session.Limits{MaxInflight: 1}, ""))
	want := session.WillRecord{Will: s.Will().Message}
	before := string(want.AppendTo(nil))
	clear(frame)
	got := session.WillRecord{Will: s.Will().Message}
	if string(got.AppendTo(nil)) != before {
		t.Errorf("the will is in the packet: now %+v", s.Will().Message)
	}
}
