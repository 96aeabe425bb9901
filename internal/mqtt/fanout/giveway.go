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
