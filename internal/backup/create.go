package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Begun is a backup that is about to be stored: what is in the place already. It ends with Close.
type Begun struct {
	repository *Repository
	lock       io.Closer
	all        []*Manifest
	have       map[Sum]int64
	files      map[Sum]*File // by print, those of which all pieces are there
}

// Progress is how far somebody is.
type Progress struct {
	Files, FilesDone int
	Bytes, BytesDone int64 // of all files; what is known already is done
}

// Stored is what a backup took.
type Stored struct {
	Files, Known int   // of the image; of these, those that were not sent
	Pieces       int   // that were stored
	Bytes        int64 // of them
	Removed      int   // pieces that nobody needs any more
}

// Begin takes the lock of the place, and finds out what is there. Errors: Exists (somebody writes there), IO.
func (r *Repository) Begin(ctx context.Context) (_ *Begun, err error) {
	b := &Begun{repository: r, files: make(map[Sum]*File)}
	if b.lock, err = r.place.Lock(ctx); err != nil {
		return nil, err
	}
	if b.all, _, err = r.List(ctx); err == nil {
		b.have, _, err = r.objects(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, b.lock.Close())
	}
	for _, m := range b.all {
		for i := range m.Files {
			if f := &m.Files[i]; b.whole(f) {
				b.files[f.Print] = f
			}
		}
	}
	return b, nil
}

// Close lets others write.
func (b *Begun) Close() error { return b.lock.Close() }

// whole tells whether all pieces of a file are there.
func (b *Begun) whole(f *File) bool {
	for i, s := range f.Pieces {
		if size, ok := b.have[s]; !ok || size != f.pieceSize(i) {
			return false
		}
	}
	return true
}

// Known lists the prints of the files that need not be sent.
func (b *Begun) Known() []Sum {
	known := make([]Sum, 0, len(b.files))
	for s := range b.files {
		known = append(known, s)
	}
	return known
}

// Store stores the image that a stream brings, and then cleans. keep is how many backups stay, the newest; 0: all.
// progress may be nil. Errors: Invalid (the place has backups of another log), Exists, Corrupt, Unsupported, Full, IO
// (also of a stream that broke off).
func (b *Begun) Store(ctx context.Context, stream io.Reader, keep int, progress func(Progress)) (
	*Manifest, Stored, error,
) {
	in, err := receive(stream)
	if err != nil {
		return nil, Stored{}, err
	}
	m := in.image
	if err := b.fits(m); err != nil {
		return nil, Stored{}, err
	}
	st := &storing{Begun: b, in: in, buf: make([]byte, PieceBytes), tell: progress}
	st.at = Progress{Files: len(m.Files), Bytes: m.Bytes()}
	for i := range m.Files {
		f := &m.Files[i]
		if st.done.Files++; f.Known {
			st.done.Known++
			err = st.take(f)
		} else {
			err = st.file(ctx, f)
		}
		if err != nil {
			return nil, st.done, err
		}
		st.at.FilesDone++
	}
	if _, err := in.next(endEntry); err != nil {
		return nil, st.done, err
	}
	return m, st.done, b.finish(ctx, m, keep, &st.done)
}

// storing is a backup that is being stored.
type storing struct {
	*Begun
	in   *incoming
	buf  []byte
	at   Progress
	tell func(Progress) // nil: nobody wants to know
	done Stored
}

func (st *storing) went(n int64) {
	if st.at.BytesDone += n; st.tell != nil {
		st.tell(st.at)
	}
}

// fits refuses an image that does not belong here.
func (b *Begun) fits(m *Manifest) error {
	if err := sameCluster(b.all, m.Cluster); err != nil {
		return err
	}
	for _, old := range b.all {
		if old.ID >= m.ID {
			return fault.New(fault.Exists, "backup.Store", "backup %s there is not older than %s", old.ID, m.ID).
				WithHint("look at the clock of the broker")
		}
	}
	return nil
}

// take gives a file that was not sent the pieces that are known of it.
func (st *storing) take(f *File) error {
	known := st.files[f.Print]
	if known == nil || known.Size != f.Size {
		return fault.New(fault.Corrupt, "backup.Store", "the broker left out %s, which is not here", f.Name)
	}
	f.Known, f.Pieces = false, known.Pieces
	st.went(f.Size)
	return nil
}

// file stores the pieces of a file that are not there.
func (st *storing) file(ctx context.Context, f *File) error {
	h, err := st.in.next(f.Name)
	if err != nil {
		return err
	}
	if h.Size != f.Size {
		return fault.New(fault.Corrupt, "backup.Receive", "%s has %d bytes, not %d", f.Name, h.Size, f.Size)
	}
	for i := 0; int64(i)*PieceBytes < f.Size; i++ {
		piece := st.buf[:f.pieceSize(i)]
		if _, err := io.ReadFull(st.in.in, piece); err != nil {
			return brokeOff(err)
		}
		s := Sum(sha256.Sum256(piece))
		if size, ok := st.have[s]; !ok || size != int64(len(piece)) {
			if err := st.repository.place.Put(ctx, objectName(s), piece); err != nil {
				return err
			}
			st.have[s] = int64(len(piece))
			st.done.Pieces++
			st.done.Bytes += int64(len(piece))
		}
		f.Pieces = append(f.Pieces, s)
		st.went(int64(len(piece)))
	}
	return nil
}

// finish stores the manifest, and removes what is one too many.
func (b *Begun) finish(ctx context.Context, m *Manifest, keep int, done *Stored) error {
	text, err := m.encode()
	if err != nil {
		return err
	}
	place := b.repository.place
	if err := place.Put(ctx, manifestName(m.ID), text); err != nil {
		return err
	}
	if over := len(b.all) + 1 - keep; keep > 0 && over > 0 {
		for _, old := range b.all[:over] {
			if err := place.Remove(ctx, manifestName(old.ID)); err != nil {
				return err
			}
		}
	}
	done.Removed, err = b.repository.clean(ctx)
	return err
}
