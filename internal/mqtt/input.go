package mqtt

import (
	"io"
	"os"
	"syscall"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// input is the read side of a connection. A connection that waits holds no buffer, or a small one with
// the beginning of a packet: the buffer is borrowed when there are bytes to read.
type input struct {
	conn  *conn
	raw   syscall.RawConn // nil: a connection that is no plain socket
	ready func(fd uintptr) bool

	buf   *buffer // borrowed; nil: none
	own   []byte  // our own memory, for the beginning of a packet or a packet that is large
	start int     // what is in memory: [start, end)
	end   int
	fresh int // bytes of the last fill
	probe [1]byte
	err   error
}

// errTimeout is a fill that ended because of its deadline.
var errTimeout = os.ErrDeadlineExceeded

const (
	// smallBuffer is the largest beginning of a packet that is moved to memory of its own size while
	// the connection waits for the rest.
	smallBuffer = 512
	// plainBuffer is the buffer of a connection that cannot tell whether there is something to read.
	plainBuffer = 1024
)

func (in *input) init(c *conn) {
	in.conn = c
	in.initRaw()
}

// lazy tells whether a deadline may pass without harm, so that it need not be moved with every read.
func (in *input) lazy() bool { return in.raw != nil }

// memory is where bytes are read to.
func (in *input) memory() []byte {
	if in.buf != nil {
		return in.buf.b[:cap(in.buf.b)]
	}
	return in.own
}

// bytes is what was read and not consumed.
func (in *input) bytes() []byte { return in.memory()[in.start:in.end] }

// fill reads at least one byte. Errors: io.EOF, errTimeout, those of the socket.
func (in *input) fill() error {
	if in.raw != nil {
		in.err = nil
		if err := in.raw.Read(in.ready); err != nil {
			return err
		}
		return in.err
	}
	if in.memory() == nil {
		in.own = make([]byte, plainBuffer)
	}
	n, err := in.conn.net.Read(in.memory()[in.end:])
	in.fresh = n
	in.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// borrow makes sure that there is room to read.
func (in *input) borrow() {
	if in.memory() == nil {
		in.buf = in.conn.door.takeBuffer()
		return
	}
	if in.buf == nil && in.end == len(in.own) { // the rest of a packet that waited
		b := in.conn.door.takeBuffer()
		if cap(b.b) <= in.end-in.start {
			in.conn.door.giveBuffer(b)
			in.grow(2 * len(in.own))
			return
		}
		in.end = copy(b.b[:cap(b.b)], in.own[in.start:in.end])
		in.start, in.buf, in.own = 0, b, nil
	}
}

// park gives the buffer back before the connection waits.
func (in *input) park() {
	if in.buf == nil {
		return
	}
	rest := in.bytes()
	if len(rest) > smallBuffer {
		return
	}
	var own []byte
	if len(rest) > 0 {
		own = make([]byte, len(rest))
		copy(own, rest)
	}
	in.conn.door.giveBuffer(in.buf)
	in.buf, in.own, in.start, in.end = nil, own, 0, len(own)
}

// consumed takes n bytes off the front and makes room for the rest of a packet that has begun, step by
// step: memory is never more than twice of what came.
func (in *input) consumed(n, limit int) {
	in.start += n
	if in.start == in.end {
		in.start, in.end = 0, 0
		if in.raw == nil && len(in.own) > plainBuffer || in.raw != nil && in.own != nil {
			in.own = nil
		}
		return
	}
	rest := in.bytes()
	need, err := packet.Length(rest, limit)
	if err != nil || need == 0 {
		need = 2 * len(rest) // the next fill brings the error to light
	}
	if have := len(in.memory()); need > have-in.start || in.end == have {
		if need <= have {
			in.end = copy(in.memory(), rest)
			in.start = 0
			return
		}
		in.grow(min(need, max(2*have, 2*len(rest))))
	}
}

// grow moves to memory of our own of a size.
func (in *input) grow(size int) {
	bigger := make([]byte, max(size, in.end-in.start+1))
	n := copy(bigger, in.bytes())
	in.conn.door.giveBuffer(in.buf)
	in.buf, in.own, in.start, in.end = nil, bigger, 0, n
}

// release gives back what is borrowed.
func (in *input) release() {
	in.conn.door.giveBuffer(in.buf)
	in.buf, in.own, in.start, in.end = nil, nil, 0, 0
}
