package hook

import (
	"testing"
	"time"
)

// TestBreaker: after three misses nothing passes for a pause, then one request does; the pause doubles until there is
// an answer, which lets all pass again.
func TestBreaker(t *testing.T) {
	start := time.Unix(1000, 0)
	b := breaker{pause: time.Second}
	for i, step := range []struct {
		at     int    // in milliseconds
		do     string // enter or what is settled
		passes bool   // of enter
		turned bool   // of what is settled
	}{
		{0, "enter", true, false}, {0, "missed", false, false},
		{0, "enter", true, false}, {0, "missed", false, false},
		{0, "enter", true, false}, {0, "answered", false, false}, // the misses before do not count any more
		{0, "missed", false, false}, {0, "missed", false, false}, {0, "enter", true, false},
		{0, "missed", false, true}, // the third opens it
		{0, "enter", false, false}, {999, "enter", false, false},
		{999, "missed", false, false},                               // had passed before
		{1000, "enter", true, false}, {1000, "enter", false, false}, // one finds out
		{1500, "missed", false, false}, {3499, "enter", false, false}, // two seconds
		{3500, "enter", true, false}, {3500, "dropped", false, false},
		{3500, "enter", true, false}, {3500, "missed", false, false},
		{7499, "enter", false, false}, {7500, "enter", true, false}, // four
		{7500, "answered", false, true}, {7500, "enter", true, false}, {7500, "enter", true, false},
		{7500, "missed", false, false}, {7500, "missed", false, false}, {7500, "missed", false, true},
		{8499, "enter", false, false}, {8500, "enter", true, false}, // one second again
	} {
		now := start.Add(time.Duration(step.at) * time.Millisecond)
		if step.do == "enter" {
			if got := b.enter(now); got != step.passes {
				t.Fatalf("step %d: it passes: %v", i, got)
			}
			continue
		}
		o := map[string]outcome{"answered": answered, "missed": missed, "dropped": dropped}[step.do]
		if got := b.settle(o, now); got != step.turned {
			t.Fatalf("step %d: it turned: %v", i, got)
		}
	}
	now := start.Add(time.Hour)
	for range 100 { // however long it stays away
		b.enter(now)
		b.settle(missed, now)
		now = now.Add(b.now)
	}
	if b.now != longestPause*time.Second {
		t.Errorf("the longest pause is %s", b.now)
	}
}
