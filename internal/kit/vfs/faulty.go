package vfs

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// OpKind is a kind of file operation.
type OpKind uint8

// The kinds. OpWrite is WriteAt, WriteVecAt and WriteDirect.
const (
	OpCreate OpKind = iota
	OpOpen
	OpOpenWrite
	OpRename
	OpRemove
	OpMkdir
	OpList
	OpSyncDir
	OpLock
	OpSpace
	OpRead
	OpWrite
	OpSync
	OpPreallocate
	OpTruncate
	OpSize
	OpClose

	opKinds // the count
)

var opNames = [opKinds]string{
	"create", "open", "open for writing", "rename", "remove", "mkdir", "list", "sync dir", "lock", "space",
	"read", "write", "sync", "preallocate", "truncate", "size", "close",
}

// String is the kind in words.
func (k OpKind) String() string {
	if k < opKinds {
		return opNames[k]
	}
	return fmt.Sprintf("operation %d", uint8(k))
}

// OpKinds lists every kind, for tests that let each fail in turn.
func OpKinds() []OpKind {
	all := make([]OpKind, opKinds)
	for i := range all {
		all[i] = OpKind(i)
	}
	return all
}

// Changes tells whether an operation of the kind changes what a power cut would leave.
func (k OpKind) Changes() bool {
	switch k {
	case OpOpen, OpOpenWrite, OpList, OpSpace, OpRead, OpSize, OpClose:
		return false
	default:
		return true
	}
}

// Op is one file operation about to be done.
type Op struct {
	Kind  OpKind
	Name  string // as the caller gave it; of a rename the old name
	N     int    // the how-manieth of its kind, from 1
	Bytes int64  // to be read or written, or the size asked for
}

// Fault says which operations of a Faulty go wrong, and how.
type Fault struct {
	On    OpKind
	Name  string        // only files that have this in their name; "" means all
	Skip  int           // let so many pass first, counted from Inject
	Times int           // then let so many go wrong; 0 means one, a negative number all
	Kind  fault.Kind    // the error, fault.IO or fault.Full; Internal (zero) means none: only the delay
	Short bool          // of a write: half of the data is written before the error
	Delay time.Duration // before the operation
}

// Faulty is an FS that counts operations, shows each to a hook before it is done, and lets chosen
// ones fail or take long. A sync that fails around a Memory loses the writes it was for, as Linux
// does: a later sync will not store them.
type Faulty struct {
	fs FS

	mu     sync.Mutex
	counts [opKinds]int
	hook   func(Op)
	faults []*Fault
}

// NewFaulty puts a Faulty around fs. Until Inject it only counts.
func NewFaulty(fs FS) *Faulty { return &Faulty{fs: fs} }

