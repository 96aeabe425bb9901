package kafka

import (
	"sync/atomic"
	"time"
)

// phase is what a connection is doing, as far as time limits care.
type phase uint32

const (
	idle    phase = iota // waiting for a request
	reading              // in the middle of a request
	writing              // in the middle of a response
	working              // answering: no limit
	phases
)

// tick is how often connections are looked at.
const tick = 5 * time.Second

// patience is how long a connection may stay in a phase without any progress, in ticks. 0: for ever.
var patience = [phases]uint32{
	idle:    uint32(10 * time.Minute / tick), // connections.max.idle.ms of Kafka
	reading: uint32(30 * time.Second / tick),
	writing: uint32(2 * time.Minute / tick),
}

// watchdog notes the phase of a connection and the tick in which it last made progress. It costs one
// store; the door looks at all connections each tick instead of a timer in each.
type watchdog struct {
	clock *atomic.Uint32 // the door's count of ticks
	state atomic.Uint64  // phase, and tick when it was set
}

func (w *watchdog) set(p phase) {
	if w.clock != nil {
		w.state.Store(uint64(p)<<32 | uint64(w.clock.Load()))
	}
}

// late tells whether the connection has been in a phase for too long.
func (w *watchdog) late() bool {
	state := w.state.Load()
	limit := patience[state>>32]
	return limit > 0 && w.clock.Load()-uint32(state) > limit
}
