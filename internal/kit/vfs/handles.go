package vfs

import (
	"container/list"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Handles is an FS whose files that were opened for reading share a bounded number of the system's open files: one is
// closed while it is not read and others are, and opened again by its name when it is. So a file must keep its name
// as long as somebody reads it. All other operations are those of the FS below.
type Handles struct {
	FS
	most int

	mu     sync.Mutex
	recent *list.List // of *handle that are open, the one read last in front
}

// NewHandles lets the files that are opened for reading through it have about most open files at a time, at least 1:
// those that are being read at the same moment may be more.
func NewHandles(fs FS, most int) *Handles {
	return &Handles{FS: fs, most: max(1, most), recent: list.New()}
}

// Space asks the FS below.
func (h *Handles) Space() (free, total int64, err error) { return Space(h.FS) }

// Open implements FS.
func (h *Handles) Open(name string) (File, error) {
	f := &handle{h: h, name: name}
	if _, err := f.hold(); err != nil {
		return nil, err
	}
	f.let()
	return f, nil
}

// Opened is how many files are open now.
func (h *Handles) Opened() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.recent.Len()
}

// idleLocked takes the files that were not read for longest, beyond the number that may be open.
func (h *Handles) idleLocked() (idle []File) {
	for at := h.recent.Back(); at != nil && h.recent.Len() > h.most; {
		f, before := at.Value.(*handle), at.Prev() //nolint:errcheck // there are no others in the list
		if f.holders == 0 {
			idle = append(idle, f.file)
			h.recent.Remove(at)
			f.file, f.at = nil, nil
		}
		at = before
	}
	return idle
}

// handle is a file of Handles. All its fields but the first two are its Handles' lock's.
type handle struct {
	h    *Handles
	name string

	file    File // nil while it is closed
	at      *list.Element
	holders int
	ended   bool
}

// hold opens the file, if need be, and keeps it open until let.
func (f *handle) hold() (File, error) {
	h := f.h
	h.mu.Lock()
	if file := f.file; file != nil {
		f.holders++
		h.recent.MoveToFront(f.at)
		h.mu.Unlock()
		return file, nil
	}
	ended := f.ended
	h.mu.Unlock()
	if ended {
		return nil, fault.New(fault.Closed, "vfs.Read", "%s is closed", f.name)
	}
	fresh, err := h.FS.Open(f.name)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	var idle []File
	if f.file != nil { // another reader was quicker
		idle = append(idle, fresh)
	} else {
		f.file, f.at = fresh, h.recent.PushFront(f)
	}
	f.holders++
	file := f.file
	idle = append(idle, h.idleLocked()...)
	h.mu.Unlock()
	closeAll(idle)
	return file, nil
}

// let ends what hold began.
func (f *handle) let() {
	f.h.mu.Lock()
	f.holders--
	idle := f.h.idleLocked()
	f.h.mu.Unlock()
	closeAll(idle)
}

// closeAll closes files that were only read: what it may say is of no use to somebody who reads another.
func closeAll(files []File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// ReadAt implements io.ReaderAt.
func (f *handle) ReadAt(p []byte, off int64) (int, error) {
	file, err := f.hold()
	if err != nil {
		return 0, err
	}
	defer f.let()
	return file.ReadAt(p, off)
}

// Size implements File.
func (f *handle) Size() (int64, error) {
	file, err := f.hold()
	if err != nil {
		return 0, err
	}
	defer f.let()
	return file.Size()
}

// ModTime implements File.
func (f *handle) ModTime() (time.Time, error) {
	file, err := f.hold()
	if err != nil {
		return time.Time{}, err
	}
	defer f.let()
	return file.ModTime()
}

// Close implements File. Nobody may be reading.
func (f *handle) Close() error {
	f.h.mu.Lock()
	file, ended := f.file, f.ended
	if file != nil {
		f.h.recent.Remove(f.at)
	}
	f.file, f.at, f.ended = nil, nil, true
	f.h.mu.Unlock()
	switch {
	case ended:
		return fault.New(fault.Closed, "vfs.Close", "%s is closed", f.name)
	case file != nil:
		return file.Close()
	}
	return nil
}

func (f *handle) prefetch() (Prefetch, error) {
	file, err := f.hold()
	if err != nil {
		return nil, err
	}
	defer f.let()
	return NewPrefetch(file)
}

func (f *handle) ahead(off, n int64) {
	if file, err := f.hold(); err == nil {
		Ahead(file, off, n)
		f.let()
	}
}

func (f *handle) readOnly(op string) error {
	return fault.New(fault.Invalid, op, "%s was opened for reading", f.name)
}

// WriteAt implements io.WriterAt: it was opened for reading.
func (f *handle) WriteAt([]byte, int64) (int, error) { return 0, f.readOnly("vfs.Write") }

// WriteVecAt implements File: it was opened for reading.
func (f *handle) WriteVecAt([][]byte, int64) (int, error) { return 0, f.readOnly("vfs.Write") }

// WriteDirect implements File: it was opened for reading.
func (f *handle) WriteDirect([]byte, int64) error { return f.readOnly("vfs.WriteDirect") }

// Sync implements File: it was opened for reading.
func (f *handle) Sync() error { return f.readOnly("vfs.Sync") }

// Preallocate implements File: it was opened for reading.
func (f *handle) Preallocate(int64) error { return f.readOnly("vfs.Preallocate") }

// Truncate implements File: it was opened for reading.
func (f *handle) Truncate(int64) error { return f.readOnly("vfs.Truncate") }
