package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	fileMode   = 0o600
	folderMode = 0o700
)

// Disk is the real disk below one folder. Files get mode 0600, folders 0700.
type Disk struct {
	root string
}

// NewDisk opens the folder root and makes it, with its parents, if it is not there. The entry of a
// folder it made is on stable storage when it returns.
func NewDisk(root string) (*Disk, error) {
	const op = "vfs.NewDisk"
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, wrap(op, root, err)
	}
	var made []string
	for dir := abs; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, dir)
	}
	if err := os.MkdirAll(abs, folderMode); err != nil {
		return nil, wrap(op, abs, err)
	}
	for _, dir := range made {
		if err := syncFolder(filepath.Dir(dir)); err != nil {
			return nil, wrap(op, dir, err)
		}
	}
	return OpenDisk(abs)
}

// OpenDisk opens the folder root, which must be there: fault.NotFound. It changes nothing.
func OpenDisk(root string) (*Disk, error) {
	const op = "vfs.OpenDisk"
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, wrap(op, root, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return nil, wrap(op, abs, err)
	}
	if !info.IsDir() {
		return nil, fault.New(fault.Invalid, op, "%s is not a folder", abs)
	}
	return &Disk{root: abs}, nil
}

// Root is the folder's absolute path.
func (d *Disk) Root() string { return d.root }

func (d *Disk) path(op, name string) (string, error) {
	name, err := clean(op, name)
	if err != nil {
		return "", err
	}
	return filepath.Join(d.root, filepath.FromSlash(name)), nil
}

