package mqtt

import "sync/atomic"

// hold says who drives a connection: its poller, a goroutine, or nobody. Whoever claims it may read from the
// socket and touch what belongs to the driver, until it lets go. A claim while another drives makes that one
// look again before it lets go, so that no news is lost.
type hold struct{ state atomic.Uint32 }

const (
	unheld uint32 = iota
	held
	heldNews // and there is news that the driver has not seen
)

// claim tells whether the caller drives from now on.
func (h *hold) claim() bool {
	for {
		switch h.state.Load() {
		case unheld:
			if h.state.CompareAndSwap(unheld, held) {
				return true
			}
		case held:
			if h.state.CompareAndSwap(held, heldNews) {
				return false
			}
		default:
			return false
		}
	}
}

// release lets go. False: there is news, and the caller goes on driving.
func (h *hold) release() bool {
	if h.state.CompareAndSwap(held, unheld) {
		return true
	}
	h.state.Store(held)
	return false
}
