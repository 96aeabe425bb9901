package mqtt

import (
	"errors"
	"io"
	"time"
)

// Who drives a connection: reads from it, consumes what came and ends it. A plain socket on Linux is driven by its
// poller. For what may block a goroutine takes over, until there is nothing left to do. Every other connection has a
// goroutine for as long as it lives.

var (
	// errBlocks is something that may block, and that the poller leaves to a goroutine.
	errBlocks = errors.New("left to a goroutine")
	// errCrowded is messages that wait until the log has room. The driver is woken then.
	errCrowded = errors.New("the log has no room now")
	// errSlowed is a message that waits because its client publishes too fast (pace).
	errSlowed = errors.New("the client publishes too fast")
)

// waits tells whether an error is that the packet in hand, and what comes behind it, is for later.
func waits(err error) bool { return errors.Is(err, errBlocks) || errors.Is(err, errSlowed) }

// poll drives for the poller, which has claimed the connection.
func (c *conn) poll(lent []byte) {
	defer c.rescue()
	for {
		more, err := c.step(lent, true)
		if err != nil || more { // a large client shall not hold up the others
			go c.drive(err)
			return
		}
		if c.letGo() {
			return
		}
	}
}

// drive drives in a goroutine of its own, until there is nothing to do or the connection ends for a cause.
func (c *conn) drive(cause error) {
	defer c.rescue()
	lent := c.door.buffers.take(bufferBytes)
	defer c.door.buffers.give(lent)
	for {
		for cause == nil || errors.Is(cause, errBlocks) {
			var more bool
			more, cause = c.step(lent.b[:cap(lent.b)], false)
			if cause == nil && !more && c.letGo() {
				return
			}
		}
		if c.finish(cause) {
			return
		}
		cause = nil // it lingers
	}
}

// letGo lets the poller drive again. False: there is news.
func (c *conn) letGo() bool {
	c.reader.rest()
	return c.hold.release()
}

// serve drives a connection that has no poller, in a goroutine, for as long as it lives. It waits with a small buffer
// and borrows a large one when more comes from a client that was accepted.
func (c *conn) serve() {
	defer c.rescue()
	const small = 1024
	own := make([]byte, small)
	var borrowed *buffer
	defer func() { c.door.buffers.give(borrowed) }()
	for {
		lent := own
		if borrowed != nil {
			lent = borrowed.b[:cap(borrowed.b)]
		}
		more, cause := c.step(lent, false)
		switch {
		case cause != nil:
			c.finish(cause)
			return
		case more && borrowed == nil && c.link.version != 0:
			borrowed = c.door.buffers.take(bufferBytes)
		case !more:
			c.door.buffers.give(borrowed)
			borrowed = nil
		}
	}
}

// step reads once and consumes what has come. More tells that the socket may have more. In a poller it does nothing
// that may block: it gives errBlocks instead. Any other error ends the connection.
func (c *conn) step(lent []byte, inPoller bool) (more bool, err error) {
	r := &c.reader
	switch {
	case c.lingers.Load():
		return c.discard(lent)
	case c.ending.Load():
		return false, errEnded
	case !c.mayTakeMessages():
		return c.stepAhead(lent)
	}
	if c.wire.sock == nil && !c.wire.awaitRoom(c.deafAfter()) {
		return false, errDeaf
	}
	b, more := r.kept, true
	if !r.whole {
		if b, more, err = c.read(lent); err != nil || b == nil {
			return more, err
		}
	}
	if c.waits.Load() != 0 {
		c.listenAgain()
	}
	used, err := c.consume(b, inPoller)
	if full := r.keep(b[used:]); full != nil && (err == nil || waits(err)) {
		return false, full
	}
	r.whole = waits(err) || errors.Is(err, errCrowded)
	c.note(used > 0)
	switch {
	case errors.Is(err, errSlowed) && c.wire.sock == nil:
		c.slowDown()
		return true, nil
	case errors.Is(err, errSlowed):
		c.slow()
		return c.stepAhead(lent)
	case errors.Is(err, errCrowded):
		return c.stepAhead(lent)
	}
	return more, err
}

