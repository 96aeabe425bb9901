// Package handover lets one process take the place of another without a connection that is refused: the listening
// sockets are passed on, and what connects meanwhile waits in their queues. It also takes the sockets that systemd
// passes to a service that it starts.
//
// The process that goes starts the next one with Start, and tells it when it has let go with Go. The next one finds
// with Receive what it was given, says with Prepared that nothing can go wrong any more that can be known before, and
// with Serving that it serves. What they say are lines over two pipes: docs/format/hand-over.md.
//
// It knows nothing of what is served.
package handover

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Variable is set in the environment of a process that takes over: how many sockets it is given.
const Variable = "FIRTH_HAND_OVER"

// What one process says to the other.
const (
	saysPrepared = "prepared" // the next one: all is checked that can be
	saysGo       = "go"       // the one before: it has let go of everything but the sockets
	saysServing  = "serving"  // the next one
	saysBye      = "bye"      // the one before: it ends now
)

// Where a process that takes over finds what it was given.
const (
	heardAt   = 3 // the pipe from the one before
	spokenAt  = 4 // and the one to it
	socketsAt = 5
)

// maxLine bounds what one process says to the other in a line, in bytes.
const maxLine = 1 << 20

// Socket is a listening socket that is passed on.
type Socket struct {
	Name    string   `json:"name"`              // of the listener; of systemd: FileDescriptorName
	Address string   `json:"address,omitempty"` // as it was configured; empty: from systemd
	Lasting bool     `json:"lasting,omitempty"` // it is not for us to remove: a Unix socket of systemd's
	File    *os.File `json:"-"`
}

// Listener is what the socket accepts connections by. It has a descriptor of its own.
func (s *Socket) Listener() (net.Listener, error) {
	l, err := net.FileListener(s.File)
	if err != nil {
		return nil, fault.New(fault.Invalid, "handover", "what was passed as %q does not listen: %w", s.Name, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the file is the next one's
	}
	return l, nil
}

// Duplicate makes a socket of a listener, with a descriptor of its own: the address stays taken, and connections wait
// in the queue, until it is closed as well. Errors: Unsupported.
func Duplicate(l net.Listener) (*os.File, error) {
	of, ok := l.(syscall.Conn)
	if !ok {
		return nil, fault.New(fault.Unsupported, "handover", "%T cannot be passed on", l)
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return nil, fault.Wrap(fault.IO, "handover", err)
	}
	// Not by File of net: to pass on what that gives makes the socket block, for all who have it.
	var f *os.File
	if failed := raw.Control(func(fd uintptr) { f, err = duplicate(int(fd)) }); failed != nil {
		err = failed
	}
	return f, fault.Wrap(fault.IO, "handover", err)
}

// Close closes sockets.
func Close(all []Socket) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.File.Close())
	}
	return errors.Join(errs...)
}

// lines reads what the other process says.
func lines(from io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(from)
	s.Buffer(nil, maxLine)
	return s
}

// without is an environment without what tells a process what it was given.
func without(env []string) []string {
	var rest []string
	for _, pair := range env {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case Variable, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID":
		default:
			rest = append(rest, pair)
		}
	}
	return rest
}
