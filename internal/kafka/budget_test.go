package kafka

import (
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

func newTestBudget(limit int64, patience time.Duration) *budget {
	return &budget{limit: limit, patience: patience, told: func(bool) {}}
}

// Near the limit the largest holder waits while small ones go on; at last it is refused, and when others give back it
// goes on.
func TestBudget(t *testing.T) {
	const mib = 1 << 20
	b := newTestBudget(64*mib, 50*time.Millisecond)
	large, small, other := &holding{b: b}, &holding{b: b}, &holding{b: b}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(large.take(100 * mib)) // alone it may have what one request may have
	large.give(100 * mib)
	must(other.take(10 * mib))
	must(large.take(10 * mib))
	if err := large.take(20 * mib); !fault.Is(err, fault.Limited) {
		t.Fatalf("the largest holder near the limit: %v", err)
	}
	must(small.take(5 * mib)) // with as much used, the small one goes on
	small.give(5 * mib)

	b.patience = time.Minute
	got := make(chan error, 1)
	go func() { got <- large.take(20 * mib) }()
	until(t, "it waits", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.waiting) == 1
	})
	must(small.take(mib)) // passes by who waits for more
	small.give(mib)
	other.give(10 * mib)
	must(<-got)
	if n := b.held(); n != 30*mib {
		t.Fatalf("%d bytes are held", n)
	}

	must(other.take(5 * mib))
	ended := make(chan struct{})
	large.ended = ended
	go func() { got <- large.take(30 * mib) }()
	close(ended)
	if err := <-got; !fault.Is(err, fault.Closed) {
		t.Fatalf("at the end of a connection: %v", err)
	}
	b.keep(20 * mib) // more than the groups may have: what is theirs is taken from the connections, not more
	if b.reserve(0, 1) || b.used != 35*mib || b.held() != 55*mib {
		t.Fatalf("%d bytes are held, %d of them by connections", b.held(), b.used)
	}
	must(small.take(2 * mib))
	b.keep(-12 * mib)
	if b.reserve(0, 4*mib+1) || !b.reserve(0, 4*mib) || b.reserve(6*mib, mib) || !b.reserve(mib, mib) {
		t.Fatal("a group has not what it may have")
	}
	b.keep(-13 * mib)
	large.release()
	other.release()
	small.release()
	if n := b.held(); n != 0 || len(b.waiting) != 0 {
		t.Fatalf("%d bytes are held at the end, %d wait", n, len(b.waiting))
	}
}
