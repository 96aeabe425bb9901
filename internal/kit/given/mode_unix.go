//go:build unix

package given

import (
	"io/fs"
	"syscall"
)

// allowed is what a secret's mode may be at most.
func allowed(info fs.FileInfo) fs.FileMode {
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid == 0 {
		return 0o640
	}
	return 0o600
}

// inode is another one for another file of the same name.
func inode(info fs.FileInfo) uint64 {
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return owner.Ino
	}
	return 0
}
