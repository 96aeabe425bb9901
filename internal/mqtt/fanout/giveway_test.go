package fanout

import (
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/rest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// TestReaderGivesWay has a reader work for ten seconds of a clock that stands still otherwise. Nobody in step gets
// messages: it never rests. Somebody does: it rests, and where its rests are late it does no more than an eighth of the
// time, but for a step of its work, and no less.
func TestReaderGivesWay(t *testing.T) {
	const whole, step = 10 * time.Second, yieldAfter * 100 * time.Nanosecond
	for name, c := range map[string]struct {
		lively       bool
		fell         bool          // those that it reads for did not come back
		late         time.Duration // each rest
		least, most  time.Duration // work, within the time
		withoutRests bool
	}{
		"nobody gets messages live":    {late: 5 * time.Millisecond, least: whole, most: whole, withoutRests: true},
		"they fell behind just now":    {lively: true, fell: true, least: whole, most: whole, withoutRests: true},
		"there is room":                {lively: true, least: whole * 60 / 100, most: whole * 70 / 100},
		"live messages are late":       {lively: true, late: 5 * time.Millisecond, least: whole / 8, most: whole / 7},
		"live messages are very late":  {lively: true, late: time.Second, least: whole / 8, most: whole / 7},
		"live messages are a bit late": {lively: true, late: rest.Late + 1, least: whole / 8, most: whole / 6},
	} {
		t.Run(name, func(t *testing.T) {
			h := hold(t)
			var now, worked time.Duration
			rests := 0
			h.uptime = func() time.Duration { return now }
			h.opt.Clock = func() time.Time { return time.Unix(1_800_000_000, 0).Add(now) }
			h.sleep = func(d time.Duration) { now, rests = now+d+c.late, rests+1 }
			r := h.NewReader(0)
			r.rests = !c.fell
			for now < whole {
				if c.lively {
					h.lively.Store(h.opt.Clock().UnixNano())
				}
				now, worked = now+step, worked+step
				r.worked(yieldAfter)
			}
			if worked < c.least-2*time.Second/7 || worked > c.most+2*time.Second/7 {
				t.Errorf("it worked for %v, want %v to %v", worked, c.least, c.most)
			}
			if (rests == 0) != c.withoutRests {
				t.Errorf("it rested %d times", rests)
			}
		})
	}
}

// TestLively is told by messages that go out live, for a moment, also when the clock was set.
func TestLively(t *testing.T) {
	h := hold(t)
	now := h.w.now
	h.opt.Clock = func() time.Time { return now }
	h.Subscribe(h.Join(&picky{takes: 9}, packet.V311, ""), &session.Subscription{Filter: "fleet/#", QoS: 1}, nil)
	if h.w.flush(); h.Lively() {
		t.Error("it is lively though nobody got anything")
	}
	v := view(t, &record.Record{Key: []byte("fleet/x"), Value: []byte("x")})
	h.live(v)
	if h.w.flush(); !h.Lively() {
		t.Error("it is not lively though a message went out")
	}
	for _, by := range []time.Duration{livelyFor, -time.Hour} {
		if now = h.w.now.Add(by); h.Lively() {
			t.Errorf("it is lively %v later", by)
		}
	}
}

// TestIdleIsARest: a reader that had nothing to do for a while works before it rests.
func TestIdleIsARest(t *testing.T) {
	h := hold(t)
	var now time.Duration
	rests := 0
	h.uptime = func() time.Duration { return now }
	h.sleep = func(d time.Duration) { now, rests = now+d, rests+1 }
	h.opt.Clock = func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	h.lively.Store(h.opt.Clock().UnixNano())
	r := h.NewReader(0)
	for range 100 {
		now += 10 * time.Millisecond
		r.Pass([]*Cursor{{Member: h.Join(&picky{}, packet.V311, ""), Partition: 999, Willing: true}}) // gone
		now += 50 * time.Microsecond
		r.worked(yieldAfter)
	}
	if rests > 0 {
		t.Errorf("it rested %d times", rests)
	}
}
