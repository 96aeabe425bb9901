package node

import (
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/firthmq/firth/internal/kit/telemetry"
)

const (
	mostKeptFiles = 512         // open files that no client gets
	refusalWarned = time.Minute // how often the log says that clients were refused
)

// keptFiles is how many of the files that the process may have open are kept from clients: the log goes on to new
// files whatever they do, and people who look after the node find its HTTP door open.
func keptFiles(limit uint64) uint64 { return min(mostKeptFiles, limit/4) }

// frugal is a socket that takes no connection where too few open files would be left. The others are closed at once.
// One goroutine accepts.
type frugal struct {
	net.Listener
	most    uintptr // descriptors; the system always gives the lowest that is free
	refused telemetry.Counter
	log     *slog.Logger
	warned  time.Time
}

// Accept implements net.Listener.
func (l *frugal) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || descriptor(c) < l.most {
			return c, err
		}
		l.refuse(c)
	}
}

func (l *frugal) refuse(c net.Conn) {
	l.refused.Inc()
	if now := time.Now(); now.Sub(l.warned) >= refusalWarned {
		l.warned = now
		l.log.Warn("refused a connection: the operating system's limit of open files is near",
			"client", c.RemoteAddr(), "allowed", l.most, "hint", "raise it: ulimit -n, or LimitNOFILE= of systemd")
	}
	_ = c.Close() // neither protocol has a word for it before the client spoke
}

// descriptor is the number of a connection's file; 0 if it has none.
func descriptor(c net.Conn) (fd uintptr) {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(n uintptr) { fd = n }) // it is closed: 0
		}
	}
	return fd
}
