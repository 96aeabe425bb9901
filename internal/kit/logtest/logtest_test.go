package logtest

import (
	"fmt"
	"strings"
	"testing"
)

// witness notes what a test would be told.
type witness struct {
	testing.TB
	errors, lines []string
	cleanup       func()
}

func (w *witness) Errorf(format string, args ...any) {
	w.errors = append(w.errors, fmt.Sprintf(format, args...))
}
func (w *witness) Logf(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}
func (w *witness) Cleanup(f func()) { w.cleanup = f }

func TestErrorsFailUnlessExpected(t *testing.T) {
	w := &witness{TB: t}
	logger := New(w, "the disk is gone", "retention failed")
	logger.Info("fine")
	logger.Warn("odd")
	logger.Error("retention failed; it is tried again", "error", "x")
	if len(w.errors) != 0 || len(w.lines) != 3 {
		t.Fatalf("failed with %q, logged %q", w.errors, w.lines)
	}
	logger.With("node", 7).WithGroup("g").Error("commit failed", "error", "io")
	want := "logged: ERROR commit failed node=7 g: error=io"
	if len(w.errors) != 1 || !strings.Contains(w.errors[0], want) {
		t.Fatalf("failed with %q, want %q", w.errors, want)
	}
	w.cleanup()
	logger.Error("too late")
	if len(w.errors) != 1 {
		t.Fatalf("a test that has ended fails: %q", w.errors)
	}
}
