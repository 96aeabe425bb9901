package vfs

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resident counts the pages of a file that are in memory.
func resident(t *testing.T, f *diskFile, size uintptr) (n int) {
	t.Helper()
	must(t, f.control(func(fd int) error {
		m, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		pages := make([]byte, int(size)/unix.Getpagesize())
		_, _, failed := unix.Syscall(unix.SYS_MINCORE,
			uintptr(unsafe.Pointer(&m[0])), size, uintptr(unsafe.Pointer(&pages[0])))
		for _, p := range pages {
			n += int(p & 1)
		}
		if failed != 0 {
			err = failed
		}
		return errors.Join(err, unix.Munmap(m))
	}))
	return n
}

func TestAheadBringsBytesIntoMemory(t *testing.T) {
	const size = 1 << 20
	d, err := NewDisk(filepath.Join(t.TempDir(), "d"))
	must(t, err)
	file, err := d.Create("file")
	must(t, err)
	f := file.(*diskFile)
	_, err = f.WriteAt(make([]byte, size), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.control(func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) }))
	if resident(t, f, size) > 0 {
		t.Skip("this file system keeps its files in memory")
	}
	Ahead(f, 0, size/2)
	deadline := time.After(10 * time.Second)
	for resident(t, f, size) < size/2/unix.Getpagesize() {
		select {
		case <-deadline:
			t.Fatalf("%d pages came", resident(t, f, size))
		case <-time.After(time.Millisecond): // how often, not whether
		}
	}
	must(t, f.Close())
	Ahead(f, 0, size) // of a closed file, and of one in memory: nothing
	m, err := NewMemory().Create("file")
	must(t, err)
	Ahead(m, 0, size)
}
