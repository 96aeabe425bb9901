package node

import (
	"math"
	"os"
	"runtime/debug"
)

// limitMemory gives Go's runtime a soft limit of memory. What the environment says by GOMEMLIMIT goes first.
// restore takes it back.
func limitMemory(memory int64) (restore func()) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	if memory == unlimited {
		memory = math.MaxInt64
	}
	old := debug.SetMemoryLimit(memory)
	return func() { debug.SetMemoryLimit(old) }
}