// OnOp sets the hook that is called before every operation, from the goroutine that does it. It may
// use the FS below, for instance to CrashClone it, and of the Faulty Inject, for later operations. Nil means none.
func (f *Faulty) OnOp(hook func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Count tells how many operations of a kind were begun.
func (f *Faulty) Count(kind OpKind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[kind]
}

// Inject adds a fault. Of several that fit an operation the first added counts.
func (f *Faulty) Inject(fa Fault) {
	if fa.Times == 0 {
		fa.Times = 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fa)
}

// Heal takes all faults away.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// begin counts an operation, shows it to the hook, delays it, and gives the fault it has, if any.
func (f *Faulty) begin(kind OpKind, name string, bytes int64) *Fault {
	f.mu.Lock()
	f.counts[kind]++
	op := Op{Kind: kind, Name: name, N: f.counts[kind], Bytes: bytes}
	hook, hit := f.hook, f.pickLocked(op)
	f.mu.Unlock()
	if hook != nil {
		hook(op)
	}
	if hit == nil {
		return nil
	}
	time.Sleep(hit.Delay)
	if hit.Kind == fault.Internal {
		return nil
	}
	return hit
}

// pickLocked finds the fault of an operation and gives a copy.
func (f *Faulty) pickLocked(op Op) *Fault {
	for _, fa := range f.faults {
		if fa.On != op.Kind || fa.Times == 0 || !strings.Contains(op.Name, fa.Name) {
			continue
		}
		if fa.Skip > 0 {
			fa.Skip--
			continue
		}
		if fa.Times > 0 {
			fa.Times--
		}
		hit := *fa
		return &hit
	}
	return nil
}

// err is the error of the fault.
func (fa *Fault) err(name string) error {
	return fault.New(fa.Kind, "vfs.Faulty", "%s: %s: injected %s error", name, fa.On, fa.Kind)
}

func (f *Faulty) do(kind OpKind, name string, bytes int64, act func() error) error {
	if hit := f.begin(kind, name, bytes); hit != nil {
		return hit.err(name)
	}
	return act()
}

func (f *Faulty) open(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	var file File
	err := f.do(kind, name, 0, func() (err error) {
		file, err = open(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &faultyFile{fs: f, f: file, name: name}, nil
}

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) { return f.open(OpCreate, name, f.fs.Create) }

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) { return f.open(OpOpen, name, f.fs.Open) }

// OpenWrite implements FS.
func (f *Faulty) OpenWrite(name string) (File, error) {
	return f.open(OpOpenWrite, name, f.fs.OpenWrite)
}

// Rename implements FS.
func (f *Faulty) Rename(from, to string) error {
	return f.do(OpRename, from, 0, func() error { return f.fs.Rename(from, to) })
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	return f.do(OpRemove, name, 0, func() error { return f.fs.Remove(name) })
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(dir string) error {
	return f.do(OpMkdir, dir, 0, func() error { return f.fs.MkdirAll(dir) })
}

// List implements FS.
func (f *Faulty) List(dir string) (names []string, err error) {
	err = f.do(OpList, dir, 0, func() (err error) {
		names, err = f.fs.List(dir)
		return err
	})
	return names, err
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(dir string) error {
	return f.do(OpSyncDir, dir, 0, func() error { return f.fs.SyncDir(dir) })
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (lock io.Closer, err error) {
	err = f.do(OpLock, name, 0, func() (err error) {
		lock, err = f.fs.Lock(name)
		return err
	})
	return lock, err
}

// Space asks the FS below.
func (f *Faulty) Space() (free, total int64, err error) {
	err = f.do(OpSpace, "", 0, func() (err error) {
		free, total, err = Space(f.fs)
		return err
	})
	return free, total, err
}

// faultyFile is an open file of a Faulty.
type faultyFile struct {
	fs   *Faulty
	f    File
	name string
}

// ReadAt implements io.ReaderAt.
func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if hit := f.fs.begin(OpRead, f.name, int64(len(p))); hit != nil {
		return 0, hit.err(f.name)
	}
	return f.f.ReadAt(p, off)
}

// prefetch gives a Prefetch of the file behind: reads for the cache alone meet no fault.
func (f *faultyFile) prefetch() (Prefetch, error) { return NewPrefetch(f.f) }

// WriteAt implements io.WriterAt.
func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	hit := f.fs.begin(OpWrite, f.name, int64(len(p)))
	if hit == nil {
		return f.f.WriteAt(p, off)
	}
	return f.failWrite(hit, p, off)
}

// WriteVecAt implements File.
func (f *faultyFile) WriteVecAt(pieces [][]byte, off int64) (int, error) {
	total := 0
	for _, p := range pieces {
		total += len(p)
	}
	hit := f.fs.begin(OpWrite, f.name, int64(total))
	if hit == nil {
		return f.f.WriteVecAt(pieces, off)
	}
	all := make([]byte, 0, total)
	for _, p := range pieces {
		all = append(all, p...)
	}
	return f.failWrite(hit, all, off)
}

// WriteDirect implements File.
func (f *faultyFile) WriteDirect(p []byte, off int64) error {
	hit := f.fs.begin(OpWrite, f.name, int64(len(p)))
	if hit == nil {
		return f.f.WriteDirect(p, off)
	}
	_, err := f.failWrite(hit, p, off)
	return err
}

func (f *faultyFile) failWrite(hit *Fault, p []byte, off int64) (n int, err error) {
	if hit.Short {
		if n, err = f.f.WriteAt(p[:len(p)/2], off); err != nil {
			return n, err
		}
	}
	return n, hit.err(f.name)
}

// Sync implements File. A sync that is delayed stores, around a Memory, what was written before it began.
func (f *faultyFile) Sync() error {
	memory, _ := f.f.(*memoryFile)
	var mark int64
	if memory != nil {
		mark = memory.mark()
	}
	hit := f.fs.begin(OpSync, f.name, 0)
	switch {
	case hit == nil && memory != nil:
		return memory.syncTo(mark)
	case hit == nil:
		return f.f.Sync()
	}
	if loser, ok := f.f.(interface{ failSync() error }); ok {
		if err := loser.failSync(); err != nil {
			return err
		}
	}
	return hit.err(f.name)
}

// Preallocate implements File.
func (f *faultyFile) Preallocate(size int64) error {
	return f.fs.do(OpPreallocate, f.name, size, func() error { return f.f.Preallocate(size) })
}

// Truncate implements File.
func (f *faultyFile) Truncate(size int64) error {
	return f.fs.do(OpTruncate, f.name, size, func() error { return f.f.Truncate(size) })
}

// Size implements File.
func (f *faultyFile) Size() (size int64, err error) {
	err = f.fs.do(OpSize, f.name, 0, func() (err error) {
		size, err = f.f.Size()
		return err
	})
	return size, err
}

// ModTime implements File.
func (f *faultyFile) ModTime() (time.Time, error) { return f.f.ModTime() }

// Close implements io.Closer. The file is closed even if the operation is to fail.
func (f *faultyFile) Close() error {
	hit := f.fs.begin(OpClose, f.name, 0)
	err := f.f.Close()
	if hit != nil {
		return hit.err(f.name)
	}
	return err
}
