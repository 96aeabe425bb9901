//go:build unix

package client

import (
	"errors"
	"net"
	"syscall"
)

// direct writes to a socket without waiting for it.
type direct struct {
	raw     syscall.RawConn
	attempt func(fd uintptr) bool // d.once, made once: a method value allocates

	buf []byte
	n   int
	err error
}

// newDirect is the way to write without waiting, or nil where there is none: under TLS, for one.
func newDirect(conn net.Conn) *direct {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.attempt = d.once
	return d
}

// write writes as much as the socket takes at once. 0 bytes without an error: it takes none now. One
// goroutine at a time.
func (d *direct) write(buf []byte) (int, error) {
	d.buf = buf
	err := d.raw.Write(d.attempt)
	d.buf = nil
	if err == nil && !errors.Is(d.err, syscall.EAGAIN) {
		err = d.err
	}
	return max(d.n, 0), err
}

func (d *direct) once(fd uintptr) bool {
	for {
		d.n, d.err = syscall.Write(int(fd), d.buf)
		if !errors.Is(d.err, syscall.EINTR) {
			return true
		}
	}
}
