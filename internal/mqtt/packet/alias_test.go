package packet

import (
	"bytes"
	"testing"
)

// TestAliasFrames takes PUBLISH packets of all lengths at which a number grows a byte through both forms of an alias:
// they decode to the same message.
func TestAliasFrames(t *testing.T) {
	for _, props := range []int{0, 1, 100, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 130, 16370, 16380} {
		for _, payload := range []int{0, 1, 90, 100, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 16300} {
			for qos := range byte(3) {
				p := &Publish{Topic: []byte("a/topic"), Payload: bytes.Repeat([]byte("x"), payload), QoS: qos, Retain: true}
				if qos > 0 {
					p.PacketID = 0x1234
				}
				if props > 0 {
					p.Props.AddSubscriptionID(1)
					p.Props.SetCorrelationData(bytes.Repeat([]byte("c"), props-1))
				}
				aliasFrame(t, p)
			}
		}
	}
}

func aliasFrame(t *testing.T, p *Publish) {
	t.Helper()
	frame := p.AppendTo(nil, V5)
	set, id := WithAlias([]byte("before"), frame, 0x0102)
	set = set[len("before"):]
	if p.QoS > 0 && (set[id] != 0x12 || set[id+1] != 0x34) || p.QoS == 0 && id != 0 {
		t.Fatalf("the packet id lies at %d of % x", id, set)
	}
	p.Props.SetTopicAlias(0x0102)
	dec := Decoder{Version: V5, Client: true}
	if got, err := dec.Decode(set); err != nil || describe(got) != describe(p) {
		t.Fatalf("with the alias set: %v, %.100s", err, describe(got))
	}
	p.Topic = nil
	replaced := frame[:ReplaceTopic(frame, 0x0102)]
	if got, err := dec.Decode(replaced); err != nil || describe(got) != describe(p) {
		t.Fatalf("with the alias in place of the topic: %v, %.100s", err, describe(got))
	}
	if len(replaced) >= len(set) {
		t.Fatalf("%d bytes with an alias, %d with the topic", len(replaced), len(set))
	}
}
