package torture

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const (
	tornBytes = 64 << 10 // how much of the journal's end is wiped: many frames
	tornLeast = 2000     // messages of 130 bytes on average and more, so that the journal is longer than that
)

// TestKillIsNotBlind plants a fault in the data itself: after the kill the end of the journal is wiped, as if
// what was acknowledged had never been written. Whoever says then that all is well is blind.
func TestKillIsNotBlind(t *testing.T) {
	l := &load{t: t, s: newServer(t), h: newHistory(), before: snapshot{}}
	l.open(rand.New(rand.NewPCG(1, 1)))
	l.suffer(1, 500*time.Millisecond, tornLeast)
	for _, p := range l.producers {
		p.c.Close() // or the new server acknowledges what comes behind the look at its log: that is no loss
	}
	wipeEnd(t, filepath.Join(l.s.data, "log"), l.h)
	if _, err := l.s.start(); err != nil {
		t.Fatalf("the end of a journal is no reason not to start: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	var now finds
	if err := readAll(ctx, l.s.kafka, &now); err != nil {
		t.Logf("seen: the log cannot be read: %v", err)
		return
	}
	now.seen, _ = l.h.consumed()
	v := &verdict{}
	l.h.mu.Lock()
	checkMessages(v, l.h, &now, checkValues(&verdict{}, l.h, now.log))
	checkPlaces(v, l.h, nil, &now)
	l.h.mu.Unlock()
	if v.kinds["lost"] == 0 {
		t.Errorf("%d KiB of the log were wiped, and nothing was said of a loss:\n%s", tornBytes>>10, v)
		return
	}
	t.Logf("seen: %v", v.kinds)
}

// wipeEnd fills the last bytes that are not zero of the newest journal with zeros: as many as it takes to have
// something acknowledged among them, where more than usual was under way.
func wipeEnd(t *testing.T, dir string, h *history) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil || len(names) == 0 {
		t.Fatalf("journals in %s: %v, %v", dir, names, err)
	}
	name := names[len(names)-1] // numbers of 16 digits: the last is the newest
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	end := len(b)
	for end > 0 && b[end-1] == 0 {
		end--
	}
	from := max(0, end-tornBytes)
	at := lastAcked(h, b)
	if at < 0 {
		t.Fatalf("%s has nothing that was acknowledged", name)
	}
	if at < from {
		t.Logf("wiped from %d on, not from %d: nothing was acknowledged behind", at, from)
	}
	clear(b[min(from, at):end])
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lastAcked is where the newest acknowledged publish is in a journal, -1 if none is there.
func lastAcked(h *history, journal []byte) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range slices.Backward(h.messages) {
		if m.once || m.topic == retainedTopic || !m.acked.Load() {
			continue
		}
		if at := bytes.LastIndex(journal, []byte(m.value)); at >= 0 {
			return at
		}
	}
	return -1
}
