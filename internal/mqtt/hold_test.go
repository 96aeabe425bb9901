package mqtt

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestHold(t *testing.T) {
	var h hold
	for i, step := range []struct {
		claim, want bool
	}{
		{true, true},   // nobody held it
		{true, false},  // another does, and is told
		{true, false},  // once is enough
		{false, false}, // it looks again
		{false, true},  // and then lets go
		{true, true},
		{false, true},
	} {
		var got bool
		if step.claim {
			got = h.claim()
		} else {
			got = h.release()
		}
		if got != step.want {
			t.Fatalf("step %d: claim %v gave %v", i, step.claim, got)
		}
	}
}

// TestHoldLosesNoNews lets many bring news and has one at a time take it: in the end all of it is taken.
func TestHoldLosesNoNews(t *testing.T) {
	var h hold
	var news, taken, drivers atomic.Int64
	var wg sync.WaitGroup
	const each = 10_000
	for range 8 {
		wg.Go(func() {
			for range each {
				news.Add(1)
				if !h.claim() {
					continue
				}
				for {
					if drivers.Add(1) != 1 {
						t.Error("two drive at a time")
					}
					taken.Add(news.Swap(0))
					drivers.Add(-1)
					if h.release() {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if got := taken.Load(); got != 8*each || news.Load() != 0 {
		t.Errorf("%d of %d taken, %d left", got, 8*each, news.Load())
	}
}
