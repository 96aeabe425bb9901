// Package vfstest spoils files for tests.
package vfstest

import (
	"bytes"
	"errors"
	"io"
	"path"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
)

// Flip inverts a bit wherever a file of a folder holds some bytes, now and in what is stored, as a decaying disk does:
// the lowest one of the byte at an index of content. The test fails if no file holds it.
func Flip(t testing.TB, fs vfs.FS, dir string, content []byte, index int) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	places := 0
	for _, name := range names {
		n, err := flip(fs, path.Join(dir, name), content, index)
		if err != nil {
			t.Fatal(err)
		}
		places += n
	}
	if places == 0 {
		t.Fatalf("%.100q is in no file", content)
	}
}

// flip does so in one file, and tells in how many places.
func flip(fs vfs.FS, name string, content []byte, index int) (places int, err error) {
	f, err := fs.OpenWrite(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for from := 0; ; places++ {
		at := bytes.Index(b[from:], content)
		if at < 0 {
			break
		}
		at += from + index
		if _, err := f.WriteAt([]byte{b[at] ^ 1}, int64(at)); err != nil {
			return 0, err
		}
		from = at - index + len(content)
	}
	return places, f.Sync()
}
