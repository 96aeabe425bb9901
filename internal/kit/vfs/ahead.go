package vfs

// Layered is a File that lies in another: hints are given to that one.
type Layered interface {
	// Below tells where n bytes from off on lie.
	Below(off, n int64) (f File, from, length int64)
}

// Ahead tells the system that n bytes of a file from off on will be read soon, so that the disk brings them
// into memory meanwhile. It does not wait for them. It is a hint: where nothing can be done, nothing is.
func Ahead(f File, off, n int64) {
	switch d := f.(type) {
	case interface{ ahead(off, n int64) }:
		d.ahead(off, n)
	case Layered:
		Ahead(d.Below(off, n))
	}
}
