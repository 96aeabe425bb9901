package alloctest_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/alloctest"
)

var kept []byte

// TestPerRun finds what a function allocates each time, and not what somebody did once.
func TestPerRun(t *testing.T) {
	if n := alloctest.PerRun(10, 0, func() { kept = make([]byte, 100) }); n != 1 {
		t.Errorf("%v for one allocation", n)
	}
	calls := 0
	if n := alloctest.PerRun(10, 0, func() {
		if calls++; calls < 15 {
			for range 100 {
				kept = make([]byte, 100)
			}
		}
	}); n != 0 {
		t.Errorf("%v where it was somebody else", n)
	}
}

// TestBytesPerRun finds how much a function allocates each time, and not what somebody did once.
func TestBytesPerRun(t *testing.T) {
	if n := alloctest.BytesPerRun(10, 0, func() { kept = make([]byte, 100_000) }); n < 100_000 || n > 200_000 {
		t.Errorf("%d bytes where 100,000 are allocated", n)
	}
	calls := 0
	if n := alloctest.BytesPerRun(10, 100, func() {
		if calls++; calls < 15 {
			kept = make([]byte, 100_000)
		}
	}); n > 100 {
		t.Errorf("%d bytes where it was somebody else", n)
	}
}

// TestHeapInUse does not see what lies in a pool, which lives for two collections.
func TestHeapInUse(t *testing.T) {
	kept = nil
	before := alloctest.HeapInUse()
	const size = 32 << 20
	var pool sync.Pool
	pool.Put(new([size]byte))
	if grown := alloctest.HeapInUse() - before; grown > size/2 {
		t.Errorf("%d bytes are in use with nothing but a pool", grown)
	}
	kept = make([]byte, size)
	if grown := alloctest.HeapInUse() - before; grown < size/2 {
		t.Errorf("%d bytes are in use with %d that are held", grown, size)
	}
	kept = nil
}

// waiter is somebody with goroutines.
type waiter struct{ end chan struct{} }

func (w *waiter) wait() { <-w.end }

// TestGoroutines counts those of one type, and not those that run something else.
func TestGoroutines(t *testing.T) {
	const ofWaiter = "github.com/firthmq/firth/internal/kit/alloctest_test.(*waiter)."
	w := &waiter{end: make(chan struct{})}
	var all sync.WaitGroup
	for range 300 {
		all.Go(w.wait)
	}
	for limit := time.Now().Add(time.Minute); alloctest.Goroutines(ofWaiter) != 300; runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatalf("%d of 300", alloctest.Goroutines(ofWaiter))
		}
	}
	close(w.end)
	all.Wait()
	if n := alloctest.Goroutines("github.com/firthmq/firth/internal/kit/alloctest_test.TestGoroutines"); n != 1 {
		t.Errorf("%d goroutines are in this test", n)
	}
	for limit := time.Now().Add(time.Minute); alloctest.Goroutines(ofWaiter) != 0; runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatalf("%d that have ended", alloctest.Goroutines(ofWaiter))
		}
	}
}
