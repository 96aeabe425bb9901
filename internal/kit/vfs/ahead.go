package vfs

// Ahead tells the system that n bytes of a file from off on will be read soon, so that the disk brings them
// into memory meanwhile. It does not wait for them. It is a hint: where nothing can be done, nothing is.
func Ahead(f File, off, n int64) {
	if d, ok := f.(interface{ ahead(off, n int64) }); ok {
		d.ahead(off, n)
	}
}
