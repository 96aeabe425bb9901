package packet

import (
	"bytes"
	"testing"
)

// judge decodes a frame with a fresh decoder and with a used one and holds the result to what is true
// of every packet: both say the same, the frame is left alone, and what was decoded can be encoded
// and decoded again.
func judge(t *testing.T, frame []byte, version Version, client bool) {
	t.Helper()
	before := bytes.Clone(frame)
	fresh := Decoder{Version: version, Client: client}
	p, err := fresh.Decode(frame)
	got := describe(p)
	if !bytes.Equal(frame, before) {
		t.Fatalf("Decode changed %x to %x", before, frame)
	}
	used := usedDecoder(t, version, client)
	q, errUsed := used.Decode(frame)
	if describe(q) != got || (errUsed == nil) != (err == nil) {
		t.Fatalf("%x: a used decoder says %s, %v; a fresh one %s, %v", frame, describe(q), errUsed, got, err)
	}
	if err != nil {
		if r := ReasonOf(err); !r.Failed() || reasonEntry(r) == nil || p != nil {
			t.Fatalf("%x: error %v with reason %v and packet %v", frame, err, r, p)
		}
		return
	}
	v := fresh.Version
	b := p.AppendTo(nil, v)
	if len(b) != p.Size(v) {
		t.Fatalf("%x: Size says %d of %d bytes", frame, p.Size(v), len(b))
	}
	if n, err := Frame(append(b, 0xc0), MaxSize); n != len(b) || err != nil {
		t.Fatalf("%x: encoded to %x: Frame says %d, %v", frame, b, n, err)
	}
	if v == V31 && p.Type() == CONNACK {
		return // it cannot say that a session is present
	}
	again := Decoder{Version: version, Client: client}
	p, err = again.Decode(b)
	if err != nil || describe(p) != got {
		t.Fatalf("%x: %s; encoded to %x: %s, %v", frame, got, b, describe(p), err)
	}
}

// usedDecoder is a decoder that has seen full packets of every kind that it keeps memory for.
func usedDecoder(t *testing.T, version Version, client bool) *Decoder {
	t.Helper()
	d := &Decoder{Version: V5}
	var rich Properties
	rich.SetContentType([]byte("stale"))
	rich.SetTopicAlias(77)
	rich.AddUser("stale", "stale")
	why := Properties{}
	why.SetReasonString([]byte("stale"))
	for _, p := range []Packet{
		&Publish{Topic: []byte("stale"), Payload: []byte("stale"), QoS: 2, PacketID: 7, Retain: true, Dup: true, Props: rich},
		&Puback{PacketID: 77, Reason: QuotaExceeded, Props: why},
		&Subscribe{PacketID: 77, Subscriptions: []Subscription{{Filter: []byte("stale"), QoS: 2, NoLocal: true}}},
		&Disconnect{Reason: DisconnectWithWill, Props: why},
	} {
		if _, err := d.Decode(p.AppendTo(nil, V5)); err != nil {
			t.Fatal(err)
		}
	}
	d.Client = true
	suback := Suback{PacketID: 77, Reasons: []ReasonCode{2, 2, 2}, Props: why}
	if _, err := d.Decode(suback.AppendTo(nil, V5)); err != nil {
		t.Fatal(err)
	}
	d.Version, d.Client = version, client
	return d
}

// fuzzType fuzzes the body of one type of packet, in all versions and from both sides.
func fuzzType(f *testing.F, t Type) {
	f.Helper()
	for _, v := range vectors(f) {
		if len(v.bytes) > 0 && Type(v.bytes[0]>>4) == t {
			if _, width, state := varint(v.bytes[1:]); state == varintOK {
				f.Add(v.bytes[0], uint8(v.version), v.client, v.bytes[1+width:])
			}
		}
	}
	f.Fuzz(func(tt *testing.T, flags, version uint8, client bool, body []byte) {
		switch v := Version(version); v {
		case 0, V31, V311, V5:
			if len(body) > maxRemaining {
				return
			}
			frame := appendHeader(nil, byte(t)<<4|flags&0x0f, len(body))
			judge(tt, append(frame, body...), v, client)
		}
	})
}

func FuzzConnect(f *testing.F)     { fuzzType(f, CONNECT) }
func FuzzConnack(f *testing.F)     { fuzzType(f, CONNACK) }
func FuzzPublish(f *testing.F)     { fuzzType(f, PUBLISH) }
func FuzzPuback(f *testing.F)      { fuzzType(f, PUBACK) }
func FuzzPubrec(f *testing.F)      { fuzzType(f, PUBREC) }
func FuzzPubrel(f *testing.F)      { fuzzType(f, PUBREL) }
func FuzzPubcomp(f *testing.F)     { fuzzType(f, PUBCOMP) }
func FuzzSubscribe(f *testing.F)   { fuzzType(f, SUBSCRIBE) }
func FuzzSuback(f *testing.F)      { fuzzType(f, SUBACK) }
func FuzzUnsubscribe(f *testing.F) { fuzzType(f, UNSUBSCRIBE) }
func FuzzUnsuback(f *testing.F)    { fuzzType(f, UNSUBACK) }
func FuzzPingreq(f *testing.F)     { fuzzType(f, PINGREQ) }
func FuzzPingresp(f *testing.F)    { fuzzType(f, PINGRESP) }
func FuzzDisconnect(f *testing.F)  { fuzzType(f, DISCONNECT) }
func FuzzAuth(f *testing.F)        { fuzzType(f, AUTH) }

// FuzzStream reads a stream of bytes as a connection does: Frame, Decode, until one refuses.
func FuzzStream(f *testing.F) {
	var all []byte
	for _, v := range vectors(f) {
		f.Add(v.bytes, uint8(v.version), v.client)
		if v.version == V5 && !v.client && v.want[0] != '!' {
			all = append(all, v.bytes...)
		}
	}
	f.Add(all, uint8(V5), false)
	f.Fuzz(func(t *testing.T, stream []byte, version uint8, client bool) {
		if v := Version(version); v != 0 && v != V31 && v != V311 && v != V5 {
			return
		}
		const limit = 1 << 16
		d := Decoder{Version: Version(version), Client: client}
		for {
			n, err := Frame(stream, limit)
			need, errNeed := Length(stream, limit)
			if n > len(stream) || n > limit || n < 0 || n != 0 && n != need || (err == nil) != (errNeed == nil) {
				t.Fatalf("Frame says %d, %v; Length %d, %v; of %d bytes", n, err, need, errNeed, len(stream))
			}
			if n == 0 {
				return
			}
			was := d.Version
			judge(t, stream[:n:n], was, client)
			if _, err := d.Decode(stream[:n:n]); err != nil {
				return
			}
			stream = stream[n:]
		}
	})
}
