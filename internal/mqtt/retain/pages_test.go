package retain_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt/retain"
)

// await waits for turns until the receiver has what it is to have.
func (r *receiver) await(t *testing.T, what string, has func() bool) {
	t.Helper()
	for {
		r.mu.Lock()
		done := has()
		r.mu.Unlock()
		if done {
			return
		}
		r.turn(t)
		if t.Failed() {
			t.Fatal(what)
		}
	}
}

// TestNamesAreListedInPages has a filter match names of 100 KiB together, of which a request may list 4 KiB at a time,
// while some are replaced and cleared: each that stays comes once, and no more of them are in memory than that.
func TestNamesAreListedInPages(t *testing.T) {
	const count, page = 1000, 4 << 10
	h := openWith(t, vfs.NewMemory(), retain.Options{Logger: logtest.New(t), PageBytes: page})
	name := func(i int) string { return fmt.Sprintf("pages/%s/%d", strings.Repeat("x", 80), i) }
	for i := range count {
		h.text(name(i), "old")
	}
	r := newReceiver(100)
	h.send("pages/#", r)
	r.await(t, "the first come", func() bool { return len(r.got) == 100 })
	early := r.taken()
	for i := 0; i < count; i += 3 {
		h.text(name(i), []string{"new", ""}[i%2])
		h.text(fmt.Sprintf("pages/more/%d", i), "new")
	}
	r.mu.Lock()
	r.credit = -1
	r.mu.Unlock()
	h.store.Resume(r.request)
	r.await(t, "all come", func() bool { return r.through == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range count {
		_, first := early[name(i)]
		if _, got := r.got[name(i)]; got != (first || i%3 != 0) {
			t.Errorf("%d comes: %v", i, got)
		}
		delete(r.got, name(i))
	}
	if len(r.got) > 0 || len(r.twice) > 0 {
		t.Errorf("%d more come, %v twice", len(r.got), r.twice)
	}
	if r.most > 2*page || r.held != 0 {
		t.Errorf("%d bytes of names at a time, %d at the end, a page has %d", r.most, r.held, page)
	}
}

// TestNothingIsListedForWhoCannotTakeIt has a receiver that is not ready, and one without room.
func TestNothingIsListedForWhoCannotTakeIt(t *testing.T) {
	h := open(t, vfs.NewMemory(), 0)
	h.text("a", "x")
	deaf, full, other := newReceiver(-1), newReceiver(-1), newReceiver(-1)
	deaf.deaf, full.full = true, true
	h.send("#", deaf)
	h.send("#", full)
	h.send("#", other)
	other.turn(t) // those before it had theirs
	deaf.wantThrough(t, 0)
	full.wantThrough(t, 1) // what is live does not wait for memory
	for _, r := range []*receiver{deaf, full} {
		r.mu.Lock()
		if r.held != 0 || len(r.got) != 0 {
			t.Errorf("%d bytes of names, %d messages", r.held, len(r.got))
		}
		r.deaf, r.full = false, false
		r.mu.Unlock()
	}
	h.store.Resume(deaf.request)
	deaf.turn(t)
	full.turn(t)
	for _, r := range []*receiver{deaf, full} {
		r.wantThrough(t, 1)
		same(t, r.taken(), "a", "x")
	}
}

// TestNothingRetainedNeedsNoTurn subscribes where nothing is retained: the request is through at once, so that nothing
// live waits for it. What is under way, or may be retained, is waited for.
func TestNothingRetainedNeedsNoTurn(t *testing.T) {
	h := open(t, vfs.NewMemory(), 0)
	h.text("some/1", "x")
	h.find("some/1") // it is in the index
	for filter, atOnce := range map[string]bool{
		"none/1": true, "none/#": true, "some/2": true, "some/1/#": false, "some/#": false, "+/2": false, "#": false,
	} {
		r := newReceiver(-1)
		ask := h.store.Begin()
		ask.Send(filter, "", r, 1)
		if r.isThrough() != atOnce {
			t.Errorf("%s is through at once: %v", filter, r.isThrough())
		}
		ask.End()
		if !atOnce {
			r.turn(t)
		}
		r.wantThrough(t, 1)
	}
	unit := h.retainedUnit(900)
	flight := h.store.Track(unit, nil)
	r := newReceiver(-1)
	ask := h.store.Begin()
	ask.Send("none/1", "", r, 1)
	r.wantThrough(t, 0)
	ask.End()
	r.wantThrough(t, 0)
	flight.Drop()
	r.turn(t)
	r.wantThrough(t, 1)
}
