package vfs

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firthmq/firth/internal/kit/fault"
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

// cold makes a file of which nothing is in memory.
func cold(t *testing.T, size uintptr) *diskFile {
	t.Helper()
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
	return f
}

func TestAheadBringsBytesIntoMemory(t *testing.T) {
	const size = 1 << 20
	f := cold(t, size)
	Ahead(f, 0, size/2)
	deadline := time.After(time.Minute)
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

func TestPrefetchBringsBytesIntoMemory(t *testing.T) {
	const size = 4 << 20
	f := cold(t, size)
	p, err := NewPrefetch(f)
	must(t, err)
	must(t, p.Bring(size/4, size/4))
	if n := resident(t, f, size); n < size/4/unix.Getpagesize() {
		t.Errorf("%d pages came", n)
	}
	must(t, f.Close())
	must(t, p.Bring(size/2, size)) // up to the end
	must(t, p.Close())
	if _, err := NewPrefetch(f); !fault.Is(err, fault.Closed) {
		t.Errorf("of a closed file: %v", err)
	}
}

// TestWriteDirectLeavesNoPages writes past the cache wherever the system lets a program do that.
func TestWriteDirectLeavesNoPages(t *testing.T) {
	const size = 1 << 20
	f := cold(t, size)
	raw, err := unix.Open(f.f.Name(), unix.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Skipf("this file system has no O_DIRECT: %v", err)
	}
	_, err = unix.Pwrite(raw, DirectBytes(DirectBlock), 0)
	must(t, unix.Close(raw))
	if err != nil {
		t.Skipf("this file system does not write past its cache: %v", err)
	}
	must(t, f.WriteDirect(DirectBytes(size/2), size/4))
	must(t, f.Sync())
	if n := resident(t, f, size); n > 0 {
		t.Errorf("%d pages are in memory", n)
	}
	must(t, f.Close())
}
