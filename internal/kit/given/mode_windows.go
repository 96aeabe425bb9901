package given

import "io/fs"

// allowed is any mode: it tells only whether a file may be written.
func allowed(fs.FileInfo) fs.FileMode { return fs.ModePerm }

// inode is not known by a file's information.
func inode(fs.FileInfo) uint64 { return 0 }
