package mqtt

import (
	"testing"
	"time"
)

func TestSlowness(t *testing.T) {
	const s = time.Second
	for what, c := range map[string]struct {
		happens func(*slowness)
		held    bool
		lag     time.Duration // at 100 s
	}{
		"nothing":                   {func(*slowness) {}, true, 0},
		"messages wait":             {func(w *slowness) { w.waits(10 * s); w.waits(90 * s) }, true, 90 * s},
		"none wait any more":        {func(w *slowness) { w.waits(10 * s); w.inStep() }, true, 0},
		"and then again":            {func(w *slowness) { w.waits(10 * s); w.inStep(); w.waits(95 * s) }, true, 5 * s},
		"nothing is held back":      {func(w *slowness) { w.waits(10 * s) }, false, 0},
		"messages are dropped":      {func(w *slowness) { w.drops(60 * s); w.drops(80 * s) }, false, 40 * s},
		"they were, long ago":       {func(w *slowness) { w.drops(60 * s); w.drops(69 * s) }, false, 0},
		"dropped, and then again":   {func(w *slowness) { w.drops(10 * s); w.drops(90 * s) }, false, 10 * s},
		"dropped, and others wait":  {func(w *slowness) { w.drops(90 * s); w.waits(50 * s) }, true, 50 * s},
		"dropped, and others do no": {func(w *slowness) { w.drops(90 * s); w.waits(50 * s); w.inStep() }, true, 10 * s},
	} {
		var w slowness
		c.happens(&w)
		if lag := w.lag(100*s, c.held); lag != c.lag {
			t.Errorf("%s: %s, want %s", what, lag, c.lag)
		}
	}
}