// Create implements FS.
func (d *Disk) Create(name string) (File, error) {
	return d.open("vfs.Create", name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

// Open implements FS.
func (d *Disk) Open(name string) (File, error) { return d.open("vfs.Open", name, os.O_RDONLY) }

// OpenWrite implements FS.
func (d *Disk) OpenWrite(name string) (File, error) {
	return d.open("vfs.OpenWrite", name, os.O_RDWR)
}

func (d *Disk) open(op, name string, flag int) (File, error) {
	full, err := d.path(op, name)
	if err != nil {
		return nil, err
	}
	f, err := openFile(full, flag)
	if err != nil {
		return nil, wrap(op, full, err)
	}
	return &diskFile{f: f, fd: int(f.Fd())}, nil
}

// Rename implements FS.
func (d *Disk) Rename(from, to string) error {
	const op = "vfs.Rename"
	from, to, err := cleanRename(op, from, to)
	if err != nil {
		return err
	}
	oldPath, newPath := filepath.Join(d.root, from), filepath.Join(d.root, to)
	return wrap(op, oldPath, rename(oldPath, newPath))
}

// Remove implements FS.
func (d *Disk) Remove(name string) error {
	const op = "vfs.Remove"
	full, err := d.path(op, name)
	if err != nil {
		return err
	}
	return wrap(op, full, remove(full))
}

// MkdirAll implements FS.
func (d *Disk) MkdirAll(dir string) error {
	const op = "vfs.MkdirAll"
	full, err := d.path(op, dir)
	if err != nil {
		return err
	}
	return wrap(op, full, os.MkdirAll(full, folderMode))
}

// List implements FS.
func (d *Disk) List(dir string) ([]string, error) {
	const op = "vfs.List"
	full, err := d.path(op, dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(full)
	if err != nil {
		return nil, wrap(op, full, err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// SyncDir implements FS.
func (d *Disk) SyncDir(dir string) error {
	const op = "vfs.SyncDir"
	full, err := d.path(op, dir)
	if err != nil {
		return err
	}
	return wrap(op, full, syncFolder(full))
}

// Lock implements FS by a lock of the system: it goes with the process, however it ends.
func (d *Disk) Lock(name string) (io.Closer, error) {
	const op = "vfs.Lock"
	full, err := d.path(op, name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(full, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, wrap(op, full, err)
	}
	held, err := lock(f)
	if err == nil && !held {
		return f, nil
	}
	if held {
		err = lockHeld(op, full)
	} else {
		err = wrap(op, full, err)
	}
	return nil, errors.Join(err, f.Close())
}

// lockHeld is the error of a lock that somebody else has.
func lockHeld(op, name string) error {
	return fault.New(fault.Exists, op, "%s is locked", name).
		WithHint("another firth runs on this data directory: stop it, or choose another directory")
}

// Space is what the disk has left for an ordinary user, and its size, in bytes.
func (d *Disk) Space() (free, total int64, err error) {
	free, total, err = space(d.root)
	return free, total, wrap("vfs.Space", d.root, err)
}

// diskFile is an open file. Raw system calls hold it, which keeps the descriptor from being closed, and its
// number from being given to another file, while they run. (syscall.RawConn would do that too, but every call
// through it allocates, and two of them are made for each commit.)
type diskFile struct {
	f    *os.File
	fd   int
	held sync.RWMutex // read: a raw call runs; write: the file is being closed

	closed bool // under held

	direct direct
}

// direct is the descriptor of an open file that writes past the system's cache. It is opened when it is wanted.
type direct struct {
	once sync.Once
	f    *os.File // nil if there is none
	err  error    // why
}

// ReadAt implements io.ReaderAt; the end of the file is io.EOF itself.
func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	return n, f.wrap("vfs.ReadAt", err)
}

// WriteAt implements io.WriterAt.
func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, f.wrap("vfs.WriteAt", err)
}

// WriteVecAt implements File.
func (f *diskFile) WriteVecAt(pieces [][]byte, off int64) (int, error) {
	n, err := f.writeVec(pieces, off)
	return n, f.wrap("vfs.WriteVecAt", err)
}

// WriteDirect implements File.
func (f *diskFile) WriteDirect(p []byte, off int64) error {
	if err := checkDirect(f.f.Name(), p, off); err != nil {
		return err
	}
	return f.wrap("vfs.WriteDirect", f.writeDirect(p, off))
}

// Sync implements File.
func (f *diskFile) Sync() error { return f.wrap("vfs.Sync", f.dataSync()) }

// Preallocate implements File.
func (f *diskFile) Preallocate(size int64) error {
	if size == 0 {
		return nil
	}
	return f.wrap("vfs.Preallocate", f.allocate(size))
}

// Truncate implements File.
func (f *diskFile) Truncate(size int64) error { return f.wrap("vfs.Truncate", f.f.Truncate(size)) }

// Size implements File.
func (f *diskFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, f.wrap("vfs.Size", err)
	}
	return info.Size(), nil
}

// ModTime implements File.
func (f *diskFile) ModTime() (time.Time, error) {
	info, err := f.f.Stat()
	if err != nil {
		return time.Time{}, f.wrap("vfs.ModTime", err)
	}
	return info.ModTime(), nil
}

// Close implements io.Closer.
func (f *diskFile) Close() error {
	f.held.Lock()
	defer f.held.Unlock()
	f.closed = true
	err := f.f.Close()
	if f.direct.f != nil {
		err = errors.Join(err, f.direct.f.Close())
	}
	return f.wrap("vfs.Close", err)
}

// hold keeps the descriptor open until let.
func (f *diskFile) hold() error {
	f.held.RLock()
	if f.closed {
		f.held.RUnlock()
		return os.ErrClosed
	}
	return nil
}

func (f *diskFile) let() { f.held.RUnlock() }

func (f *diskFile) wrap(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // io.EOF comes bare, and goes on bare
		return err
	}
	return wrap(op, f.f.Name(), err)
}

// grow makes the file at least size long without reserving space.
func (f *diskFile) grow(size int64) error {
	info, err := f.f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	return f.f.Truncate(size)
}

// wrap gives an error of the operating system its kind and the name of the file.
func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	cause := err
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		cause = pe.Err // its text has the name already
	}
	if le := (*os.LinkError)(nil); errors.As(err, &le) {
		cause = le.Err
	}
	kind, hint := kindOf(err)
	return &fault.Error{Kind: kind, Op: op, Hint: hint, Err: fmt.Errorf("%s: %w", name, cause)}
}

// errNoDirect is for file systems, and systems, that write only through their cache.
var errNoDirect = errors.New("no writing past the cache here")

func kindOf(err error) (kind fault.Kind, hint string) {
	switch {
	case isFull(err):
		return fault.Full, "make space on the disk: writing goes on by itself"
	case errors.Is(err, fs.ErrNotExist):
		return fault.NotFound, ""
	case errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY):
		return fault.Exists, ""
	case errors.Is(err, errNoDirect):
		return fault.Unsupported, ""
	case errors.Is(err, os.ErrClosed):
		return fault.Closed, ""
	case errors.Is(err, fs.ErrPermission):
		return fault.IO, "the user that runs firth needs to own the data directory"
	default:
		return fault.IO, ""
	}
}
