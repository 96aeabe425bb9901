package store

import (
	"testing"
	"time"
)

// TestPace: a disk is slow after some slow syncs in a row, until one that is quick; and now and then one goes alone.
func TestPace(t *testing.T) {
	p := pace{slow: time.Millisecond}
	for i := range slowSyncs {
		if p.beside() {
			t.Fatalf("slow after %d syncs", i)
		}
		p.alone(time.Millisecond)
	}
	for range aloneEvery {
		if !p.beside() {
			t.Fatal("not slow after slow syncs")
		}
		p.since++
	}
	if p.beside() {
		t.Error("none goes alone")
	}
	if p.alone(2 * time.Millisecond); !p.beside() {
		t.Error("one that is slow, alone, ends it")
	}
	if p.alone(time.Millisecond - 1); p.beside() {
		t.Error("still slow after a quick one")
	}
	if p.alone(time.Hour); p.beside() {
		t.Error("slow after a single long sync")
	}
}
