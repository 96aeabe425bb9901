// Package logtest is a Logger for tests. What a room logs as an error fails the test, unless the test asked for it:
// an error that is only logged, and tried again for ever, is an error all the same.
package logtest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
)

// New is a Logger that fails t at the level error, unless the message begins with one of the expected ones. All
// levels are in the test's log. What is logged after the end of the test is dropped. A fuzz target, which must not be
// told anything by others while it runs, is failed at its end, and has nothing else in its log.
func New(t testing.TB, expected ...string) *slog.Logger {
	s := &sink{t: t, expected: expected}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, line := range s.kept {
			t.Error(line)
		}
		s.t = nil
	})
	return slog.New(handler{sink: s})
}

// sink is the test behind all handlers of one Logger.
type sink struct {
	mu       sync.Mutex
	t        testing.TB // nil once the test has ended
	expected []string
	kept     []string // errors for the end of a fuzz target
}

type handler struct {
	sink *sink
	with string // attributes and groups given before, as text
}

var _ slog.Handler = handler{}

// Enabled implements slog.Handler.
func (handler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h handler) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	fmt.Fprintf(&line, "%s %s%s", r.Level, r.Message, h.with)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s", a)
		return true
	})
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	if h.sink.t == nil {
		return nil
	}
	expected := func(begin string) bool { return strings.HasPrefix(r.Message, begin) }
	wrong := r.Level >= slog.LevelError && !slices.ContainsFunc(h.sink.expected, expected)
	_, fuzz := h.sink.t.(*testing.F)
	switch {
	case fuzz && wrong:
		h.sink.kept = append(h.sink.kept, "logged: "+line.String())
	case fuzz:
	case wrong:
		h.sink.t.Errorf("logged: %s", &line)
	default:
		h.sink.t.Logf("logged: %s", &line)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.with += " " + a.String()
	}
	return h
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	h.with += " " + name + ":"
	return h
}
