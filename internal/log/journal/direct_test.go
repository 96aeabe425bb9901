package journal_test

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/record"
)

// cacheOnly is a file on a file system that has no way past its cache.
type cacheOnly struct{ vfs.File }

func (cacheOnly) WriteDirect([]byte, int64) error {
	return fault.New(fault.Unsupported, "test", "no way past the cache")
}

// counts is a file that counts the writes of each way.
type counts struct {
	vfs.File
	direct, buffered int
}

func (f *counts) WriteDirect(p []byte, off int64) error {
	f.direct++
	return f.File.WriteDirect(p, off)
}

func (f *counts) WriteVecAt(pieces [][]byte, off int64) (int, error) {
	f.buffered++
	return f.File.WriteVecAt(pieces, off)
}

// mixed is the load of a file of size bytes: frames of many sizes, some larger than the stage.
type mixed struct {
	sizes  []int
	size   int64
	reused bool // an earlier life has filled the file
}

func mix(seed uint64, size int64) mixed {
	rng := rand.New(rand.NewPCG(seed, 4))
	m := mixed{size: size, reused: seed%2 == 1}
	for total := 0; total < int(size-size/4); {
		n := rng.IntN(300)
		switch rng.IntN(5) {
		case 0:
			n = rng.IntN(2<<20) + 1<<19
		case 1, 2:
			n = rng.IntN(20 << 10)
		}
		m.sizes = append(m.sizes, n)
		total += n
	}
	return m
}

// write writes the load and tells where it ends. around may put itself between the writer and the file.
func (m *mixed) write(t *testing.T, fs vfs.FS, around func(vfs.File) vfs.File, stage *journal.Stage) (vfs.File, int64) {
	t.Helper()
	f, err := journal.Prepare(fs, ".", "j", m.size)
	if err != nil {
		t.Fatal(err)
	}
	space := journal.Space{Size: m.size}
	if m.reused {
		if _, err := f.WriteAt(bytes.Repeat([]byte("an earlier life "), int(m.size/16)), 0); err != nil {
			t.Fatal(err)
		}
		space.Filled = m.size
	}
	w, err := journal.Start(around(f), journal.Header{Number: 1, Nonce: 42}, space, 0, stage)
	if err != nil {
		t.Fatal(err)
	}
	var frame journal.Frame
	for i, n := range m.sizes {
		frame.Reset()
		frame.AddBatch(1, batch(record.Offset(i), string(bytes.Repeat([]byte{byte('a' + i%26)}, n))))
		if frame.Size() > w.Room() {
			break
		}
		err := w.Write(&frame)
		if err == nil && i%3 == 0 {
			err = w.Sync()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return f, w.End()
}

// TestDirectFramesAreTheSame writes frames through the cache and past it, by turns, and holds the file to one that
// was written through the cache alone: over space that is new and space that was written before.
func TestDirectFramesAreTheSame(t *testing.T) {
	disk, err := vfs.NewDisk(filepath.Join(t.TempDir(), "d"))
	if err != nil {
		t.Fatal(err)
	}
	plain := func(f vfs.File) vfs.File { return f }
	for seed := range uint64(6) {
		load := mix(seed, 8<<20)
		model, end := load.write(t, vfs.NewMemory(), plain, nil)
		var counted *counts
		for name, c := range map[string]struct {
			fs     vfs.FS
			around func(vfs.File) vfs.File
		}{
			"memory":      {vfs.NewMemory(), func(f vfs.File) vfs.File { counted = &counts{File: f}; return counted }},
			"disk":        {disk, plain},
			"unsupported": {vfs.NewMemory(), func(f vfs.File) vfs.File { return cacheOnly{f} }},
		} {
			f, got := load.write(t, c.fs, c.around, journal.NewStage(4<<10))
			if got != end || !bytes.Equal(content(t, f, end), content(t, model, end)) {
				t.Errorf("seed %d, %s: the file is another, or ends at %d, not %d", seed, name, got, end)
			}
			if found, _ := scan(t, f, journal.Limits{Nonce: 42}); found.End != end || len(found.Damage) > 0 {
				t.Errorf("seed %d, %s: found up to %d of %d, damage %v", seed, name, found.End, end, found.Damage)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if counted.direct == 0 || counted.buffered == 0 {
			t.Errorf("seed %d: %d writes past the cache, %d through it", seed, counted.direct, counted.buffered)
		}
	}
}

func content(t *testing.T, f vfs.File, n int64) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDirectWritesStayInTheFile fills a file whose size is no whole number of blocks to its end.
func TestDirectWritesStayInTheFile(t *testing.T) {
	const size = 64<<10 + 1000
	fs := vfs.NewMemory()
	f, err := journal.Prepare(fs, ".", "j", size)
	if err != nil {
		t.Fatal(err)
	}
	c := &counts{File: f}
	w, err := journal.Start(c, journal.Header{Number: 1, Nonce: 42}, journal.Space{Size: size}, 0, journal.NewStage(1))
	if err != nil {
		t.Fatal(err)
	}
	var frame journal.Frame
	for base := record.Offset(0); ; base++ {
		frame.Reset()
		frame.AddBatch(1, batch(base, "value"))
		if frame.Size() > w.Room() {
			break
		}
		if err := w.Write(&frame); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.Size(); err != nil || got != size {
		t.Errorf("the file has %d bytes, %v", got, err)
	}
	if c.direct == 0 || c.buffered == 0 {
		t.Errorf("%d writes past the cache, %d through it", c.direct, c.buffered)
	}
	if found, _ := scan(t, f, journal.Limits{Nonce: 42}); found.End != w.End() {
		t.Errorf("found up to %d of %d", found.End, w.End())
	}
}
