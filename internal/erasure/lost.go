package erasure

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/stream"
)

// acceptedKey is the key of the row that says how many requests were lost when an administrator accepted it.
const acceptedKey = "accepted"

// lost are requests that cannot be read. Whom they were about is known to nobody but who asked, so only people can mend
// it, and it is shown until they say that they have.
type lost struct {
	gauge    telemetry.Gauge
	at       int64 // how many there are
	first    error // why the first cannot be read
	accepted acceptance
	open     atomic.Bool // nobody has accepted it
}

// acceptance is the row of acceptedKey.
type acceptance struct {
	Lost int64 `json:"lost"`
}

// judge holds what the fold left out against what was accepted: the same stays unreadable in the log until compaction
// removes it, so that only more of it is news.
func (l *lost) judge(f *stream.Folded) {
	l.at, l.first = f.Lost+f.Strange, f.First
	l.open.Store(l.at > l.accepted.Lost)
	l.show()
}

func (l *lost) show() {
	l.gauge.Set(0)
	if l.open.Load() {
		l.gauge.Set(float64(l.at))
	}
}

// Lost tells of the requests that cannot be read, in one status without an id; none: there are none, or that was
// accepted.
func (e *Erasures) Lost() []Status {
	if !e.lost.open.Load() {
		return nil
	}
	return []Status{{Lost: e.lost.at, Records: map[string]int64{},
		Error: fmt.Sprintf("requests that cannot be read: %d, %v", e.lost.at, e.lost.first),
		Hint: "what they asked for may not be done: ask again (firth shred --subject) for everybody who was to be shredded " +
			"and for whom firth shred status --subject finds no request that is done, then firth shred accept",
	}}
}

// Accept notes that the requests which cannot be read were asked for again: they are not shown any more. Errors:
// NotFound when there are none; those of the log.
func (e *Erasures) Accept(ctx context.Context) error {
	e.asking.Lock()
	defer e.asking.Unlock()
	if !e.lost.open.Load() {
		return fault.New(fault.NotFound, op, "all requests can be read")
	}
	said := acceptance{Lost: e.lost.at}
	value, err := json.Marshal(said)
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	about := chain.Event{Action: "subject.accept", Resource: chain.Resource{Kind: "subject", Name: acceptedKey},
		After: audit.State(said)}
	if err := e.opt.Audit.Change(ctx, about, func() error { return e.put(ctx, acceptedKey, value) }); err != nil {
		return err
	}
	e.lost.open.Store(false)
	e.lost.show()
	return nil
}
