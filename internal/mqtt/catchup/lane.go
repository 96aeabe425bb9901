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
// is read once for all of them, and none waits for one that is far away. Every second pass is beside that, for those
// near the head: who could not take a message for a moment does not wait for all who were away.
//
// A pass is offered all cursors from its start on, however many it comes to: they stay where they are, and what comes
// meanwhile is kept beside them. So a pass costs what it comes to, and not what is there.
type lane struct {
	ready  []*fanout.Cursor // by At
	added  []*fanout.Cursor // since the last pass began, in any order
	from   int              // where in ready the pass begins that is under way
	passed record.Offset    // where the last pass ended that was none of those beside
	beside bool             // the pass, under way or the last, is for cursors near the head

	// Of CatchUp.
	partition stream.PartitionID
	queued    bool // it is in CatchUp.mu.queue
	running   bool // somebody makes a pass
	paused    bool // it could not be read
	pause     time.Duration
	parked    []*fanout.Cursor // that came while it is paused
}

func byPlace(a, b *fanout.Cursor) int { return cmp.Compare(a.At, b.At) }

// above is the index of the first of some cursors, sorted, that is above an offset.
func above(cursors []*fanout.Cursor, at record.Offset) int {
	i, _ := slices.BinarySearchFunc(cursors, at, func(c *fanout.Cursor, at record.Offset) int {
		if c.At > at {
			return 1
		}
		return -1
	})
	return i
}

func (l *lane) empty() bool { return len(l.ready)+len(l.added) == 0 }

// add makes a cursor ready.
func (l *lane) add(c *fanout.Cursor) { l.added = append(l.added, c) }

// begin begins a pass: it gives its cursors, sorted, from where it begins to the last. They are the lane's until ended.
// What is above near is near the head; a pass is beside only those of who came back.
func (l *lane) begin(near record.Offset) []*fanout.Cursor {
	l.merge()
	if l.from = above(l.ready, l.passed); l.from == len(l.ready) {
		l.from = 0
	}
	first := above(l.ready, near)
	if l.beside = !l.beside && first > l.from && first < len(l.ready) && l.ready[l.from].Willing; l.beside {
		l.from = first
	}
	return l.ready[l.from:]
}

// head is up to where its cursors are to go. There must be one.
func (l *lane) head() record.Offset {
	if len(l.ready) > 0 {
		return l.ready[0].Head()
	}
	return l.added[0].Head()
}

// merge sorts in what was added: from the last one on, each goes behind what is not above it.
func (l *lane) merge() {
	slices.SortStableFunc(l.added, byPlace)
	end := len(l.ready) // of what has its place to be found
	l.ready = append(l.ready, l.added...)
	for i, c := range slices.Backward(l.added) {
		at := above(l.ready[:end], c.At)
		copy(l.ready[at+i+1:], l.ready[at:end])
		l.ready[at+i] = c
		end = at
	}
	clear(l.added)
	l.added = l.added[:0]
}

// ended ends the pass at an offset, and takes out the cursors that it came to.
func (l *lane) ended(at record.Offset, into []*fanout.Cursor) []*fanout.Cursor {
	if !l.beside {
		l.passed = at
	}
	came := above(l.ready[l.from:], at)
	into = append(into, l.ready[l.from:l.from+came]...)
	l.ready = slices.Delete(l.ready, l.from, l.from+came)
	return into
}

// drain takes out all cursors.
func (l *lane) drain() []*fanout.Cursor {
	l.merge()
	all := l.ready
	l.ready = nil
	return all
}
