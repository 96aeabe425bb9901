package session

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestFiltersAgainstModel subscribes and unsubscribes at random beside a map, with few filters and with many.
func TestFiltersAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var f filters
	model := map[string]*Subscription{}
	indexed := 0
	for step := range 200_000 {
		filter := fmt.Sprintf("f/%d", rng.IntN(40))
		if rng.IntN(100) < 20+step/1000%60 {
			sub := &Subscription{Filter: filter}
			if old := f.put(sub); old != model[filter] {
				t.Fatalf("step %d: %v replaces %v, want %v", step, sub, old, model[filter])
			}
			model[filter] = sub
		} else {
			if sub := f.remove(filter); sub != model[filter] {
				t.Fatalf("step %d: removed %v, want %v", step, sub, model[filter])
			}
			delete(model, filter)
		}
		if n := len(f.list); n != len(model) || f.index != nil && (len(f.index) != n || n < indexTo) ||
			f.index == nil && n > indexFrom {
			t.Fatalf("step %d: %d filters, %d in the index, want %d", step, n, len(f.index), len(model))
		}
		if f.index != nil {
			indexed++
		}
		other := fmt.Sprintf("f/%d", rng.IntN(40))
		if at := f.find(other); at < 0 && model[other] != nil || at >= 0 && f.list[at] != model[other] {
			t.Fatalf("step %d: %s is in place %d", step, other, at)
		}
	}
	if indexed == 0 || indexed == 200_000 {
		t.Errorf("an index in %d steps", indexed)
	}
}

// TestAll: all subscriptions come once, and what is stored of each makes it again.
func TestAll(t *testing.T) {
	s := New(Open(&packet.Connect{Version: packet.V5, ClientID: []byte("a")}, &Limits{MaxSubscriptions: 100}, ""))
	for i := range 40 {
		s.Resubscribe(&Subscription{
			Filter: fmt.Sprint(i), ID: uint32(i), QoS: byte(i % 2), NoLocal: i%3 == 0, RetainAsPublished: i%5 == 0,
			RetainHandling: byte(i % 3), Since: uint64(i),
		})
	}
	seen := map[string]bool{}
	for sub := range s.All {
		record := sub.Record()
		if again := record.Subscription(sub.Filter); *again != *sub || seen[sub.Filter] {
			t.Errorf("%+v makes %+v, seen %v", sub, again, seen[sub.Filter])
		}
		seen[sub.Filter] = true
	}
	if len(seen) != 40 || s.Subscriptions() != 40 {
		t.Errorf("%d of %d subscriptions", len(seen), s.Subscriptions())
	}
	held := s.Held()
	if s.Resubscribe(&Subscription{Filter: "7"}); s.Held() != held {
		t.Errorf("a subscription that replaces another holds %d bytes more", s.Held()-held)
	}
	for range s.All {
		break
	}
	for filter := range seen {
		s.Unsubscribe([]byte(filter))
	}
	if s.Held() != 0 {
		t.Errorf("no subscription holds %d bytes", s.Held())
	}
}

// TestStateMemory: a session with one subscription is small.
func TestStateMemory(t *testing.T) {
	const sessions = 10_000
	limits := &Limits{ReceiveMaximum: 1, MaxInflight: 1, MaxSubscriptions: 10}
	all := make([]*State, sessions)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range all {
		s := New(Open(&packet.Connect{Version: packet.V5, ClientID: fmt.Appendf(nil, "device-%08d", i)}, limits, ""))
		s.Subscribe(&packet.Subscribe{Subscriptions: []packet.Subscription{
			{Filter: fmt.Appendf(nil, "fleet/%08d/command", i), QoS: 1},
		}}, 0, 1<<20, nil)
		all[i] = s
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / sessions
	if t.Logf("%d bytes a session", each); each > 320 {
		t.Errorf("%d bytes a session", each)
	}
	runtime.KeepAlive(all)
}

// BenchmarkSubscribed asks for a filter among few and among many.
func BenchmarkSubscribed(b *testing.B) {
	for _, n := range []int{1, indexFrom, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var f filters
			name := func(i int) string { return strings.Repeat("fleet/", 3) + fmt.Sprint(i) }
			for i := range n {
				f.put(&Subscription{Filter: name(i)})
			}
			last := name(n - 1)
			for b.Loop() {
				f.find(last)
			}
		})
	}
}
