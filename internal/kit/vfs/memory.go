package vfs

import (
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Memory is a disk in memory that knows what a power cut would leave of it.
//
// Per file it keeps what was last synced and every write since; per folder the entries last synced
// and every create, rename and remove since. CrashClone makes from these a disk as it may be found
// after the power came back. Only pages that were written take memory, and clones share them.
type Memory struct {
	mu       sync.RWMutex // over everything below, nodes included
	root     *node
	capacity int64
	used     int64 // the sizes of all files that still have a name or are open
}

// NewMemory makes an empty disk without a bound.
func NewMemory() *Memory { return &Memory{root: newFolder(), capacity: math.MaxInt64} }

// node is a folder or a file.
type node struct {
	// of a folder
	entries map[string]*node // nil for a file
	stable  map[string]*node // the entries as last synced
	ops     []entryOp        // what was done to the entries since, in order

	content // of a file
	linked  bool
	locked  bool
	opens   int
}

func newFolder() *node {
	return &node{entries: map[string]*node{}, stable: map[string]*node{}, linked: true}
}

func newFile() *node { return &node{content: newContent(), linked: true} }

func (n *node) isFolder() bool { return n.entries != nil }

// entryOp is one change of a folder's entries: target gets the name to, or none where to is empty.
// What had that name before, replaced, loses it.
type entryOp struct {
	target   *node
	to       string
	replaced *node // may be nil
}

func (op entryOp) apply(entries map[string]*node) {
	maps.DeleteFunc(entries, func(_ string, n *node) bool { return n == op.target })
	if op.to != "" {
		entries[op.to] = op.target
	}
}

// do changes the entries now; the change is stable after the next sync of the folder.
func (n *node) do(op entryOp) {
	op.replaced = n.entries[op.to]
	op.apply(n.entries)
	n.ops = append(n.ops, op)
}

// SetCapacity sets how many bytes all files together may have, for tests of a full disk. A negative
// number means no bound. What is there stays, even above the bound.
func (m *Memory) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes < 0 {
		bytes = math.MaxInt64
	}
	m.capacity = bytes
}

// Space is what is left and the capacity, in bytes. Without a bound 1 TiB is free.
func (m *Memory) Space() (free, total int64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.capacity == math.MaxInt64 {
		return 1 << 40, 1<<40 + m.used, nil
	}
	return max(0, m.capacity-m.used), m.capacity, nil
}

// find walks to a name that clean has made; nil if there is nothing.
func (m *Memory) find(name string) *node {
	at := m.root
	if name == "." {
		return at
	}
	for part := range strings.SplitSeq(name, "/") {
		if !at.isFolder() || at.entries[part] == nil {
			return nil
		}
		at = at.entries[part]
	}
	return at
}

// folderOf finds the folder that holds a name.
func (m *Memory) folderOf(op, name string) (*node, error) {
	return m.folder(op, path.Dir(name))
}

func (m *Memory) folder(op, name string) (*node, error) {
	dir := m.find(name)
	switch {
	case dir == nil:
		return nil, fault.New(fault.NotFound, op, "%s: no such folder", name)
	case !dir.isFolder():
		return nil, fault.New(fault.IO, op, "%s is not a folder", name)
	}
	return dir, nil
}

func (m *Memory) file(op, name string) (*node, error) {
	n := m.find(name)
	switch {
	case n == nil:
		return nil, fault.New(fault.NotFound, op, "%s: no such file", name)
	case n.isFolder():
		return nil, fault.New(fault.IO, op, "%s is a folder", name)
	}
	return n, nil
}

