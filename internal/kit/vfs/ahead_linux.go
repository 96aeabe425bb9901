package vfs

import "golang.org/x/sys/unix"

// ahead does not go through control, which would cost memory each time: the number of a descriptor that was
// closed and given away meanwhile can do no harm to a hint.
func (f *diskFile) ahead(off, n int64) {
	_ = unix.Fadvise(int(f.f.Fd()), off, n, unix.FADV_WILLNEED) // what cannot be read is told by the read
}
