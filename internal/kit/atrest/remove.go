package atrest

import (
	"cmp"
	"errors"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// Aside ends the names of files that are about to be removed: who finds one at a start removes it.
const Aside = ".tmp"

// Forget writes zeros over both copies of the data key of a file of the FS below, and syncs them: what is left of the
// file on the disk opens no more. A plain file is left as it is. Errors: NotFound, IO.
func Forget(fs vfs.FS, name string) error {
	f, err := fs.OpenWrite(name)
	if err != nil {
		return err
	}
	return errors.Join(forget(f), f.Close())
}

func forget(f vfs.File) error {
	_, sealed, err := readHead(f)
	if err != nil || !sealed {
		return err
	}
	if _, err := f.WriteAt(make([]byte, HeaderBytes), 0); err != nil {
		return err
	}
	return f.Sync()
}

// Remove removes files in a folder of the FS below, and before each its data key. The name goes before the key, so that
// after a crash in between nobody takes the file for damage. One whose key cannot be written over stays if it must go
// first; else it is removed all the same, for a full disk may have no room for another name. Of the files that stay it
// gives the names that they have now, and the first error.
func Remove(fs vfs.FS, dir string, names []string, keyMustGo bool) (left []string, err error) {
	aside, left, err := setAside(fs, dir, names)
	remove := func(name string, failed error) {
		if failed == nil || !keyMustGo {
			failed = fs.Remove(name)
		}
		if failed != nil && !fault.Is(failed, fault.NotFound) {
			left, err = append(left, name), cmp.Or(err, failed)
		}
	}
	if stuck, why := left, err; len(stuck) > 0 {
		left, err = nil, nil
		for _, name := range stuck {
			remove(name, why)
		}
	}
	for _, name := range aside {
		remove(name, Forget(fs, name))
	}
	return left, err
}

// setAside gives files names that end with Aside, on stable storage.
func setAside(fs vfs.FS, dir string, names []string) (aside, left []string, err error) {
	renamed := false
	for _, name := range names {
		if strings.HasSuffix(name, Aside) {
			aside = append(aside, name)
			continue
		}
		switch failed := fs.Rename(name, name+Aside); {
		case failed == nil:
			aside, renamed = append(aside, name+Aside), true
		case !fault.Is(failed, fault.NotFound):
			left, err = append(left, name), cmp.Or(err, failed)
		}
	}
	if !renamed {
		return aside, left, err
	}
	if failed := fs.SyncDir(dir); failed != nil {
		return nil, append(left, aside...), cmp.Or(err, failed)
	}
	return aside, left, err
}
