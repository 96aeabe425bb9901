package node

import (
	"os"
	"syscall"

	"github.com/firthmq/firth/internal/kit/fault"
)

// What the system answers to who wants to listen (winsock2.h).
const (
	errInUse     = syscall.Errno(10048) // WSAEADDRINUSE
	errDenied    = syscall.WSAEACCES
	errNoAddress = syscall.Errno(10049) // WSAEADDRNOTAVAIL
	errNoFamily  = syscall.Errno(10047) // WSAEAFNOSUPPORT
)

// whoListens shows who has a port of TCP.
const whoListens = "netstat -ano | findstr :%s"

// privateSockets tells whether the mode of a Unix socket keeps others out.
const privateSockets = false

// openFiles: there is no limit to look at.
func openFiles() (uint64, error) {
	return 0, fault.New(fault.Unsupported, "node.openFiles", "Windows has no limit of open files to ask for")
}

// Signals are those that a process that serves listens to.
func Signals() []os.Signal { return []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} }

// asksForNext: no signal does, and no socket is passed on here.
func asksForNext(os.Signal) bool { return false }
