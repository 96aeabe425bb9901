package node

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestTune sets the runtime up for a node and back, and leaves to the environment what it says.
func TestTune(t *testing.T) {
	const memory = 1 << 40
	state := func() [2]int64 { return [2]int64{int64(runtime.GOMAXPROCS(0)), debug.SetMemoryLimit(-1)} }
	for _, name := range []string{"GOMAXPROCS", "GOMEMLIMIT"} {
		t.Setenv(name, "")
	}
	before := state()
	restore := tune(memory)
	if got, want := state(), [2]int64{before[0] + 1, memory}; got != want {
		t.Errorf("tuned to %v, want %v", got, want)
	}
	restore()
	if got := state(); got != before {
		t.Errorf("restored to %v, want %v", got, before)
	}
	for _, name := range []string{"GOMAXPROCS", "GOMEMLIMIT"} {
		t.Setenv(name, "7")
	}
	defer tune(memory)()
	if got := state(); got != before {
		t.Errorf("tuned to %v, although the environment says otherwise; want %v", got, before)
	}
}
