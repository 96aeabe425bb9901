package catchup

import (
	"cmp"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
)

// lane is one partition: its cursors whose members can take messages. It is pure.
//
// It goes like a lift: a pass begins at a cursor and takes in the others that it comes to; the next one begins at the
// first cursor beyond the end of the last, and behind the last of them at the lowest again. So what many cursors need
// is read once for all of them, and none waits for one that is far away.
type lane struct {
	ready  []*fanout.Cursor // by At
	passed record.Offset    // where the last pass ended

	// Of CatchUp.
	partition stream.PartitionID
	queued    bool // it is in CatchUp.mu.queue
	running   bool // somebody makes a pass
	paused    bool // it could not be read
	pause     time.Duration
	parked    []*fanout.Cursor // that came while it is paused
}

func byPlace(a, b *fanout.Cursor) int { return cmp.Compare(a.At, b.At) }

// add puts a cursor in its place.
func (l *lane) add(c *fanout.Cursor) {
	i, _ := slices.BinarySearchFunc(l.ready, c, byPlace)
	l.ready = slices.Insert(l.ready, i, c)
}

// next takes out the cursors of the next pass, sorted: from where it begins to the last.
func (l *lane) next(into []*fanout.Cursor) []*fanout.Cursor {
	i := 0
	for i < len(l.ready) && l.ready[i].At <= l.passed {
		i++
	}
	if i == len(l.ready) {
		i = 0
	}
	into = append(into, l.ready[i:]...)
	l.ready = slices.Delete(l.ready, i, len(l.ready))
	return into
}
