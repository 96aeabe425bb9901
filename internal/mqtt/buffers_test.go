package mqtt

import (
	"testing"
	"time"
)

func TestLentSize(t *testing.T) {
	for _, c := range []struct{ n, want int }{
		{1, bufferBytes}, {bufferBytes, bufferBytes}, {bufferBytes + 1, 2 * bufferBytes},
		{2*bufferBytes + 1, 4 * bufferBytes}, {keptBuffer, keptBuffer}, {keptBuffer + 1, 0},
	} {
		if got := lentSize(c.n); got != c.want {
			t.Errorf("lentSize(%d) = %d, want %d", c.n, got, c.want)
		}
	}
}

// Whatever sizes come back, nobody is lent less than was asked for, or so much that it would count twice.
func TestBuffersLendWhatWasAskedFor(t *testing.T) {
	var p buffers
	for size := 1; size < 3*keptBuffer; size += size/7 + 1 {
		b := &buffer{b: make([]byte, size/2, size)}
		if got := p.give(b); got != size {
			t.Fatalf("give says %d of %d bytes", got, size)
		}
	}
	if p.give(nil) != 0 {
		t.Error("no buffer has a size")
	}
	for size := bufferBytes; size <= keptBuffer; size *= 2 {
		for range 8 {
			if b := p.take(size).b; len(b) != 0 || cap(b) < size || cap(b) >= 2*size {
				t.Fatalf("take(%d): %d of %d bytes", size, len(b), cap(b))
			}
		}
	}
}

// A long run goes out in pieces while the client takes them, not at its end.
func TestDeliverWritesBeforeTheEndOfALongRun(t *testing.T) {
	c, wrote := bench(t)
	newOffer(2*writeBytes>>10, 1<<10, 0).deliver(t, c)
	select {
	case n := <-wrote:
		if n < writeBytes {
			t.Errorf("the first piece has %d bytes, less than %d", n, writeBytes)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing is written without Flush")
	}
}
