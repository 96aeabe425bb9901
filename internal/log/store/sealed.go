package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// Encryption at rest (docs/design/0011-encryption-at-rest.md). Checkpoints and segments that are sorted are written
// through an atrest.FS, which knows nothing of what is in them. A journal seals each batch and each list of entries
// itself, for it is synced after every frame; what reads batches of one opens them here.

// layer puts the file systems of the log over that of the options.
func (s *Store) layer() {
	s.raw = vfs.NewHandles(s.opt.FS, s.opt.OpenFiles)
	s.fs = s.raw
	if s.opt.Keys != nil {
		s.sealing = atrest.New(s.raw, s.opt.Keys, s.opt.Plain)
		s.fs = s.sealing
	}
}

// sealed gives a file that becomes the journal h a key, which no other life of the file had.
func (s *Store) sealed(handle vfs.File, h *journal.Header) (vfs.File, error) {
	h.Key = nil
	if s.sealing == nil {
		return handle, nil
	}
	name := journalName(h.Number)
	key, err := s.sealing.NewKey(name)
	if err != nil || key == nil {
		return handle, err
	}
	h.Key = key
	return s.sealing.Pieces(handle, name, key), nil
}

// remove removes files of the log folder. While records are shredded their data keys go first: what the disk keeps of
// the files opens no more. Of the files that stay it gives the names.
func (s *Store) remove(names []string, keysFirst bool) (left []string, err error) {
	if keysFirst && s.sealing != nil {
		return atrest.Remove(s.raw, logDir, names, true)
	}
	for _, name := range names {
		if failed := s.fs.Remove(name); failed != nil && !fault.Is(failed, fault.NotFound) {
			left, err = append(left, name), cmp.Or(err, failed)
		}
	}
	return left, err
}

// plainLeft tells whether records would stay readable on the disk if a journal were used again: it is plain, and new
// files are encrypted.
func (s *Store) plainLeft(f *file) bool { return s.sealing != nil && !s.opt.Plain && !f.sealed }

// stale tells whether a segment is to be written anew now, and there is room for it.
func (k *housekeeper) stale(f *file) bool { return k.s.stale(f) && k.s.haveRoom(f.size) == nil }

// stale tells whether a segment is to be written anew only because it is plain and should not be, or is not and should.
func (s *Store) stale(f *file) bool {
	return s.sealing != nil && f.segment != nil && f.sealed == s.opt.Plain
}

// tag is what lies behind each batch.
func (f *file) tag() int64 {
	if f.key == nil {
		return 0
	}
	return atrest.TagBytes
}

// openTime is about what it takes to open a KiB, on a processor that has instructions for it.
const openTime = 300 * time.Nanosecond

// opening is about how much of the time that a load of so many bytes took is not the disk's.
func (f *file) opening(bytes int) time.Duration {
	if !f.sealed {
		return 0
	}
	return openTime * time.Duration(bytes>>10)
}

// open reads the bytes from the first extent to the end of the last into b, which is as long as that; the extents are
// plain then, whatever the file is. It needs no memory where b has room for a tag behind its end.
func (f *file) open(p stream.PartitionID, extents []segment.Extent, b []byte) error {
	if f.key == nil {
		return f.readAt(b, extents[0].Pos)
	}
	sealed := b[:min(cap(b), len(b)+atrest.TagBytes)]
	if len(sealed) < len(b)+atrest.TagBytes {
		sealed = make([]byte, len(b)+atrest.TagBytes)
		defer func() { copy(b, sealed) }()
	}
	if err := f.readAt(sealed, extents[0].Pos); err != nil {
		return err
	}
	for i := range extents {
		e := &extents[i]
		at := e.Pos - extents[0].Pos
		if err := e.Open(f.key, f.name, uint32(p), sealed[at:at+int64(e.Len)+atrest.TagBytes]); err != nil {
			return err
		}
	}
	return nil
}

// checkBlocks reports the blocks of an encrypted file that do not open, whoever may read them. A journal has none that
// count: an index behind its frames is what a crash left before it was whole, and got a name.
func (f *file) checkBlocks(report func(Finding)) error {
	if f.segment == nil {
		return nil
	}
	return atrest.Verify(f.handle(), func(pos int64) bool {
		report(Finding{File: f.name, What: fmt.Sprintf("the block at byte %d was changed", pos)})
		return true
	})
}

