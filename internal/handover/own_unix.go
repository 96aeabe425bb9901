//go:build unix

package handover

import (
	"os"
	"syscall"
)

// keepToOurselves keeps a descriptor from the processes that this one starts.
func keepToOurselves(fd int) { syscall.CloseOnExec(fd) }

// duplicate makes another descriptor of a socket, which no process is given that does not ask for it.
func duplicate(fd int) (*os.File, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	other, err := syscall.Dup(fd)
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(other)
	return os.NewFile(uintptr(other), "socket"), nil
}
