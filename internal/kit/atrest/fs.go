package atrest

import (
	"errors"
	"io"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// FS is a file system whose new files are encrypted, and in which plain and encrypted ones can be read. A file that is
// made by Create is written front to back.
type FS struct {
	vfs.FS  // the one below, where journals are made
	ring    *Ring
	plain   bool
	windows sync.Pool // of *window
}

// New is the FS over another one. With plain, new files are not encrypted.
func New(below vfs.FS, ring *Ring, plain bool) *FS {
	f := &FS{FS: below, ring: ring, plain: plain}
	f.windows.New = func() any { return &window{sealed: make([]byte, windowBlocks*sealedBytes)} }
	return f
}

// window is memory for what is read or written at once.
type window struct {
	sealed []byte
	nonce  [nonceBytes]byte
	block  [blockBytes]byte
}

func (f *FS) window() *window { return f.windows.Get().(*window) } //nolint:errcheck // there is nothing else in it

// Space asks the FS below.
func (f *FS) Space() (free, total int64, err error) { return vfs.Space(f.FS) }

// NewKey makes the data key of a file whose pieces its writer seals; nil: new files are plain. Errors: IO, Internal.
func (f *FS) NewKey(name string) (*Key, error) {
	if f.plain {
		return nil, nil //nolint:nilnil // no key is what is asked for
	}
	return f.ring.NewKey(Pieces, name)
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	if f.plain {
		return f.FS.Create(name)
	}
	key, err := f.ring.NewKey(Blocks, name)
	if err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, HeaderBytes)
	copy(head, headMagic)
	le.PutUint32(head[headVersion:], version)
	key.Head(head)
	if _, err := file.WriteAt(head, 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &blocks{File: file, fs: f, name: name, key: key, aead: key.aead, start: HeaderBytes, write: true}, nil
}

// Open implements vfs.FS. Errors besides: Denied (the key is not known), Corrupt.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(name, f.FS.Open) }

// OpenWrite implements vfs.FS. Blocks that are there are not written again. Errors: as Open.
func (f *FS) OpenWrite(name string) (vfs.File, error) { return f.open(name, f.FS.OpenWrite) }

func (f *FS) open(name string, below func(string) (vfs.File, error)) (vfs.File, error) {
	file, err := below(name)
	if err != nil {
		return nil, err
	}
	opened, err := f.dress(file, name)
	if err != nil {
		_ = file.Close() // the first error tells
		return nil, err
	}
	return opened, nil
}

// dress gives the file that lies in a file below.
func (f *FS) dress(file vfs.File, name string) (vfs.File, error) {
	slots, sealed, err := readHead(file)
	if err != nil || !sealed {
		return file, err
	}
	if len(slots) == 0 {
		return nil, fault.New(fault.Corrupt, "atrest.Open", "%s: both copies of its data key are damaged", name)
	}
	key, err := f.ring.unwrap(slots, name)
	if fault.Is(err, fault.Corrupt) && slots[0].kind == Pieces {
		return &pieces{File: file, lost: err}, nil // an earlier life of the file may have left it: its head tells
	}
	if err != nil {
		return nil, err
	}
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if key.kind == Blocks {
		return &blocks{
			File: file, fs: f, name: name, key: key, aead: key.aead, start: HeaderBytes,
			size: sizeOf(max(0, size-HeaderBytes)),
		}, nil
	}
	at, salt, ok := readFooter(file, size)
	if !ok {
		return &pieces{File: file, fs: f, name: name, key: key}, nil
	}
	aead, err := key.derive(salt, footerPurpose)
	if err != nil {
		return nil, err
	}
	return &blocks{
		File: file, fs: f, name: name, key: key, aead: aead, start: at, from: at, size: sizeOf(size - at - footerBytes),
	}, nil
}

// pieces is a journal: who reads it opens what is in it.
type pieces struct {
	vfs.File
	fs   *FS
	name string
	key  *Key
	lost error // why there is no key
}

// Below implements vfs.Layered.
func (p *pieces) Below(off, n int64) (vfs.File, int64, int64) { return p.File, off, n }

// Pieces is the file of a journal that is begun with a key of NewKey.
func (f *FS) Pieces(file vfs.File, name string, key *Key) vfs.File {
	return &pieces{File: file, fs: f, name: name, key: key}
}

// KeyOf is the key of a file whose pieces its reader opens; nil: there are none, or it is plain.
func KeyOf(file vfs.File) *Key {
	switch f := file.(type) {
	case *pieces:
		return f.key
	case *blocks:
		if f.key.kind == Pieces {
			return f.key
		}
	}
	return nil
}

// KeyIDOf is the ID of the data key of a file of an FS; "": it is plain. Errors: Internal.
func KeyIDOf(file vfs.File) (string, error) {
	switch f := file.(type) {
	case *pieces:
		if f.key != nil {
			return f.key.ID()
		}
	case *blocks:
		return f.key.ID()
	}
	return "", nil
}

// Lost is why the key of a journal is not to be had, though it is encrypted and the key-encryption key is known: it is
// damaged, or what an earlier life of the file left.
func Lost(file vfs.File) error {
	if p, ok := file.(*pieces); ok {
		return p.lost
	}
	return nil
}

// Bare is the file below, with its bytes as they are.
func Bare(file vfs.File) vfs.File {
	switch f := file.(type) {
	case *pieces:
		return f.File
	case *blocks:
		return f.File
	}
	return file
}

// Sealed tells whether a file of an FS is encrypted.
func Sealed(file vfs.File) bool {
	switch file.(type) {
	case *pieces, *blocks:
		return true
	}
	return false
}

// The end of a journal that was given an index: where that begins, and what its key is made of.
const (
	footerBytes   = 64
	footerMagic   = "FIRTHFE1"
	footerAt      = 8
	footerSalt    = 16
	footerCRC     = 60
	footerPurpose = "firth journal index"
)

// Footer is the file with which an index is put behind the pieces of a journal, from the place at on: in blocks, and by
// a key of its own, for what was written there before and given up used another. Truncate at its end finishes it. A
// plain file is given as it is. Errors: Internal.
func Footer(file vfs.File, at int64) (vfs.File, error) {
	p, ok := file.(*pieces)
	if b, is := file.(*blocks); is && b.key.kind == Pieces { // it has an index, which a crash left without its name
		p, ok = &pieces{File: b.File, fs: b.fs, name: b.name, key: b.key}, true
	}
	if !ok {
		return file, nil
	}
	salt, err := random(saltBytes)
	if err != nil {
		return nil, err
	}
	aead, err := p.key.derive(salt, footerPurpose)
	if err != nil {
		return nil, err
	}
	end := make([]byte, footerBytes)
	copy(end, footerMagic)
	le.PutUint64(end[footerAt:], uint64(at))
	copy(end[footerSalt:], salt)
	le.PutUint32(end[footerCRC:], checksum(end[:footerCRC]))
	return &blocks{
		File: p.File, fs: p.fs, name: p.name, key: p.key, aead: aead, start: at, from: at, footer: end, write: true,
	}, nil
}

// readFooter reads the end of a journal of so many bytes.
func readFooter(file vfs.File, size int64) (at int64, salt []byte, ok bool) {
	b := make([]byte, footerBytes)
	if n, err := file.ReadAt(b, max(0, size-footerBytes)); n < len(b) || err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, false
	}
	return decodeFooter(b, size)
}

func decodeFooter(b []byte, size int64) (at int64, salt []byte, ok bool) {
	if string(b[:len(footerMagic)]) != footerMagic || le.Uint32(b[footerCRC:]) != checksum(b[:footerCRC]) {
		return 0, nil, false
	}
	at = int64(le.Uint64(b[footerAt:]))
	return at, b[footerSalt : footerSalt+saltBytes], at >= HeaderBytes && at <= size-footerBytes
}
