package vfs

import (
	"errors"
	"io"
	"path"

	"github.com/firthmq/firth/internal/kit/fault"
)

// ReadWhole is what a small file holds. Errors: NotFound; TooLarge above so many bytes; those of the disk.
func ReadWhole(fs FS, name string, most int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fault.New(fault.TooLarge, "vfs.ReadWhole", "%s has %d bytes", name, size)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// WriteWhole puts a file in the place of another, on stable storage: after a crash there is the old one or the new.
func WriteWhole(fs FS, name string, content []byte) error {
	next := name + ".new"
	f, err := fs.Create(next)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(next, name); err != nil {
		return err
	}
	return fs.SyncDir(path.Dir(name))
}
