// Package given reads the files that an operator gives us: keys, certificates and secrets. They are small, are read
// whole, and are looked at for changes.
//
//	text, err := given.Read("tls", name)
//	stamp := given.StampOf(name) // another one when the file is
package given

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// maxFile bounds a file, in bytes: a list of half a million revoked certificates fits.
const maxFile = 64 << 20

// Read reads a file, for an operation that errors name. Errors: Invalid, NotFound, IO.
func Read(op, name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && (info.IsDir() || info.Size() > maxFile) {
		return nil, fault.New(fault.Invalid, op, "%s is a folder, or larger than %d bytes", name, maxFile)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, op, "there is no file %s", name)
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, op, err)
	}
	return text, nil
}

// ReadPrivate is Read of a secret, which nobody else may be able to read. Errors: Denied too.
func ReadPrivate(op, name string) ([]byte, error) {
	text, err := Read(op, name)
	if err != nil {
		return nil, err
	}
	return text, CheckPrivate(op, name)
}

// CheckPrivate refuses a file that others can use. A group may read one of root's, as the keys of a group for
// certificates are. On Windows the mode of a file does not say who can: nothing is refused there. Errors: Denied, IO.
func CheckPrivate(op, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fault.Wrap(fault.IO, op, err)
	}
	if mode := info.Mode().Perm(); mode&^allowed(info) != 0 {
		return fault.New(fault.Denied, op, "others can use the key %s: its mode is %04o", name, mode).
			WithHint("chmod 600 %s", name)
	}
	return nil
}

// Stamp tells that a file is another one. The zero Stamp is that of no file.
type Stamp struct {
	size     int64
	mode     fs.FileMode
	modified time.Time
	inode    uint64
}

// StampOf is the stamp of a file now.
func StampOf(name string) Stamp {
	info, err := os.Stat(name)
	if err != nil {
		return Stamp{}
	}
	return Stamp{size: info.Size(), mode: info.Mode(), modified: info.ModTime(), inode: inode(info)}
}
