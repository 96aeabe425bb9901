package mqtt

import (
	"errors"
	"time"
)

// The outbox of a wire: what waits to be written.

// size is how many bytes wait or are being written. It needs w.mu, as all whose names end in Locked.
func (w *wire) sizeLocked() int {
	if w.mu.buf == nil {
		return w.mu.left
	}
	return len(w.mu.buf.b) + w.mu.left
}

// pendingLocked is the slice to append to. putLocked takes it back.
func (w *wire) pendingLocked() []byte {
	if w.mu.buf == nil {
		if size := w.firstBuffer(); size < bufferBytes {
			w.mu.buf = &buffer{b: make([]byte, 0, size)}
		} else {
			w.mu.buf = w.door.buffers.take(bufferBytes)
		}
	}
	return w.mu.buf.b
}

// putLocked takes what pendingLocked gave, longer by what was appended.
func (w *wire) putLocked(b []byte) {
	if w.mu.broken {
		b = b[:0]
	}
	w.mu.buf.b = b
	if n := cap(b); n > w.mu.counted {
		w.account.Add(int64(n - w.mu.counted))
		w.mu.counted = n
	}
}

// takeLocked appends a message and returns the outbox from its first byte on; nil: it is full. A message that waits
// then has the user told when there is room.
func (w *wire) takeLocked(message []byte, waits bool) []byte {
	bound := w.door.opt.OutboxBytes
	b := w.mu.buf
	if b == nil || len(b.b)+len(message) > cap(b.b) || len(message) > bound {
		return w.takeMoreLocked(message, waits)
	}
	from := len(b.b)
	if from+w.mu.left-w.mu.large >= bound {
		return w.refuseLocked(waits)
	}
	b.b = append(b.b, message...)
	return b.b[from:]
}

// takeMoreLocked is takeLocked for a message that needs more memory than the outbox has, or is larger than its bound.
func (w *wire) takeMoreLocked(message []byte, waits bool) []byte {
	if w.fullLocked(len(message), waits) {
		return w.refuseLocked(waits)
	}
	w.growLocked(len(message))
	b := w.pendingLocked()
	from := len(b)
	w.putLocked(append(b, message...))
	if len(message) > w.door.opt.OutboxBytes {
		w.mu.large, w.mu.behind = len(message), w.mu.written+int64(w.sizeLocked())
	}
	return w.mu.buf.b[from:]
}

// dropLocked takes the last n bytes of the outbox out again.
func (w *wire) dropLocked(n int) { w.mu.buf.b = w.mu.buf.b[:len(w.mu.buf.b)-n] }

func (w *wire) refuseLocked(waits bool) []byte {
	if waits {
		w.starved.Store(true)
	}
	return nil
}

// fullLocked tells whether a message of n bytes has to wait: for room within the bound of the outbox, or for memory
// within our share of the budget of the door. One that is larger than a bound by itself is legal: one at a time may be
// in the outbox, and does not count for what comes behind it. When only the budget stands in the way of one that waits,
// the user is told once there may be room.
func (w *wire) fullLocked(n int, waits bool) bool {
	bound := w.door.opt.OutboxBytes
	if w.sizeLocked()-w.mu.large >= bound || n > bound && w.mu.large > 0 {
		return true
	}
	if b := w.mu.buf; b != nil && len(b.b)+n <= cap(b.b) { // it takes no memory
		return false
	}
	memory := int64(w.mu.flying + w.mu.counted)
	wants := int64(w.mu.flying + max(w.mu.counted, w.grownLocked(n)))
	budget := w.door.budget
	switch {
	case wants == memory, wants <= max(budget.Share(), minShare):
		return false
	case memory == 0 && int64(n) <= budget.Free()/2: // larger than our share by itself
		return false
	}
	if memory == 0 && waits && !w.mu.queuing { // nothing is to be written that would wake us
		w.mu.queuing = true
		budget.Wait(w.user.memoryRoomy)
	}
	return true
}

// minShare is what every outbox may hold, however little the budget leaves.
const minShare = 1 << 10

