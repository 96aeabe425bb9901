package mqtt

import "time"

// outbox is the write side of a connection: bytes that wait, and the goroutine that writes them, which
// lives only while there are any. This file is the only place that decides when and how bytes go to
// the socket. All fields are guarded by conn.mu.
type outbox struct {
	buf     *buffer // waits to be written; nil when empty
	flight  int     // bytes that are being written
	writing bool    // the writer goroutine lives
	broken  bool    // the socket is gone: nothing is taken any more
	idle    chan struct{}
	room    chan struct{}
}

// size is how many bytes wait or are being written.
func (o *outbox) size() int {
	if o.buf == nil {
		return o.flight
	}
	return len(o.buf.b) + o.flight
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

// send starts to write what waits, unless that is under way. It needs c.mu.
func (c *conn) send() {
	o := &c.mu.out
	if o.writing || o.buf == nil || len(o.buf.b) == 0 {
		return
	}
	o.writing = true
	go c.writer()
}

// write writes until nothing waits, and ends. What comes while it writes goes out with the next call.
func (c *conn) write() {
	for {
		c.mu.Lock()
		o := &c.mu.out
		b := o.buf
		o.buf = nil
		if b == nil || len(b.b) == 0 {
			o.writing = false
			signal(&o.idle)
			c.mu.Unlock()
			c.door.giveBuffer(b)
			return
		}
		o.flight = len(b.b)
		c.mu.Unlock()

		n, err := c.net.Write(b.b)
		c.door.metrics.bytesSent.Add(float64(n))

		c.door.giveBuffer(b)
		c.mu.Lock()
		o.flight = 0
		if err != nil {
			c.breakLocked()
		}
		wake := c.roomLocked()
		c.mu.Unlock()
		if err != nil {
			c.hangUp()
		}
		if wake {
			c.wake()
		}
	}
}

// breakLocked gives up the write side: what waits is lost with the connection.
func (c *conn) breakLocked() {
	o := &c.mu.out
	o.broken = true
	if o.buf != nil {
		o.buf.b = o.buf.b[:0]
	}
	signal(&o.room)
}

// roomLocked is asked whenever something left: whether to wake what waits for room. The reader waits for
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

// awaitRoom holds the reader back while the client does not read our answers: back-pressure. It gives up,
// false, when the client took nothing for as long as its keep alive allows.
func (c *conn) awaitRoom() bool {
	c.mu.Lock()
	o := &c.mu.out
	if o.size() <= c.door.opt.OutboxBytes || o.broken || c.ending.Load() {
		c.mu.Unlock()
		return true
	}
	if o.room == nil {
		o.room = make(chan struct{})
	}
	room := o.room
	c.mu.Unlock()

	patience := c.patience
	if patience == 0 {
		patience = maxPatience
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-room:
		return true
	case <-timer.C:
		return false
	}
}

// maxPatience is how long a client without keep alive may leave our answers unread while it goes on
// sending.
const maxPatience = 2 * time.Minute

// awaitIdle waits until everything is written, at most for the time given.
func (c *conn) awaitIdle(most time.Duration) {
	c.mu.Lock()
	o := &c.mu.out
	if !o.writing {
		c.mu.Unlock()
		return
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	c.mu.Unlock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
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
