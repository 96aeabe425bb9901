package packet

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
)

func publish(qos byte, payload int) *Publish {
	return &Publish{Topic: []byte("sensors/room1/temperature"), Payload: make([]byte, payload), QoS: qos, PacketID: 7}
}

// hot are the packets of steady work: none of them may allocate.
func hot() map[string]struct {
	version Version
	frame   []byte
} {
	type one = struct {
		version Version
		frame   []byte
	}
	rich := publish(1, 100)
	rich.Props.SetContentType([]byte("application/json"))
	rich.Props.SetMessageExpiry(60)
	rich.Props.AddUser("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	alias := publish(0, 100)
	alias.Topic = nil
	alias.Props.SetTopicAlias(3)
	sub := Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: []byte("a/+")}, {Filter: []byte("b/#"), QoS: 1}}}
	return map[string]one{
		"publish-qos0-311":     {V311, publish(0, 100).AppendTo(nil, V311)},
		"publish-qos1-311":     {V311, publish(1, 100).AppendTo(nil, V311)},
		"publish-qos1-5":       {V5, publish(1, 100).AppendTo(nil, V5)},
		"publish-alias-5":      {V5, alias.AppendTo(nil, V5)},
		"publish-properties-5": {V5, rich.AppendTo(nil, V5)},
		"puback-311":           {V311, AppendPuback(nil, V311, 7, Success)},
		"puback-5":             {V5, AppendPuback(nil, V5, 7, NoMatchingSubscribers)},
		"pubrel-5":             {V5, AppendPubrel(nil, V5, 7, Success)},
		"pingreq":              {V311, []byte{0xc0, 0}},
		"subscribe-5":          {V5, sub.AppendTo(nil, V5)},
	}
}

func TestDecodeAllocs(t *testing.T) {
	for name, h := range hot() {
		d := Decoder{Version: h.version}
		if n := alloctest.PerRun(100, 0, func() {
			if n, err := Frame(h.frame, MaxSize); n != len(h.frame) || err != nil {
				t.Fatal(n, err)
			}
			if _, err := d.Decode(h.frame); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations in Decode", name, n)
		}
	}
}

func TestEncodeAllocs(t *testing.T) {
	for name, h := range hot() {
		d := Decoder{Version: h.version}
		p, err := d.Decode(h.frame)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 0, 1024)
		if n := alloctest.PerRun(100, 0, func() { dst = p.AppendTo(dst[:0], h.version) }); n != 0 {
			t.Errorf("%s: %v allocations in AppendTo", name, n)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, h := range hot() {
		b.Run(name, func(b *testing.B) {
			d := Decoder{Version: h.version}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(h.frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendTo(b *testing.B) {
	for name, h := range hot() {
		b.Run(name, func(b *testing.B) {
			d := Decoder{Version: h.version}
			p, err := d.Decode(h.frame)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst = p.AppendTo(dst[:0], h.version)
			}
		})
	}
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestBounded decodes packets that are made to cost memory: it is bounded by their size, and what a
// decoder keeps for the next packet by a small number.
func TestBounded(t *testing.T) {
	many := Subscribe{PacketID: 1}
	unsub := Unsubscribe{PacketID: 1}
	for i := range 10_000 {
		many.Subscriptions = append(many.Subscriptions, Subscription{Filter: fmt.Appendf(nil, "a/%d", i)})
		unsub.Filters = append(unsub.Filters, fmt.Appendf(nil, "a/%d", i))
	}
	users := publish(0, 0)
	for range 1000 {
		users.Props.AddUser("name", strings.Repeat("v", 65_535))
	}
	scattered := []byte{0, 1, 'a'}
	props := make([]byte, 0, 1<<20)
	for range 50_000 {
		props = append(props, 0x26, 0, 0, 0, 0)
	}
	props = append(append(props, 1, 1), props...)
	scattered = append(appendVarint(scattered, len(props)), props...)
	for name, frame := range map[string][]byte{
		"10,000 filters":                       many.AppendTo(nil, V5),
		"10,000 filters to unsubscribe":        unsub.AppendTo(nil, V5),
		"1,000 user properties of 64 KiB":      users.AppendTo(nil, V5),
		"100,000 scattered user properties":    append(appendHeader(nil, 0x30, len(scattered)), scattered...),
		"a long topic of slashes":              (&Publish{Topic: []byte(strings.Repeat("/", 65_535))}).AppendTo(nil, V5),
		"a filter list whose lengths are lies": {0x82, 9, 0, 1, 0, 0xff, 0xff, 'a', 0, 0, 0},
	} {
		d := Decoder{Version: V5}
		got := allocated(func() {
			if _, err := d.Decode(frame); err != nil && len(frame) > 100 {
				t.Errorf("%s: %v", name, err)
			}
		})
		if most := uint64(16*len(frame)) + 8192; got > most {
			t.Errorf("%s: a packet of %d bytes allocates %d", name, len(frame), got)
		}
		small := (&Subscribe{PacketID: 1, Subscriptions: many.Subscriptions[:1]}).AppendTo(nil, V5)
		for _, f := range [][]byte{small, publish(0, 1).AppendTo(nil, V5)} {
			if _, err := d.Decode(f); err != nil {
				t.Fatal(err)
			}
		}
		if cap(d.users) > 4096 || d.subscribe != nil && cap(d.subscribe.Subscriptions) > keep {
			t.Errorf("%s: the decoder keeps %d bytes, %d filters", name, cap(d.users), cap(d.subscribe.Subscriptions))
		}
	}
}
