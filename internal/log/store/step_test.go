package store

import (
	"testing"
	"time"
)

func TestStepWatch(t *testing.T) {
	const wait = time.Hour
	at, total := time.UnixMilli(0), time.Duration(0)
	var w stepWatch
	for _, c := range []struct {
		name         string
		wall, passed time.Duration // since the look before
		step         time.Duration
		waits        bool
	}{
		{"the first look", 0, 0, 0, false},
		{"both move alike", time.Hour, time.Hour, 0, false},
		{"ten seconds back", -10 * time.Second, time.Second, 0, false},
		{"ten seconds on", 10 * time.Second, time.Second, 0, false},
		{"from 1970 to 2020", 50 * 365 * 24 * time.Hour, 0, 50 * 365 * 24 * time.Hour, true},
		{"a while later", 59 * time.Minute, 59 * time.Minute, 0, true},
		{"the hour is over", time.Minute, time.Minute, 0, false},
		{"a day back", -23 * time.Hour, time.Hour, -24 * time.Hour, true},
		{"asleep for a day", 24 * time.Hour, time.Second, 24*time.Hour - time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, total = at.Add(c.wall), total+c.passed
			if step := w.look(at, total, wait); step != c.step || w.waits() != c.waits {
				t.Errorf("a step of %v, waits %v; want %v, %v", step, w.waits(), c.step, c.waits)
			}
		})
	}
}
