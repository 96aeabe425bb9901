package mqtt

import (
	"runtime"
	"sync/atomic"

	"github.com/firthmq/firth/internal/kit/rest"
	"github.com/firthmq/firth/internal/mqtt/fanout"
)

// welcomes has few clients be welcomed at a time while live delivery goes on: a message that is due waits for what is
// ready to run before it, and when a unit is stored hundreds of clients may be, who waited for it. Who has a turn may
// not block.
type welcomes struct {
	fanout  *fanout.Fanout
	turns   chan *rest.Pacer // half as many as there are processors
	waiting atomic.Int32     // those who wait for one
}

// welcomeParts says what part of the time of a turn is work at least (rest.New): clients do not wait for long.
const welcomeParts = 2

func newWelcomes(f *fanout.Fanout) *welcomes {
	w := &welcomes{fanout: f, turns: make(chan *rest.Pacer, max(runtime.GOMAXPROCS(0)/2, 1))}
	for range cap(w.turns) {
		w.turns <- rest.New(welcomeParts)
	}
	return w
}

// begin waits for a turn; nil: there is no need for one.
func (w *welcomes) begin() *rest.Pacer {
	if !w.fanout.Lively() {
		return nil
	}
	select {
	case p := <-w.turns:
		return p
	default:
	}
	w.waiting.Add(1)
	defer w.waiting.Add(-1)
	return <-w.turns
}

// end gives a turn back. If others wait for it, they do so for a rest that is due, too.
func (w *welcomes) end(p *rest.Pacer) {
	if p == nil {
		return
	}
	if w.waiting.Load() > 0 {
		w.fanout.GiveWay(p)
	}
	w.turns <- p
}
