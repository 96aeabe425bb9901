//go:build unix

package node

import (
	"os"
	"syscall"
)

// What the system answers to who wants to listen.
const (
	errInUse     = syscall.EADDRINUSE
	errDenied    = syscall.EACCES
	errNoAddress = syscall.EADDRNOTAVAIL
	errNoFamily  = syscall.EAFNOSUPPORT
)

// whoListens shows who has a port of TCP.
const whoListens = "ss -ltnp 'sport = :%s'"

// privateSockets tells whether the mode of a Unix socket keeps others out.
const privateSockets = true

// openFiles is how many files the process may have open.
func openFiles() (uint64, error) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return uint64(l.Cur), err //nolint:unconvert // it is signed on some systems
}

// Signals are those that a process that serves listens to.
func Signals() []os.Signal {
	return []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2}
}

// asksForNext tells whether a signal asks to hand over to a new process.
func asksForNext(s os.Signal) bool { return s == syscall.SIGUSR2 }