// Encryption is how much of the log is encrypted.
type Encryption struct {
	On     bool           // new files are
	Keys   []string       // ids of the key-encryption keys that are known; the first one wraps what is new
	Files  int            // that hold records, or what is made of them
	Bytes  int64          // of them
	Plain  int64          // of these, bytes of files that are not encrypted
	Sealed map[string]int // how many files have their data key wrapped by a key-encryption key, by its id
}

// Encryption looks at the heads of all files. Errors: IO.
func (s *Store) Encryption() (Encryption, error) {
	e := Encryption{On: s.sealing != nil && !s.opt.Plain, Sealed: make(map[string]int)}
	if s.opt.Keys != nil {
		e.Keys = s.opt.Keys.IDs()
	}
	names, err := s.recordFiles()
	if err != nil {
		return e, err
	}
	for _, name := range names {
		st, err := atrest.Inspect(s.raw, name)
		if err == nil && !st.Sealed { // what is being removed loses its name before its key
			st, err = atrest.Inspect(s.raw, name)
		}
		if fault.Is(err, fault.NotFound) {
			continue // it went meanwhile
		}
		if err != nil {
			return e, err
		}
		e.Files++
		e.Bytes += st.Bytes
		if st.Sealed {
			e.Sealed[st.Key]++
		} else {
			e.Plain += st.Bytes
		}
	}
	return e, nil
}

// recordFiles lists the files that hold records, or what is made of them: journals, segments and checkpoints.
func (s *Store) recordFiles() ([]string, error) {
	inLog, err := s.raw.List(logDir)
	if err != nil {
		return nil, err
	}
	names, err := checkpointNames(s.raw)
	for _, name := range inLog {
		if strings.HasSuffix(name, ".journal") || strings.HasSuffix(name, ".segment") {
			names = append(names, logDir+"/"+name)
		}
	}
	return names, err
}

func checkpointNames(fs vfs.FS) (names []string, err error) {
	numbers, err := checkpoints(fs)
	for _, n := range numbers {
		names = append(names, checkpointName(n))
	}
	return names, err
}

const (
	rewrapFiles  = 64 // in a turn of the housekeeper
	rewrapPasses = 10 // over all files: some get another name meanwhile
)

// Rewrap has the data keys of all files wrapped by the key-encryption key that is the first now, while the log is in
// use, and ends the active journal, so that a new data key begins. After a crash, or an error, each file is wrapped by
// the old key or by the new one. Errors: Denied (a key is missing), Unsupported (nothing is encrypted), Timeout,
// Closed, Corrupt, IO.
func (s *Store) Rewrap(ctx context.Context) error {
	if s.sealing == nil {
		return fault.New(fault.Unsupported, "store.Rewrap", "no encryption key is given").
			WithHint("set encryption.key_file")
	}
	if err := s.housekeeper.inTurn(ctx, s.housekeeper.roll); err != nil {
		return err
	}
	for range rewrapPasses {
		n, err := s.rewrapAll(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// rewrapAll goes over all files once and tells how many were wrapped anew.
func (s *Store) rewrapAll(ctx context.Context) (rewrapped int, err error) {
	names, err := s.recordFiles()
	if err != nil {
		return 0, err
	}
	var errs []error
	for some := range slices.Chunk(names, rewrapFiles) {
		// The housekeeper makes spares of journals, whose heads are written anew by whoever takes one.
		err := s.housekeeper.inTurn(ctx, func() error {
			for _, name := range some {
				done, err := s.opt.Keys.Rewrap(s.raw, name)
				if done {
					rewrapped++
				}
				if err != nil && !fault.Is(err, fault.NotFound) {
					errs = append(errs, err)
				}
			}
			return nil
		})
		if err != nil {
			return rewrapped, err
		}
	}
	return rewrapped, errors.Join(errs...)
}

// inTurn has the housekeeper do something between its duties, and waits for it. Errors: Timeout, Closed, those of do.
func (k *housekeeper) inTurn(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	select {
	case k.turns <- func() { done <- do() }:
		return <-done
	case <-k.s.closes:
		return fault.New(fault.Closed, "store.Rewrap", "the log is closing")
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "store.Rewrap", ctx.Err())
	}
}
