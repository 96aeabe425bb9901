package node

import (
	"runtime/debug"
	"testing"
)

// TestLimitMemory sets the limit and takes it back, and leaves to the environment what it says.
func TestLimitMemory(t *testing.T) {
	const memory = 1 << 40
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	t.Setenv("GOMEMLIMIT", "")
	before := limit()
	restore := limitMemory(memory)
	if got := limit(); got != memory {
		t.Errorf("limited to %d, want %d", got, memory)
	}
	restore()
	if got := limit(); got != before {
		t.Errorf("restored to %d, want %d", got, before)
	}
	t.Setenv("GOMEMLIMIT", "7GiB")
	defer limitMemory(memory)()
	if got := limit(); got != before {
		t.Errorf("limited to %d, although the environment says otherwise; want %d", got, before)
	}
}
