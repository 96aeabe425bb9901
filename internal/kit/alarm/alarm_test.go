package alarm

import (
	"math/rand/v2"
	"testing"
)

// Whatever is set, put forward and cancelled, each sleeper is told the time when it asked for it or before, in order,
// and the heap stays about as large as what it is for.
func TestAlarms(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		a, model := New[int](), map[int]int64{}
		now := int64(0)
		for range 3000 {
			who, at := rng.IntN(40), now+rng.Int64N(50)
			switch rng.IntN(5) {
			case 0:
				a.Cancel(who)
				delete(model, who)
			case 1:
				now += rng.Int64N(10)
				for {
					got, due, next, waits := a.Due(now)
					if !due {
						checkRest(t, model, now, next, waits)
						break
					}
					if model[got] > now {
						t.Fatalf("seed %d: %d is told at %d, it asked for %d", seed, got, now, model[got])
					}
					delete(model, got)
				}
			default:
				a.Set(who, at)
				if set, is := model[who]; !is || at < set {
					model[who] = at
				}
			}
			if a.Len() != len(model) || len(a.queue) > 2*len(model)+65 {
				t.Fatalf("seed %d: %d alarms in a heap of %d, want %d", seed, a.Len(), len(a.queue), len(model))
			}
		}
	}
}

// checkRest holds what Due says of those that wait to the model.
func checkRest(t *testing.T, model map[int]int64, now, next int64, waits bool) {
	t.Helper()
	if waits != (len(model) > 0) {
		t.Fatalf("waits %v, %d sleep", waits, len(model))
	}
	first := int64(-1)
	for who, at := range model {
		if at <= now {
			t.Fatalf("%d sleeps at %d, it asked for %d", who, now, at)
		}
		if first < 0 || at < first {
			first = at
		}
	}
	if waits && next != first {
		t.Fatalf("the next is at %d, not %d", next, first)
	}
}

// Who sleeps until the first alarm is woken when an earlier one is set, and only then.
func TestSooner(t *testing.T) {
	a := New[string]()
	woken := func() bool {
		select {
		case <-a.Sooner():
			return true
		default:
			return false
		}
	}
	for _, step := range []struct {
		who   string
		at    int64
		woken bool
	}{{"a", 10, true}, {"b", 20, false}, {"a", 15, false}, {"b", 5, true}, {"c", 7, false}, {"a", 3, true}} {
		if a.Set(step.who, step.at); woken() != step.woken {
			t.Fatalf("%s at %d: woken is not %v", step.who, step.at, step.woken)
		}
	}
}
