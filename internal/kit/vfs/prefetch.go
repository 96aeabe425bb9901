package vfs

import "github.com/firthmq/firth/internal/kit/fault"

// Prefetch reads a file into the system's cache and nowhere else. One goroutine uses it.
type Prefetch interface {
	// Bring reads n bytes from off on and returns when they are in the cache, or the file ends. Runs that follow one
	// another come at the speed of the disk: the system reads ahead for them, in large pages. Errors: IO.
	Bring(off, n int64) error
	Close() error
}

// NewPrefetch opens a Prefetch of an open file, which may be closed before it. Errors: fault.Unsupported where
// there is no such way, IO.
func NewPrefetch(f File) (Prefetch, error) {
	switch p := f.(type) {
	case interface{ prefetch() (Prefetch, error) }:
		return p.prefetch()
	case Layered:
		below, _, _ := p.Below(0, 0)
		from, err := NewPrefetch(below)
		if err != nil {
			return nil, err
		}
		return layeredPrefetch{Prefetch: from, file: p}, nil
	}
	return nil, fault.New(fault.Unsupported, "vfs.NewPrefetch", "%T has no cache", f)
}

// layeredPrefetch brings what lies in a file below.
type layeredPrefetch struct {
	Prefetch
	file Layered
}

// Bring implements Prefetch.
func (p layeredPrefetch) Bring(off, n int64) error {
	_, from, length := p.file.Below(off, n)
	return p.Prefetch.Bring(from, length)
}
