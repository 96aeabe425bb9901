package stream

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
)

// ErrCrowded is the error of an Append for which there is no room now.
var ErrCrowded error = fault.New(fault.Limited, "log.Append", "the log takes in what came before")

// Turn is a place in the line of those who wait for room. It belongs to one caller, who puts it into the
// units that he appends one after the other; the keeper writes its place into it.
type Turn struct {
	// Roomy is called when the unit may be appended again, from the keeper's own goroutine. It must
	// not block, nor call the log back.
	Roomy func()

	place  uint64 // in the order of arrival; 0: it does not wait
	bytes  int64
	inLine bool
	called uint64 // by which call it was called last, from 1; 0: it has come since
}

// Line is the line of those who wait for room: who came first goes first. A keeper has one, under its
// own lock. Room is kept for who was called: else those who are called behind him might take it.
type Line struct {
	turns []*Turn // by place
	last  uint64

	called    int64   // bytes of those who were called and have not come
	calls     uint64  // calls of Next
	forgotten uint64  // up to which nothing is kept for who was called
	furthest  uint64  // the last place that was called
	again     []*Turn // who was called behind later places, and has not come
}

// Ahead tells whether somebody who waits comes before a turn; nil is one that has just come.
func (l *Line) Ahead(t *Turn) bool {
	if len(l.turns) > 0 && (t == nil || t.place == 0 || l.turns[0].place < t.place) {
		return true
	}
	// Who came too late and was called once more is not overtaken by who was called before that.
	return t != nil && t.place != 0 && slices.ContainsFunc(l.again, func(other *Turn) bool {
		return other.place < t.place && other.called > t.called
	})
}

// Wait puts a turn into the line with what its unit takes, at the place that it has or behind all others.
func (l *Line) Wait(t *Turn, bytes int64) {
	l.come(t)
	if t.bytes = bytes; t.inLine {
		return
	}
	if t.place == 0 {
		l.last++
		t.place = l.last
	}
	at, _ := slices.BinarySearchFunc(l.turns, t, func(a, b *Turn) int { return int(int64(a.place - b.place)) })
	l.turns = slices.Insert(l.turns, at, t)
	t.inLine = true
}

// Pass takes a turn out of the waiting: its unit was appended, or will not be.
func (l *Line) Pass(t *Turn) {
	l.come(t)
	if t.inLine {
		l.turns = slices.DeleteFunc(l.turns, func(other *Turn) bool { return other == t })
	}
	t.place, t.inLine = 0, false
}

// come notes that one came who was called.
func (l *Line) come(t *Turn) {
	if t.called > l.forgotten {
		l.called -= t.bytes
	}
	if t.called = 0; len(l.again) > 0 {
		l.again = slices.DeleteFunc(l.again, func(other *Turn) bool { return other == t })
	}
}

// Next takes the first turns out of the line, as many as have room in so many bytes beside those who were called and
// have not come, but at least one if there are none of these, and appends them to into. They keep their place until
// their unit is appended.
func (l *Line) Next(room int64, into []*Turn) []*Turn {
	n := 0
	l.calls++
	for n < len(l.turns) && l.called < room {
		t := l.turns[n]
		t.inLine, t.bytes, t.called = false, max(t.bytes, 1), l.calls
		l.called += t.bytes
		if t.place < l.furthest {
			l.again = append(l.again, t)
		}
		l.furthest = max(l.furthest, t.place)
		n++
	}
	into = append(into, l.turns[:n]...)
	l.turns = slices.Delete(l.turns, 0, n)
	return into
}

// Called tells whether somebody was called and has not come. He may have given up.
func (l *Line) Called() bool { return l.called > 0 }

// Forget gives the room away that is kept for those who were called. Their places in the line stay theirs.
func (l *Line) Forget() { l.called, l.forgotten, l.again = 0, l.calls, nil }

// Len is how many wait.
func (l *Line) Len() int { return len(l.turns) }

// AppendWait appends a unit and waits, in turn, while there is no room. It is for callers that may block.
// Errors: those of Log.Append but ErrCrowded; Timeout when ctx ends.
func AppendWait(ctx context.Context, log Log, u *Unit, to Receipt, ticket uint64) error {
	return WaitForRoom(ctx, &u.Turn, func() error { return log.Append(u, to, ticket) })
}

// WaitForRoom calls an Append again and again, with a turn of its own, while it gives ErrCrowded.
// Errors: what the last call gave; Timeout when ctx ends.
func WaitForRoom(ctx context.Context, turn **Turn, appendUnit func() error) error {
	err := appendUnit()
	if !errors.Is(err, ErrCrowded) {
		return err
	}
	w, _ := waits.Get().(*wait) // the pool holds nothing else
	before := *turn
	*turn = &w.turn
	defer func() { *turn = before }()
	for errors.Is(err, ErrCrowded) {
		if err = appendUnit(); !errors.Is(err, ErrCrowded) {
			waits.Put(w)
			return err
		}
		select {
		case <-w.roomy:
		case <-ctx.Done():
			return fault.Wrap(fault.Timeout, "log.Append", ctx.Err()) // w is still in the line
		}
	}
	return err
}

// wait is a turn with a goroutine that waits for it.
type wait struct {
	turn  Turn
	roomy chan struct{}
}

var waits = sync.Pool{New: func() any {
	w := &wait{roomy: make(chan struct{}, 1)}
	w.turn.Roomy = func() {
		select {
		case w.roomy <- struct{}{}:
		default:
		}
	}
	return w
}}
