package limit

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	const ms = time.Millisecond
	type step struct {
		at   time.Duration
		n    int64
		wait time.Duration
	}
	for what, c := range map[string]struct {
		rate  int64
		steps []step
	}{
		"no bound":                     {0, []step{{0, 1 << 40, 0}, {0, 1, 0}}},
		"a second's worth at once":     {10, []step{{0, 10, 0}, {0, 1, 100 * ms}, {0, 1, 200 * ms}}},
		"debts are paid":               {10, []step{{0, 11, 100 * ms}, {100 * ms, 1, 100 * ms}, {300 * ms, 1, 0}}},
		"no more than a second's":      {10, []step{{time.Hour, 10, 0}, {time.Hour, 1, 100 * ms}}},
		"time that goes back is still": {10, []step{{time.Second, 10, 0}, {0, 1, 100 * ms}, {time.Second, 1, 200 * ms}}},
		"no debt beyond a minute":      {10, []step{{0, 1 << 40, maxDebt}, {0, 1 << 40, maxDebt}, {maxDebt, 1, 100 * ms}}},
		"one that is larger than all":  {1000, []step{{0, 5000, 4 * time.Second}, {4 * time.Second, 0, 0}}},
	} {
		b := NewBucket(c.rate)
		for i, s := range c.steps {
			if wait := b.Take(s.n, s.at); (wait - s.wait).Abs() > time.Microsecond {
				t.Errorf("%s: step %d waits %s, want %s", what, i, wait, s.wait)
			}
		}
	}
}

func TestBucketTry(t *testing.T) {
	b := NewBucket(2)
	for i, c := range []struct {
		ms int
		ok bool
	}{
		{0, true}, {0, true}, {0, false}, {499, false}, {500, true}, {500, false}, {9000, true}, {9000, true}, {9000, false},
	} {
		if ok := b.Try(time.Duration(c.ms) * time.Millisecond); ok != c.ok {
			t.Errorf("try %d: %v", i, ok)
		}
	}
	unbound := NewBucket(0)
	if !unbound.Try(0) || unbound.Bounds() || !b.Bounds() {
		t.Error("a bucket without a rate holds back")
	}
}
