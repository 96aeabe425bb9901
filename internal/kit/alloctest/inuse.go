package alloctest

import (
	"runtime"
	"strings"
)

// settled is by how many bytes less a collection may find in use than the one before, and be the last.
const settled = 64 << 10

// HeapInUse is how many bytes of the heap are in use. What earlier tests have left lies in pools for two collections,
// and is held for longer by goroutines that are still ending: it collects until there is no less.
func HeapInUse() int64 {
	var m runtime.MemStats
	least := int64(-1)
	for n := range 20 {
		runtime.GC()
		runtime.ReadMemStats(&m)
		if n >= 3 && int64(m.HeapAlloc) > least-settled {
			break
		}
		least = int64(m.HeapAlloc)
	}
	return int64(m.HeapAlloc)
}

// BytesPerRun is how many bytes f allocates on average, as PerRun counts how often: where that is more than most, it
// counts again, because others allocate, too.
func BytesPerRun(runs int, most uint64, f func()) uint64 {
	f()
	least := bytesPerRun(runs, f)
	for try := 1; least > most && try < tries; try++ {
		least = min(least, bytesPerRun(runs, f))
	}
	return least
}

func bytesPerRun(runs int, f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / uint64(runs)
}

// Goroutines is how many goroutines are in a function whose name begins with prefix, such as
// "github.com/firthmq/firth/internal/mqtt.(*conn).". A number before and one after would count those of others, too,
// and of the thing itself those that had not begun yet.
func Goroutines(prefix string) int {
	all := make([]runtime.StackRecord, 100)
	n, whole := runtime.GoroutineProfile(all)
	for ; !whole; n, whole = runtime.GoroutineProfile(all) {
		all = make([]runtime.StackRecord, 2*n)
	}
	found := 0
	for _, r := range all[:n] {
		frames := runtime.CallersFrames(r.Stack())
		for more := true; more; {
			var frame runtime.Frame
			if frame, more = frames.Next(); strings.HasPrefix(frame.Function, prefix) {
				found++
				break
			}
		}
	}
	return found
}