// Create implements FS.
func (m *Memory) Create(name string) (File, error) {
	const op = "vfs.Create"
	name, err := clean(op, name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.make(op, name)
	if err != nil {
		return nil, err
	}
	m.resize(n, 0)
	return m.open(n, name, true), nil
}

// make finds a file or makes it.
func (m *Memory) make(op, name string) (*node, error) {
	dir, err := m.folderOf(op, name)
	if err != nil {
		return nil, err
	}
	if m.find(name) != nil {
		return m.file(op, name)
	}
	n := newFile()
	dir.do(entryOp{target: n, to: path.Base(name)})
	return n, nil
}

func (m *Memory) open(n *node, name string, writable bool) *memoryFile {
	n.opens++
	return &memoryFile{m: m, n: n, name: name, writable: writable, losses: n.losses}
}

// Open implements FS.
func (m *Memory) Open(name string) (File, error) { return m.openFile("vfs.Open", name, false) }

// OpenWrite implements FS.
func (m *Memory) OpenWrite(name string) (File, error) {
	return m.openFile("vfs.OpenWrite", name, true)
}

func (m *Memory) openFile(op, name string, writable bool) (File, error) {
	name, err := clean(op, name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.file(op, name)
	if err != nil {
		return nil, err
	}
	return m.open(n, name, writable), nil
}

// Rename implements FS.
func (m *Memory) Rename(from, to string) error {
	const op = "vfs.Rename"
	from, to, err := cleanRename(op, from, to)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.file(op, from)
	if err != nil {
		return err
	}
	replaced := m.find(to)
	switch {
	case replaced == n:
		return nil
	case replaced != nil && replaced.isFolder():
		return fault.New(fault.Exists, op, "%s is a folder", to)
	}
	dir, err := m.folderOf(op, to)
	if err != nil {
		return err
	}
	dir.do(entryOp{target: n, to: path.Base(to)})
	if replaced != nil {
		m.unlink(replaced)
	}
	return nil
}

// Remove implements FS.
func (m *Memory) Remove(name string) error {
	const op = "vfs.Remove"
	name, err := clean(op, name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	switch {
	case n == nil:
		return fault.New(fault.NotFound, op, "%s: no such file", name)
	case n == m.root || len(n.entries) > 0:
		return fault.New(fault.IO, op, "%s: the folder is not empty", name)
	}
	dir, err := m.folderOf(op, name)
	if err != nil {
		return err
	}
	dir.do(entryOp{target: n})
	m.unlink(n)
	return nil
}

func (m *Memory) unlink(n *node) {
	n.linked = false
	m.release(n)
}

// release gives the space of a file back once it has no name and nobody has it open.
func (m *Memory) release(n *node) {
	if !n.linked && n.opens == 0 {
		m.used -= n.size
	}
}

// MkdirAll implements FS.
func (m *Memory) MkdirAll(dir string) error {
	const op = "vfs.MkdirAll"
	dir, err := clean(op, dir)
	if err != nil || dir == "." {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.root
	for part := range strings.SplitSeq(dir, "/") {
		next := at.entries[part]
		if next == nil {
			next = newFolder()
			at.do(entryOp{target: next, to: part})
		}
		if !next.isFolder() {
			return fault.New(fault.IO, op, "%s: %s is not a folder", dir, part)
		}
		at = next
	}
	return nil
}

// List implements FS.
func (m *Memory) List(dir string) ([]string, error) {
	const op = "vfs.List"
	dir, err := clean(op, dir)
	if err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.folder(op, dir)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.entries)), nil
}

// SyncDir implements FS.
func (m *Memory) SyncDir(dir string) error {
	const op = "vfs.SyncDir"
	dir, err := clean(op, dir)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.folder(op, dir)
	if err != nil {
		return err
	}
	n.stable, n.ops = maps.Clone(n.entries), nil
	return nil
}

// Lock implements FS.
func (m *Memory) Lock(name string) (io.Closer, error) {
	const op = "vfs.Lock"
	name, err := clean(op, name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.make(op, name)
	if err != nil {
		return nil, err
	}
	if n.locked {
		return nil, lockHeld(op, name)
	}
	n.locked = true
	return &memoryLock{m: m, n: n}, nil
}

type memoryLock struct {
	m *Memory
	n *node
}

// Close gives the lock up; again is no error.
func (l *memoryLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.n != nil {
		l.n.locked, l.n = false, nil
	}
	return nil
}

// resize sets the size of a file and what the disk has left. It does not ask whether there is room.
func (m *Memory) resize(n *node, size int64) {
	m.used += size - n.size
	n.truncate(size)
}

// room is how large a file may become that wants to have the size want.
func (m *Memory) room(n *node, want int64) int64 {
	if want <= n.size {
		return want
	}
	return min(want, n.size+max(0, m.capacity-m.used))
}

// memoryFile is an open file.
type memoryFile struct {
	m        *Memory
	n        *node
	name     string
	writable bool
	closed   bool // under m.mu
	losses   int  // failed syncs of the file that this open file knows of; under m.mu
}

func (f *memoryFile) check(op string, write bool) error {
	switch {
	case f.closed:
		return fault.New(fault.Closed, op, "%s: file already closed", f.name)
	case write && !f.writable:
		return fault.New(fault.IO, op, "%s: opened for reading only", f.name)
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	const op = "vfs.ReadAt"
	if off < 0 {
		return 0, fault.New(fault.IO, op, "%s: negative offset %d", f.name, off)
	}
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	if err := f.check(op, false); err != nil {
		return 0, err
	}
	n := int(max(0, min(int64(len(p)), f.n.size-off)))
	f.n.read(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write("vfs.WriteAt", off, p)
}

// WriteVecAt implements File.
func (f *memoryFile) WriteVecAt(pieces [][]byte, off int64) (int, error) {
	return f.write("vfs.WriteVecAt", off, pieces...)
}

// WriteDirect implements File.
func (f *memoryFile) WriteDirect(p []byte, off int64) error {
	if err := checkDirect(f.name, p, off); err != nil {
		return err
	}
	_, err := f.write("vfs.WriteDirect", off, p)
	return err
}

// prefetch gives a Prefetch that has nothing to bring.
func (f *memoryFile) prefetch() (Prefetch, error) { return memoryPrefetch{}, nil }

type memoryPrefetch struct{}

// Bring implements Prefetch.
func (memoryPrefetch) Bring(int64, int64) error { return nil }

// Close implements Prefetch.
func (memoryPrefetch) Close() error { return nil }

// write writes what there is room for, as a disk does.
func (f *memoryFile) write(op string, off int64, pieces ...[]byte) (int, error) {
	if off < 0 {
		return 0, fault.New(fault.IO, op, "%s: negative offset %d", f.name, off)
	}
	data := slices.Concat(pieces...)
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(op, true); err != nil {
		return 0, err
	}
	if len(data) == 0 {
		return 0, nil
	}
	end := off + int64(len(data))
	room := f.m.room(f.n, end)
	n := int(max(0, int64(len(data))-(end-room)))
	if n > 0 {
		f.m.used += max(0, room-f.n.size)
		f.n.write(data[:n], off)
	}
	if n < len(data) {
		return n, f.full(op)
	}
	return n, nil
}

func (f *memoryFile) full(op string) error {
	return fault.New(fault.Full, op, "%s: no space left on device", f.name).
		WithHint("make space on the disk: writing goes on by itself")
}

// Sync implements File.
func (f *memoryFile) Sync() error { return f.syncTo(f.mark()) }

// mark is the place behind all that was written so far.
func (f *memoryFile) mark() int64 {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return f.n.mark()
}

// syncTo is the end of a sync that began at a mark: what was written since need not be stored. That another sync has
// failed is told once to each open file, as Linux does.
func (f *memoryFile) syncTo(mark int64) error {
	const op = "vfs.Sync"
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(op, false); err != nil {
		return err
	}
	if f.losses < f.n.losses {
		f.losses = f.n.losses
		return fault.New(fault.IO, op, "%s: another sync has failed", f.name)
	}
	f.n.sync(mark)
	return nil
}

// failSync is a sync that failed: what was written since the last one may be stored or not, and no
// later sync will store it, because the system believes it has.
func (f *memoryFile) failSync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("vfs.Sync", false); err != nil {
		return err
	}
	f.n.lose()
	f.losses = f.n.losses
	return nil
}

// Preallocate implements File.
func (f *memoryFile) Preallocate(size int64) error {
	const op = "vfs.Preallocate"
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(op, true); err != nil || size <= f.n.size {
		return err
	}
	if f.m.room(f.n, size) < size {
		return f.full(op)
	}
	f.m.resize(f.n, size)
	return nil
}

// Truncate implements File. A file made longer is a hole there, which on this disk takes room.
func (f *memoryFile) Truncate(size int64) error {
	const op = "vfs.Truncate"
	if size < 0 {
		return fault.New(fault.IO, op, "%s: negative size %d", f.name, size)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(op, true); err != nil {
		return err
	}
	if f.m.room(f.n, size) < size {
		return f.full(op)
	}
	f.m.resize(f.n, size)
	return nil
}

// Size implements File.
func (f *memoryFile) Size() (int64, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return f.n.size, f.check("vfs.Size", false)
}

// ModTime implements File.
func (f *memoryFile) ModTime() (time.Time, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return f.n.modified, f.check("vfs.ModTime", false)
}

// Close implements io.Closer.
func (f *memoryFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("vfs.Close", false); err != nil {
		return err
	}
	f.closed = true
	f.n.opens--
	f.m.release(f.n)
	return nil
}
