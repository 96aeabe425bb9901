package limit

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// One line for each key and period passes, and tells how many did not.
func TestLines(t *testing.T) {
	now := time.Unix(1000, 0)
	l := NewLines(time.Minute, 3)
	l.now = func() time.Time { return now }
	want := func(key string, wantHeld int, wantOK bool) {
		t.Helper()
		if held, ok := l.Pass(key); held != wantHeld || ok != wantOK {
			t.Fatalf("%s: %d %v, want %d %v", key, held, ok, wantHeld, wantOK)
		}
	}
	want("a", 0, true)
	for range 5 {
		want("a", 0, false)
	}
	want("b", 0, true)
	now = now.Add(59 * time.Second)
	want("a", 0, false)
	now = now.Add(time.Second)
	want("a", 6, true)
	want("a", 0, false)
	want("b", 0, true)

	want("c", 0, true)
	want("d", 0, true) // the one place of all keys beyond the three
	want("e", 0, false)
	want("f", 0, false)
	want("c", 0, false)
	now = now.Add(2 * time.Minute)
	want("f", 0, true) // the old keys went, so that this one has a place of its own
	want("g", 0, true)
}

// However many keys there are and however long they are, what is kept is bounded.
func TestLinesKeepBoundedMemory(t *testing.T) {
	l := NewLines(time.Hour, 100)
	for i := range 10_000 {
		l.Pass(fmt.Sprint(i) + strings.Repeat("k", 70_000))
	}
	if len(l.since) > 101 {
		t.Fatalf("%d keys are kept", len(l.since))
	}
	for key := range l.since {
		if len(key) > maxKeyBytes {
			t.Fatalf("a key of %d bytes is kept", len(key))
		}
	}
}
