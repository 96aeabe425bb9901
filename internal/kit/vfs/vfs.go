// Package vfs is the only room that opens files.
//
// A room that stores something takes an FS as an argument: Disk in production, a Memory in tests that
// need speed or a crash, a Faulty around either where an operation shall fail. Names are
// slash-separated paths below the root of the FS.
package vfs

import (
	"io"
	"path"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/firthmq/firth/internal/kit/fault"
)

// FS is a tree of files. All methods may be called from any goroutine.
//
// Errors carry a kind and the name of the file: fault.NotFound, fault.Exists, fault.Full (no space),
// fault.Closed (a file used after Close), fault.Invalid (a name that leaves the root), else fault.IO.
// The root itself is the folder "." or "".
type FS interface {
	// Create makes a file for reading and writing; one of that name is cut to nothing. The entry in
	// its folder is on stable storage only after SyncDir.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Rename gives a file another name in the same folder, replacing one of that name in a single
	// step: after a crash there is the old file or the new, never none. fault.Invalid across folders.
	Rename(from, to string) error
	// Remove deletes a file or an empty folder.
	Remove(name string) error
	// MkdirAll makes a folder and those above it, with mode 0700. Like any entry, a new folder is on
	// stable storage only after SyncDir of the folder that holds it.
	MkdirAll(dir string) error
	// List names what is in a folder, in order.
	List(dir string) ([]string, error)
	// SyncDir puts the entries of a folder on stable storage.
	SyncDir(dir string) error
	// Lock takes an exclusive lock on a file, making it if need be; it is held until Close. A lock
	// held by another process is fault.Exists.
	Lock(name string) (io.Closer, error)
}

// Space tells how much of the disk under an FS is free for an ordinary user and how large it is, in
// bytes. Every FS of this package knows; another may have the method Space. Errors: IO, Unsupported.
func Space(fs FS) (free, total int64, err error) {
	disk, ok := fs.(interface{ Space() (int64, int64, error) })
	if !ok {
		return 0, 0, fault.New(fault.Unsupported, "vfs.Space", "%T does not know its space", fs)
	}
	return disk.Space()
}

// File is one open file. Its methods may be called at the same time from any goroutine.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WriteVecAt writes the pieces one after another at off, in as few system calls as it can.
	WriteVecAt(pieces [][]byte, off int64) (int, error)
	// WriteDirect writes p at off past the system's cache, which costs neither the copy into it nor its
	// pages. Like what any write leaves, p is on stable storage only after Sync. off, len(p) and the place of p in
	// memory are multiples of DirectBlock: else fault.Invalid. Errors: fault.Unsupported where the file system
	// has no such way; nothing is written then.
	WriteDirect(p []byte, off int64) error
	// Sync puts the data and the size on stable storage (fdatasync). After an error nobody knows what
	// is stored, and a second Sync may well succeed without storing it: give the file up.
	Sync() error
	// Preallocate reserves disk space for [0, size) and makes the file at least that long; what was
	// not written reads as zeros.
	Preallocate(size int64) error
	// Truncate sets the size.
	Truncate(size int64) error
	// Size is the length in bytes.
	Size() (int64, error)
	// ModTime is when the file was last written, by the clock of the machine.
	ModTime() (time.Time, error)
}

// Damage is a part of a file that cannot be read for what was written there.
type Damage struct {
	From, To int64 // bytes of the file
	What     string
}

// DirectBlock is the unit of WriteDirect in bytes: the page size of common machines, and no smaller than the
// blocks of disks.
const DirectBlock = 4 << 10

// DirectBytes is memory of n bytes for WriteDirect; n is a multiple of DirectBlock.
func DirectBytes(n int) []byte {
	b := make([]byte, n+DirectBlock)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (DirectBlock - 1)
	return b[skip : skip+n : skip+n]
}

// checkDirect tells whether p may be written at off by WriteDirect.
func checkDirect(name string, p []byte, off int64) error {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	if (uint64(off)|uint64(len(p))|uint64(at))%DirectBlock != 0 {
		return fault.New(fault.Invalid, "vfs.WriteDirect", "%s: %d bytes at %d are not in blocks of %d",
			name, len(p), off, DirectBlock)
	}
	return nil
}

// clean checks a name and gives it in its shortest form; the root is ".".
func clean(op, name string) (string, error) {
	if name == "" {
		return ".", nil
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", fault.New(fault.Invalid, op, "%q leaves the root", name)
	}
	return path.Clean(name), nil
}

// cleanRename checks the two names of a Rename.
func cleanRename(op, from, to string) (oldName, newName string, err error) {
	if oldName, err = clean(op, from); err != nil {
		return "", "", err
	}
	if newName, err = clean(op, to); err != nil {
		return "", "", err
	}
	if path.Dir(oldName) != path.Dir(newName) {
		return "", "", fault.New(fault.Invalid, op, "%s and %s are in different folders", from, to)
	}
	return oldName, newName, nil
}
