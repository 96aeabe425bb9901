package vfs

import (
	"fmt"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// TestHandlesAreBounded reads many files by turns, from many goroutines: no more than asked for are open, and each
// gives its own bytes.
func TestHandlesAreBounded(t *testing.T) {
	const most, count, readers = 3, 20, 4
	each(t, func(t *testing.T, fs FS) {
		h := NewHandles(fs, most)
		var all []File
		for i := range count {
			name := fmt.Sprintf("f%02d", i)
			put(t, fs, name, name)
			f, err := h.Open(name)
			must(t, err)
			all = append(all, f)
		}
		if n := h.Opened(); n != most {
			t.Errorf("%d files are open, want %d", n, most)
		}
		var wg sync.WaitGroup
		for r := range readers {
			wg.Go(func() { readByTurns(t, h, all, r*5, most+readers) })
		}
		wg.Wait()
		if size, err := all[0].Size(); size != 3 || err != nil {
			t.Errorf("%d bytes, %v", size, err)
		}
		for _, f := range all {
			must(t, f.Close())
		}
		if n := h.Opened(); n != 0 {
			t.Errorf("%d files are left open", n)
		}
	})
}

// readByTurns reads files whose content is their name.
func readByTurns(t *testing.T, h *Handles, all []File, from, most int) {
	for i := range 10 * len(all) {
		at := (i*7 + from) % len(all)
		b := make([]byte, 3)
		if _, err := all[at].ReadAt(b, 0); err != nil || string(b) != fmt.Sprintf("f%02d", at) {
			t.Errorf("file %d: %q, %v", at, b, err)
		}
		if n := h.Opened(); n > most {
			t.Errorf("%d files are open", n)
		}
	}
}

func TestHandlesAreForReading(t *testing.T) {
	fs := NewMemory()
	put(t, fs, "a", "a")
	h := NewHandles(fs, 1)
	a, err := h.Open("a")
	must(t, err)
	_, err = a.WriteAt([]byte("x"), 0)
	wantKind(t, err, fault.Invalid, "a")
	must(t, a.Close())
	_, err = a.ReadAt(make([]byte, 1), 0)
	wantKind(t, err, fault.Closed, "a")
	wantKind(t, a.Close(), fault.Closed, "a")
	_, err = h.Open("none")
	wantKind(t, err, fault.NotFound, "none")
}

// TestHandlesOpenAgainByName: what is not open is looked for by its name, and told when it is gone.
func TestHandlesOpenAgainByName(t *testing.T) {
	fs := NewMemory()
	put(t, fs, "a", "a")
	put(t, fs, "b", "b")
	h := NewHandles(fs, 1)
	a, err := h.Open("a")
	must(t, err)
	b, err := h.Open("b")
	must(t, err)
	must(t, fs.Remove("a"))
	if _, err := b.ReadAt(make([]byte, 1), 0); err != nil {
		t.Error(err)
	}
	_, err = a.ReadAt(make([]byte, 1), 0)
	wantKind(t, err, fault.NotFound, "a")
}
