//go:build unix

package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func openFile(name string, flag int) (*os.File, error) { return os.OpenFile(name, flag, fileMode) }

func rename(from, to string) error { return os.Rename(from, to) }

func remove(name string) error { return os.Remove(name) }

func syncFolder(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lock locks a file until it is closed, by flock; held: somebody else has the lock.
func lock(f *os.File) (held bool, err error) {
	err = retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

func space(root string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(root, &st) }); err != nil {
		return 0, 0, err
	}
	block := int64(st.Bsize) //nolint:unconvert // it has another type on other systems
	return int64(st.Bavail) * block, int64(st.Blocks) * block, nil
}

// isFull tells whether an error says that there is no space left.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
