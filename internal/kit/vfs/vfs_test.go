package vfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// keepers are all that implement FS; every test of the suite runs on each.
var keepers = map[string]func(t *testing.T) FS{
	"disk": func(t *testing.T) FS {
		d, err := NewDisk(filepath.Join(t.TempDir(), "a", "root"))
		must(t, err)
		return d
	},
	"memory": func(*testing.T) FS { return NewMemory() },
	"faulty": func(*testing.T) FS { return NewFaulty(NewMemory()) },
	"below": func(t *testing.T) FS {
		m := NewMemory()
		must(t, m.MkdirAll("a/b"))
		return Below(m, "a/b")
	},
}

func each(t *testing.T, test func(t *testing.T, fs FS)) {
	t.Helper()
	for name, open := range keepers {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind fault.Kind, names ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("got error %v of kind %v, want kind %v", err, fault.KindOf(err), kind)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Fatalf("error %q does not name %q", err, name)
		}
	}
}

// put writes a file and syncs it, but not its folder.
func put(t *testing.T, fs FS, name, data string) {
	t.Helper()
	f, err := fs.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(data), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func read(t *testing.T, fs FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	size, err := f.Size()
	must(t, err)
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	must(t, err)
	if int64(len(data)) != size {
		t.Fatalf("%s: read %d bytes of %d", name, len(data), size)
	}
	return string(data)
}

func wantList(t *testing.T, fs FS, dir string, want ...string) {
	t.Helper()
	got, err := fs.List(dir)
	must(t, err)
	if !slices.Equal(got, want) {
		t.Fatalf("List(%q) = %q, want %q", dir, got, want)
	}
}

func TestCreateWriteRead(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		f, err := fs.Create("x")
		must(t, err)
		for _, w := range []struct {
			off  int64
			data string
		}{{0, "hello"}, {10_000, "far"}, {3, "LO"}} {
			n, err := f.WriteAt([]byte(w.data), w.off)
			must(t, err)
			if n != len(w.data) {
				t.Fatalf("wrote %d of %d", n, len(w.data))
			}
		}
		want := "helLO" + string(make([]byte, 9_995)) + "far"
		must(t, f.Sync())
		if got := read(t, fs, "x"); got != want {
			t.Fatalf("content differs: %d bytes", len(got))
		}
		buf := make([]byte, 10)
		n, err := f.ReadAt(buf, 10_000)
		if n != 3 || err != io.EOF { //nolint:errorlint // the contract of io.ReaderAt
			t.Fatalf("ReadAt over the end = %d, %v", n, err)
		}
		n, err = f.ReadAt(buf, 20_000)
		if n != 0 || err != io.EOF { //nolint:errorlint // the contract of io.ReaderAt
			t.Fatalf("ReadAt beyond the end = %d, %v", n, err)
		}
		must(t, f.Close())
		f, err = fs.Create("x") // cut to nothing
		must(t, err)
		must(t, f.Close())
		if got := read(t, fs, "x"); got != "" {
			t.Fatalf("Create left %q", got)
		}
	})
}

func TestWriteVec(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		f, err := fs.Create("v")
		must(t, err)
		var pieces [][]byte
		var want []byte
		for i := range 5000 { // more than one system call takes
			piece := bytes.Repeat([]byte{byte(i)}, i%7)
			pieces = append(pieces, piece)
			want = append(want, piece...)
		}
		before := slices.Clone(pieces)
		n, err := f.WriteVecAt(pieces, 100)
		must(t, err)
		if n != len(want) {
			t.Fatalf("wrote %d, want %d", n, len(want))
		}
		for i := range pieces {
			if len(pieces[i]) != len(before[i]) {
				t.Fatal("the caller's list was changed")
			}
		}
		if got := read(t, fs, "v"); got[100:] != string(want) {
			t.Fatal("content differs")
		}
		for _, nothing := range [][][]byte{nil, {nil, {}}} {
			if n, err := f.WriteVecAt(nothing, 0); n != 0 || err != nil {
				t.Fatalf("writing nothing = %d, %v", n, err)
			}
		}
		must(t, f.Close())
	})
}

// TestWriteDirect writes blocks past the cache between writes through it, and reads what both left.
func TestWriteDirect(t *testing.T) { each(t, writeDirect) }

