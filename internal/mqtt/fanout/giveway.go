package fanout

import (
	"runtime"
	"time"

	"github.com/firthmq/firth/internal/kit/rest"
)

// livelyFor is how long after a message live delivery counts as going on.
const livelyFor = 100 * time.Millisecond

// Lively tells whether live delivery goes on: whether members in step got messages a moment ago.
func (f *Fanout) Lively() bool {
	last := f.lively.Load()
	if last == 0 {
		return false
	}
	ago := f.opt.Clock().UnixNano() - last
	return ago >= 0 && ago < int64(livelyFor)
}

// enliven notes that messages went out live. All workers do that, so it is written now and then only.
func (f *Fanout) enliven(now time.Time) {
	at := now.UnixNano()
	if since := at - f.lively.Load(); since < 0 || since > int64(livelyFor/8) {
		f.lively.Store(at)
	}
}

// GiveWay is called every fifth of a millisecond, about, by work that can wait, without locks: others get the
// processor, and while live delivery goes on it rests when that is due.
func (f *Fanout) GiveWay(p *rest.Pacer) {
	if !f.Lively() {
		runtime.Gosched()
		return
	}
	began := f.uptime()
	if !p.Due(began) {
		runtime.Gosched()
		return
	}
	f.sleep(rest.Length)
	p.Rested(began, f.uptime())
}
