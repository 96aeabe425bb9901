package mqtt

import (
	"errors"
	"time"
)

// outbox is the write side of a connection: bytes that wait to be written. This file is the only place that
// decides when and how bytes go to the socket. All fields but flight are guarded by conn.mu.
type outbox struct {
	buf    *buffer // waits to be written; nil when empty
	left   int     // bytes of flight that are not written
	broken bool    // the socket is gone: nothing is taken any more
	queued bool    // a pusher has the connection on its list
	idle   chan struct{}
	room   chan struct{}

	flight *buffer // is being written; it belongs to who holds conn.sends
}

// size is how many bytes wait or are being written.
func (o *outbox) size() int {
	if o.buf == nil {
		return o.left
	}
	return len(o.buf.b) + o.left
}

// pending is the slice to append to. put takes it back.
func (c *conn) pending() []byte {
	o := &c.mu.out
	if o.buf == nil {
		o.buf = c.door.takeBuffer()
	}
	return o.buf.b
}

// put takes what pending gave, longer by what was appended. It needs c.mu.
func (c *conn) put(b []byte) {
	if o := &c.mu.out; o.broken {
		o.buf.b = b[:0]
	} else {
		o.buf.b = b
	}
}

// push writes what waits, unless somebody does so already, who then goes on with it. It does not wait for
// the client: what a plain socket does not take now goes out when its poller says that it does; any other
// connection is written by a goroutine that lives as long as something waits.
func (c *conn) push() {
	switch {
	case !c.sends.claim():
	case c.sock != nil:
		c.write()
	default:
		go c.writer()
	}
}

// resume goes on with a write that the socket did not take whole. The poller calls it.
func (c *conn) resume() { c.push() }

// write writes until nothing waits or the socket takes no more. The caller has claimed c.sends.
func (c *conn) write() {
	for {
		b := c.nextWrite()
		if b == nil {
			if c.sends.release() {
				return
			}
			continue
		}
		c.stalled.Store(true) // before the write, so that the poller's news about it is not lost
		n, err := c.transmit(b.b[len(b.b)-c.mu.out.left:])
		again := errors.Is(err, errAgain)
		if !again {
			c.stalled.Store(false)
		}
		c.wrote(n, err)
		if again && c.sends.release() {
			return
		}
	}
}

// transmit gives bytes to the socket. With errAgain it took only a part.
func (c *conn) transmit(b []byte) (int, error) {
	if c.sock != nil {
		return c.sock.write(b)
	}
	return c.net.Write(b)
}

// nextWrite is the buffer to write from next; nil: nothing waits.
func (c *conn) nextWrite() *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.mu.out
	if o.left > 0 {
		return o.flight
	}
	spent := o.flight
	o.flight, o.buf = o.buf, nil
	c.door.giveBuffer(spent)
	if o.flight == nil || len(o.flight.b) == 0 {
		c.door.giveBuffer(o.flight)
		o.flight = nil
		signal(&o.idle)
		return nil
	}
	o.left = len(o.flight.b)
	return o.flight
}

// wrote takes note of what the socket took.
func (c *conn) wrote(n int, err error) {
	c.door.metrics.bytesSent.Add(float64(n))
	failed := err != nil && !errors.Is(err, errAgain)
	c.mu.Lock()
	c.mu.out.left -= n
	if failed {
		c.breakLocked()
	}
	wake := c.roomLocked()
	c.mu.Unlock()
	if failed {
		c.hangUp()
	}
	if wake {
		c.wake()
	}
}

// breakLocked gives up the write side: what waits is lost with the connection.
func (c *conn) breakLocked() {
	o := &c.mu.out
	o.broken, o.left = true, 0
	if o.buf != nil {
		o.buf.b = o.buf.b[:0]
	}
	signal(&o.room)
}

// roomLocked is asked whenever something left: whether to wake what waits for room. The driver waits for
// room at half of the bound, deliveries also for half of the window.
func (c *conn) roomLocked() (wake bool) {
	o := &c.mu.out
	if o.size() > c.door.opt.OutboxBytes/2 {
		return false
	}
	signal(&o.room)
	if !c.mu.starved || !c.mu.session.Out.Roomy() {
		return false
	}
	c.mu.starved = false
	return true
}

func signal(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

// hasRoom tells whether our answers are read: if not, the client's packets wait. Back-pressure.
func (c *conn) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roomyLocked()
}

func (c *conn) roomyLocked() bool {
	o := &c.mu.out
	return o.size() <= c.door.opt.OutboxBytes || o.broken || c.ending.Load()
}

// awaitRoom holds the driver back while the client does not read our answers. It gives up, false, when the
// client took nothing for as long as its keep alive allows.
func (c *conn) awaitRoom() bool {
	c.mu.Lock()
	if c.roomyLocked() {
		c.mu.Unlock()
		return true
	}
	o := &c.mu.out
	if o.room == nil {
		o.room = make(chan struct{})
	}
	room := o.room
	c.mu.Unlock()

	patience := time.Duration(c.patience.Load())
	if patience == 0 {
		patience = maxPatience
	}
	return await(room, patience)
}

// maxPatience is how long a client without keep alive may leave our answers unread while it goes on
// sending.
const maxPatience = 2 * time.Minute

// awaitIdle waits until everything is written, at most for the time given.
func (c *conn) awaitIdle(most time.Duration) {
	c.mu.Lock()
	o := &c.mu.out
	if o.size() == 0 {
		c.mu.Unlock()
		return
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	c.mu.Unlock()
	await(idle, most)
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

// buffer is a piece of memory that connections lend each other.
type buffer struct{ b []byte }

const (
	bufferBytes = 16 << 10
	// keptBuffer is the largest that is lent again.
	keptBuffer = 128 << 10
)

func (d *Door) takeBuffer() *buffer {
	if b, ok := d.buffers.Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, 0, bufferBytes)}
}

func (d *Door) giveBuffer(b *buffer) {
	if b != nil && cap(b.b) <= keptBuffer {
		b.b = b.b[:0]
		d.buffers.Put(b)
	}
}