func writeDirect(t *testing.T, fs FS) {
	t.Helper()
	f, err := fs.Create("d")
	must(t, err)
	must(t, f.Preallocate(10*DirectBlock))
	must(t, fs.Rename("d", "e")) // an open file may get another name before its first direct write
	block := DirectBytes(3 * DirectBlock)
	for i := range block {
		block[i] = byte(i / 1000)
	}
	want := make([]byte, 10*DirectBlock)
	both := func(off int, p []byte, direct bool) {
		t.Helper()
		copy(want[off:], p)
		if direct {
			must(t, f.WriteDirect(p, int64(off)))
		} else {
			_, err := f.WriteAt(p, int64(off))
			must(t, err)
		}
		got := make([]byte, len(want))
		_, err := f.ReadAt(got, 0)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Fatalf("after %d bytes at %d, direct %t: content differs", len(p), off, direct)
		}
	}
	both(100, []byte("through the cache, not synced"), false)
	if err := f.WriteDirect(block, 0); fault.Is(err, fault.Unsupported) {
		t.Skipf("this file system: %v", err)
	}
	both(0, block, true)
	both(2*DirectBlock+50, []byte("over what went past it"), false)
	both(2*DirectBlock, block[:2*DirectBlock], true)
	both(9*DirectBlock, block[DirectBlock:2*DirectBlock], true)
	both(9*DirectBlock-10, block[:20], false)
	must(t, f.Sync())
	for _, bad := range []struct {
		off int64
		p   []byte
	}{{1, block}, {0, block[:100]}, {0, block[8 : DirectBlock+8]}} {
		wantKind(t, f.WriteDirect(bad.p, bad.off), fault.Invalid, "blocks")
	}
	if got := read(t, fs, "e"); got != string(want) {
		t.Fatal("another reader sees something else")
	}
	must(t, f.Close())
	wantKind(t, f.WriteDirect(block, 0), fault.Closed, "")
	g, err := fs.Open("e")
	must(t, err)
	wantKind(t, g.WriteDirect(block, 0), fault.IO, "")
	must(t, g.Close())
}

// TestPrefetch changes nothing of a file.
func TestPrefetch(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		f, err := fs.Create("p")
		must(t, err)
		_, err = f.WriteAt([]byte("some bytes"), 0)
		must(t, err)
		p, err := NewPrefetch(f)
		if fault.Is(err, fault.Unsupported) && runtime.GOOS != "linux" {
			t.Skip(err)
		}
		must(t, err)
		must(t, p.Bring(5, 100))
		must(t, p.Close())
		if got := read(t, fs, "p"); got != "some bytes" {
			t.Errorf("%q", got)
		}
		must(t, f.Close())
	})
}

func TestPreallocateAndTruncate(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		f, err := fs.Create("p")
		must(t, err)
		size := func(want int64) {
			t.Helper()
			got, err := f.Size()
			must(t, err)
			if got != want {
				t.Fatalf("size %d, want %d", got, want)
			}
		}
		must(t, f.Preallocate(0))
		size(0)
		must(t, f.Preallocate(1<<20))
		size(1 << 20)
		if got := read(t, fs, "p"); got != string(make([]byte, 1<<20)) {
			t.Fatal("preallocated space is not zeros")
		}
		_, err = f.WriteAt(bytes.Repeat([]byte("x"), 9000), 0)
		must(t, err)
		must(t, f.Preallocate(100)) // never shrinks
		size(1 << 20)
		must(t, f.Truncate(5000))
		must(t, f.Truncate(9000))
		size(9000)
		if got := read(t, fs, "p"); got != strings.Repeat("x", 5000)+string(make([]byte, 4000)) {
			t.Fatal("what was cut off came back")
		}
		must(t, f.Close())
	})
}

func TestEntries(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		must(t, fs.MkdirAll("log/deep"))
		must(t, fs.MkdirAll("log/deep"))
		must(t, fs.MkdirAll(""))
		put(t, fs, "log/b", "bee")
		put(t, fs, "log/a", "ay")
		wantList(t, fs, "log", "a", "b", "deep")
		wantList(t, fs, ".", "log")
		wantList(t, fs, "", "log")
		must(t, fs.Rename("log/a", "log/b"))
		wantList(t, fs, "log", "b", "deep")
		if got := read(t, fs, "log/b"); got != "ay" {
			t.Fatalf("after the rename: %q", got)
		}
		must(t, fs.Rename("log/b", "log/b"))
		must(t, fs.SyncDir("log"))
		must(t, fs.SyncDir(""))
		if err := fs.Remove("log"); err == nil {
			t.Fatal("removed a folder that is not empty")
		}
		must(t, fs.Remove("log/b"))
		must(t, fs.Remove("log/deep"))
		must(t, fs.Remove("log"))
		wantList(t, fs, ".")
	})
}

func TestErrors(t *testing.T) { each(t, errorsOf) }

