package roster_test

import (
	"context"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// TestTakeoverForgetsWhatNeverCame: a message of QoS 2 that the old connection had read and not appended when it lost
// the seat never gets to the log. So its packet id stands for a new message, or its PUBLISH would wait for ever when it
// comes again; that of one that was appended is pending still.
func TestTakeoverForgetsWhatNeverCame(t *testing.T) {
	r, _ := open(t, vfs.NewMemory(), nil)
	log := &appends{}
	old, _ := take(t, r, opening("c", 3600, false), &holder{})
	for _, id := range []uint16{1, 2, 300} {
		state := old.Lock()
		state.In.Add(id)
		old.Unlock()
	}
	if err := old.AppendExact(log, &stream.Unit{}, 1, []uint16{2}, nil); err != nil {
		t.Fatal(err)
	}
	_, got := take(t, r, opening("c", 3600, false), &holder{})
	if !got.Present {
		t.Fatal("the session is not there")
	}
	if err := old.AppendExact(log, &stream.Unit{}, 2, []uint16{1, 300}, nil); err == nil {
		t.Fatal("the old connection appends")
	}
	in := &got.State.In
	if a, b, c := in.Of(1), in.Of(2), in.Of(300); a != session.NotReceived || b != session.Pending || c != a {
		t.Errorf("1 is %d, 2 is %d, 300 is %d", a, b, c)
	}
	log.tell(0)
	if in.Of(2) != session.Known {
		t.Errorf("2 is %d, though it is stored", in.Of(2))
	}
}

// waits waits until a holder was told of so many units.
func (h *holder) waits(t *testing.T, units int) {
	t.Helper()
	until(t, "the units are settled", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.settled) == units
	})
}

// onLossy opens a roster on a log that may lose units.
func onLossy(t *testing.T, fs vfs.FS) (*roster.Roster, *lossy) {
	t.Helper()
	var log *lossy
	r, _ := open(t, fs, func(o *roster.Options) {
		log = &lossy{Keeper: o.Log}
		o.Log = log
	})
	return r, log
}

// received is what a restart at this moment knows of a packet id of a session.
func received(t *testing.T, fs *vfs.Memory, client string, id uint16) session.Arrival {
	t.Helper()
	r, _ := open(t, clone(t, fs), nil)
	_, got := take(t, r, opening(client, 3600, false), &holder{})
	if !got.Present {
		t.Fatal("the session is not there")
	}
	return got.State.In.Of(id)
}

// TestGatheredIsNotStored: a unit says nothing of a packet id whose message is for a later one.
func TestGatheredIsNotStored(t *testing.T) {
	fs := vfs.NewMemory()
	r, log := onLossy(t, fs)
	h := &holder{}
	term, _ := take(t, r, opening("c", 3600, false), h)
	state := term.Lock()
	state.In.Add(1)
	state.In.Add(2)
	term.Unlock()
	if err := term.AppendExact(log, &stream.Unit{}, 1, []uint16{1}, nil); err != nil {
		t.Fatal(err)
	}
	h.waits(t, 1)
	if a, b := received(t, fs, "c", 1), received(t, fs, "c", 2); a != session.Known || b != session.NotReceived {
		t.Errorf("1 is %d, 2 is %d", a, b)
	}
}

// TestChunksEndWithTheirSession: no packet id of a session comes to the next of its client, though the unit that
// released it was lost, and it is no more in memory than in the log.
func TestChunksEndWithTheirSession(t *testing.T) {
	fs := vfs.NewMemory()
	r, log := onLossy(t, fs)
	h := &holder{}
	term, _ := take(t, r, opening("c", 3600, false), h)
	if err := term.AppendExact(log, &stream.Unit{}, 1, []uint16{1}, nil); err != nil {
		t.Fatal(err)
	}
	h.waits(t, 1)
	log.set(true)
	if err := term.AppendExact(log, &stream.Unit{}, 1, nil, []uint16{1}); err != nil {
		t.Fatal(err)
	}
	h.waits(t, 2)
	log.set(false)
	term, _ = take(t, r, opening("c", 0, true), &holder{})
	leave(t, &term)
	take(t, r, opening("c", 3600, false), &holder{})
	if a := received(t, fs, "c", 1); a != session.NotReceived {
		t.Errorf("1 is %d", a)
	}
}

// meddler is a log in which something happens before the next unit that is of no session.
type meddler struct {
	stream.Keeper
	meddle func()
}

// Append implements stream.Log.
func (l *meddler) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	if _, ours := to.(*roster.Seat); !ours && l.meddle != nil {
		meddle := l.meddle
		l.meddle = nil
		meddle()
	}
	return l.Keeper.Append(u, to, ticket)
}

// TestCheckpointSaysNothingOld: a checkpoint that says anew which packet ids are known, because a unit was lost, does
// not take back what a unit says that comes meanwhile.
func TestCheckpointSaysNothingOld(t *testing.T) {
	fs := vfs.NewMemory()
	var log *meddler
	var lost *lossy
	r, _ := open(t, fs, func(o *roster.Options) {
		lost = &lossy{Keeper: o.Log}
		log = &meddler{Keeper: lost}
		o.Log = log
	})
	h := &holder{}
	term, _ := take(t, r, opening("c", 3600, false), h)
	arrives := func(id uint16) {
		if err := term.AppendExact(lost, &stream.Unit{}, 1, []uint16{id}, nil); err != nil {
			t.Error(err)
		}
	}
	arrives(1)
	h.waits(t, 1)
	lost.set(true)
	arrives(2)
	h.waits(t, 2)
	lost.set(false)
	log.meddle = func() { arrives(3) }
	r.Checkpoint(context.Background())
	if log.meddle != nil {
		t.Fatal("no checkpoint")
	}
	h.waits(t, 3)
	for id, want := range map[uint16]session.Arrival{
		1: session.Known, 2: session.NotReceived, 3: session.Known,
	} {
		if got := received(t, fs, "c", id); got != want {
			t.Errorf("%d is %d, want %d", id, got, want)
		}
	}
}
