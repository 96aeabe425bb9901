package atrest

import (
	"crypto/cipher"
	"errors"
	"io"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

const (
	// blockBytes is how much of a file is sealed at once: what the smallest read costs.
	blockBytes  = 4096
	sealedBytes = blockBytes + TagBytes
	// windowBlocks is how many blocks are read or written at once.
	windowBlocks = 64
)

// blocks is a file of sealed blocks. It is written front to back, by one goroutine, and read by any.
type blocks struct {
	vfs.File // the one below
	fs       *FS
	name     string
	key      *Key
	aead     cipher.AEAD
	start    int64 // where the blocks begin in the file below
	from     int64 // what lies before this place is that of the file below
	footer   []byte
	lenient  bool // what does not open reads as zeros

	mu    sync.Mutex
	size  int64  // behind the last byte, counted from the first block
	tail  []byte // of these, what is not in whole blocks
	dirty bool   // it is not written as it is
	write bool
	err   error // the first failure: the file is lost
}

// sizeOf is how many bytes the blocks hold that take so many in the file below.
func sizeOf(sealed int64) int64 {
	return sealed/sealedBytes*blockBytes + max(0, sealed%sealedBytes-TagBytes)
}

// Size implements vfs.File.
func (b *blocks) Size() (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.from + b.size, nil
}

// WriteAt implements io.WriterAt, behind what is there only.
func (b *blocks) WriteAt(p []byte, off int64) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.write || off != b.from+b.size {
		return 0, b.unsupported("Write", off)
	}
	n := len(p)
	for len(p) > 0 && b.err == nil {
		take := min(len(p), windowBlocks*blockBytes-len(b.tail))
		b.tail, p = append(b.tail, p[:take]...), p[take:]
		b.size, b.dirty = b.size+int64(take), true
		if len(b.tail) >= blockBytes {
			b.flush(len(b.tail) / blockBytes * blockBytes)
		}
	}
	if b.err != nil {
		return 0, b.err
	}
	return n, nil
}

// flush writes the first n bytes of the tail, and lets go of those that are whole blocks.
func (b *blocks) flush(n int) {
	if b.err != nil || n == 0 {
		return
	}
	w := b.fs.window()
	defer b.fs.windows.Put(w)
	index := (b.size - int64(len(b.tail))) / blockBytes
	out := w.sealed[:0]
	for at := 0; at < n; at += blockBytes {
		plain := b.tail[at:min(at+blockBytes, n)]
		w.nonce = nonce(index+int64(at/blockBytes), uint32(len(plain)))
		out = b.aead.Seal(out, w.nonce[:], plain, nil)
	}
	if _, b.err = b.File.WriteAt(out, b.start+index*sealedBytes); b.err != nil {
		return
	}
	whole := n / blockBytes * blockBytes
	b.tail = b.tail[:copy(b.tail, b.tail[whole:])]
	b.dirty = n == whole && len(b.tail) > 0
}

// settle writes what is not written yet. A last block that grows later is written again, and sealed by another nonce:
// its length is in it.
func (b *blocks) settle() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dirty {
		b.flush(len(b.tail))
	}
	return b.err
}

// WriteVecAt implements vfs.File.
func (b *blocks) WriteVecAt(pieces [][]byte, off int64) (int, error) {
	n := 0
	for _, p := range pieces {
		wrote, err := b.WriteAt(p, off+int64(n))
		if n += wrote; err != nil {
			return n, err
		}
	}
	return n, nil
}

// WriteDirect implements vfs.File: there is no such way.
func (b *blocks) WriteDirect(_ []byte, off int64) error { return b.unsupported("WriteDirect", off) }

// Preallocate implements vfs.File: there is no such way.
func (b *blocks) Preallocate(size int64) error { return b.unsupported("Preallocate", size) }

// Truncate implements vfs.File, at the end only. There it ends a footer.
func (b *blocks) Truncate(size int64) error {
	if have, _ := b.Size(); !b.write || size != have {
		return b.unsupported("Truncate", size)
	}
	if err := b.settle(); err != nil || b.footer == nil {
		return err
	}
	end := b.below(b.size)
	if b.size%blockBytes > 0 {
		end += TagBytes
	}
	if _, err := b.File.WriteAt(b.footer, end); err != nil {
		return err
	}
	return b.File.Truncate(end + int64(len(b.footer)))
}

// below is where a byte lies in the file below, sealed.
func (b *blocks) below(at int64) int64 { return b.start + at/blockBytes*sealedBytes + at%blockBytes }

// Sync implements vfs.File.
func (b *blocks) Sync() error {
	if err := b.settle(); err != nil {
		return err
	}
	return b.File.Sync()
}

