package rest

import (
	"testing"
	"time"
)

const us, ms = time.Microsecond, time.Millisecond

// play works for a time in steps, each of which takes a while, and has rests take what they take. It gives how long was
// worked, and the longest work between two rests.
func play(p *Pacer, whole, step time.Duration, rest func(time.Duration) time.Duration) (worked, longest time.Duration) {
	var now, since time.Duration
	for now < whole {
		if p.Due(now) {
			began := now
			now += rest(now)
			p.Rested(began, now)
			since = 0
		}
		now += step
		worked += step
		since += step
		longest = max(longest, since)
	}
	return worked, longest
}

func always(d time.Duration) func(time.Duration) time.Duration {
	return func(time.Duration) time.Duration { return d }
}

// TestShare is what part of the time is work once it has settled, in thousandths.
func TestShare(t *testing.T) {
	for name, c := range map[string]struct {
		parts       int
		rest        func(time.Duration) time.Duration
		least, most int64
	}{
		"there is room":             {8, always(Length), 640, 700},
		"a little late is none":     {8, always(Length + Late), 590, 640},
		"late":                      {8, always(Length + Late + 1), 125, 150},
		"very late":                 {8, always(10 * ms), 125, 150},
		"it stands still":           {8, always(time.Second), 125, 150},
		"every second rest late":    {8, alternating(), 125, 200},
		"half, and there is room":   {2, always(Length), 640, 700},
		"half, and late":            {2, always(5 * ms), 500, 550},
		"half, and it stands still": {2, always(time.Second), 500, 550},
	} {
		t.Run(name, func(t *testing.T) {
			p := New(c.parts)
			play(p, time.Second, 20*us, c.rest)
			const whole = 20 * time.Second
			p.since = 0
			worked, _ := play(p, whole, 20*us, c.rest)
			if got := int64(worked * 1000 / whole); got < c.least || got > c.most {
				t.Errorf("%d of 1,000 are work, want %d to %d", got, c.least, c.most)
			}
		})
	}
}

func alternating() func(time.Duration) time.Duration {
	late := false
	return func(time.Duration) time.Duration {
		if late = !late; late {
			return 2 * ms
		}
		return Length
	}
}

// TestFollows has the processors fill and empty: the work follows within some rests.
func TestFollows(t *testing.T) {
	p := New(8)
	if p.Due(First-1) || !p.Due(First) {
		t.Error("it does not begin with First")
	}
	if p.Began(ms); p.Due(ms + First - 1) {
		t.Error("having nothing to do was no rest")
	}
	rests := func(n int, took time.Duration) {
		for range n {
			p.Rested(p.since+p.Work(), p.since+p.Work()+took)
		}
	}
	if rests(100, Length); p.Work() != Most {
		t.Errorf("after 100 timely rests it works for %v", p.Work())
	}
	if rests(10, 2*ms); p.Work() > 2*Most/2/10*2 {
		t.Errorf("after 10 late rests it works for %v", p.Work())
	}
	if rests(1, 70*ms); p.Work() != 10*ms { // a seventh
		t.Errorf("after a rest of 70 ms it works for %v", p.Work())
	}
	if rests(1, 2*ms); p.Work() > 2*ms/7 {
		t.Errorf("it works for %v when that is made up for", p.Work())
	}
}

// TestNeverLong has no work between two rests be longer than the most and a step, unless a rest was long.
func TestNeverLong(t *testing.T) {
	p := New(8)
	if _, longest := play(p, time.Second, 50*us, always(Length)); longest > Most+50*us {
		t.Errorf("it worked for %v without a rest", longest)
	}
}
