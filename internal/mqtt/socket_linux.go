package mqtt

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/proxy"
	"github.com/firthmq/firth/internal/kit/secure"
)

// socket is a plain TCP or Unix socket that a poller watches. It is taken from the runtime: a net.Conn costs a
// goroutine that waits, and a wake-up for every message. Reads and writes never block.
type socket struct {
	fd     int
	slot   uint32 // at the poller
	remote net.Addr
	sealed *sealed      // nil: what goes over it is plain
	users  atomic.Int32 // calls under way; closedBit is added by close
}

const closedBit = 1 << 30

// plainSocket is the socket that a connection is; nil: it is none, such as one that another gateway passes on.
func plainSocket(n net.Conn) syscall.Conn {
	if behind, ok := n.(*proxy.Conn); ok {
		n = behind.Conn
	}
	switch n := n.(type) {
	case *net.TCPConn:
		return n
	case *net.UnixConn:
		return n
	}
	return nil
}

// takeSocket takes the descriptor of a connection from the runtime, if it is plain or of a TLS that can be carried on
// without a goroutine; nil: it is not. The connection given is closed then. Memory is lent by b and counted in a.
func takeSocket(n net.Conn, b *buffers, a *limit.Account) *socket {
	remote := n.RemoteAddr()
	var t *sealed
	if c, ok := n.(*secure.Conn); ok {
		if plainSocket(c.Beneath()) == nil {
			return nil
		}
		beneath, in, out, ok := c.Detach()
		if !ok {
			return nil
		}
		n, t = beneath, newSealed(b, a, in, out)
	}
	plain := plainSocket(n)
	if plain == nil {
		return nil
	}
	raw, err := plain.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	if err := raw.Control(func(old uintptr) {
		r, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		if errno == 0 {
			fd = int(r)
		}
	}); err != nil || fd < 0 {
		return nil
	}
	s := &socket{fd: fd, remote: remote, sealed: t}
	if n.Close() != nil { // the old descriptor; the socket lives on
		s.close()
		return nil
	}
	return s
}

// acquire holds the descriptor open during a call.
func (s *socket) acquire() bool {
	for {
		n := s.users.Load()
		if n&closedBit != 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *socket) release() {
	if s.users.Add(-1) == closedBit {
		s.closeNow()
	}
}

func (s *socket) closeNow() {
	_ = syscall.Close(s.fd) // nothing is to be done about an error, and the descriptor is gone all the same
}

// close closes the socket as soon as nobody uses it any more. Calls under way come back soon: none blocks.
func (s *socket) close() {
	if s.sealed != nil && s.users.Load()&closedBit == 0 {
		s.sealed.close(s)
	}
	for {
		n := s.users.Load()
		if n&closedBit != 0 {
			return
		}
		if s.users.CompareAndSwap(n, n|closedBit) {
			if n == 0 {
				s.closeNow()
			}
			return
		}
	}
}

// call is recv or send. It goes past the runtime, which need not be told of a call that does not block, and past the
// layers of files in the kernel: together a twentieth of what a message costs that comes alone.
func call(number uintptr, fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// read reads what is there. Errors: errAgain for nothing, io.EOF, net.ErrClosed, those of the system.
func (s *socket) read(b []byte) (int, error) {
	if s.sealed != nil {
		return s.sealed.read(s, b)
	}
	return s.receive(b)
}

// receive is read of what comes over the line.
func (s *socket) receive(b []byte) (int, error) {
	if !s.acquire() {
		return 0, net.ErrClosed
	}
	defer s.release()
	for {
		n, err := call(unix.SYS_RECVFROM, s.fd, b)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, io.EOF
		case errors.Is(err, syscall.EAGAIN):
			return 0, errAgain
		case !errors.Is(err, syscall.EINTR):
			return 0, err
		}
	}
}

// quickAck has the system acknowledge now what was read. It likes to wait for something of ours to send along, 40 ms at
// the most; a client that obeys Nagle's rule (RFC 896) keeps back all it has for us meanwhile.
func (s *socket) quickAck() {
	if s.acquire() {
		_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // a broken socket is found by read
		s.release()
	}
}

// write writes what the socket takes. Errors: errAgain when it takes no more now, net.ErrClosed, those of
// the system.
func (s *socket) write(b []byte) (written int, err error) {
	if s.sealed != nil {
		return s.sealed.write(s, b)
	}
	return s.send(b)
}

// send is write of what goes over the line.
func (s *socket) send(b []byte) (written int, err error) {
	if !s.acquire() {
		return 0, net.ErrClosed
	}
	defer s.release()
	for written < len(b) {
		n, err := call(unix.SYS_SENDTO, s.fd, b[written:])
		switch {
		case err == nil:
			written += n
		case errors.Is(err, syscall.EAGAIN):
			return written, errAgain
		case !errors.Is(err, syscall.EINTR):
			return written, err
		}
	}
	return written, nil
}

// held is how many bytes that came wait in memory, in what carries TLS.
func (s *socket) held() int {
	if s.sealed == nil {
		return 0
	}
	return s.sealed.held()
}

// isOver tells whether reading ends without news of the system.
func (s *socket) isOver() bool { return s.sealed.isOver() }

// closeWrite ends our side; the client may still send.
func (s *socket) closeWrite() error {
	if s.sealed != nil {
		s.sealed.close(s)
	}
	if !s.acquire() {
		return net.ErrClosed
	}
	defer s.release()
	return syscall.Shutdown(s.fd, syscall.SHUT_WR)
}
