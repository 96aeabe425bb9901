package mqtt

import (
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// TestAFailedPollerEndsTheDoor is E24: the door does not go on, deaf to a part of its clients, when a poller fails.
func TestAFailedPollerEndsTheDoor(t *testing.T) {
	d := benchDoor(t)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(t.Context()) }()
	if err := d.pollers[0].file.Close(); err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case err := <-ended:
		if !fault.Is(err, fault.IO) {
			t.Errorf("Run gave %v", err)
		}
	case <-timer.C:
		t.Fatal("the door goes on")
	}
}
