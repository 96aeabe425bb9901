package backup

import (
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// tornSuffix is what a file is called before it is whole.
const tornSuffix = ".new"

// lockName is locked while something is written.
const lockName = "LOCK"

// InFolder is a folder as a Place.
func InFolder(fs vfs.FS) Place { return &folder{fs} }

type folder struct{ fs vfs.FS }

// Put implements Place.
func (f *folder) Put(_ context.Context, name string, content []byte) error {
	err := vfs.WriteWhole(f.fs, name, content)
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	dir := path.Dir(name)
	if err := f.fs.MkdirAll(dir); err != nil {
		return err
	}
	for up := dir; up != "."; {
		up = path.Dir(up)
		if err := f.fs.SyncDir(up); err != nil {
			return err
		}
	}
	return vfs.WriteWhole(f.fs, name, content)
}

// Get implements Place.
func (f *folder) Get(_ context.Context, name string, most int64) ([]byte, error) {
	return vfs.ReadWhole(f.fs, name, most)
}

// ReadAt implements Place.
func (f *folder) ReadAt(_ context.Context, name string, b []byte, off int64) error {
	file, err := f.fs.Open(name)
	if err != nil {
		return err
	}
	n, err := file.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil && n < len(b) {
		err = fault.New(fault.IO, "backup.Read", "%s ends at byte %d", name, off+int64(n))
	}
	return errors.Join(err, file.Close())
}

// Names implements Place. What is in a folder of a folder is visited too.
func (f *folder) Names(ctx context.Context, dir string, visit func(string, int64)) error {
	names, err := f.fs.List(dir)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, base := range names {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Timeout, "backup.List", err)
		}
		name := dir + "/" + base
		if len(base) == 2 && !strings.Contains(base, ".") {
			if err := f.Names(ctx, name, visit); err != nil {
				return err
			}
			continue
		}
		size, err := f.size(name)
		if fault.Is(err, fault.NotFound) {
			continue // it went meanwhile
		}
		if err != nil {
			return err
		}
		visit(name, size)
	}
	return nil
}

func (f *folder) size(name string) (int64, error) {
	file, err := f.fs.Open(name)
	if err != nil {
		return 0, err
	}
	size, err := file.Size()
	return size, errors.Join(err, file.Close())
}

// Remove implements Place.
func (f *folder) Remove(_ context.Context, name string) error { return f.fs.Remove(name) }

// Lock implements Place.
func (f *folder) Lock(context.Context) (io.Closer, error) {
	lock, err := f.fs.Lock(lockName)
	if fault.Is(err, fault.Exists) {
		return nil, fault.New(fault.Exists, "backup.Lock", "somebody else is writing to this folder").
			WithHint("wait until the other backup has ended")
	}
	return lock, err
}
