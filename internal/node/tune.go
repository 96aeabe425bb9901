package node

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
)

// tune fits Go's runtime to a log: one processor more than the machine has, because one waits for the disk nearly
// all the time and is taken from it only late, and a soft limit of memory. What the environment says by GOMAXPROCS
// and GOMEMLIMIT goes first. restore takes all of it back.
func tune(memory int64) (restore func()) {
	var undo []func()
	if os.Getenv("GOMAXPROCS") == "" {
		old := runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
		undo = append(undo, func() { runtime.GOMAXPROCS(old) })
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if memory == unlimited {
			memory = math.MaxInt64
		}
		old := debug.SetMemoryLimit(memory)
		undo = append(undo, func() { debug.SetMemoryLimit(old) })
	}
	return func() {
		for _, u := range undo {
			u()
		}
	}
}
