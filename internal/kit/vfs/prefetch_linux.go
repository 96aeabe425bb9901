package vfs

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// nowhere takes what is read for the cache alone.
var nowhere = sync.OnceValues(func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_WRONLY, 0) })

// diskPrefetch sends the file to /dev/null: the pages are read and handed on, and none of them is copied. It has a
// descriptor of its own, for the system judges by the descriptor who reads in order.
type diskPrefetch struct {
	name string
	f    *os.File
	to   int
}

func (f *diskFile) prefetch() (Prefetch, error) {
	p, err := f.openPrefetch()
	if err != nil {
		return nil, f.wrap("vfs.NewPrefetch", err)
	}
	return p, nil
}

func (f *diskFile) openPrefetch() (*diskPrefetch, error) {
	to, err := nowhere()
	if err != nil {
		return nil, err
	}
	if err := f.hold(); err != nil {
		return nil, err
	}
	defer f.let()
	again, err := f.reopen(os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	_ = unix.Fadvise(int(again.Fd()), 0, 0, unix.FADV_SEQUENTIAL) // it reads ahead twice as far
	return &diskPrefetch{name: f.f.Name(), f: again, to: int(to.Fd())}, nil
}

// Bring implements Prefetch.
func (p *diskPrefetch) Bring(off, n int64) error {
	from := int(p.f.Fd())
	for n > 0 {
		sent, err := unix.Sendfile(p.to, from, &off, int(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return wrap("vfs.Prefetch", p.name, err)
		case sent == 0:
			return nil
		}
		n -= int64(max(sent, 0))
	}
	return nil
}

// Close implements Prefetch.
func (p *diskPrefetch) Close() error { return wrap("vfs.Prefetch", p.name, p.f.Close()) }
