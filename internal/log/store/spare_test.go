package store

import (
	"log/slog"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
)

// TestOneSpareStays: a spare that comes back while the housekeeper has prepared another is removed.
func TestOneSpareStays(t *testing.T) {
	fs := vfs.NewMemory()
	if err := fs.MkdirAll(logDir); err != nil {
		t.Fatal(err)
	}
	opt := Options{FS: fs, JournalBytes: 64 << 10, FirstJournalBytes: 64 << 10, Logger: slog.New(slog.DiscardHandler)}
	s := &Store{raw: fs, fs: fs, opt: opt}
	k := &s.housekeeper
	k.init(s)
	if err := k.prepare(); err != nil {
		t.Fatal(err)
	}
	taken, err := k.takeSpare(1, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.prepare(); err != nil {
		t.Fatal(err)
	}
	k.putBack(&taken)
	if err := k.clear(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List(logDir)
	if err != nil || len(names) != 1 || logDir+"/"+names[0] != k.mu.spare.name {
		t.Errorf("%q are there, the spare is %q: %v", names, k.mu.spare.name, err)
	}
}
