package store

import (
	"testing"
	"time"
)

// TestSlowDisk: a slow read has the disk told what comes, for a while.
func TestSlowDisk(t *testing.T) {
	var d disk
	if d.slow() {
		t.Error("slow before any read")
	}
	d.took(slowRead / 2)
	if d.slow() {
		t.Error("slow after a quick read")
	}
	d.took(2 * slowRead)
	if !d.slow() {
		t.Error("not slow after a slow read")
	}
	d.last.Store(time.Now().Add(-2 * slowTime).UnixNano())
	if d.slow() {
		t.Error("slow for ever")
	}
}