func (b *blocks) unsupported(op string, at int64) error {
	return fault.New(fault.Unsupported, "atrest."+op, "%s at %d: an encrypted file is written front to back", b.name, at)
}

// ReadAt implements io.ReaderAt. Errors: Corrupt (a block was changed), IO.
func (b *blocks) ReadAt(p []byte, off int64) (n int, err error) {
	if b.write {
		if err := b.settle(); err != nil {
			return 0, err
		}
	}
	if off < b.from {
		head := p[:min(int64(len(p)), b.from-off)]
		if n, err = b.File.ReadAt(head, off); n < len(p) && n < len(head) || n == len(p) {
			return n, err
		}
	}
	b.mu.Lock()
	size := b.size
	b.mu.Unlock()
	w := b.fs.window()
	defer b.fs.windows.Put(w)
	for n < len(p) {
		at := off + int64(n) - b.from
		if at >= size {
			return n, io.EOF
		}
		index := at / blockBytes
		count := min(windowBlocks, (at+int64(len(p)-n)-1)/blockBytes-index+1, (size-1)/blockBytes-index+1)
		got, err := b.open(p[n:], at, index, w, min(count*sealedBytes, b.sealedSize(size)-index*sealedBytes))
		if n += got; err != nil {
			return n, err
		}
	}
	return n, nil
}

// sealedSize is how much so many bytes take in the file below.
func (b *blocks) sealedSize(size int64) int64 {
	n := b.below(size) - b.start
	if size%blockBytes > 0 {
		n += TagBytes
	}
	return n
}

// open reads so many bytes of blocks from index on and opens them into p, from the byte at on.
func (b *blocks) open(p []byte, at, index int64, w *window, bytes int64) (n int, err error) {
	rest := w.sealed[:bytes]
	read, err := b.File.ReadAt(rest, b.start+index*sealedBytes)
	if read < len(rest) {
		if err == nil || errors.Is(err, io.EOF) {
			err = fault.New(fault.Corrupt, "atrest.Read", "%s ends at byte %d", b.name, b.start+index*sealedBytes+int64(read))
		}
		return 0, err
	}
	for ; len(rest) > 0; index++ {
		sealed := rest[:min(sealedBytes, len(rest))]
		rest = rest[len(sealed):]
		length := len(sealed) - TagBytes
		skip := int(at + int64(n) - index*blockBytes)
		dst, direct := w.block[:0], skip == 0 && len(p)-n >= length
		if direct {
			dst = p[n : n : n+length]
		}
		w.nonce = nonce(index, uint32(length))
		plain, err := b.aead.Open(dst, w.nonce[:], sealed, nil)
		if err != nil && b.lenient {
			plain = dst[:length]
			clear(plain)
		} else if err != nil {
			return n, fault.New(fault.Corrupt, "atrest.Read", "%s: the block at byte %d was changed", b.name,
				b.start+index*sealedBytes)
		}
		if !direct {
			copy(p[n:], plain[skip:])
		}
		n = min(len(p), n+length-skip)
	}
	return n, nil
}

// Below implements vfs.Layered.
func (b *blocks) Below(off, n int64) (vfs.File, int64, int64) {
	if off < b.from {
		return b.File, off, n
	}
	from, to := b.below(off-b.from), b.below(off+n-b.from)
	return b.File, from, to - from
}

// Lenient is a file whose bytes that do not open read as zeros, for who looks for what is left in a damaged one. Any
// other file is given as it is.
func Lenient(f vfs.File) vfs.File {
	b, ok := f.(*blocks)
	if !ok {
		return f
	}
	return &blocks{
		File: b.File, fs: b.fs, name: b.name, key: b.key, aead: b.aead, start: b.start, from: b.from, size: b.size,
		lenient: true,
	}
}

// Verify reads the blocks of a file to find those that do not open, until report returns false: where in the file below
// they begin. Of a plain file there are none. Errors: IO.
func Verify(f vfs.File, report func(pos int64) bool) error {
	b, ok := f.(*blocks)
	if !ok {
		return nil
	}
	size, err := b.Size()
	if err != nil {
		return err
	}
	buf := make([]byte, windowBlocks*blockBytes)
	for at := b.from; at < size; {
		n := min(int64(len(buf)), size-at)
		got, err := b.ReadAt(buf[:n], at)
		switch {
		case err == nil:
			at += n
		case fault.Is(err, fault.Corrupt):
			at += int64(got)
			if _, pos, _ := b.Below(at, 0); !report(pos) {
				return nil
			}
			at += blockBytes
		default:
			return err
		}
	}
	return nil
}