func errorsOf(t *testing.T, fs FS) {
	t.Helper()
	_, err := fs.Open("none")
	wantKind(t, err, fault.NotFound, "none", "vfs.Open")
	_, err = fs.OpenWrite("none")
	wantKind(t, err, fault.NotFound, "none")
	_, err = fs.Create("no/folder")
	wantKind(t, err, fault.NotFound, "no")
	_, err = fs.List("none")
	wantKind(t, err, fault.NotFound, "none")
	wantKind(t, fs.SyncDir("none"), fault.NotFound, "none")
	wantKind(t, fs.Remove("none"), fault.NotFound, "none")
	wantKind(t, fs.Rename("none", "other"), fault.NotFound, "none")
	must(t, fs.MkdirAll("d"))
	put(t, fs, "f", "x")
	wantKind(t, fs.Rename("f", "d/f"), fault.Invalid, "different folders")
	wantKind(t, fs.Rename("f", "d"), fault.Exists)
	wantKind(t, fs.MkdirAll("f/g"), fault.IO)
	_, err = fs.Create("d")
	wantKind(t, err, fault.IO, "d")

	f, err := fs.Open("f")
	must(t, err)
	_, err = f.WriteAt([]byte("y"), 0)
	wantKind(t, err, fault.IO, "f")
	_, err = f.WriteVecAt([][]byte{[]byte("y")}, 0)
	wantKind(t, err, fault.IO, "f")
	must(t, f.Close())
	f, err = fs.OpenWrite("f")
	must(t, err)
	_, err = f.ReadAt(make([]byte, 1), -1)
	wantKind(t, err, fault.IO)
	_, err = f.WriteAt([]byte("y"), -1)
	wantKind(t, err, fault.IO)
	wantKind(t, f.Truncate(-1), fault.IO)
	must(t, f.Close())
	_, err = f.ReadAt(make([]byte, 1), 0)
	wantKind(t, err, fault.Closed, "f")
	_, err = f.WriteVecAt([][]byte{[]byte("y")}, 0)
	wantKind(t, err, fault.Closed, "f")
	wantKind(t, f.Sync(), fault.Closed, "f")
	wantKind(t, f.Close(), fault.Closed, "f")
	_, err = f.Size()
	wantKind(t, err, fault.Closed, "f")
}

func TestNamesStayBelowTheRoot(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		for _, name := range []string{"../x", "/etc/passwd", "a/../../x", "..", "a/../.."} {
			_, err := fs.Create(name)
			wantKind(t, err, fault.Invalid)
			_, err = fs.Open(name)
			wantKind(t, err, fault.Invalid)
			_, err = fs.List(name)
			wantKind(t, err, fault.Invalid)
			_, err = fs.Lock(name)
			wantKind(t, err, fault.Invalid)
			wantKind(t, fs.Remove(name), fault.Invalid)
			wantKind(t, fs.MkdirAll(name), fault.Invalid)
			wantKind(t, fs.SyncDir(name), fault.Invalid)
			wantKind(t, fs.Rename(name, "x"), fault.Invalid)
			wantKind(t, fs.Rename("x", name), fault.Invalid)
		}
		wantList(t, fs, ".")
	})
}

func TestLock(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		lock, err := fs.Lock("LOCK")
		must(t, err)
		_, err = fs.Lock("LOCK")
		wantKind(t, err, fault.Exists, "LOCK")
		if hint := fault.HintOf(err); !strings.Contains(hint, "another firth") {
			t.Fatalf("hint %q", hint)
		}
		must(t, lock.Close())
		again, err := fs.Lock("LOCK")
		must(t, err)
		must(t, again.Close())
		wantList(t, fs, ".", "LOCK")
	})
}

func TestSpace(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		free, total, err := Space(fs)
		must(t, err)
		if free <= 0 || total < free {
			t.Fatalf("free %d of %d", free, total)
		}
	})
}

func TestOpenFileOutlivesItsName(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		put(t, fs, "f", "still here")
		f, err := fs.Open("f")
		must(t, err)
		must(t, fs.Remove("f"))
		put(t, fs, "f", "new")
		buf := make([]byte, 10)
		_, err = f.ReadAt(buf, 0)
		must(t, err)
		if string(buf) != "still here" {
			t.Fatalf("read %q", buf)
		}
		must(t, f.Close())
	})
}

func TestFilesAreSharedByGoroutines(t *testing.T) {
	each(t, func(t *testing.T, fs FS) {
		f, err := fs.Create("f")
		must(t, err)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(g)))
				buf := make([]byte, 100)
				for range 200 {
					off := rng.Int64N(100_000)
					switch rng.IntN(4) {
					case 0:
						_, err := f.ReadAt(buf, off)
						if err != nil && !errors.Is(err, io.EOF) {
							t.Error(err)
						}
					case 1:
						if err := f.Sync(); err != nil {
							t.Error(err)
						}
					default:
						if _, err := f.WriteVecAt([][]byte{buf, buf}, off); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		wg.Wait()
		must(t, f.Close())
	})
}

func TestDiskModes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "made")
	d, err := NewDisk(root)
	must(t, err)
	must(t, d.MkdirAll("sub"))
	put(t, d, "sub/file", "x")
	for name, want := range map[string]os.FileMode{"": 0o700, "sub": 0o700, "sub/file": 0o600} {
		info, err := os.Stat(filepath.Join(root, name))
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %o, want %o", name, got, want)
		}
	}
}

func TestOpenDiskChangesNothing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "none")
	_, err := OpenDisk(root)
	wantKind(t, err, fault.NotFound, root)
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Fatalf("the folder was made: %v", err)
	}
	must(t, os.WriteFile(root, nil, 0o600))
	_, err = OpenDisk(root)
	wantKind(t, err, fault.Invalid, root)
	_, err = NewDisk(root)
	if err == nil {
		t.Fatal("a file is no root")
	}
}
