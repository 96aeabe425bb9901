package roster_test

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/stream"
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