// grownLocked is the memory that the outbox has, or will have, when n more bytes wait.
func (w *wire) grownLocked(n int) int {
	var have, room int
	if w.mu.buf != nil {
		have, room = len(w.mu.buf.b), cap(w.mu.buf.b)
	} else {
		room = w.firstBuffer()
	}
	if have+n <= room {
		return room
	}
	if lent := lentSize(have + n); lent > 0 && int64(w.mu.flying+lent) <= w.door.budget.Share()/2 {
		return lent
	}
	return (have + n) / 4 * 5 // as little as is worth while: memory is scarce, or it is too large to be lent
}

// firstBuffer is how large the memory of an outbox is at first: a small piece when memory is scarce.
func (w *wire) firstBuffer() int {
	if w.door.budget.Share() < 4*bufferBytes {
		return smallBuffer
	}
	return bufferBytes
}

// growLocked makes room for n more bytes.
func (w *wire) growLocked(n int) {
	room, b := w.grownLocked(n), w.pendingLocked()
	if room <= cap(b) {
		return
	}
	small := w.mu.buf
	if room == lentSize(room) {
		w.mu.buf = w.door.buffers.take(room)
	} else {
		w.mu.buf = &buffer{b: make([]byte, 0, room)}
	}
	w.mu.buf.b = append(w.mu.buf.b, b...)
	w.door.buffers.give(small)
}

// writeBytes is how much of a run waits for the end of the run: more is written before, while it is in the caches of
// the processor, unless the client is behind.
const writeBytes = 48 << 10

// ripeLocked tells whether so much waits that it is to be pushed before the end of the run.
func (w *wire) ripeLocked() bool {
	return w.mu.buf != nil && len(w.mu.buf.b) >= writeBytes && !w.stalled.Load()
}

// put puts bytes that appendTo appends into the outbox, unless it is closed, and has them written.
func (w *wire) put(appendTo func([]byte) []byte) {
	w.append(appendTo)
	w.push()
}

