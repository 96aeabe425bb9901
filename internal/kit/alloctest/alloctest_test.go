package alloctest_test

import (
	"testing"

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
