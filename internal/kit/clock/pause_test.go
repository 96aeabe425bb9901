package clock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
)

// TestPause: a pause ends when its time is over, or with its context, and says why.
func TestPause(t *testing.T) {
	before := time.Now()
	if err := clock.Pause(t.Context(), 10*time.Millisecond); err != nil || time.Since(before) < 10*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(before))
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := clock.Pause(ctx, time.Hour); !errors.Is(err, why) {
		t.Errorf("it ended with %v", err)
	}
}
