package vfs

import (
	"errors"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxPieces is how many pieces one pwritev takes (IOV_MAX).
const maxPieces = 1024

// writeVec writes all pieces at off with pwritev, going on after partial writes.
func (f *diskFile) writeVec(pieces [][]byte, off int64) (int, error) {
	if err := f.hold(); err != nil {
		return 0, err
	}
	defer f.let()
	total := 0
	for len(pieces) > 0 {
		batch := pieces[:min(len(pieces), maxPieces)]
		pieces = pieces[len(batch):]
		n, err := f.writeBatch(batch, off)
		total += n
		off += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// writeBatch writes at most maxPieces pieces. It copies the list before it moves on inside a piece:
// the list is the caller's.
func (f *diskFile) writeBatch(batch [][]byte, off int64) (int, error) {
	total, copied := 0, false
	for {
		for len(batch) > 0 && len(batch[0]) == 0 {
			batch = batch[1:]
		}
		if len(batch) == 0 {
			return total, nil
		}
		n, err := unix.Pwritev(f.fd, batch, off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
		total += n
		off += int64(n)
		for len(batch) > 0 && n >= len(batch[0]) {
			n -= len(batch[0])
			batch = batch[1:]
		}
		if n > 0 {
			if !copied {
				batch, copied = append([][]byte(nil), batch...), true
			}
			batch[0] = batch[0][n:]
		}
	}
}

// writeDirect writes p at off with O_DIRECT. File systems without it refuse the opening or the first write.
func (f *diskFile) writeDirect(p []byte, off int64) error {
	if err := f.hold(); err != nil {
		return err
	}
	defer f.let()
	f.direct.once.Do(f.openDirect)
	if f.direct.err != nil {
		return f.direct.err
	}
	_, err := f.direct.f.WriteAt(p, off)
	if errors.Is(err, unix.EINVAL) {
		return errNoDirect
	}
	return err
}

// openDirect opens the descriptor of writeDirect.
func (f *diskFile) openDirect() {
	mode, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
	if err != nil {
		f.direct.err = err
		return
	}
	if f.direct.f, err = f.reopen(mode&unix.O_ACCMODE | unix.O_DIRECT); err != nil {
		f.direct.f, f.direct.err = nil, errNoDirect
	}
}

// reopen opens the file once more, by its descriptor: its name may be another by now.
func (f *diskFile) reopen(flag int) (*os.File, error) {
	return os.OpenFile("/proc/self/fd/"+strconv.Itoa(f.fd), flag, 0)
}

func (f *diskFile) dataSync() error {
	if err := f.hold(); err != nil {
		return err
	}
	defer f.let()
	for {
		if err := unix.Fdatasync(f.fd); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// control runs a system call on the descriptor, again where a signal cut it short. What is called for each commit
// does without: the closure allocates.
func (f *diskFile) control(call func(fd int) error) error {
	if err := f.hold(); err != nil {
		return err
	}
	defer f.let()
	return retry(func() error { return call(f.fd) })
}

// allocate reserves the space, or only sets the size where the file system cannot reserve.
func (f *diskFile) allocate(size int64) error {
	err := f.control(func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return f.grow(size)
	}
	return err
}