func (w *wire) append(appendTo func([]byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.closed {
		w.putLocked(appendTo(w.pendingLocked()))
	}
}

// shut puts the last bytes into the outbox, if any, which takes nothing after them [MQTT-3.14.4-1].
func (w *wire) shut(last []byte) {
	w.shutWith(last)
	w.push()
}

func (w *wire) shutWith(last []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.closed && len(last) > 0 {
		w.putLocked(append(w.pendingLocked(), last...))
	}
	w.mu.closed = true
}

// push writes what waits, unless somebody does so already, who then goes on with it. It does not wait for the client:
// what a plain socket does not take now goes out when its poller says that it does; any other connection is written by
// a goroutine that lives as long as something waits.
func (w *wire) push() {
	switch {
	case !w.sends.claim():
	case w.sock != nil:
		w.write()
	default:
		go w.net.writer()
	}
}

// write writes until nothing waits or the socket takes no more. The caller has claimed sends.
func (w *wire) write() {
	for {
		b := w.nextWrite()
		if b == nil {
			if w.sends.release() {
				return
			}
			continue
		}
		w.stalled.Store(true) // before the write, so that the poller's news about it is not lost
		n, err := w.transmit(b)
		again := errors.Is(err, errAgain)
		if !again {
			w.stalled.Store(false)
		}
		w.wrote(n, err)
		if again && w.sends.release() {
			return
		}
	}
}

// transmit gives bytes to the socket. With errAgain it took only a part.
func (w *wire) transmit(b []byte) (int, error) {
	if w.sock != nil {
		return w.sock.write(b)
	}
	return w.net.Write(b)
}

// nextWrite is what to write next; nil: nothing waits.
func (w *wire) nextWrite() []byte {
	b, freed := w.takeFlight()
	w.account.Add(-int64(freed))
	if freed > 0 && w.starved.Load() { // memory may be what a delivery waited for
		w.user.roomy(true, false)
	}
	return b
}

// takeFlight is the rest of what is being written, or what waits in its place, and how many bytes of memory are not
// needed any more.
func (w *wire) takeFlight() (b []byte, freed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if left := w.mu.left; left > 0 {
		return w.flight.b[len(w.flight.b)-left:], 0
	}
	freed = w.door.buffers.give(w.flight)
	w.flight, w.mu.buf, w.mu.flying, w.mu.counted = w.mu.buf, nil, w.mu.counted, 0
	if w.flight == nil || len(w.flight.b) == 0 {
		freed += w.door.buffers.give(w.flight)
		w.flight, w.mu.flying = nil, 0
		signal(&w.mu.idle)
		return nil, freed
	}
	if t := w.tap.Load(); t != nil {
		t.take(false, w.flight.b)
	}
	w.mu.left = len(w.flight.b)
	return w.flight.b, freed
}

// wrote takes note of what the socket took.
func (w *wire) wrote(n int, err error) {
	w.door.metrics.bytesSent.Add(float64(n))
	failed := err != nil && !errors.Is(err, errAgain)
	deliveries, driver := w.note(n, failed)
	if failed {
		w.close()
	}
	if deliveries || driver || failed {
		w.user.roomy(deliveries, driver || failed)
	}
}

// note takes what was written off the outbox. A socket that failed is given up with all that waits. It tells who
// waited for room that there is now: at half of the bound, so that it is worth while.
func (w *wire) note(n int, failed bool) (deliveries, driver bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.left -= n
	w.mu.written += int64(n)
	if w.mu.written >= w.mu.behind || failed {
		w.mu.large = 0
	}
	if failed {
		w.mu.broken, w.mu.left = true, 0
		if w.mu.buf != nil {
			w.mu.buf.b = w.mu.buf.b[:0]
		}
	}
	if !w.roomyLocked() || n == 0 && !failed {
		return false, false
	}
	signal(&w.mu.room)
	driver = w.mu.held
	w.mu.held = false
	return w.starved.Load(), driver
}

func (w *wire) roomyLocked() bool { return w.sizeLocked()-w.mu.large <= w.door.opt.OutboxBytes/2 }

func signal(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

// unstarve tells whether a delivery found no room and there is some now: then the user wakes those who wait.
func (w *wire) unstarve() bool {
	if !w.starved.Load() {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.roomyLocked() && w.starved.Swap(false)
}

// takesMore tells whether our answers are read. If not, the client's packets wait, and the user is told when there is
// room again. Back-pressure.
func (w *wire) takesMore() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.held = w.sizeLocked()-w.mu.large > w.door.opt.OutboxBytes && !w.mu.broken && !w.mu.closed && !w.mu.waking
	return !w.mu.held
}

// wakeAwaitRoom has a driver go on that waits in awaitRoom.
func (w *wire) wakeAwaitRoom() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.waking = true
	signal(&w.mu.room)
}

// awaitRoom holds a driver back that has a goroutine, while the client does not read our answers. It gives up, false,
// when the client took nothing for so long.
func (w *wire) awaitRoom(most time.Duration) bool {
	for !w.takesMore() {
		w.mu.Lock()
		if w.mu.room == nil {
			w.mu.room = make(chan struct{})
		}
		room, before := w.mu.room, w.mu.written
		roomy := w.roomyLocked()
		w.mu.Unlock()
		if !roomy && !await(room, most) && w.progress() == before {
			return false
		}
	}
	return true
}

// progress is how many bytes the socket took, ever.
func (w *wire) progress() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.written
}

// awaitIdle waits until everything is written, at most for the time given.
func (w *wire) awaitIdle(most time.Duration) {
	if idle := w.untilIdle(); idle != nil {
		await(idle, most)
	}
}

// untilIdle is closed when everything is written; nil: it is.
func (w *wire) untilIdle() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sizeLocked() == 0 {
		return nil
	}
	if w.mu.idle == nil {
		w.mu.idle = make(chan struct{})
	}
	return w.mu.idle
}

// await waits for a channel to be closed, at most for the time given.
func await(closed <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-closed:
		return true
	case <-timer.C:
		return false
	}
}
