//go:build !linux

package vfs

// writeVec writes the pieces one by one: not every system has a pwritev that Go can call.
func (f *diskFile) writeVec(pieces [][]byte, off int64) (int, error) {
	total := 0
	for _, p := range pieces {
		n, err := f.f.WriteAt(p, off+int64(total))
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// writeDirect: what other systems have for it keeps no promise that is worth the difference.
func (f *diskFile) writeDirect([]byte, int64) error { return errNoDirect }

// dataSync is a full sync; on macOS Go asks the drive itself to flush (F_FULLFSYNC), on
// Windows it is FlushFileBuffers.
func (f *diskFile) dataSync() error { return f.f.Sync() }

// allocate only sets the size, for which NTFS reserves the space.
func (f *diskFile) allocate(size int64) error { return f.grow(size) }
