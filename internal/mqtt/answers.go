package mqtt

import "sync/atomic"

// answers holds back what comes live while retained messages are on their way that answer a SUBSCRIBE: they are older,
// and to the subscriber the last message of a topic is its state (section 4.6: messages of one topic and publisher come
// in their order). What is held back the session reads from the log afterwards; nothing is dropped for it.
type answers struct {
	open atomic.Int32 // requests for retained messages that are not through, and SUBSCRIBEs in hand
	held atomic.Bool  // a delivery was told Later since
}

func (a *answers) begin() { a.open.Add(1) }

// end tells whether deliveries that were held back can go on.
func (a *answers) end() bool { return a.open.Add(-1) == 0 && a.held.Swap(false) }

// holdBack tells whether a live message has to wait.
func (a *answers) holdBack() bool {
	if a.open.Load() == 0 {
		return false
	}
	a.held.Store(true)
	return a.open.Load() > 0 // else the last one came through just now, and may not have seen it
}
