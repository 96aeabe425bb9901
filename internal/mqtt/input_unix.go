//go:build unix

package mqtt

import (
	"errors"
	"io"
	"syscall"
)

// initRaw finds the descriptor of a plain socket, so that the buffer is borrowed only when there are
// bytes to read.
func (in *input) initRaw() {
	sc, ok := in.conn.net.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	in.raw = raw
	in.ready = func(fd uintptr) bool { return in.readNow(int(fd)) }
}

// readNow reads what is there; false: nothing is, wait. A connection that rests looks with a single
// byte first: to borrow a buffer takes stack.
func (in *input) readNow(fd int) bool {
	if in.conn.rests > 0 && in.memory() == nil {
		n, err := syscall.Read(fd, in.probe[:])
		if n < 0 && errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if n > 0 {
			in.borrow()
			in.memory()[0] = in.probe[0]
			in.end = 1
			in.readMore(fd)
			in.fresh = in.end
			return true
		}
	}
	return in.readAll(fd)
}

// readMore reads what is there behind the byte that was; an error comes again with the next read.
func (in *input) readMore(fd int) {
	if n, err := syscall.Read(fd, in.memory()[in.end:]); err == nil && n > 0 {
		in.end += n
	}
}

func (in *input) readAll(fd int) bool {
	in.borrow()
	for {
		n, err := syscall.Read(fd, in.memory()[in.end:])
		switch {
		case err == nil && n > 0:
			in.fresh = n
			in.end += n
			return true
		case err == nil:
			in.err = io.EOF
			return true
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			in.park()
			return false
		default:
			in.err = err
			return true
		}
	}
}