// read reads behind what waits: b is all of that, nil when there is nothing to read. More is as in step.
func (c *conn) read(lent []byte) (b []byte, more bool, err error) {
	r := &c.reader
	if r.failed != nil {
		return nil, false, r.failed
	}
	if c.door.opt.Log.Crowded() && len(lent) > aheadBytes { // so that little waits
		lent = lent[:aheadBytes]
	}
	hungUp := c.hungUp.Load()
	if b, err = r.fill(&c.wire, lent, c.packetLimit()); err != nil {
		return nil, false, err
	}
	if b == nil && hungUp { // there would be an end: the event was of another connection
		c.hungUp.Store(false)
		return nil, true, nil
	}
	return b, b != nil && (len(b) == cap(b) || c.hungUp.Load() || c.wire.sock != nil && c.wire.sock.isOver()), nil
}

// mayTakeMessages tells whether the driver of a plain socket need not wait before it takes messages: for room in the
// log, and for the client to read our answers.
func (c *conn) mayTakeMessages() bool {
	if c.wire.sock == nil {
		return true
	}
	waits := c.waits.Load()
	if !c.wire.takesMore() {
		if waits&waitClient == 0 {
			c.tookAt.Store(int64(c.door.uptime()))
			c.waits.Or(waitClient)
			if c.timeout.Load() == 0 {
				c.timer.Reset(minDeaf)
			}
		}
		return false
	}
	if waits&waitClient != 0 {
		c.waits.And(^waitClient)
	}
	return waits&(waitLog|waitPace) == 0
}

// listenAgain is for messages that need not wait any more: the client has had no chance to be heard since they did.
func (c *conn) listenAgain() {
	if c.waits.Load()&notListening != 0 {
		c.note(true)
		c.waits.And(^notListening)
	}
}

// deafAfter is how long the client may take none of our answers while it goes on sending.
func (c *conn) deafAfter() time.Duration { return max(time.Duration(c.timeout.Load()), minDeaf) }

// minDeaf is for clients with a short keep alive, or none: who is slow to read but sends PINGREQ is not dead.
const minDeaf = 2 * time.Minute

// stepAhead is a step while messages wait: it handles the packets that need not, and reads little.
func (c *conn) stepAhead(lent []byte) (more bool, err error) {
	r := &c.reader
	took, err := c.lookAhead()
	if err != nil || r.failed != nil || r.barred || len(r.kept) >= aheadBytes {
		c.note(took)
		c.waits.Or(notListening)
		return false, err
	}
	b, err := r.fill(&c.wire, lent[:min(len(lent), len(r.kept)+aheadBytes)], c.packetLimit())
	if b == nil {
		r.failed = err // after what waits
		return false, nil
	}
	scanned := r.scanned
	if err := r.keep(b); err != nil {
		return false, err
	}
	r.scanned, r.whole = scanned, true
	more, err = c.lookAhead()
	c.note(took || more)
	return len(b) == cap(b) && len(r.kept) < aheadBytes, err
}

// note notes that whole packets came: only they count for the keep alive [MQTT-3.1.2-22], and for the time that a
// CONNECT has.
func (c *conn) note(whole bool) {
	if whole {
		c.heard.Store(int64(c.door.uptime()))
	}
}

// logRoomy implements linkDriver: the log calls it when messages that waited may be appended.
func (c *conn) logRoomy() {
	c.waits.And(^waitLog)
	c.wakeDriver()
}

// discard throws away what a client sends after its connection ended.
func (c *conn) discard(lent []byte) (more bool, err error) {
	n, err := c.wire.read(lent)
	if c.discarded += n; c.discarded > maxLinger && err == nil {
		err = io.ErrShortBuffer
	}
	return n == len(lent) || n > 0 && c.hungUp.Load(), err
}
