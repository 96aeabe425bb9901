package vfstest_test

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
)

// TestFlip holds Flip to every place of the bytes, to nothing else, and to what a crash leaves.
func TestFlip(t *testing.T) {
	m := vfs.NewMemory()
	if err := m.MkdirAll("log"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"log/a": "abcabc.bc", "log/b": "xx", "log/c": "-abc-"} {
		f, err := m.Create(name)
		if err == nil {
			_, err = f.WriteAt([]byte(text), 0)
		}
		if err == nil {
			err = f.Sync()
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"log", "."} {
		if err := m.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	vfstest.Flip(t, m, "log", []byte("abc"), 2)
	for name, want := range map[string]string{"log/a": "abbabb.bc", "log/b": "xx", "log/c": "-abb-"} {
		f, err := m.CrashClone(nil).Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(want))
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
}
