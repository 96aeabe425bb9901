package session

import "testing"

// BenchmarkOutbound sends a window of messages and takes their acknowledgements, again and again.
func BenchmarkOutbound(b *testing.B) {
	o := Outbound{window: 2000}
	for b.Loop() {
		var first uint16
		for i := range 2000 {
			id, ok := o.Send(Place{Offset: int64(i)})
			if !ok {
				b.Fatal("full")
			}
			if i == 0 {
				first = id
			}
		}
		for id := first; o.InFlight() > 0; id++ {
			if id == 0 {
				id = 1
			}
			o.Ack(id)
		}
	}
}

// TestOutboundGivesItsMemoryBack: a session that nothing is in flight to holds little, and one that is less busy than
// it was comes to hold less.
func TestOutboundGivesItsMemoryBack(t *testing.T) {
	o := Outbound{window: 5000}
	flight := func(n int) (ring int) {
		var ids []uint16
		for i := range n {
			id, ok := o.Send(Place{Offset: int64(i)})
			if !ok {
				t.Fatal("full")
			}
			ids = append(ids, id)
		}
		ring = len(o.ring)
		for _, id := range ids {
			if _, ok := o.Ack(id); !ok {
				t.Fatalf("%d is not in flight", id)
			}
		}
		if len(o.ring) > keptRing {
			t.Fatalf("%d places with nothing in flight", len(o.ring))
		}
		return ring
	}
	if n := flight(5000); n != 8192 {
		t.Fatalf("%d places for 5000 messages", n)
	}
	for want := 4096; want >= keptRing; want /= 2 {
		if n := flight(1); n != want {
			t.Fatalf("%d places for one message, want %d", n, want)
		}
	}
}
