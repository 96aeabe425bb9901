package session

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestReceivedAgainstModel has ids arrive, be stored and be released at random beside a map.
func TestReceivedAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var r Received
	model := map[uint16]Arrival{}
	for step := range 200_000 {
		id := uint16(250 + rng.IntN(20))
		if rng.IntN(2) == 0 {
			id = uint16(rng.IntN(0x10000))
		}
		if step%1000 == 0 {
			onTheirWay := []uint16{uint16(250 + rng.IntN(20)), id}
			r.Abandon(onTheirWay)
			maps.DeleteFunc(model, func(id uint16, a Arrival) bool {
				return a == Pending && !slices.Contains(onTheirWay, id)
			})
		}
		switch rng.IntN(4) {
		case 0:
			if got := r.Add(id); got != model[id] {
				t.Fatalf("step %d: id %d was %d, want %d", step, id, got, model[id])
			} else if got == NotReceived {
				model[id] = Pending
			}
		case 1:
			if r.Stored(id); model[id] == Pending {
				model[id] = Known
			}
		case 2:
			if got := r.Release(id); got != model[id] {
				t.Fatalf("step %d: id %d was %d, want %d", step, id, got, model[id])
			}
			delete(model, id)
		default:
			if got := r.Of(id); got != model[id] {
				t.Fatalf("step %d: id %d is %d, want %d", step, id, got, model[id])
			}
		}
	}
	restored := Received{}
	var numbers []byte
	for number := range r.Chunks {
		numbers = append(numbers, number)
		restored.Restore(number, r.Record(number))
	}
	if !slices.IsSorted(numbers) || len(slices.Compact(numbers)) != len(numbers) {
		t.Errorf("chunks %d", numbers)
	}
	for id := range uint16(0xffff) {
		want := model[id]
		if want == Pending { // it is stored in one unit with its record
			want = Known
		}
		if got := restored.Of(id); got != want {
			t.Fatalf("id %d is %d after a restart, want %d", id, got, want)
		}
		r.Release(id)
	}
	r.Release(0xffff)
	if len(r.chunks) > 0 {
		t.Errorf("%d chunks with nothing in them", len(r.chunks))
	}
}

// TestReceivedRestore: a chunk that is restored replaces what is known of it, and one without ids takes it away.
func TestReceivedRestore(t *testing.T) {
	var r Received
	r.Add(0x0102)
	r.Add(0x0304)
	r.Restore(1, ReceivedRecord{1})
	r.Restore(3, ReceivedRecord{})
	r.Restore(9, ReceivedRecord{})
	if a, b, c := r.Of(0x0102), r.Of(0x0100), r.Of(0x0304); a != NotReceived || b != Known || c != NotReceived {
		t.Errorf("%d %d %d", a, b, c)
	}
	for number := range r.Chunks {
		if number != 1 {
			t.Errorf("chunk %d", number)
		}
	}
	if r.Record(3) != (ReceivedRecord{}) {
		t.Errorf("%x", r.Record(3))
	}
}

// TestReceivedAllocatesNothing: a client that uses a few ids again and again costs no memory each time.
func TestReceivedAllocatesNothing(t *testing.T) {
	var r Received
	r.Add(1)
	if allocs := testing.AllocsPerRun(100, func() {
		for id := uint16(1); id < 600; id++ {
			r.Add(id)
			r.Stored(id)
			r.Record(byte(id >> 8))
			r.Release(id)
		}
	}); allocs > 0 {
		t.Errorf("%.1f allocations", allocs)
	}
}
