package store

import (
	"testing"
	"time"
)

// TestJournalSize: files grow where they fill quickly or are bulk, and shrink where they fill slowly or are compacted.
func TestJournalSize(t *testing.T) {
	z := journalSize{least: 8, most: 64, now: 8}
	for i, step := range []struct {
		took time.Duration
		with content
		want int64
	}{
		{quickFill, mixed, 8}, {slowFill, mixed, 8}, {time.Hour, mixed, 8},
		{quickFill - 1, mixed, 16}, {quickFill - 1, mixed, 32}, {slowFill, mixed, 32},
		{0, mixed, 64}, {0, mixed, 64},
		{slowFill + 1, mixed, 32}, {time.Hour, bulk, 64}, {time.Hour, mixed, 32}, {time.Hour, mixed, 16},
		{0, mixed, 32}, {0, dedupe, 8}, {0, dedupe, 8},
	} {
		if z.filled(step.took, step.with); z.now != step.want {
			t.Fatalf("step %d, filled in %v: %d, want %d", i, step.took, z.now, step.want)
		}
	}
	if z.checkpoint(3); z.now != 48 {
		t.Errorf("%d with a checkpoint of 3", z.now)
	}
	if z.checkpoint(9); z.now != 64 {
		t.Errorf("%d with a checkpoint of 9", z.now)
	}
}
