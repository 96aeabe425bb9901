package session

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
)

// TestReceivedAgainstModel has ids arrive, be stored and be released at random beside a map.
func TestReceivedAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var r Received
	model := map[uint16]Arrival{}
	appended := map[uint16]bool{} // of those that are pending
	for step := range 200_000 {
		id := uint16(250 + rng.IntN(20))
		if rng.IntN(2) == 0 {
			id = uint16(rng.IntN(0x10000))
		}
		if step%1000 == 0 {
			r.Abandon()
			maps.DeleteFunc(model, func(id uint16, a Arrival) bool { return a == Pending && !appended[id] })
		}
		switch rng.IntN(5) {
		case 0:
			if got := r.Add(id); got != model[id] {
				t.Fatalf("step %d: id %d was %d, want %d", step, id, got, model[id])
			} else if got == NotReceived {
				model[id] = Pending
			}
		case 1:
			if r.Stored(id); appended[id] {
				model[id] = Known
				delete(appended, id)
			}
		case 2:
			if model[id] == Pending {
				r.Appended(id)
				appended[id] = true
			}
		case 3:
			if got := r.Release(id); got != model[id] {
				t.Fatalf("step %d: id %d was %d, want %d", step, id, got, model[id])
			}
			delete(model, id)
			delete(appended, id)
		default:
			if got := r.Of(id); got != model[id] {
				t.Fatalf("step %d: id %d is %d, want %d", step, id, got, model[id])
			}
		}
	}
	compareRecords(t, &r, model, appended)
	for id := range model {
		r.Release(id)
	}
	if len(r.chunks) > 0 {
		t.Errorf("%d chunks with nothing in them", len(r.chunks))
	}
}

// compareRecords judges what a unit says in which some ids arrive and some are released.
func compareRecords(t *testing.T, r *Received, model map[uint16]Arrival, appended map[uint16]bool) {
	t.Helper()
	var gathered, known []uint16 // some of them
	for id, a := range model {
		switch {
		case a == Pending && !appended[id] && len(gathered) < 100:
			gathered = append(gathered, id)
		case a == Known && len(known) < 100:
			known = append(known, id)
		}
	}
	if len(gathered) == 0 || len(known) == 0 {
		t.Fatalf("%d are gathered and %d known", len(gathered), len(known))
	}
	restored := Received{}
	for number := range 256 {
		restored.Restore(byte(number), r.Record(byte(number), gathered, known))
	}
	for id := range uint16(0xffff) {
		want := model[id]
		switch {
		case slices.Contains(known, id): // they are released in the unit of the records
			want = NotReceived
		case appended[id] || slices.Contains(gathered, id): // their messages are in that unit or before it
			want = Known
		case want == Pending: // no unit has their messages
			want = NotReceived
		}
		if got := restored.Of(id); got != want {
			t.Fatalf("id %d is %d after a restart, want %d", id, got, want)
		}
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
	r.Release(0x0100)
	for number := range r.Written {
		if number != 1 {
			t.Errorf("chunk %d", number)
		}
	}
	if len(r.chunks) > 0 {
		t.Errorf("%d chunks with nothing in them", len(r.chunks))
	}
	if none := r.Record(3, nil, nil); !none.Empty() {
		t.Errorf("%x", none)
	}
}

// TestReceivedAllocatesNothing: a client that uses a few ids again and again costs no memory each time.
func TestReceivedAllocatesNothing(t *testing.T) {
	var r Received
	var ids [1]uint16
	r.Add(1)
	if allocs := alloctest.PerRun(100, 0, func() {
		for id := uint16(1); id < 600; id++ {
			r.Add(id)
			ids[0] = id
			r.Record(byte(id>>8), ids[:], nil)
			r.Appended(id)
			r.Stored(id)
			r.Record(byte(id>>8), nil, ids[:])
			r.Release(id)
		}
	}); allocs > 0 {
		t.Errorf("%.1f allocations", allocs)
	}
}
